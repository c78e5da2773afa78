"""The page of everybody's access tokens: to look at, and to revoke. People make theirs at /account/tokens/."""

from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.enums import ActionVariant

from providers.admin.cells import Tone, code, label, moment
from providers.admin.pages import HistoryAdmin, ReadOnlyAdmin, change_url, page_action
from routing.admin.questions import Question, asked_page
from routing.models import AccessToken
from routing.services.tokens import token_revoke


@admin.register(AccessToken)
class AccessTokenAdmin(ReadOnlyAdmin[AccessToken], HistoryAdmin[AccessToken]):
    list_display = ["name", "user", "shown_prefix", "state", "may", "last_used", "expires", "made"]
    list_select_related = ["user"]
    list_filter = ["is_read_only", ("user", AutocompleteSelectFilter)]
    search_fields = ["name", "prefix", "user__username"]
    search_help_text = "Name, person, or the 8 characters after rt_"
    fieldsets = [
        ("The token", {"fields": ["name", "user", "shown_prefix", "state", "may"]}),
        ("When", {"fields": ["made", "last_used", "expires"]}),
    ]
    readonly_fields = ["shown_prefix", "state", "may", "last_used", "expires", "made"]
    actions_detail = ["revoke"]

    @page_action(
        description="Revoke", url_path="revoke", icon="block", variant=ActionVariant.DANGER, permissions=["revoke"]
    )
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks first."""
        token = self.get_object(request, object_id)
        if token is None or not self.has_revoke_permission(request):
            raise Http404("No such token.")
        back = change_url(token)
        if request.method != "POST":
            said = [f"Whatever {token.user} runs with it is refused from the next request on. This cannot be undone."]
            question = Question(f"Revoke the access token “{token.name}”?", said, "Revoke", back, tone="danger")
            return asked_page(self, request, "Revoke an access token", question)
        if token_revoke(token=token, by=cast(User, request.user)):
            self.log_change(request, token, "Revoked.")
            messages.success(request, f"{token} is revoked.")
        else:
            messages.warning(request, f"{token} had been revoked before.")
        return HttpResponseRedirect(back)

    def has_revoke_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Unfold decides on the button by it: a token that is revoked has none."""
        token = self.get_object(request, str(object_id)) if object_id else None
        return request.user.has_perm("routing.change_accesstoken") and (token is None or token.revoked_at is None)

    @admin.display(description="token", ordering="prefix")
    def shown_prefix(self, token: AccessToken) -> SafeString:
        return code(f"rt_{token.prefix}_…")

    @admin.display(description="state")
    def state(self, token: AccessToken) -> SafeString:
        if token.revoked_at is not None:
            return label("Revoked", Tone.BAD, title=f"{token.revoked_at:%-d %b %Y %H:%M} UTC")
        if token.expires_at is not None and token.expires_at <= timezone.now():
            return label("Expired", Tone.WARN)
        if not token.user.is_active:
            return label("Person off", Tone.WARN, title="The token is fine, but its person is switched off.")
        return label("Active", Tone.GOOD)

    @admin.display(description="may", ordering="is_read_only")
    def may(self, token: AccessToken) -> str:
        return "Read" if token.is_read_only else "Read and change"

    @admin.display(description="last used", ordering="last_used_at")
    def last_used(self, token: AccessToken) -> SafeString:
        return moment(token.last_used_at, empty="never")

    @admin.display(description="expires", ordering="expires_at")
    def expires(self, token: AccessToken) -> SafeString:
        return moment(token.expires_at, empty="never")

    @admin.display(description="made", ordering="created_at")
    def made(self, token: AccessToken) -> SafeString:
        return moment(token.created_at)
