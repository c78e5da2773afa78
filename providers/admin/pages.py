"""What every page of the admin has in common: looks, checkbox lists, history, and how a deletion is refused.

Unfold ships no types; for the type checker its classes are Django's, which they extend.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import PROTECT, Field, Model
from django.db.models.query import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from simple_history.admin import SimpleHistoryAdmin
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from providers.admin.cells import active_label
from providers.domain.types import Capability
from providers.services import active_set

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin, TabularInline

    F = TypeVar("F", bound=Callable[..., HttpResponse])

    class _WithHistory:
        def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse: ...

        def history_form_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse: ...

    def page_action(**button: Any) -> Callable[[F], F]:
        """A button on top of a row's page.

        `permissions` names `has_.._permission` methods, never dotted ones: Unfold looks those up in the database
        while Django checks itself, before there are tables.
        """

else:
    from unfold.admin import ModelAdmin, TabularInline
    from unfold.decorators import action

    page_action = action
    _WithHistory = SimpleHistoryAdmin

M = TypeVar("M", bound=Model)
Choices = Sequence[tuple[str, str]]
COUNTED_UP_TO = 1000

CAPABILITY_CHOICES: Choices = [
    (capability.value, capfirst(capability.value.replace("_", " ")).replace("Json", "JSON"))
    for capability in Capability
]


class PlatformAdmin(ModelAdmin[M]):
    """A page for ops. `checkbox_lists` names JSON list fields and the values they may hold, in order.

    Rows are deleted one at a time and never when something hangs on them: the answer names what does.
    """

    checkbox_lists: dict[str, Choices] = {}
    compressed_fields = True
    warn_unsaved_form = True
    list_filter_submit = True
    list_per_page = 50
    save_on_top = False

    def get_ordering(self, request: HttpRequest) -> list[Any] | tuple[Any, ...]:
        """Said out loud: a default ordering gets lost where rows are counted along (`annotate`)."""
        return tuple(self.ordering or self.model._meta.ordering or ())

    def formfield_for_dbfield(self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        choices = self.checkbox_lists.get(db_field.name)
        if choices is None:
            return super().formfield_for_dbfield(db_field, request, **kwargs)
        return forms.MultipleChoiceField(
            choices=choices,
            required=not db_field.blank,
            label=capfirst(db_field.verbose_name),
            help_text=db_field.help_text,
            initial=db_field.get_default(),
            widget=UnfoldAdminCheckboxSelectMultipleWidget,
        )

    def save_model(self, request: HttpRequest, obj: M, form: Any, change: bool) -> None:
        """A change writes what was edited and nothing else: what a task or a colleague wrote meanwhile stays."""
        if not change:
            super().save_model(request, obj, form, change)
            return
        columns = {field.name for field in obj._meta.concrete_fields}
        if edited := [name for name in form.changed_data if name in columns]:
            obj.save(update_fields=edited)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def obstacles(self, obj: M) -> list[str]:
        """What keeps `obj` from being deleted, in words. Counts are bounded: usage may be millions of rows."""
        found = []
        for relation in obj._meta.related_objects:
            if relation.on_delete is not PROTECT:
                continue
            rows = relation.related_model._base_manager.filter(**{relation.field.name: obj})
            if count := rows.order_by().values("pk")[: COUNTED_UP_TO + 1].count():
                found.append(_how_many(count, relation.related_model))
        return found

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        obj = self.get_object(request, object_id)
        what = self.why_it_stays(obj) if obj is not None and self.has_delete_permission(request, obj) else ""
        if obj is None or not what:
            return super().delete_view(request, object_id, extra_context)
        messages.error(request, what)
        return HttpResponseRedirect(change_url(obj))

    def why_it_stays(self, obj: M) -> str:
        """What keeps `obj` from being deleted, as a sentence; empty when nothing does."""
        found = self.obstacles(obj)
        way_out = " Switch it off instead: nothing uses it from then on." if hasattr(obj, "is_active") else ""
        name = f"{capfirst(obj._meta.verbose_name)} “{obj}”"
        return f"{name} cannot be deleted: {_depend(found)} on it.{way_out}" if found else ""

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What belongs to a row goes with it, may it be deleted alone or not; `obstacles` names what stays."""
        listed, counts, _, protected = super().get_deleted_objects(objs, request)
        return listed, counts, set(), protected


class HistoryAdmin(_WithHistory, PlatformAdmin[M]):
    """A page whose every change is kept, with who made it; “History” shows what was changed from what.

    History is read, not gone back to: a former row would come back with a key that was revoked since, or as a second
    default policy.
    """

    def revert_disabled(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        if not object_id.isdecimal():  # simple-history asks the database whatever the address says
            raise Http404("No such row.")
        return super().history_view(request, object_id, extra_context)

    def history_form_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method == "POST":
            raise PermissionDenied
        return super().history_form_view(request, *args, **kwargs)


class SwitchableAdmin(HistoryAdmin[M]):
    """A page of rows that are switched off rather than deleted."""

    actions = ["switch_on", "switch_off"]

    @admin.action(description="Switch on", permissions=["change"])
    def switch_on(self, request: HttpRequest, rows: QuerySet[M]) -> None:
        changed = sum(active_set(row=row, is_active=True) for row in rows)
        self.message_user(request, f"{changed} switched on.", messages.SUCCESS)

    @admin.action(description="Switch off", permissions=["change"])
    def switch_off(self, request: HttpRequest, rows: QuerySet[M]) -> None:
        changed = sum(active_set(row=row, is_active=False) for row in rows)
        self.message_user(request, f"{changed} switched off.", messages.SUCCESS)

    @admin.display(description="state", ordering="is_active")
    def state(self, obj: M) -> SafeString:
        return active_label(bool(obj.serializable_value("is_active")))


class ReadOnlyAdmin(PlatformAdmin[M]):
    """A page to look at: rows come from the platform itself."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Rows(TabularInline[Any, Any]):
    """Rows on their parent's page, behind a tab of their own."""

    extra = 0
    tab = True
    show_change_link = True
    hide_title = True


class RowsToSee(Rows):
    """Rows that are edited elsewhere."""

    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def rate_limit_section(what_counts: str) -> tuple[str, Any]:
    """The fieldset of `RateLimitFields`."""
    fields = ["rpm_limit", "tpm_limit", "max_parallel_requests"]
    return "Rate limits", {"fields": fields, "description": what_counts}


def change_url(obj: Model) -> str:
    """The address of a row's own page."""
    return reverse(f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change", args=[obj.pk])


def list_url(model: type[Model], query: str = "") -> str:
    """The address of a model's list, filtered by `query` (already encoded)."""
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{url}?{query}" if query else url


def _how_many(count: int, model: type[Model]) -> str:
    if count > COUNTED_UP_TO:
        return f"more than {COUNTED_UP_TO:,} {model._meta.verbose_name_plural}"
    return f"{count} {model._meta.verbose_name if count == 1 else model._meta.verbose_name_plural}"


def _depend(what: list[str]) -> str:
    """“2 keys and 1 deployment depend”."""
    if len(what) == 1:
        return f"{what[0]} {'depends' if what[0].startswith('1 ') else 'depend'}"
    return f"{', '.join(what[:-1])} and {what[-1]} depend"
