"""What the arms of an experiment have come to, from usage records by their `arm`, and what people say of the answers.

Answers from the response cache are left out: they say nothing about either side's rules. What a caller gave up is no
answer and no error; what the gateway refused before it asked anybody, for a budget or a limit, is none either.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from django.db.models import Avg, Count, F, FloatField, Q, QuerySet, Sum, Variance
from django.db.models.functions import Cast

from analytics.domain.experiments import ArmFigures, Guards, Moments, Share
from analytics.models import CacheUse, Feedback, Thumb, UsageRecord, UsageState
from analytics.percentile import Percentile
from analytics.selectors.sums import ANSWERED, FAILED
from routing.models import Experiment

CONTROL: Final = "control"
CHALLENGER: Final = "challenger"
OWN_REFUSALS: Final = ("insufficient_quota", "rate_limit_exceeded", "budget_unavailable", "price_unknown")
REFUSED_BY_US: Final = Q(deployment="", error_code__in=OWN_REFUSALS)
JUDGED: Final = ~Q(state=UsageState.CANCELLED) & ~REFUSED_BY_US
PRICED: Final = ANSWERED & Q(cost_nano__isnull=False)
TOKENS: Final = F("input_tokens") + F("cache_read_input_tokens") + F("cache_creation_input_tokens") + F("output_tokens")
NO_SHARE: Final = Share(0, 0)
SAMPLE_RATED: Final = 20_000  # answers of an arm whose feedback is looked for, the latest


@dataclass(frozen=True, slots=True)
class ArmResults:
    """One side. `figures` is what is tested; the rest is shown. Times are milliseconds, None without any; `cost_nano`
    is the mean of a request. `valid` counts answers that were to be JSON, `liked` those that people rated."""

    name: str
    figures: ArmFigures
    cancelled: int = 0
    unpriced: int = 0
    tokens: int = 0
    latency_p50: float | None = None
    latency_p95: float | None = None
    ttft_p50: float | None = None
    ttft_p95: float | None = None
    valid: Share = NO_SHARE
    liked: Share = NO_SHARE
    grade: float | None = None
    grades: int = 0


def arm_name(experiment: Experiment, side: str) -> str:
    """What usage records call a side."""
    return f"{experiment.name}:{side}"


def guards_of(experiment: Experiment) -> Guards:
    """The experiment's guards, in the units of `analytics.domain.experiments`."""
    latency, cost = experiment.guard_latency_percent, experiment.guard_cost_percent
    return Guards(
        least=experiment.min_samples,
        errors=experiment.guard_error_points / 100,
        latency=None if latency is None else latency / 100,
        cost=None if cost is None else cost / 100,
        max_cost_nano=None if experiment.max_cost is None else int(experiment.max_cost * 10**9),
    )


def arm_figures(experiment: Experiment, side: str, *, since: datetime | None = None) -> ArmFigures:
    """What the guards look at: one query. `since` narrows it to the latest part of the experiment."""
    rows = _records(experiment, side, since)
    found = rows.aggregate(**_TESTED)
    return _figures(found)


def arm_results(experiment: Experiment, side: str) -> ArmResults:
    """All that a page shows of a side: four queries."""
    rows = _records(experiment, side, None)
    found = rows.aggregate(**_TESTED, **_SHOWN)
    liked, grade, grades = _ratings(rows)
    return ArmResults(
        name=arm_name(experiment, side),
        figures=_figures(found),
        cancelled=found["n_cancelled"],
        unpriced=found["n_unpriced"],
        tokens=found["n_tokens"] or 0,
        latency_p50=found["latency_p50"],
        latency_p95=found["latency_p95"],
        ttft_p50=found["ttft_p50"],
        ttft_p95=found["ttft_p95"],
        valid=Share(found["n_valid"], found["n_valid"] + found["n_invalid"]),
        liked=liked,
        grade=grade,
        grades=grades,
    )


_LATENCY = Cast("latency_ms", FloatField())
_COST = Cast("cost_nano", FloatField())
_TESTED: dict[str, Any] = {
    "n_requests": Count("pk", filter=JUDGED),
    "n_errors": Count("pk", filter=JUDGED & FAILED),
    "n_answered": Count("pk", filter=ANSWERED),
    "latency_mean": Avg(_LATENCY, filter=ANSWERED),
    "latency_variance": Variance(_LATENCY, filter=ANSWERED),
    "n_priced": Count("pk", filter=PRICED),
    "cost_mean": Avg(_COST, filter=PRICED),
    "cost_variance": Variance(_COST, filter=PRICED),
    "spent": Sum("cost_nano"),
}
_SHOWN: dict[str, Any] = {
    "n_cancelled": Count("pk", filter=Q(state=UsageState.CANCELLED)),
    "n_unpriced": Count("pk", filter=Q(cost_nano=None)),
    "n_tokens": Sum(TOKENS),
    "latency_p50": Percentile("latency_ms", 0.5, filter=ANSWERED),
    "latency_p95": Percentile("latency_ms", 0.95, filter=ANSWERED),
    "ttft_p50": Percentile("ttft_ms", 0.5, filter=ANSWERED & Q(is_stream=True)),
    "ttft_p95": Percentile("ttft_ms", 0.95, filter=ANSWERED & Q(is_stream=True)),
    "n_valid": Count("pk", filter=Q(decision__json="valid")),
    "n_invalid": Count("pk", filter=Q(decision__json="invalid")),
}


def _records(experiment: Experiment, side: str, since: datetime | None) -> QuerySet[UsageRecord]:
    begins_at = since or experiment.started_at
    rows = UsageRecord.objects.filter(arm=arm_name(experiment, side)).exclude(cache=CacheUse.HIT)
    return rows.filter(started_at__gte=begins_at) if begins_at else rows.none()


def _figures(found: dict[str, Any]) -> ArmFigures:
    return ArmFigures(
        requests=found["n_requests"],
        errors=Share(found["n_errors"], found["n_requests"]),
        latency=Moments(found["n_answered"], found["latency_mean"] or 0.0, found["latency_variance"] or 0.0),
        cost=Moments(found["n_priced"], found["cost_mean"] or 0.0, found["cost_variance"] or 0.0),
        spent_nano=found["spent"] or 0,
    )


def _ratings(rows: QuerySet[UsageRecord]) -> tuple[Share, float | None, int]:
    """Thumbs, and grades with their mean, of a side's answers: decision ids are request ids."""
    asked = rows.order_by("-started_at").values("request_id")[:SAMPLE_RATED]
    found = Feedback.objects.filter(decision_id__in=asked).aggregate(
        ups=Count("pk", filter=Q(thumb=Thumb.UP)),
        thumbs=Count("pk", filter=~Q(thumb="")),
        mean=Avg("grade"),
        grades=Count("grade"),
    )
    return Share(found["ups"], found["thumbs"]), cast("float | None", found["mean"]), found["grades"]
