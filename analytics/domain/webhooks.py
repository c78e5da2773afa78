"""Events for other programs: their kinds, how one is written down, and which failures are told one by one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID, uuid5

VERSION: Final = 1  # of the payloads: counted up when a field goes or changes its meaning, not when one is added
FAILING_FOR: Final = timedelta(days=3)
SECRETS_OVERLAP: Final = timedelta(hours=24)
EVENT_IDS: Final = UUID("8f0a3b52-6b1c-5c0e-9d53-6f1f6c1d7e11")  # whence ids of events come that are found again
DETAIL_CHARS: Final = 300


class EventKind(StrEnum):
    REQUEST_FAILED = "request.failed"
    BUDGET_THRESHOLD = "budget.threshold"
    PROVIDER_STATE = "provider.state"
    KEY_REVOKED = "key.revoked"
    POLICY_PUBLISHED = "policy.published"
    TEST = "endpoint.test"


TEAM_KINDS: Final = frozenset({EventKind.REQUEST_FAILED, EventKind.BUDGET_THRESHOLD, EventKind.KEY_REVOKED})


def event_json(event_id: UUID, kind: str, at: datetime, data: Mapping[str, Any]) -> dict[str, Any]:
    """What is posted: the same for every try and every endpoint."""
    return {"id": str(event_id), "type": kind, "version": VERSION, "created_at": utc_text(at), "data": dict(data)}


def utc_text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


def usd_text(nano: int) -> str:
    """Exact dollars as text: a float would lose digits."""
    whole, rest = divmod(abs(nano), 10**9)
    return f"{'-' if nano < 0 else ''}{whole}.{rest:09d}"


def event_id(*parts: object) -> UUID:
    """The same for the same parts, so that what is found twice is told once."""
    return uuid5(EVENT_IDS, "\n".join(map(str, parts)))


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that ended in an error."""

    request_id: UUID
    code: str
    at: datetime


def summary_data(minute: datetime, failures: Sequence[Failure], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The failures of `minute` that are not told one by one, on top of what was counted `before`."""
    codes = Counter(dict(before["codes"])) if before else Counter[str]()
    codes.update(failure.code for failure in failures)
    times = [utc_text(failure.at) for failure in failures]
    return {
        "object": "request_summary",
        "minute": utc_text(minute),
        "count": codes.total(),
        "codes": dict(sorted(codes.items())),
        "first_at": min([*times, *([before["first_at"]] if before else [])]),
        "last_at": max([*times, *([before["last_at"]] if before else [])]),
    }
