"""Pages of teams and of the virtual keys that applications call with."""

from datetime import datetime
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import Count, Q, QuerySet
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.enums import ActionVariant

from providers.admin.cells import Tone, code, label, moment, number
from providers.admin.pages import (
    HistoryAdmin,
    Rows,
    RowsToSee,
    SwitchableAdmin,
    change_url,
    list_url,
    page_action,
    rate_limit_section,
)
from providers.selectors import rate_limit_of
from routing.domain.config import Scope
from routing.models import KeyState, Membership, Team, VirtualKey
from routing.services import IssuedKey, kept_answers_purge, key_issue, key_limit_set, key_revoke


def key_state(key: VirtualKey, now: datetime) -> SafeString:
    state = key.state_at(now)
    match state:
        case KeyState.REVOKED:
            title = f"{key.revoked_at:%-d %b %Y %H:%M} UTC by {key.revoked_by or 'a command'}"
            return label(state.label, Tone.BAD, title=title)
        case KeyState.EXPIRED:
            return label(state.label, Tone.WARN)
        case KeyState.TEAM_OFF:
            return label(state.label, Tone.WARN, title="The key is fine, but its team is switched off.")
        case KeyState.ACTIVE:
            return label(state.label, Tone.GOOD)


class MemberRows(Rows):
    model = Membership
    fields = ["user", "role"]
    autocomplete_fields = ["user"]
    verbose_name, verbose_name_plural = "person", "people"
    show_change_link = False


class KeyColumns:
    """What a key shows of itself, in its own list and on its team's page."""

    @admin.display(description="prefix", ordering="prefix")
    def shown_prefix(self, key: VirtualKey) -> SafeString:
        return code(f"rp_{key.prefix}_…")

    @admin.display(description="state")
    def state(self, key: VirtualKey) -> SafeString:
        return key_state(key, timezone.now())

    @admin.display(description="may")
    def may(self, key: VirtualKey) -> str:
        return ", ".join(key.scopes)

    @admin.display(description="expires", ordering="expires_at")
    def expires(self, key: VirtualKey) -> SafeString:
        return moment(key.expires_at, empty="never")

    @admin.display(description="issued", ordering="created_at")
    def issued(self, key: VirtualKey) -> SafeString:
        return moment(key.created_at)

    @admin.display(description="by", ordering="created_by__username")
    def issued_by(self, key: VirtualKey) -> str:
        return str(key.created_by or "a command")


class KeysOfTeam(KeyColumns, RowsToSee):
    model = VirtualKey
    fk_name = "team"
    fields = ["name", "shown_prefix", "state", "may", "expires", "issued", "issued_by"]
    readonly_fields = ["name", "shown_prefix", "state", "may", "expires", "issued", "issued_by"]
    verbose_name_plural = "keys"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("team", "created_by", "revoked_by")


@admin.register(Team)
class TeamAdmin(SwitchableAdmin[Team]):
    list_display = ["name", "state", "people", "keys_in_use", "since"]
    list_filter = ["is_active"]
    search_fields = ["name", "slug"]
    search_help_text = "Name"
    prepopulated_fields = {"slug": ["name"]}
    inlines = [KeysOfTeam, MemberRows]
    fieldsets = [
        ("The team", {"fields": ["name", "slug", "is_active"]}),
        rate_limit_section("All keys of the team count together; each key may have limits of its own besides."),
    ]
    actions = ["switch_on", "switch_off", "purge_answers"]
    actions_detail = ["issue_key"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Team]:
        usable = Q(keys__revoked_at=None) & (Q(keys__expires_at=None) | Q(keys__expires_at__gt=timezone.now()))
        return (
            super()
            .get_queryset(request)
            .annotate(members=Count("memberships", distinct=True), keys_on=Count("keys", filter=usable, distinct=True))
        )

    @page_action(
        description="Issue a key",
        url_path="issue-key",
        icon="key",
        variant=ActionVariant.PRIMARY,
        permissions=["issue"],
    )
    def issue_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if self.get_object(request, object_id) is None:
            raise Http404("No such team.")
        return HttpResponseRedirect(f"{reverse('admin:routing_virtualkey_add')}?team={object_id}")

    @admin.action(description="Forget kept answers", permissions=["change"])
    def purge_answers(self, request: HttpRequest, rows: QuerySet[Team]) -> None:
        for team in rows:
            kept_answers_purge(team=team, now=timezone.now())
            messages.success(
                request, f"The answers kept for {team} are not given again: equal requests are asked anew."
            )

    def has_issue_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return cast(User, request.user).has_perm("routing.add_virtualkey")

    @admin.display(description="people", ordering="members")
    def people(self, team: Team) -> SafeString:
        return number(team.members)  # type: ignore[attr-defined]  # annotated

    @admin.display(description="usable keys", ordering="keys_on")
    def keys_in_use(self, team: Team) -> SafeString:
        return number(team.keys_on)  # type: ignore[attr-defined]  # annotated

    @admin.display(description="since", ordering="created_at")
    def since(self, team: Team) -> SafeString:
        return moment(team.created_at)


