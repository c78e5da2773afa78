"""Models that another one makes superfluous, where they are used, and what their requests would have cost there."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Avg

from analytics.domain.dominance import Dominance, Grades, Known, dominated, would_have_cost
from analytics.domain.rollup import DayRange, Sums
from analytics.models import UsageRecord
from analytics.selectors.learning import graded_answers
from analytics.selectors.sums import ANSWERED, usage_sums
from providers.selectors import active_deployments
from routing.models import AliasTarget, PolicyCandidate

GRADED: Final = timedelta(days=90)
MEASURED: Final = timedelta(days=7)
BILLED_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class DominatedModel:
    """`spent_nano` is what its requests of the last 30 days cost, `instead_nano` what they would have cost at the
    better one; None: a price is unknown. `aliases` and `policies` are where it is used, by name."""

    dominance: Dominance
    aliases: list[str]
    policies: list[tuple[int, str]]
    requests: int
    spent_nano: int
    instead_nano: int | None

    @property
    def saved_nano(self) -> int | None:
        return None if self.instead_nano is None else self.spent_nano - self.instead_nano


def dominated_models(*, now: datetime) -> list[DominatedModel]:
    """Those that would have saved most first; a dozen queries however many models there are."""
    deployments = active_deployments(now=now).values()
    grades, latencies = _grades(now), _latencies(now)
    known = [
        Known(one, grades.get(one.model, Grades()), latencies.get(one.name, one.expected_latency_ms))
        for one in deployments
    ]
    found = dominated(known)
    if not found:
        return []
    today = now.date()
    days = DayRange(today - timedelta(days=BILLED_DAYS - 1), today)
    used = usage_sums("provider", "model", team_ids=None, days=days)
    aliases, policies = _used_in()
    rows = [_row(one, used, aliases, policies) for one in found]
    return sorted(rows, key=lambda row: (-(row.saved_nano or 0), row.dominance.worse.deployment.name))


def _row(
    one: Dominance,
    used: dict[tuple[str, str], Sums],
    aliases: dict[int, list[str]],
    policies: dict[int, list[tuple[int, str]]],
) -> DominatedModel:
    worse, better = one.worse.deployment, one.better.deployment
    sums = used.get((worse.endpoint.name, worse.model), Sums())
    return DominatedModel(
        dominance=one,
        aliases=aliases.get(worse.id, []),
        policies=policies.get(worse.id, []),
        requests=sums.requests,
        spent_nano=sums.cost_nano,
        instead_nano=would_have_cost(sums, better.price) if better.price else None,
    )


def _grades(now: datetime) -> dict[str, Grades]:
    """By model. A person's word and a judge's count alike."""
    found: dict[str, Grades] = defaultdict(Grades)
    for graded in graded_answers(since=now - GRADED):
        for _, scores in graded.values():
            for model, score in scores.items():
                found[model] = Grades(found[model].total + score, found[model].number + 1)
    return found


def _latencies(now: datetime) -> dict[str, float]:
    """The mean time of an answer, by deployment."""
    answered = UsageRecord.objects.filter(ANSWERED, started_at__gt=now - MEASURED).exclude(deployment="")
    return dict(answered.order_by().values_list("deployment").annotate(mean=Avg("latency_ms")))


def _used_in() -> tuple[dict[int, list[str]], dict[int, list[tuple[int, str]]]]:
    """The active aliases and policies that lead to each deployment, by its id."""
    aliases: dict[int, list[str]] = defaultdict(list)
    leading: dict[int, list[int]] = defaultdict(list)
    targets = AliasTarget.objects.filter(alias__is_active=True).order_by("alias__name")
    for alias_id, name, deployment_id in targets.values_list("alias_id", "alias__name", "deployment_id"):
        aliases[deployment_id].append(name)
        leading[alias_id].append(deployment_id)
    policies: dict[int, set[tuple[int, str]]] = defaultdict(set)
    candidates = PolicyCandidate.objects.filter(policy__is_active=True)
    for alias_id, policy_id, policy_name in candidates.values_list("alias_id", "policy_id", "policy__name"):
        for deployment_id in leading[alias_id]:
            policies[deployment_id].add((policy_id, policy_name))
    ordered = {deployment_id: sorted(rows, key=lambda row: row[1]) for deployment_id, rows in policies.items()}
    return aliases, ordered
