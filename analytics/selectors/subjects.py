"""What the subjects of budgets have used, by what they are called in the records.

Of a persona and a model alias that is what was asked for by its name: that a policy chose an alias for a request is
known only where a window of the alias was charged for it.
"""

from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final

from analytics.domain.budgets import Span
from analytics.domain.rollup import Stretch, Sums
from analytics.models import Budget, BudgetScope
from analytics.selectors.sums import raw_sums, usage_sums

COLUMNS: Final = {BudgetScope.TEAM: "team_id", BudgetScope.KEY: "key_id", BudgetScope.PERSONA: "persona"}
CENTURY: Final = timedelta(days=36_525)
Subject = tuple[str, int | str]


def subject_of(budget: Budget) -> Subject:
    """The scope of a budget, and what stands in the records for the one it is for."""
    match budget.scope:
        case BudgetScope.PERSONA if budget.persona:
            return budget.scope, budget.persona.slug
        case BudgetScope.ALIAS if budget.alias:
            return budget.scope, budget.alias.name
        case _:
            return budget.scope, (budget.team_id if budget.scope == BudgetScope.TEAM else budget.key_id) or 0


def subject_sums(*by: str, subjects: Collection[Subject], within: Stretch) -> dict[tuple[Any, ...], Sums]:
    """Sums over `within` for each of these subjects that was used, corrections included: by (scope, name or id), and
    behind it what `by` says (`day`, `hour`). As many queries for one subject as for many of its scope."""
    found: dict[tuple[Any, ...], Sums] = {}
    for scope in sorted({scope for scope, _ in subjects}):
        wanted = {value for one, value in subjects if one == scope}
        sums = _sums(scope, by, wanted, within)
        found |= {(scope, *values): one for values, one in sums.items() if values[0] in wanted}
    return found


def spent_within(budget: Budget, span: Span) -> int:
    """Nano-USD that the subject of this budget has cost within `span`, by the records."""
    subject = subject_of(budget)
    sums = subject_sums(subjects=[subject], within=stretch_of(span))
    return sums[subject].cost_nano if subject in sums else 0


def stretch_of(span: Span) -> Stretch:
    """A span as what sums are made of: one without end ends in a century."""
    return Stretch(span.starts_at, span.ends_before or span.starts_at + CENTURY)


def _sums(scope: str, by: tuple[str, ...], wanted: set[Any], within: Stretch) -> dict[tuple[Any, ...], Sums]:
    if scope == BudgetScope.ALIAS:  # the rollups do not know what was asked for
        return raw_sums("requested_model", *by, team_ids=None, ranges=[within])
    team_ids = wanted if scope == BudgetScope.TEAM else None
    return usage_sums(COLUMNS[BudgetScope(scope)], *by, team_ids=team_ids, days=within)
