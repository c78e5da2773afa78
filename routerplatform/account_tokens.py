"""/account/tokens/: everybody's own access tokens. A new one is in the answer to the form and nowhere else."""

from datetime import datetime, timedelta
from typing import cast

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from routing.models import AccessToken
from routing.services.tokens import token_issue, token_revoke

NEVER = "never"
EXPIRIES = [("30", "In 30 days"), ("90", "In 90 days"), ("365", "In 365 days"), (NEVER, "Never")]


class TokenForm(forms.Form):
    name = forms.CharField(
        max_length=80,
        error_messages={"required": "Say what will use the token.", "max_length": "Use 80 characters at most."},
    )
    expiry = forms.ChoiceField(choices=EXPIRIES, initial="90", widget=forms.RadioSelect)
    may_change = forms.BooleanField(required=False)

    def expires_at(self, now: datetime) -> datetime | None:
        """When the token ends, of a form that is valid."""
        chosen = self.cleaned_data["expiry"]
        return None if chosen == NEVER else now + timedelta(days=int(chosen))


@require_GET
@never_cache
@login_required
def token_list(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    tokens = AccessToken.objects.filter(user=request.user.pk).order_by("revoked_at", "name", "pk")
    return render(request, "account/tokens.html", {"tokens": tokens, "now": now})


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def new_token(request: HttpRequest) -> HttpResponse:
    form = TokenForm(request.POST if request.method == "POST" else None)
    if not form.is_valid():
        return render(request, "account/token_new.html", {"form": form})
    issued = token_issue(
        user=cast(User, request.user),
        name=form.cleaned_data["name"],
        is_read_only=not form.cleaned_data["may_change"],
        expires_at=form.expires_at(timezone.now()),
    )
    base_url = request.build_absolute_uri("/api/v1/manage")
    context = {"token": issued.token, "secret": issued.secret, "base_url": base_url}
    return render(request, "account/token_issued.html", context)


@require_POST
@never_cache
@login_required
def revoke_token(request: HttpRequest, token_id: int) -> HttpResponse:
    """Somebody else's is a 404 like an unknown one."""
    token = AccessToken.objects.filter(pk=token_id, user=request.user.pk).first()
    if token is None:
        raise Http404("No such token.")
    if token_revoke(token=token, by=cast(User, request.user)):
        messages.success(request, f"{token} is revoked: the next request with it is refused.")
    else:
        messages.warning(request, f"{token} had been revoked before.")
    return redirect("account-tokens")


urlpatterns = [
    path("account/tokens/", token_list, name="account-tokens"),
    path("account/tokens/new/", new_token, name="account-token-new"),
    path("account/tokens/<int:token_id>/revoke/", revoke_token, name="account-token-revoke"),
]
