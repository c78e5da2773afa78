"""What classifies and estimates: trained artefacts, of which one is in force, and classifiers of one's own."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet, URLField
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.safestring import SafeString
from unfold.enums import ActionVariant

from providers.admin.cells import Tone, active_label, aligned, clipped, code, label, moment, number
from providers.admin.pages import HistoryAdmin, ReadOnlyAdmin, change_url, list_url, page_action
from routing.admin.artefact_cards import Card, card_of, shipped_card
from routing.admin.questions import Question, asked_page
from routing.models import ClassifierKind, ClassifierPlugIn, RouterArtefact
from routing.services.learning import artefact_activate, classifier_yield

FOLLOWED = "Gateways follow within 2 seconds."
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
ASKS_A_MODEL = {ClassifierKind.EMBEDDINGS, ClassifierKind.LLM}
OF_KIND = {"dotted_path": {ClassifierKind.DOTTED}, "alias": ASKS_A_MODEL, "url": {ClassifierKind.WEBHOOK}}
# `kind` is what the form's field has; on a page to look at there is no such field, and no such name
CONDITIONS = {
    field: "typeof kind === 'undefined' || " + " || ".join(f"kind === '{kind.value}'" for kind in sorted(kinds))
    for field, kinds in OF_KIND.items()
}
MISSING = {
    "dotted_path": "Name the class by its dotted path, for example acme.routing.Classifier.",
    "alias": "Choose the model that is asked, by its alias.",
    "url": "Give the web address that is asked.",
}


# --- trained artefacts ----------------------------------------------------------------------------------------------


@admin.register(RouterArtefact)
class RouterArtefactAdmin(ReadOnlyAdmin[RouterArtefact], HistoryAdmin[RouterArtefact]):
    """They come from `manage.py router_install`; here one is put in force. The numbers themselves are never shown."""

    list_display = ["version_code", "state", "note_cell", "accuracy", "saved", "graded", "trained", "by"]
    list_display_links = ["version_code"]
    list_select_related = ["created_by"]
    list_before_template = "admin/routing/artefact/in_force.html"
    change_form_outer_before_template = "admin/routing/artefact/card.html"
    search_fields = ["version", "note"]
    search_help_text = "Version or note"
    fields = ["version", "note", "trained", "by"]
    actions_list = ["back_to_shipped"]
    actions_detail = ["put_in_force"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[RouterArtefact]:
        return super().get_queryset(request).defer("data")

    def has_activate_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """On the page of the one that is in force there is nothing to press."""
        shown = None if object_id is None else self.get_object(request, str(object_id))
        return not (shown and shown.is_active) and request.user.has_perm("routing.change_routerartefact")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        active = RouterArtefact.objects.filter(is_active=True).defer("data").first()
        card = card_of(active.card) if active else shipped_card()
        context = {"in_force": card, "artefact": active, "shipped": shipped_card()}
        return super().changelist_view(request, {**(extra_context or {}), **context})

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        if (artefact := context.get("original")) is not None:
            context |= {"card": card_of(artefact.card), "shipped": shipped_card()}
        return super().render_change_form(request, context, *args, **kwargs)

    @page_action(
        description="Put in force", url_path="put-in-force", icon="play_arrow", variant=ActionVariant.PRIMARY,
        permissions=["activate"],
    )  # fmt: skip
    def put_in_force(self, request: HttpRequest, object_id: str) -> HttpResponse:
        found = self.get_object(request, object_id)
        if found is None:
            raise Http404("No such artefact.")
        back = change_url(found)
        if request.method == "POST":
            return self._activate(request, found.version, back)
        said = [
            "From then on it says what kind of work a request is, and how well each model would do it, wherever a "
            "policy goes by that. One click leads back.",
            *_compared(card_of(found.card)),
        ]
        return asked_page(
            self, request, "Put in force", Question(f"Put {found} in force?", said, "Put it in force", back)
        )

    @page_action(
        description="Back to the shipped one", url_path="back-to-shipped", icon="undo", permissions=["activate"]
    )
    def back_to_shipped(self, request: HttpRequest) -> HttpResponse:
        back = list_url(RouterArtefact)
        if request.method == "POST":
            return self._activate(request, None, back)
        said = [f"The artefact that came with the platform ({shipped_card().version}) estimates again."]
        title = "Back to the shipped artefact?"
        return asked_page(self, request, "Back to the shipped one", Question(title, said, "Go back to it", back))

    def _activate(self, request: HttpRequest, version: str | None, back: str) -> HttpResponse:
        if not self.has_activate_permission(request):
            raise PermissionDenied
        what = f"{version} is" if version else "The shipped artefact is"
        try:
            if artefact_activate(version=version, by=cast(User, request.user)):
                messages.success(request, f"{what} in force. {FOLLOWED}")
            else:
                messages.info(request, f"{what} in force already.")
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
        return HttpResponseRedirect(back)

    @admin.display(description="version", ordering="version")
    def version_code(self, artefact: RouterArtefact) -> SafeString:
        return code(artefact.version)

    @admin.display(description="state", ordering="is_active")
    def state(self, artefact: RouterArtefact) -> SafeString:
        return label("In force", Tone.GOOD) if artefact.is_active else label("Kept", Tone.QUIET)

    @admin.display(description="note")
    def note_cell(self, artefact: RouterArtefact) -> SafeString:
        return clipped(artefact.note or "–")

    @admin.display(description="kinds right")
    def accuracy(self, artefact: RouterArtefact) -> SafeString:
        return aligned(card_of(artefact.card).accuracy)

    @admin.display(description="cost saved")
    def saved(self, artefact: RouterArtefact) -> SafeString:
        return aligned(card_of(artefact.card).saved)

    @admin.display(description="graded prompts")
    def graded(self, artefact: RouterArtefact) -> SafeString:
        return number(card_of(artefact.card).graded)

    @admin.display(description="came in", ordering="created_at")
    def trained(self, artefact: RouterArtefact) -> SafeString:
        return moment(artefact.created_at)

    @admin.display(description="by", ordering="created_by")
    def by(self, artefact: RouterArtefact) -> SafeString:
        return clipped(str(artefact.created_by or "–"))


def _compared(card: Card) -> Iterator[str]:
    shipped = shipped_card()
    if card.accuracy != shipped.accuracy or card.saved != shipped.saved:
        yield (
            f"Its card says: kinds of work right {card.accuracy} (the shipped one {shipped.accuracy}), cost saved at "
            f"the same quality {card.saved} (the shipped one {shipped.saved})."
        )


# --- classifiers of one's own ---------------------------------------------------------------------------------------


class ClassifierForm(forms.ModelForm[ClassifierPlugIn]):
    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        kind = cleaned.get("kind")
        for field, kinds in OF_KIND.items():
            if kind not in kinds:
                cleaned[field] = None if field == "alias" else ""
            elif not cleaned.get(field) and field not in self.errors:
                self.add_error(field, MISSING[field])
        path, alias = cleaned.get("dotted_path"), cleaned.get("alias")
        if path and not DOTTED.fullmatch(path):
            self.add_error("dotted_path", f"“{path}” is no dotted path: module.Class, letters, digits and “_” only.")
        if alias is not None and not alias.is_active:
            self.add_error("alias", f"“{alias}” is switched off. Choose one that is active, or switch it on first.")
        return cleaned

    def _get_validation_exclusions(self) -> set[str]:
        """That one classifies at a time is seen to by `classifier_yield`, which switches the others off."""
        return super()._get_validation_exclusions() | {"is_active"}  # type: ignore[misc,no-any-return]


@admin.register(ClassifierPlugIn)
class ClassifierPlugInAdmin(HistoryAdmin[ClassifierPlugIn]):
    form = ClassifierForm
    list_display = ["name", "state", "kind", "asks", "patience"]
    list_select_related = ["alias"]
    list_before_template = "admin/routing/classifier/note.html"
    search_fields = ["name", "dotted_path", "url"]
    search_help_text = "Name, class or address"
    autocomplete_fields = ["alias"]
    conditional_fields = CONDITIONS
    formfield_overrides = {URLField: {"assume_scheme": "https"}}
    fieldsets = [
        (None, {"fields": ["name", "is_active"]}),
        ("Who is asked", {"fields": ["kind", "dotted_path", "alias", "url"]}),
        (
            "How long a request waits for it",
            {"fields": ["timeout_ms"], "description": "Left at 5 ms, models and web addresses are given 1 s."},
        ),
    ]

    def save_model(self, request: HttpRequest, obj: ClassifierPlugIn, form: Any, change: bool) -> None:
        """What does not belong to its kind is written empty; whatever classified before is switched off."""
        if obj.is_active:
            for other in classifier_yield(to=obj):
                messages.info(request, f"{other} is switched off: one classifies at a time.")
        obj.save()
        for warning in _warnings(obj):
            messages.warning(request, warning)

    @admin.display(description="state", ordering="is_active")
    def state(self, row: ClassifierPlugIn) -> SafeString:
        return active_label(row.is_active)

    @admin.display(description="who is asked")
    def asks(self, row: ClassifierPlugIn) -> SafeString:
        return code(str(row.alias)) if row.alias else clipped(row.dotted_path or row.url or "–")

    @admin.display(description="timeout", ordering="timeout_ms")
    def patience(self, row: ClassifierPlugIn) -> SafeString:
        return number(row.timeout_ms, "ms")


def _warnings(row: ClassifierPlugIn) -> Iterator[str]:
    """Of what is allowed and will hardly work. Nothing is imported for it: that is for gateways, and for a thread."""
    if row.kind in ASKS_A_MODEL and not settings.ROUTER_CLASSIFIER_KEY:
        yield "No key pays for its requests: set ROUTER_CLASSIFIER_KEY, else the built-in classifier answers."
    if row.kind == ClassifierKind.DOTTED:
        package = row.dotted_path.partition(".")[0]
        if find_spec(package) is None:
            yield f"There is no package “{package}” on this machine. Install it where the gateways run."
