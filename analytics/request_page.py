"""The request log's filters as its address writes them, and what the page of one request shows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import accumulate, islice
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.urls import reverse

from analytics.models import Budget, BudgetWindow, UsageAdjustment, UsageRecord, UsageSource, UsageState
from analytics.periods import Period, period_of
from analytics.selectors import RequestFilters, requests_page
from analytics.selectors.adjustments import adjustments_of_request
from analytics.sight import Sight
from providers.domain.answer import Usage
from providers.domain.pricing import CostLine, cost_lines, price_from_snapshot
from providers.models import Price

Position = tuple[datetime, UUID]
CSV_ROWS_MAX = 100_000
CSV_PAGE = 1_000
CSV_FIELDS = (
    "request_id", "started_at", "state", "http_status", "error_code", "door", "team_name", "key_name", "key_prefix",
    "persona", "policy", "requested_model", "deployment", "model", "input_tokens", "cache_read_input_tokens",
    "cache_creation_input_tokens", "output_tokens", "reasoning_tokens", "usage_source", "cost_nano",
    "correction_nano", "ttft_ms", "latency_ms", "overhead_ms", "cache", "saved_nano",
)  # fmt: skip


# --- the log ------------------------------------------------------------------------------------------------------


def log_period(query: Mapping[str, str], *, today: date) -> Period | None:
    """The days to look at; None is any time."""
    return period_of(query, today=today) if query.get("range") else None


def filters_of(query: Mapping[str, str], *, sight: Sight, period: Period | None) -> RequestFilters:
    state, key = query.get("state", ""), query.get("key", "")
    return RequestFilters(
        begins_at=period.days.begins_at if period else None,
        ends_before=period.days.ends_before if period else None,
        team_id=sight.chosen.pk if sight.chosen else None,
        key_id=int(key) if key.isascii() and key.isdigit() and len(key) < 19 else None,
        persona=_name(query, "persona", 60),
        policy=_name(query, "policy", 80),
        provider=_name(query, "provider", 60),
        model=_name(query, "model", 120),
        state=state if state in UsageState.values else "",
        errors_only=query.get("errors") == "1",
    )


def _name(query: Mapping[str, str], parameter: str, longest: int) -> str:
    """What was asked for, as far as a column can hold it: PostgreSQL refuses NUL."""
    return query.get(parameter, "").replace("\0", "")[:longest]


def position_text(position: Position | None) -> str:
    return "" if position is None else f"{position[0].isoformat()}_{position[1]}"


def position_of(text: str) -> Position | None:
    """The inverse of `position_text`; None of anything else."""
    moment, _, request_id = text.partition("_")
    try:
        found = datetime.fromisoformat(moment)
        return (found.astimezone(UTC), UUID(request_id)) if found.tzinfo else None
    except (ValueError, OverflowError):  # OverflowError: in UTC it would be before year 1 or after 9999
        return None


def all_records(*, team_ids: tuple[int, ...] | None, filters: RequestFilters) -> Iterator[UsageRecord]:
    """The whole log behind the filters, up to CSV_ROWS_MAX records, a page in memory at a time."""
    before: Position | None = None
    for _ in range(CSV_ROWS_MAX // CSV_PAGE):
        page = requests_page(team_ids=team_ids, filters=filters, before=before, limit=CSV_PAGE)
        yield from page.records
        before = page.next_before
        if before is None:
            return


# --- one request --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AttemptBar:
    """One try; `x` and `width` place it on the request's whole time, in percent."""

    number: int
    provider: str
    deployment: str
    key_last4: str
    started_ms: float
    latency_ms: float
    failure: str
    http_status: int | None
    message: str
    billed_nano: int | None
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Bill:
    """How the cost came about. `price` is the row used, None when it is not in the database any more."""

    lines: tuple[CostLine, ...]
    price: Price | None
    is_bound: bool
    broken_nano: int


@dataclass(frozen=True, slots=True)
class CorrectionLine:
    """One correction, and what the request cost after it."""

    adjustment: UsageAdjustment
    cost_nano: int


