"""Pages of prompt templates: their versions, the editor of a new one with its preview, and what changed."""

from dataclasses import dataclass
from typing import Any, Final, cast

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied, ValidationError
from django.db.models import Max, OuterRef, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.safestring import SafeString
from unfold.enums import ActionVariant

from providers.admin.cells import Tone, clipped, code, label, moment
from providers.admin.pages import SwitchableAdmin, change_url, page_action
from routing.admin.questions import Question, asked_page
from routing.admin.template_forms import VersionEditor
from routing.domain.template_diff import template_changes
from routing.domain.templates import (
    KEPT_VERSIONS,
    Slot,
    TemplateDocument,
    TemplateError,
    TextError,
    document_of,
    parse_text,
)
from routing.models import PromptTemplate, PromptTemplateVersion
from routing.services import template_version_create, template_version_set
from routing.services.templates import SAVED_MEANWHILE

LONGEST_NUMBER: Final = 10  # digits
NOTHING_YET: Final = TemplateDocument()


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a text: words, or a variable."""

    text: str
    is_variable: bool


@dataclass(frozen=True, slots=True)
class Said:
    """A text of a version, with the role that says it."""

    role: str
    pieces: tuple[Piece, ...]


@admin.register(PromptTemplate)
class PromptTemplateAdmin(SwitchableAdmin[PromptTemplate]):
    list_display = ["called", "state", "in_force", "fills_in", "told_to", "changed", "description"]
    list_filter = ["is_active"]
    search_fields = ["name", "description"]
    search_help_text = "Name or description"
    fieldsets = [("What callers name", {"fields": ["name", "description", "is_active"]})]
    actions_detail = ["edit_text"]
    change_form_outer_before_template = "admin/routing/prompttemplate/versions.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[PromptTemplate]:
        in_force = PromptTemplateVersion.objects.filter(template=OuterRef("pk"), number=OuterRef("version"))
        return (
            super()
            .get_queryset(request)
            .prefetch_related("personas")
            .annotate(declared=Subquery(in_force.values("variables")[:1]), changed_at=Max("versions__created_at"))
        )

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        template: PromptTemplate | None = context.get("original")
        if template is not None:
            versions = list(template.versions.select_related("author").order_by("-number")[: KEPT_VERSIONS + 1])
            current = template.versions.filter(number=template.version).first()
            document = _document(current) if current else NOTHING_YET
            context |= {
                "versions": versions[:KEPT_VERSIONS],
                "has_older": len(versions) > KEPT_VERSIONS,
                "said": _said(document),
                "variables": document.variables,
                "may_change": self.has_change_permission(request, template),
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def response_add(
        self, request: HttpRequest, obj: PromptTemplate, post_url_continue: str | None = None
    ) -> HttpResponse:
        """A template without a text is of no use to anybody: its editor comes next."""
        return HttpResponseRedirect(_url(obj, "version_add"))

    # --- versions ---------------------------------------------------------------------------------------------------

    @page_action(
        description="Edit its text", url_path="edit-text", icon="edit_note", variant=ActionVariant.PRIMARY,
        permissions=["edit_text"],
    )  # fmt: skip
    def edit_text(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return HttpResponseRedirect(_url(self._template(request, object_id), "version_add"))

    def has_edit_text_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return self.has_view_permission(request)

    def version_add(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The editor: begins as a copy of `?version=`, else of the one in force; saves a new version. What is entered
        is shown as a model would get it, without being saved."""
        template = self._template(request, object_id)
        may_save = self.has_change_permission(request, template)
        number = _number(request.GET.get("version", "")) or template.version
        begun_from = template.versions.filter(number=number).first()
        document = _document(begun_from) if begun_from else NOTHING_YET
        editor = VersionEditor(document, request.POST if request.method == "POST" else None)
        is_trial = "_preview" in request.POST
        if request.method == "POST":
            is_valid = editor.is_valid()
            if not is_trial and not may_save:
                raise PermissionDenied
            if is_valid and not is_trial and (saved := self._saved(request, template, editor)):
                return saved
        context: dict[str, Any] = {
            "template": template,
            "begun_from": begun_from,
            "editor": editor,
            "preview": editor.preview() if is_trial else None,
            "problems": editor.problems() if request.method == "POST" else [],
            "may_save": may_save,
            "seen": self._seen(request, template, editor),
            "is_saved_meanwhile": _is_saved_meanwhile(editor),
            "back": change_url(template),
        }
        if is_trial and request.headers.get("x-requested-with") == "fetch":
            return TemplateResponse(request, "admin/routing/prompttemplate/preview.html", context)
        title = f"{template}: a new version" if may_save else f"{template}: try it"
        context |= {**self.admin_site.each_context(request), "title": title, "opts": self.opts}
        return TemplateResponse(request, "admin/routing/prompttemplate/editor.html", context)

    def _seen(self, request: HttpRequest, template: PromptTemplate, editor: VersionEditor) -> int:
        """The newest version that whoever writes knows of."""
        if "seen" in request.POST and not _is_saved_meanwhile(editor):
            return _number(request.POST["seen"])
        newest: int | None = template.versions.aggregate(newest=Max("number"))["newest"]
        return newest or 0

    def _saved(self, request: HttpRequest, template: PromptTemplate, editor: VersionEditor) -> HttpResponse | None:
        given = editor.form.cleaned_data
        try:
            version = template_version_create(
                template=template,
                document=editor.document,
                note=given["note"],
                by=cast(User, request.user),
                is_in_force=given["is_in_force"],
                seen=_number(request.POST["seen"]) if "seen" in request.POST else None,
            )
        except ValidationError as error:
            editor.form.add_error(None, error)
            return None
        self.log_change(request, template, f"Version {version.number}: {version.note or 'no note'}")
        is_in_force = template.version == version.number
        how = "it is in force within 2 seconds" if is_in_force else f"it can be asked for as “{version}”"
        messages.success(request, f"Version {version.number} is saved: {how}.")
        return HttpResponseRedirect(change_url(template))

    def version_put_into_force(self, request: HttpRequest, object_id: str, number: int) -> HttpResponse:
        """Ask, then let callers have another version."""
        template = self._template(request, object_id)
        if not self.has_change_permission(request, template):
            raise PermissionDenied
        back = change_url(template)
        if request.method == "POST":
            try:
                changed = template_version_set(template=template, number=number, by=cast(User, request.user))
            except ValidationError as error:
                messages.error(request, " ".join(error.messages))
            else:
                if changed:
                    self.log_change(request, template, f"Version {number} put into force.")
                messages.success(request, f"Version {number} is in force. Gateways follow within 2 seconds.")
            return HttpResponseRedirect(back)
        if not template.versions.filter(number=number).exists():
            raise Http404("No such version.")
        said = [
            f"Who asks for “{template}” gets version {number} from then on, instead of version {template.version}.",
            "Who asks for a version by its number gets the same as before. No version is lost.",
        ]
        question = Question(f"Put version {number} of {template} into force?", said, "Put it into force", back)
        return asked_page(self, request, "Put a version into force", question)

    def version_changes(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What changed from version `?from=` to version `?to=`, by default from the one before the newest."""
        template = self._template(request, object_id)
        rows = {one.number: one for one in template.versions.defer("system", "messages", "variables")}
        if not rows:
            raise Http404("It has no version yet.")
        newest = max(rows)
        after = _number(request.GET.get("to", "")) or newest
        before = _number(request.GET.get("from", "")) or max(after - 1, 1)
        if before not in rows or after not in rows:
            raise Http404("No such version.")
        documents = {one.number: _document(one) for one in template.versions.filter(number__in=(before, after))}
        context = {
            **self.admin_site.each_context(request),
            "title": f"{template}: what changed",
            "opts": self.opts,
            "template": template,
            "numbers": sorted(rows, reverse=True),
            "before": rows[before],
            "after": rows[after],
            "lines": template_changes(documents[before], documents[after]),
            "may_change": self.has_change_permission(request, template),
            "back": change_url(template),
        }
        return TemplateResponse(request, "admin/routing/prompttemplate/changes.html", context)

    def get_urls(self) -> list[Any]:
        def page(route: str, view: Any, name: str) -> Any:
            return path(f"<path:object_id>/{route}", self.admin_site.admin_view(view), name=_name(name))

        return [
            page("versions/add/", self.version_add, "version_add"),
            page("versions/<int:number>/put-into-force/", self.version_put_into_force, "version_put_into_force"),
            page("changes/", self.version_changes, "version_changes"),
            *super().get_urls(),
        ]

    def _template(self, request: HttpRequest, object_id: str) -> PromptTemplate:
        """:raises Http404: there is none, or its page is not this person's to see."""
        template = self.get_object(request, object_id)
        if template is None or not self.has_view_permission(request, template):
            raise Http404("No such template.")
        return template

    # --- the list ---------------------------------------------------------------------------------------------------

    @admin.action(description="Switch off", permissions=["change"])
    def switch_off(self, request: HttpRequest, rows: QuerySet[PromptTemplate]) -> None:
        """Not those that personas need: without its prompt a persona would be left out."""
        needed = rows.filter(personas__is_active=True).distinct()
        for template in needed:
            messages.error(request, f"{template} stays on: it is told to {', '.join(template.personas_told())}.")
        super().switch_off(request, rows.exclude(pk__in=[one.pk for one in needed]))

    @admin.display(description="name in calls", ordering="name")
    def called(self, template: PromptTemplate) -> SafeString:
        return code(template.name)

    @admin.display(description="version", ordering="version")
    def in_force(self, template: PromptTemplate) -> SafeString | str:
        return f"v{template.version}" if template.version else label("No text yet", Tone.WARN)

    @admin.display(description="variables")
    def fills_in(self, template: PromptTemplate) -> SafeString:
        declared = template.declared or []  # type: ignore[attr-defined]  # annotated
        return clipped(", ".join(one["name"] for one in declared) or "–")

    @admin.display(description="personas")
    def told_to(self, template: PromptTemplate) -> SafeString:
        return clipped(", ".join(persona.slug for persona in template.personas.all()) or "–")

    @admin.display(description="changed", ordering="changed_at")
    def changed(self, template: PromptTemplate) -> SafeString:
        return moment(template.changed_at, empty="–")  # type: ignore[attr-defined]  # annotated


def _name(view: str) -> str:
    return f"routing_prompttemplate_{view}"


def _is_saved_meanwhile(editor: VersionEditor) -> bool:
    return editor.form.is_bound and editor.form.has_error(NON_FIELD_ERRORS, SAVED_MEANWHILE)


def _url(template: PromptTemplate, view: str) -> str:
    return reverse(f"admin:{_name(view)}", args=[template.pk])


def _number(text: str) -> int:
    """0 for what is no number."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < LONGEST_NUMBER else 0


def _document(version: PromptTemplateVersion) -> TemplateDocument:
    """What it says; of one that cannot be read any more, its system text."""
    try:
        return document_of(version.system, version.messages, version.variables)
    except TemplateError:
        return TemplateDocument(version.system)


def _said(document: TemplateDocument) -> list[Said]:
    texts = [("system", document.system)] if document.system else []
    return [Said(role, _pieces(text)) for role, text in [*texts, *((m.role, m.content) for m in document.messages)]]


def _pieces(text: str) -> tuple[Piece, ...]:
    try:
        pieces = parse_text(text)
    except TextError:
        return (Piece(text, is_variable=False),)
    return tuple(
        Piece(one.name, is_variable=True) if isinstance(one, Slot) else Piece(one, is_variable=False) for one in pieces
    )
