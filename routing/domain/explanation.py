"""A decision as JSON: for the usage record, the request page, the playground and `explain`."""

from math import isfinite
from typing import Any

from routing.domain.config import Policy
from routing.domain.decision import Considered, RoutePlan


def explanation(plan: RoutePlan) -> dict[str, Any]:
    """Why this route. What does not apply is left out."""
    told: dict[str, Any] = {
        "requested": plan.requested,
        "how": plan.how,
        "persona": plan.persona,
        "policy": plan.policy,
        "strategy": plan.strategy.value,
        "candidates": [candidate(one, plan.followed) for one in plan.considered],
    }
    if plan.policy_version:
        told["policy_version"] = plan.policy_version
    if plan.task is not None:
        told["task"] = {
            "label": plan.task_type.value,
            "confidence": round(plan.task.confidence, 4),
            "source": plan.task.source,
            "known": round(plan.task.known, 4),
        }
    if plan.template:
        told["template"] = plan.template
    if plan.rule:
        told["rule"] = plan.rule
    if plan.arm:
        told["arm"] = plan.arm
    if plan.step.name:
        told["step"] = plan.step.name
    if plan.sticks:
        told["sticks"] = True
    return told


def candidate(one: Considered, policy: Policy | None = None) -> dict[str, Any]:
    """One candidate, in the shape that records have kept from the start; figures only where they were looked at, and
    whether it is a fallback of `policy` only of one that is."""
    told: dict[str, Any] = {
        "deployment": one.deployment,
        "alias": one.alias,
        "verdict": one.verdict,
        "reason": one.reason,
        "estimated_cost_nano": one.estimated_cost_nano,
    }
    if one.quality is not None:
        told["quality"] = round(one.quality, 4)
        told["quality_basis"] = one.quality_basis
    if one.latency_ms is not None:
        told["latency_ms"] = round(one.latency_ms, 1)
    if one.score is not None and isfinite(one.score):  # JSON knows no infinity, and a column of it takes none
        told["score"] = round(one.score, 6)
    if policy is not None and any(row.is_fallback and row.alias.name == one.alias for row in policy.candidates):
        told["is_fallback"] = True
    return told
