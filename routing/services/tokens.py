"""Writes of access tokens: what a person's programs present to the management API."""

from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from routing.domain.keys import KeyKind, key_digest, key_text
from routing.models import AccessToken
from routing.services.access import random_key


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token. `secret` is the whole text that programs present: show it once and forget it."""

    token: AccessToken
    secret: str = field(repr=False)


@transaction.atomic
def token_issue(*, user: User, name: str, is_read_only: bool = True, expires_at: datetime | None = None) -> IssuedToken:
    """Issue a token that does what `user` may do, at most.

    :raises ValidationError: no name, or too long a one.
    """
    parts = random_key()
    text = key_text(parts, KeyKind.PERSON)
    token = AccessToken(
        user=user,
        name=name,
        prefix=parts.prefix,
        digest=key_digest(settings.KEY_PEPPER.encode(), text),
        is_read_only=is_read_only,
        expires_at=expires_at,
    )
    token.full_clean(validate_constraints=False)
    token.save()
    return IssuedToken(token=token, secret=text)


@transaction.atomic
def token_revoke(*, token: AccessToken, by: User | None) -> bool:
    """Revoke `token` for good; False if it already was. The next request with it is refused."""
    changed = AccessToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now())
    token.refresh_from_db(fields=["revoked_at"])
    if changed:
        AccessToken.history.bulk_history_create([token], update=True, default_user=by)
    return changed == 1


def token_used(*, token: AccessToken, now: datetime) -> None:
    """Note that it was used, to the hour: most requests write nothing."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    if token.last_used_at is None or token.last_used_at < hour:
        AccessToken.objects.filter(pk=token.pk).update(last_used_at=hour)
