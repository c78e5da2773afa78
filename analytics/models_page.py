"""What the page of dominated models shows: the better one beside each, and what speaks for it."""

from dataclasses import dataclass
from datetime import datetime

from analytics import presentation
from analytics.domain.dominance import Known
from analytics.selectors.dominated import DominatedModel, dominated_models
from providers.admin.cells import capabilities_text
from providers.domain.types import Deployment


@dataclass(frozen=True, slots=True)
class Evidence:
    """One line: what is compared, how the model does, how the better one does."""

    name: str
    worse: str
    better: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class ModelLine:
    row: DominatedModel
    worse: Deployment
    better: Deployment
    evidence: list[Evidence]
    more: str  # what only the better one can do


def model_lines(*, now: datetime) -> list[ModelLine]:
    return [_line(row) for row in dominated_models(now=now)]


def _line(row: DominatedModel) -> ModelLine:
    worse, better = row.dominance.worse.deployment, row.dominance.better.deployment
    only = sorted(name.value for name in better.capabilities - worse.capabilities)
    return ModelLine(row, worse, better, _evidence(row), capabilities_text(only) if only else "")


def _evidence(row: DominatedModel) -> list[Evidence]:
    worse, better = row.dominance.worse, row.dominance.better
    return [
        Evidence("Price, 1M in / out", _price(worse.deployment), _price(better.deployment), _long(better, worse)),
        Evidence("Good answers, expected", _quality(worse), _quality(better), _basis(worse, better)),
        Evidence(
            "Time of an answer", presentation.duration(worse.latency_ms), presentation.duration(better.latency_ms)
        ),
        Evidence("Context", _size(worse.deployment), _size(better.deployment)),
    ]


def _price(deployment: Deployment) -> str:
    price = deployment.price
    if price is None:
        return presentation.UNKNOWN
    return f"{presentation.money(price.input)} / {presentation.money(price.output)}"


def _long(*both: Known) -> str:
    is_tiered = any(one.deployment.price is not None and one.deployment.price.tiers for one in both)
    return "no dearer for long prompts either" if is_tiered else ""


def _quality(known: Known) -> str:
    return presentation.percent(known.quality)


def _basis(worse: Known, better: Known) -> str:
    """What the two figures rest on."""
    if not worse.grades.number and not better.grades.number:
        return "by their cost tiers: nobody has graded either yet"
    return f"{_grades(worse)} against {_grades(better)}"


def _grades(known: Known) -> str:
    number = known.grades.number
    if not number:
        return f"tier {known.deployment.cost_tier}, no grades"
    return f"{presentation.count(number)} grade{'' if number == 1 else 's'}"


def _size(deployment: Deployment) -> str:
    window = deployment.context_window
    return "no limit known" if window is None else presentation.tokens(window)
