"""Budgets beside what was spent of them: from their windows, and from the records where no window was needed yet."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Case, Min, OuterRef, Q, QuerySet, Subquery, Sum, When

from analytics.domain.budgets import Span, span_of, window_id
from analytics.domain.forecast import Forecast, budget_forecast
from analytics.domain.rollup import ONE_DAY, DayRange, Stretch, Sums, day_begins
from analytics.models import Budget, BudgetLease, BudgetScope, BudgetWindow
from analytics.selectors.subjects import Subject, stretch_of, subject_of, subject_sums

DAYS_BACK = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """A budget in its current period; `ends_before` is None when that never ends. Amounts are nano-USD.

    `spent` is final. `leased` is what gateways have set aside of the rest; `held` is the part of it that waits for
    requests under way, as they last said. `as_of` is when the one that was silent longest did so. `overrun` is the
    part of `spent` that no lease covered, `unpriced` counts requests whose cost nobody knows. `recent` is the cost per
    day of what the budget is for: since yesterday, and in the week before today.
    """

    budget: Budget
    begins_at: datetime
    ends_before: datetime | None
    spent_nano: int
    limit_nano: int
    unpriced: int = 0
    leased_nano: int = 0
    held_nano: int = 0
    overrun_nano: int = 0
    would_refuse: int = 0
    recent: tuple[float, float] = (0.0, 0.0)
    as_of: datetime
    window_id: int | None = None

    @property
    def share(self) -> float:
        """Of the limit; a budget of nothing is spent from the beginning."""
        return self.spent_nano / self.limit_nano if self.limit_nano else 1.0

    @property
    def remaining_nano(self) -> int:
        """What no gateway has set aside yet."""
        return max(0, self.limit_nano - self.spent_nano - self.leased_nano)

    @property
    def span(self) -> Span:
        return Span(self.begins_at, self.ends_before)

    def forecast(self, now: datetime) -> Forecast | None:
        return budget_forecast(
            spent_nano=self.spent_nano, limit_nano=self.limit_nano, span=self.span, now=now, recent=self.recent
        )


def budgets_with_spend(*, team_ids: Collection[int] | None, now: datetime) -> list[BudgetState]:
    """Every active budget that may be seen: teams first, by name; then keys, personas and model aliases."""
    return budget_states(budgets_seen(team_ids).filter(is_active=True), now=now)


def budgets_seen(team_ids: Collection[int] | None) -> QuerySet[Budget]:
    """The budgets of these teams and of their keys. Those of personas and model aliases tell what all teams together
    spend: they are seen only by those who see every team."""
    scopes = [When(scope=scope, then=place) for place, scope in enumerate(BudgetScope.values)]
    budgets = Budget.objects.select_related("team", "key__team", "persona", "alias").order_by(
        Case(*scopes, default=0), "team__name", "key__team__name", "key__name", "persona__slug", "alias__name",
        "budget_duration",
    )  # fmt: skip
    if team_ids is None:
        return budgets
    ids = list(team_ids)
    return budgets.filter(Q(team_id__in=ids) | Q(key__team_id__in=ids))


def budget_states(budgets: Iterable[Budget], *, now: datetime) -> list[BudgetState]:
    """The state of each of these budgets, in their order. What has no window yet is summed up from the records, in as
    many queries for many budgets as for one whose period began at that moment."""
    spans = {budget: span_at(budget, now) for budget in budgets}
    numbers = {budget: window_id(budget.pk, span.starts_at) for budget, span in spans.items()}
    windows = _windows(numbers.values())
    spent = _spent([(budget, span) for budget, span in spans.items() if numbers[budget] not in windows])
    days = _days(spans, now)
    return [
        replace(
            _state(budget, span, now, window=windows.get(numbers[budget]), spent=spent.get(budget, 0)),
            unpriced=_unpriced(days[subject_of(budget)], span),
            recent=_recent(days[subject_of(budget)], now),
        )
        for budget, span in spans.items()
    ]


def limit_before(budget: Budget, amount: Decimal) -> Decimal | None:
    """The limit in force, if `amount` (USD) would raise it; None of a new budget and where it stays or gets lower."""
    before = Budget.objects.filter(pk=budget.pk).values_list("max_budget", flat=True).first()
    return before if before is not None and amount > before else None


def rival_of(budget: Budget) -> str | None:
    """In words, the budget in force that this one cannot be in force beside."""
    subject = budget.subject if budget.scope in BudgetScope.values else None
    if subject is None:
        return None
    same = {"scope": budget.scope, budget.scope: subject, "budget_duration": budget.budget_duration}
    other = Budget.objects.filter(**same, is_active=True).exclude(pk=budget.pk).first()
    return f"{subject} has a budget {budget.per} already: ${other.max_budget:,}. Change that one." if other else None


def span_at(budget: Budget, now: datetime) -> Span:
    """The budget's period that `now` lies in."""
    return span_of(budget.budget_duration, time_zone=budget.time_zone, created_at=budget.created_at, now=now)


