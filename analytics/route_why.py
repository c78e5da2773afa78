"""Why a request went where it went, as its record tells it: the facts, the candidates, and what came of each.

Records are kept for years, and older ones say less: what is not there is left out, never guessed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.auth.models import AnonymousUser, User
from django.urls import reverse

from analytics import presentation
from analytics.models import UsageRecord
from routing.domain.config import STRATEGY_LABELS, TASK_LABELS, Strategy, TaskType
from routing.models import RoutingPolicy

STEPS: Final = {
    "cap": "a budget fills: answers are shortened",
    "cheaper": "a budget fills: cheaper models go first",
    "cache": "a budget fills: only kept answers are given",
    "refuse": "a budget is nearly used up: nothing is served",
}
# The strategies whose score is no figure that stands in another column already, and what it is called there.
SAID_BY: Final = {"rule": "says the operator’s rule", "caller": "says the caller"}
SCORES: Final = {
    Strategy.WEIGHTED.value: "Weight",
    Strategy.LEAST_BUSY.value: "Under way",
    Strategy.USAGE_BASED.value: "Headroom",
    Strategy.BALANCED.value: "Score",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """`about` is more of it, in small letters."""

    name: str
    text: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """`outcome` is what came of asking it: “answered”, the failure in words, or “” when nobody asked."""

    deployment: str
    verdict: str
    reason: str
    estimated_cost_nano: int | None
    alias: str = ""
    is_fallback: bool = False
    quality: float | None = None
    quality_basis: str = ""
    latency_ms: float | None = None
    score: str = ""
    outcome: str = ""

    @property
    def cost(self) -> str:
        """Six decimals: what one request costs is a small part of a cent."""
        nano = self.estimated_cost_nano
        return presentation.UNPRICED if nano is None else f"${presentation.usd(nano):,.6f}"


@dataclass(frozen=True, slots=True)
class RouteWhy:
    """`score_name` is the heading of the column of scores, “” where there is none."""

    facts: tuple[Fact, ...]
    candidates: tuple[Candidate, ...]
    score_name: str

    @property
    def has_quality(self) -> bool:
        return any(one.quality is not None for one in self.candidates)

    @property
    def has_latency(self) -> bool:
        return any(one.latency_ms is not None for one in self.candidates)


def route_why(record: UsageRecord) -> RouteWhy:
    decision = _mapping(record.decision)
    score_name = SCORES.get(_text(decision.get("strategy")), "")
    listed = candidates(record)
    return RouteWhy(
        facts=tuple(_facts(record, decision)),
        candidates=tuple(listed),
        score_name=score_name if any(one.score for one in listed) else "",
    )


def policy_url(user: User | AnonymousUser, record: UsageRecord) -> str:
    """The page of the policy that routed it; “” for people who may not see it, and when it is gone."""
    if not record.policy or not user.is_staff or not user.has_perm("routing.view_routingpolicy"):
        return ""
    number = RoutingPolicy.objects.filter(name=record.policy).values_list("pk", flat=True).first()
    return reverse("admin:routing_routingpolicy_change", args=[number]) if number else ""


def candidates(record: UsageRecord) -> list[Candidate]:
    decision = _mapping(record.decision)
    outcomes = _outcomes(record)
    strategy = _text(decision.get("strategy"))
    return [
        Candidate(
            deployment=_text(one.get("deployment")),
            alias=_text(one.get("alias")),
            is_fallback=one.get("is_fallback") is True,
            verdict=_text(one.get("verdict")),
            reason=_text(one.get("reason")),
            estimated_cost_nano=_whole(one.get("estimated_cost_nano")),
            quality=_number(one.get("quality")),
            quality_basis=_text(one.get("quality_basis")),
            latency_ms=_number(one.get("latency_ms")),
            score=_score(strategy, _number(one.get("score"))),
            outcome=outcomes.get(_text(one.get("deployment")), ""),
        )
        for one in _mappings(decision.get("candidates"))
    ]


# --- the facts ----------------------------------------------------------------------------------------------------


def _facts(record: UsageRecord, decision: Mapping[str, Any]) -> Iterable[Fact]:
    strategy = _text(decision.get("strategy"))
    if record.policy and strategy:
        yield Fact("Strategy", _label(STRATEGY_LABELS, strategy))
    if (task := _task(record, _mapping(decision.get("task")))) is not None:
        yield task
    if rule := _text(decision.get("rule")) or record.rule:
        yield Fact("Operator’s rule", rule)
    if template := _text(decision.get("template")):
        yield Fact("Prompt template", template)
    if record.tag:
        yield Fact("Tag", record.tag)
    if arm := _text(decision.get("arm")) or record.arm:
        yield Fact("Side of an experiment", arm)
    if step := _text(decision.get("step")):
        yield Fact("Budget", STEPS.get(step, step))
    if decision.get("sticks") is True:
        yield Fact("Conversation", "stays with the model that has answered it")


def _task(record: UsageRecord, task: Mapping[str, Any]) -> Fact | None:
    """What kind of work it was taken for, and how sure the classifier was; None where nobody asked."""
    label, confidence = _text(task.get("label")) or record.task_type, _number(task.get("confidence"))
    if not label:
        return None
    if confidence is None:
        return Fact("Kind of work", _label(TASK_LABELS, label))
    source, known = _text(task.get("source")), _number(task.get("known"))
    if source in SAID_BY:
        return Fact("Kind of work", _label(TASK_LABELS, label), SAID_BY[source])
    about = [f"{presentation.percent(confidence)} sure", f"classifier “{source}”" if source else ""]
    if known is not None and known < 1:
        about.append(f"{presentation.percent(known)} of the words known")
    text = "not sure enough to say" if label == TaskType.ANY else _label(TASK_LABELS, label)
    return Fact("Kind of work", text, ", ".join(part for part in about if part))


def _label(labels: Mapping[Any, str], name: str) -> str:
    """In words; a name of another version of the platform stays as it is."""
    return next((words for value, words in labels.items() if value == name), name)


# --- the candidates -----------------------------------------------------------------------------------------------


def _outcomes(record: UsageRecord) -> dict[str, str]:
    """What came of the last attempt at each deployment."""
    attempts = record.attempts if isinstance(record.attempts, list) else []
    return {
        _text(one.get("deployment")): _text(one.get("failure")).replace("_", " ") or "answered"
        for one in attempts
        if isinstance(one, dict)
    }


def _score(strategy: str, score: float | None) -> str:
    if score is None or strategy not in SCORES:
        return ""
    if strategy == Strategy.USAGE_BASED:
        return presentation.percent(score)
    return f"{score:.3f}" if strategy == Strategy.BALANCED else f"{score:g}"


# --- what a record may hold ---------------------------------------------------------------------------------------


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