@dataclass(frozen=True, slots=True)
class BudgetShare:
    """A budget that the request belonged to: what it was charged, and whether it would have refused it."""

    budget: Budget
    charged_nano: int
    would_refuse: bool


@dataclass(frozen=True, slots=True)
class BudgetPart:
    """What budgets did to a request. `max_tokens` is the answer length that they left, None when it was as asked."""

    hold_nano: int
    max_tokens: int | None
    shares: tuple[BudgetShare, ...]


def attempt_bars(record: UsageRecord) -> list[AttemptBar]:
    """The attempts as the ledger wrote them (analytics.domain.usage.Attempt), placed beside each other."""
    attempts: list[dict[str, Any]] = [one for one in record.attempts if isinstance(one, dict)]
    ends = [float(one.get("started_ms", 0)) + float(one.get("latency_ms", 0)) for one in attempts]
    whole = max([record.latency_ms, *ends, 1.0])
    return [_bar(number, attempt, whole) for number, attempt in enumerate(attempts, 1)]


def _bar(number: int, attempt: Mapping[str, Any], whole: float) -> AttemptBar:
    started, latency = float(attempt.get("started_ms", 0)), float(attempt.get("latency_ms", 0))
    return AttemptBar(
        number=number,
        provider=str(attempt.get("provider", "")),
        deployment=str(attempt.get("deployment", "")),
        key_last4=str(attempt.get("key_last4", "")),
        started_ms=started,
        latency_ms=latency,
        failure=str(attempt.get("failure", "")).replace("_", " "),
        http_status=attempt.get("http_status"),
        message=str(attempt.get("message", "")),
        billed_nano=attempt.get("billed_nano"),
        x=round(100 * started / whole, 2),
        width=round(max(0.4, 100 * latency / whole), 2),
    )


def bill(record: UsageRecord) -> Bill | None:
    """The cost line by line; None when no price was known or nothing was used."""
    if not record.price:
        return None
    usage = Usage(
        input_tokens=record.input_tokens,
        cache_read_input_tokens=record.cache_read_input_tokens,
        cache_creation_input_tokens=record.cache_creation_input_tokens,
        output_tokens=record.output_tokens,
        reasoning_tokens=record.reasoning_tokens,
        cache_creation_1h_input_tokens=record.cache_creation_1h_input_tokens or 0,
    )
    price = price_from_snapshot(record.price)
    row = Price.objects.select_related("model", "deployment__provider").filter(pk=price.id).first()
    broken = sum(bar.billed_nano or 0 for bar in attempt_bars(record) if bar.failure)
    return Bill(tuple(cost_lines(usage, price)), row, record.usage_source == UsageSource.BOUND, broken)


def corrections(record: UsageRecord) -> list[CorrectionLine]:
    """What was corrected about the cost, in order."""
    made = adjustments_of_request(request_id=record.request_id)
    costs = accumulate((one.delta_nano for one in made), initial=record.cost_nano or 0)
    return [CorrectionLine(one, cost) for one, cost in zip(made, islice(costs, 1, None), strict=True)]


def budget_part(record: UsageRecord) -> BudgetPart | None:
    """None when no budget applied."""
    use = record.budget
    if not isinstance(use, dict):
        return None
    charges = {int(number): int(nano) for number, nano in (record.charges or {}).items()}
    refused = set(use.get("would_refuse", ()))
    windows = BudgetWindow.objects.select_related("budget__team", "budget__key", "budget__persona", "budget__alias")
    shares = (
        BudgetShare(window.budget, charges.get(window.pk, 0), window.pk in refused)
        for window in windows.filter(pk__in={*charges, *refused}).order_by("pk")
    )
    return BudgetPart(use.get("hold_nano", 0), use.get("max_tokens"), tuple(shares))


def playground_href(record: UsageRecord, team_slug: str) -> str:
    """The playground with the same team, persona and model."""
    asked = record.requested_model
    model = "auto" if asked in {"", record.persona} else asked
    chosen = {"team": team_slug, "persona": record.persona, "model": model}
    return f"{reverse('playground')}?{urlencode({name: value for name, value in chosen.items() if value})}"
