"""What the requests that a policy routed came to: by model, by kind of work, by version."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from django.db.models import Count, Q, Sum
from django.db.models.functions import Coalesce

from analytics.models import UsageRecord
from analytics.selectors.sums import FAILED
from routing.domain.config import TASK_LABELS, TaskType

SPAN: Final = timedelta(hours=24)
MOST_ROWS: Final = 12


@dataclass(frozen=True, slots=True)
class TrafficRow:
    """One part of a policy's traffic. `share` is of its requests, 0 to 1; `cost_nano` is without unknown prices;
    `latency_ms` is the mean of those that did not fail, None where all did."""

    name: str
    requests: int
    share: float
    cost_nano: int
    failed: int
    latency_ms: float | None

    @property
    def percent(self) -> float:
        return self.share * 100


@dataclass(frozen=True, slots=True)
class PolicyTraffic:
    """The last 24 hours of a policy, each split with the largest part first."""

    requests: int
    cost_nano: int
    by_model: list[TrafficRow]
    by_task: list[TrafficRow]
    by_version: list[TrafficRow]


class _Part(NamedTuple):
    deployment: str
    task_type: str
    policy_version: int
    arm: str
    requests: int
    cost_nano: int
    failed: int
    waited_ms: float


def policy_traffic(policy: str, *, now: datetime) -> PolicyTraffic:
    """One query over the index of policies."""
    rows = UsageRecord.objects.filter(policy=policy, started_at__gt=now - SPAN, started_at__lte=now).order_by()
    sums = rows.values_list("deployment", "task_type", "policy_version", "arm").annotate(
        requests=Count("pk"),
        cost=Coalesce(Sum("cost_nano"), 0),
        failed=Count("pk", filter=FAILED),
        waited=Coalesce(Sum("latency_ms", filter=~Q(FAILED)), 0.0),
    )
    parts = [_Part(*row) for row in sums]
    return PolicyTraffic(
        requests=sum(part.requests for part in parts),
        cost_nano=sum(part.cost_nano for part in parts),
        by_model=_split(parts, lambda part: part.deployment or "No model: refused, or failed before one was asked"),
        by_task=_split(parts, _kind),
        by_version=_split(parts, _version),
    )


def _kind(part: _Part) -> str:
    known = part.task_type in set(TaskType)
    return TASK_LABELS[TaskType(part.task_type)] if known else part.task_type or "Not classified"


def _version(part: _Part) -> str:
    name = f"v{part.policy_version}" if part.policy_version else "Before versions were kept"
    return f"{name}, {part.arm}" if part.arm and part.arm != name else name


def _split(parts: Iterable[_Part], name: Callable[[_Part], str]) -> list[TrafficRow]:
    groups: dict[str, list[_Part]] = defaultdict(list)
    for part in parts:
        groups[name(part)].append(part)
    total = sum(part.requests for group in groups.values() for part in group)
    rows = [_row(named, group, total) for named, group in groups.items()]
    return sorted(rows, key=lambda row: (-row.requests, row.name))[:MOST_ROWS]


def _row(name: str, group: list[_Part], total: int) -> TrafficRow:
    requests, failed = sum(part.requests for part in group), sum(part.failed for part in group)
    waited = sum(part.waited_ms for part in group)
    return TrafficRow(
        name=name,
        requests=requests,
        share=requests / total,
        cost_nano=sum(part.cost_nano for part in group),
        failed=failed,
        latency_ms=waited / (requests - failed) if requests > failed else None,
    )