class VirtualKeyForm(ModelForm[VirtualKey]):
    def clean_expires_at(self) -> datetime | None:
        expires_at: datetime | None = self.cleaned_data["expires_at"]
        if expires_at and expires_at <= timezone.now() and "expires_at" in self.changed_data:
            raise forms.ValidationError("This moment has passed. To stop a key at once, revoke it.")
        return expires_at


class KeyStateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("expired", "Expired"), ("revoked", "Revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[VirtualKey]) -> QuerySet[VirtualKey]:
        expired = Q(revoked_at=None, expires_at__lte=timezone.now())
        match self.value():
            case "active":
                return queryset.filter(revoked_at=None).exclude(expired)
            case "expired":
                return queryset.filter(expired)
            case "revoked":
                return queryset.exclude(revoked_at=None)
            case _:
                return queryset


class IssuingRequest(HttpRequest):
    """The request that issues a key carries the key to its own answer, and nowhere else."""

    issued: IssuedKey


@admin.register(VirtualKey)
class VirtualKeyAdmin(KeyColumns, HistoryAdmin[VirtualKey]):
    form = VirtualKeyForm
    list_display = ["name", "team_link", "shown_prefix", "state", "may", "expires", "issued", "issued_by"]
    list_select_related = ["team", "created_by", "revoked_by"]
    list_filter = [KeyStateFilter, ("team", AutocompleteSelectFilter), "is_playground"]
    search_fields = ["name", "prefix", "team__name"]
    search_help_text = "Name, team, or the 8 characters after rp_"
    autocomplete_fields = ["team", "allowed_models"]
    checkbox_lists = {"scopes": Scope.choices()}
    readonly_fields = ["shown_prefix", "state", "issued", "issued_by", "is_playground"]
    actions_detail = ["revoke"]

    def get_fieldsets(self, request: HttpRequest, obj: VirtualKey | None = None) -> Any:
        sections: list[Any] = [
            ("Who calls with it", {"fields": ["team", "name"]}),
            ("What it may do", {"fields": ["scopes", "allowed_models", "expires_at"]}),
            rate_limit_section("Over a limit, requests are refused with a 429 that says when to try again."),
        ]
        if obj is not None:
            sections.append(("The key", {"fields": ["shown_prefix", "state", ("issued", "issued_by")]}))
        return sections

    def get_readonly_fields(self, request: HttpRequest, obj: VirtualKey | None = None) -> list[str]:
        return [*self.readonly_fields, "team"] if obj else list(self.readonly_fields)

    def has_delete_permission(self, request: HttpRequest, obj: VirtualKey | None = None) -> bool:
        """Usage hangs on keys: they are revoked, never deleted."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: VirtualKey | None = None) -> bool:
        allowed = super().has_change_permission(request, obj)
        return allowed and not (isinstance(obj, VirtualKey) and obj.revoked_at is not None)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        """A new key has one way on: to the page that shows it."""
        if context.get("original") is None:
            context |= {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: VirtualKey, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        wanted = form.cleaned_data
        issued = key_issue(
            team=wanted["team"],
            name=wanted["name"],
            by=cast(User, request.user),
            scopes=wanted["scopes"],
            expires_at=wanted["expires_at"],
        )
        limit = rate_limit_of(wanted["rpm_limit"], wanted["tpm_limit"], wanted["max_parallel_requests"])
        if limit is not None:
            key_limit_set(key=issued.key, limit=limit)
        obj.__dict__.update(issued.key.__dict__)
        cast(IssuingRequest, request).issued = issued

    def response_add(self, request: HttpRequest, obj: VirtualKey, post_url_continue: str | None = None) -> HttpResponse:
        """Show the key, once: it is part of this answer only, never of a session, a message, a cookie or a log."""
        context = {
            **self.admin_site.each_context(request),
            "title": "Key issued",
            "opts": self.opts,
            "key": obj,
            "secret": cast(IssuingRequest, request).issued.secret,
            "base_url": request.build_absolute_uri("/v1"),
            "key_url": change_url(obj),
            "list_url": list_url(VirtualKey),
        }
        answer = TemplateResponse(request, "admin/routing/virtualkey/issued.html", context)
        answer["Cache-Control"] = "no-store"
        return answer

    @page_action(
        description="Revoke", url_path="revoke", icon="block", variant=ActionVariant.DANGER, permissions=["revoke"]
    )
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = self.get_object(request, object_id)
        if key is None:
            raise Http404("No such key.")
        if request.method != "POST":
            context = {**self.admin_site.each_context(request), "title": "Revoke a key", "opts": self.opts, "key": key}
            context["key_url"] = change_url(key)
            return TemplateResponse(request, "admin/routing/virtualkey/revoke.html", context)
        if key_revoke(key=key, by=cast(User, request.user)):
            messages.success(request, f"{key} is revoked. Requests with it are refused within 2 seconds.")
        else:
            messages.warning(request, f"{key} had been revoked before.")
        return HttpResponseRedirect(change_url(key))

    def has_revoke_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Asked by Unfold, which decides on the button by it: a key that is revoked has none."""
        key = self.get_object(request, str(object_id))
        return super().has_change_permission(request) and (key is None or key.revoked_at is None)

    @admin.display(description="team", ordering="team__name")
    def team_link(self, key: VirtualKey) -> SafeString:
        return format_html('<a class="cell-link" href="{}">{}</a>', change_url(key.team), key.team)
