"""Idempotent answers in SQL. Claims are compare-and-set: of two gateways that want a key, one gets it."""

import zlib
from collections.abc import Collection
from datetime import datetime
from typing import Final

import msgspec
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.db.models import QuerySet

from analytics.domain.idempotency import KEPT_FOR, AnswerState, Claim, KeptAnswer, Standing
from analytics.models import IdempotentAnswer
from analytics.store_connection import asked
from providers.fields import seal_bytes, unseal_bytes

FAST: Final = 1  # of zlib: a streamed answer shrinks to a tenth of its size, in less time than sealing the rest takes


class SqlAnswerStore:
    """An `AnswerStore` on the calling thread's connection. Every method raises StoreAwayError."""

    def claim(self, claim: Claim, *, now: datetime, until: datetime) -> Standing | None:
        """Take the key for this run; None when it has it, else what has the key."""
        row = IdempotentAnswer(
            key_digest=claim.key_digest,
            body_digest=claim.body_digest,
            request_id=claim.request_id,
            state=AnswerState.RUNNING,
            claimed_until=until,
            created_at=now,
            expires_at=now + KEPT_FOR,
        )
        with asked():
            if _insert(row):
                return None
            found = IdempotentAnswer.objects.filter(pk=row.pk).first()
            if found is None:  # it was let go just now: as good as running, since the caller comes again in either case
                return _standing(row)
            return None if _is_free(found, now) and _take_over(found, row) else _standing(found)

    def renew(self, claims: Collection[Claim], *, until: datetime) -> None:
        with asked():
            IdempotentAnswer.objects.filter(
                key_digest__in=[claim.key_digest for claim in claims],
                request_id__in=[claim.request_id for claim in claims],
                state=AnswerState.RUNNING,
            ).update(claimed_until=until)

    def keep(self, claim: Claim, answer: KeptAnswer | None) -> bool:
        """The run is over: keep its answer, None when it was too large. False if another run has the key by now."""
        state = AnswerState.TOO_LARGE if answer is None else AnswerState.KEPT
        sealed = "" if answer is None else seal_bytes(zlib.compress(msgspec.msgpack.encode(answer), FAST))
        with asked():
            return _running(claim).update(state=state, sealed=sealed) == 1

    def release(self, claim: Claim) -> None:
        """The run came to nothing: the key is free."""
        with asked():
            _running(claim).delete()

    def close(self) -> None:
        connection.close()


def _insert(row: IdempotentAnswer) -> bool:
    """One statement in one round trip; False if the key is taken. `bulk_create` would not tell, and takes three."""
    fields = IdempotentAnswer._meta.concrete_fields
    columns, marks = ", ".join(str(field.column) for field in fields), ", ".join("%s" for _ in fields)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {IdempotentAnswer._meta.db_table} ({columns}) VALUES ({marks}) "  # noqa: S608 - the model's
            "ON CONFLICT DO NOTHING",
            [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields],
        )
        inserted: int = cursor.rowcount
    return inserted == 1


def _running(claim: Claim) -> QuerySet[IdempotentAnswer]:
    return IdempotentAnswer.objects.filter(pk=claim.key_digest, request_id=claim.request_id, state=AnswerState.RUNNING)


def _is_free(row: IdempotentAnswer, now: datetime) -> bool:
    """Whether whoever has the key has lost it: the day is over, or its gateway stopped renewing."""
    return row.expires_at <= now or (row.state == AnswerState.RUNNING and row.claimed_until <= now)


def _take_over(found: IdempotentAnswer, row: IdempotentAnswer) -> bool:
    """Put `row` in the place of `found`, unless that has changed meanwhile."""
    unchanged = IdempotentAnswer.objects.filter(
        pk=found.pk, request_id=found.request_id, state=found.state, claimed_until=found.claimed_until
    )
    fields = ("body_digest", "request_id", "state", "claimed_until", "created_at", "expires_at", "sealed")
    return unchanged.update(**{name: getattr(row, name) for name in fields}) == 1


def _standing(row: IdempotentAnswer) -> Standing:
    claim = Claim(row.key_digest, row.body_digest, str(row.request_id))
    return Standing(claim, AnswerState(row.state), _opened(row.sealed) if row.sealed else None)


def _opened(sealed: str) -> KeptAnswer | None:
    """The answer; None when it was sealed with a field key that is no longer here."""
    try:
        return msgspec.msgpack.decode(zlib.decompress(unseal_bytes(sealed)), type=KeptAnswer)
    except ImproperlyConfigured:
        return None
