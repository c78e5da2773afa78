"""What the page of the virtual keys shows: every key of the reader's teams, its state, and what it was used for."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import F, QuerySet

from analytics.models import Budget
from analytics.selectors import BudgetState, KeyUse, keys_use
from analytics.selectors.budgets import budget_states
from analytics.sight import Sight
from routing.models import KeyState, VirtualKey

KEYS_PER_PAGE = 100
SOON = timedelta(days=14)
MODELS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Label:
    """A state in a word; `tone` and `picture` are those of components/state.html."""

    text: str
    tone: str
    picture: str = ""


LABELS = {
    KeyState.ACTIVE: Label("Active", "ok"),
    KeyState.EXPIRED: Label("Expired", "idle"),
    KeyState.REVOKED: Label("Revoked", "idle", "stopped"),
    KeyState.TEAM_OFF: Label("Team off", "warn"),
}


@dataclass(frozen=True, slots=True)
class KeyLine:
    """A row of the list. Of many allowed models only the first are named; `more_models` counts the others."""

    key: VirtualKey
    label: Label
    models: tuple[str, ...]
    use: KeyUse
    may_revoke: bool
    budgets: tuple[BudgetState, ...]

    @property
    def first_models(self) -> tuple[str, ...]:
        return self.models[:MODELS_SHOWN]

    @property
    def more_models(self) -> int:
        return max(0, len(self.models) - MODELS_SHOWN)


def keys_seen(sight: Sight) -> QuerySet[VirtualKey]:
    """Those that may still be used by team and name, then the revoked ones, the latest first."""
    keys = VirtualKey.objects.select_related("team", "created_by", "revoked_by").prefetch_related("allowed_models")
    seen = keys if sight.team_ids is None else keys.filter(team__in=sight.team_ids)
    return seen.order_by(F("revoked_at").desc(nulls_first=True), "team__name", "name", "pk")


def key_lines(keys: Collection[VirtualKey], *, managed: Collection[int], now: datetime) -> list[KeyLine]:
    """`managed` are the ids of the teams whose keys the reader may revoke."""
    use = keys_use(keys=keys, now=now)
    budgets = _budgets(keys, now)
    return [
        KeyLine(
            key=key,
            label=key_label(key, now),
            models=tuple(alias.name for alias in key.allowed_models.all()),
            use=use[key.pk],
            may_revoke=key.revoked_at is None and key.team_id in managed,
            budgets=tuple(budgets[key.pk]),
        )
        for key in keys
    ]


def _budgets(keys: Collection[VirtualKey], now: datetime) -> dict[int, list[BudgetState]]:
    """The budgets in force of each key, by its id; those of its team are on the spend page."""
    found: dict[int, list[BudgetState]] = defaultdict(list)
    budgets = Budget.objects.filter(key__in=[key.pk for key in keys], is_active=True).select_related("key")
    for state in budget_states(budgets.order_by("budget_duration"), now=now):
        found[state.budget.key_id or 0].append(state)
    return found


def key_label(key: VirtualKey, now: datetime) -> Label:
    """The key's state; of one that ends soon, when."""
    state = key.state_at(now)
    if state is KeyState.ACTIVE and key.expires_at is not None and key.expires_at - now <= SOON:
        return Label(f"Expires {_within(key.expires_at - now)}", "warn")
    return LABELS[state]


def _within(left: timedelta) -> str:
    if left >= timedelta(days=1):
        return f"in {left.days} day{'s' if left.days > 1 else ''}"
    hours = int(left.total_seconds()) // 3600
    return f"in {hours} h" if hours else "within the hour"
