"""Writes of who may call: virtual keys, and the answers kept for a team."""

import base64
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from providers.domain.types import RateLimit
from routing.announcements import key_revoked
from routing.domain.config import Scope
from routing.domain.keys import PREFIX_LENGTH, KeyParts, key_digest, key_parts, key_text
from routing.models import ModelAlias, Team, VirtualKey
from routing.services.revision import config_revision_bump

SECRET_BYTES = 32  # 43 characters of text


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key. `secret` is the whole text that callers present: show it once and forget it."""

    key: VirtualKey
    secret: str = field(repr=False)


def kept_answers_purge(*, team: Team, now: datetime) -> None:
    """From now on no answer that was kept for `team` so far is given again; gateways know within two seconds."""
    team.cache_purged_at = now
    team.save(update_fields=["cache_purged_at"])


@transaction.atomic
def key_issue(
    *,
    team: Team,
    name: str,
    by: User | None,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    allowed_models: Iterable[ModelAlias] = (),
    secret: str | None = None,
    is_playground: bool = False,
) -> IssuedKey:
    """Issue a key for `team`. `secret` chooses the whole key (`rp_<prefix>_<secret>`); by default it is random.

    :raises ValidationError: no or unknown scopes, a chosen key that is malformed or taken.
    """
    text = secret if secret is not None else key_text(random_key())
    parts = key_parts(text)
    if parts is None:
        raise ValidationError("A chosen key looks like rp_<8 letters a-z or digits 2-7>_<at least 32 characters>.")
    key = VirtualKey(
        team=team,
        name=name,
        prefix=parts.prefix,
        digest=key_digest(settings.KEY_PEPPER.encode(), text),
        scopes=[str(scope) for scope in scopes],
        expires_at=expires_at,
        created_by=by,
        is_playground=is_playground,
    )
    key.full_clean(validate_constraints=False)
    key.save()
    key.allowed_models.set(allowed_models)
    return IssuedKey(key=key, secret=text)


@transaction.atomic
def key_limit_set(*, key: VirtualKey, limit: RateLimit) -> None:
    """Limit the traffic of `key`; gateways follow within 2 s."""
    key.rpm_limit, key.tpm_limit, key.max_parallel_requests = limit.rpm, limit.tpm, limit.max_parallel
    key.save(update_fields=["rpm_limit", "tpm_limit", "max_parallel_requests"])


@transaction.atomic
def key_revoke(*, key: VirtualKey, by: User | None) -> bool:
    """Revoke `key` for good; False if it already was. Traffic with it stops within 2 s."""
    changed = VirtualKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now(), revoked_by=by)
    key.refresh_from_db(fields=["revoked_at", "revoked_by"])
    if changed:
        VirtualKey.history.bulk_history_create([key], update=True, default_user=by)
        config_revision_bump()
        key_revoked.send(VirtualKey, key=key, by=by, at=key.revoked_at)
    return changed == 1


def playground_key_for(*, team: Team, by: User) -> VirtualKey:
    """The key that the team's people use in the playground, made when it is first needed. Nobody knows its secret.

    Safe to call from several processes at once: the database keeps one per team.
    """
    current = VirtualKey.objects.filter(team=team, is_playground=True, revoked_at=None)
    key = current.first()
    if key is None:
        try:
            key = key_issue(
                team=team, name="Playground", by=by, scopes=[Scope.CHAT, Scope.MODELS], is_playground=True
            ).key
        except IntegrityError:
            key = current.get()
    return key


def random_key() -> KeyParts:
    """The parts of a new key or token that nobody can guess."""
    prefix = base64.b32encode(secrets.token_bytes(5)).decode().lower()[:PREFIX_LENGTH]
    return KeyParts(prefix=prefix, secret=secrets.token_urlsafe(SECRET_BYTES))
