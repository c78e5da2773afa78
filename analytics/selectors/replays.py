"""Read what replays look at, and how they stand."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Min, Q, QuerySet

from analytics.models import DecisionRecord, Replay, ReplayState
from routing.models import PolicyDraft

SLICES: Final = 40  # of a range that a sample is taken from


def inputs_between(
    names: Iterable[str], since: datetime, until: datetime, *, rows: int
) -> Generator[list[bytes], None, None]:
    """The recorded inputs of these policies, `rows` at a time, by policy and time. Each part is a query of its own, so
    that a long replay holds no transaction open."""
    for name in names:
        found = DecisionRecord.objects.filter(policy=name, at__lt=until).order_by("at", "pk")
        position = Q(at__gte=since)
        while part := list(found.filter(position).values_list("at", "pk", "inputs")[:rows]):
            yield [bytes(inputs) for _, _, inputs in part]
            at, pk, _ = part[-1]
            position = Q(at__gte=at) & (Q(at__gt=at) | Q(pk__gt=pk))


def inputs_count(names: Iterable[str], since: datetime, until: datetime) -> int:
    return _within(names, since, until).count()


def inputs_sample(names: Iterable[str], since: datetime, until: datetime, *, rows: int) -> list[bytes]:
    """About `rows` of them: of each of equal slices of the range the first ones, as many as is its share of all."""
    names, span = list(names), (until - since) / SLICES
    slices = [_within(names, since + number * span, since + (number + 1) * span) for number in range(SLICES)]
    counts = [part.count() for part in slices]
    share = min(1.0, rows / max(1, sum(counts)))
    found: list[bytes] = []
    for part, count in zip(slices, counts, strict=True):
        if count:
            some = part.order_by("at", "pk").values_list("inputs", flat=True)[: max(1, round(count * share))]
            found += map(bytes, some)
    return found


def _within(names: Iterable[str], since: datetime, until: datetime) -> QuerySet[DecisionRecord]:
    return DecisionRecord.objects.filter(policy__in=list(names), at__gte=since, at__lt=until)


def decisions_since(policy: str) -> datetime | None:
    """When the oldest decision of this policy was made that is kept; None: none is."""
    oldest: datetime | None = DecisionRecord.objects.filter(policy=policy).aggregate(at=Min("at"))["at"]
    return oldest


def replays_of(draft: PolicyDraft, *, limit: int = 10) -> list[Replay]:
    """The latest first."""
    return list(draft.replays.select_related("policy", "draft", "created_by")[:limit])


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a replay is. `left` is None while nobody can tell."""

    replay: Replay
    share: float
    left: timedelta | None

    @property
    def is_open(self) -> bool:
        return self.replay.state in {ReplayState.WAITING, ReplayState.RUNNING}


def standing(replay: Replay, *, now: datetime) -> Standing:
    if replay.state == ReplayState.DONE:
        return Standing(replay, 1.0, None)
    share = min(1.0, replay.done / replay.total) if replay.total else 0.0
    if replay.state != ReplayState.RUNNING or replay.started_at is None or not replay.done:
        return Standing(replay, share, None)
    spent = now - replay.started_at
    return Standing(replay, share, spent * (replay.total - replay.done) / replay.done)