def _windows(numbers: Collection[int]) -> dict[int, Any]:
    """With what their leases hold, and when the one that was silent longest was renewed."""
    leases = BudgetLease.objects.filter(window=OuterRef("pk")).order_by().values("window")
    rows = BudgetWindow.objects.filter(pk__in=list(numbers)).annotate(
        held=Subquery(leases.annotate(held=Sum("held_nano")).values("held")),
        renewed_at=Subquery(leases.annotate(first=Min("renewed_at")).values("first")),
    )
    return {window.pk: window for window in rows}


def _spent(spans: Collection[tuple[Budget, Span]]) -> dict[Budget, int]:
    """By the records, for each beginning of a period at once."""
    by_span: dict[Stretch, list[Budget]] = defaultdict(list)
    for budget, span in spans:
        by_span[stretch_of(span)].append(budget)
    found: dict[Budget, int] = {}
    for within, budgets in by_span.items():
        sums = subject_sums(subjects={subject_of(budget) for budget in budgets}, within=within)
        found |= {budget: sums.get(subject_of(budget), Sums()).cost_nano for budget in budgets}
    return found


def _days(budgets: Iterable[Budget], now: datetime) -> dict[Subject, dict[date, Sums]]:
    """The last days of what these budgets are for, by UTC day."""
    today = now.astimezone(UTC).date()
    days = DayRange(today - timedelta(days=DAYS_BACK), today)
    subjects = {subject_of(budget) for budget in budgets}
    found: dict[Subject, dict[date, Sums]] = defaultdict(dict)
    for (scope, value, day), sums in subject_sums(
        "day", subjects=subjects, within=Stretch(days.begins_at, days.ends_before)
    ).items():
        found[scope, value][day] = sums
    return found


def _unpriced(days: Mapping[date, Sums], span: Span) -> int:
    """Requests of unknown price since the UTC day on which the period began, of the last DAYS_BACK days: what nobody
    has priced since then, nobody will."""
    first = span.starts_at.astimezone(UTC).date()
    return sum(sums.unpriced for day, sums in days.items() if day >= first)


def _recent(days: Mapping[date, Sums], now: datetime) -> tuple[float, float]:
    """Nano-USD per day, since the beginning of yesterday and since 7 days before today."""
    today = now.astimezone(UTC).date()
    paces = []
    for back in (1, 7):
        first = today - timedelta(days=back)
        cost = sum(sums.cost_nano for day, sums in days.items() if day >= first)
        paces.append(cost * (ONE_DAY / (now - day_begins(first))))
    return paces[0], paces[1]


def _state(budget: Budget, span: Span, now: datetime, *, window: Any | None, spent: int) -> BudgetState:
    state = BudgetState(
        budget=budget,
        begins_at=span.starts_at,
        ends_before=span.ends_before,
        spent_nano=spent,
        limit_nano=budget.limit_nano,
        as_of=now,
    )
    if window is None:
        return state
    return replace(
        state,
        window_id=window.pk,
        spent_nano=window.opening_nano + window.spent_nano,
        leased_nano=window.leased_nano,
        held_nano=window.held or 0,
        overrun_nano=window.overrun_nano,
        would_refuse=window.would_refuse,
        as_of=window.renewed_at or now,
    )
