"""What every outbox does: rows are claimed by compare-and-set, tried, put back with growing pauses, given up in a day.

Nothing here holds a transaction while it waits for a network.
"""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import TypeVar

from django.db.models import F, QuerySet

from analytics.domain.alerts import GIVEN_UP_AFTER, retry_after_s
from analytics.models import DeliveryState, OutboxRow

CLAIMED_FOR = timedelta(minutes=5)  # longer than a task may run
ROUND_S = 60.0  # what is due later is the next round's
MOST_ROWS = 500  # of a round
NOTE_CHARS = 300

Row = TypeVar("Row", bound=OutboxRow)


def outbox_claim(rows: QuerySet[Row], *, now: datetime, for_s: float = ROUND_S) -> Iterator[Row]:
    """Of `rows`, those that are due and that nobody else has claimed, the oldest first, until so much time is over."""
    ends_at = time.monotonic() + for_s
    due = rows.filter(state=DeliveryState.WAITING, next_attempt_at__lte=now).order_by("next_attempt_at")
    for row in list(due[:MOST_ROWS]):
        if time.monotonic() > ends_at:
            return
        claim = rows.filter(pk=row.pk, state=DeliveryState.WAITING, next_attempt_at=row.next_attempt_at)
        if claim.update(next_attempt_at=now + CLAIMED_FOR, attempts=F("attempts") + 1):
            row.attempts += 1
            yield row


def outbox_sent(row: OutboxRow, note: str, *, now: datetime) -> bool:
    """The other side has it. False if the claim was lost meanwhile."""
    return _claimed(row).update(state=DeliveryState.SENT, sent_at=now, note=note[:NOTE_CHARS]) == 1


def outbox_drop(row: OutboxRow, why: str) -> None:
    """It is not to be sent any more."""
    _claimed(row).update(state=DeliveryState.FAILED, note=why[:NOTE_CHARS])


def outbox_put_back(row: OutboxRow, reason: str, *, now: datetime, rng: Callable[[], float]) -> bool:
    """Have it tried again later, or give it up after a day; returns whether it is given up."""
    again_at = now + timedelta(seconds=retry_after_s(row.attempts, rng()))
    is_over = again_at > row.created_at + GIVEN_UP_AFTER
    state = DeliveryState.FAILED if is_over else DeliveryState.WAITING
    _claimed(row).update(state=state, next_attempt_at=again_at, note=reason[:NOTE_CHARS])
    return is_over


def _claimed(row: OutboxRow) -> QuerySet[OutboxRow]:
    """The row, if the claim on it is still ours."""
    return type(row)._default_manager.filter(pk=row.pk, state=DeliveryState.WAITING, attempts=row.attempts)
