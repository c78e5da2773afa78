"""Kept responses in SQL: one row each, found by team and id."""

import zlib
from datetime import datetime
from typing import Final

import msgspec
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection

from analytics.domain.responses import KeptConversation, KeptResponse
from analytics.models import StoredResponse
from analytics.store_connection import asked
from providers.fields import seal_bytes, unseal_bytes

FAST: Final = 1  # of zlib: conversations repeat themselves, so they shrink well in little time


class SqlResponseStore:
    """A `ResponseStore` on the calling thread's connection. Every method raises StoreAwayError."""

    def keep(self, response: KeptResponse, *, now: datetime, until: datetime) -> bool:
        """One statement. False when it is there already, or its team is not there any more."""
        row = StoredResponse(
            team_id=response.team_id,
            response_id=response.response_id,
            deployment=response.deployment,
            sealed=_sealed(response.conversation) if response.conversation else "",
            created_at=now,
            expires_at=until,
        )
        with asked():
            try:
                row.save(force_insert=True)
            except IntegrityError:
                return False
            return True

    def find(self, team_id: int, response_id: str, *, now: datetime) -> KeptResponse | None:
        """None for what was never there, is over its time, or was sealed with a field key that is gone."""
        with asked():
            row = StoredResponse.objects.filter(team=team_id, response_id=response_id, expires_at__gt=now).first()
        if row is None:
            return None
        conversation = _opened(row.sealed) if row.sealed else None
        if conversation is None and not row.deployment:
            return None
        return KeptResponse(team_id, response_id, row.deployment, conversation)

    def forget(self, team_id: int, response_id: str) -> bool:
        """Delete what is kept here; False if nothing was. What a vendor keeps stays known."""
        with asked():
            return StoredResponse.objects.filter(team=team_id, response_id=response_id, deployment="").delete()[0] > 0

    def close(self) -> None:
        connection.close()


def _sealed(conversation: KeptConversation) -> str:
    return seal_bytes(zlib.compress(msgspec.msgpack.encode(conversation), FAST))


def _opened(sealed: str) -> KeptConversation | None:
    try:
        return msgspec.msgpack.decode(zlib.decompress(unseal_bytes(sealed)), type=KeptConversation)
    except ImproperlyConfigured:
        return None
