"""How much routing by the estimates is worth, on graded prompts that the estimates have not seen.

Every figure comes from the classes that serve requests, over numbers fitted to the other prompts. “No router” is the
policy that knows each model's mean and never looks at the text: the estimates may never be worth less than that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routing.domain.classification.artefact import Artefact
from routing.domain.classification.quality import ArtefactQuality, Trust
from routing.domain.classification.types import UNKNOWN, Classification, QualityQuestion
from routing.training.datasets import STRONG, WEAK
from routing.training.figures import aiq, apgr, routed, saved_at_best
from routing.training.quality import Graded, fit_gain, quality_parts

PARTS: Final = 5
Estimates = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RoutingFigures:
    """`aiq` and `no_router` are mean quality over the range of costs; `saved` is None where the best single model's
    quality is not reached."""

    examples: int
    aiq: float
    no_router: float
    saved: float | None

    @property
    def gain(self) -> float:
        return self.aiq - self.no_router


def quality_of(data: Graded, trust: Trust, seed: int) -> ArtefactQuality:
    parts = quality_parts(data, None, trust, seed)
    return ArtefactQuality.of(Artefact("", {"quality": parts.settings}, parts.arrays))


def estimates(
    quality: ArtefactQuality, models: Sequence[str], tasks: Sequence[Classification], tags: Sequence[str]
) -> Estimates:
    """One row per prompt, one column per model."""
    rows = []
    for task, tag in zip(tasks, tags, strict=True):
        view = quality.view(task)
        rows.append([quality.estimate_of(QualityQuestion(model, "", task, tag), view).mean for model in models])
    return np.array(rows).reshape(len(tasks), len(models))


def routing_figures(
    data: Graded, estimated: Estimates, fixed: Estimates, prices: Mapping[str, float]
) -> RoutingFigures:
    """`fixed` is what the policy without a router goes by. A model without a price costs 1."""
    costs = np.array([prices.get(model, 1.0) for model in data.models])
    scores = np.nan_to_num(data.scores.astype(np.float64))
    points, plain = (routed(values, scores, costs) for values in (estimated, fixed))
    low, high = float(costs.min()), float(costs.max())
    return RoutingFigures(
        examples=len(scores),
        aiq=aiq(points, low, high),
        no_router=aiq(plain, low, high),
        saved=saved_at_best(points, costs, scores),
    )


def seen_figures(data: Graded, trust: Trust, prices: Mapping[str, float], seed: int, with_tag: bool) -> RoutingFigures:
    """Prompts of the kinds of traffic that were trained on: each fifth is asked of the other four."""
    part = np.random.default_rng(seed).integers(0, PARTS, len(data.examples))
    estimated = np.zeros((len(data.examples), len(data.models)))
    fixed = np.zeros_like(estimated)
    for number in range(PARTS):
        rest, asked = np.flatnonzero(part != number), np.flatnonzero(part == number)
        quality = quality_of(data.only(rest.tolist()), trust, seed)
        tasks = [data.tasks[at] for at in asked]
        tags = [data.tags[at] if with_tag else "" for at in asked]
        estimated[asked] = estimates(quality, data.models, tasks, tags)
        fixed[asked] = _fixed(quality, data.models)
    return routing_figures(data, estimated, fixed, prices)


def unseen_figures(data: Graded, trust: Trust, prices: Mapping[str, float], seed: int) -> dict[str, RoutingFigures]:
    """Each kind of traffic, asked of models trained on all the others."""
    found = {}
    for tag in sorted(set(data.tags)):
        asked = [at for at, name in enumerate(data.tags) if name == tag]
        rest = data.only([at for at, name in enumerate(data.tags) if name != tag])
        if not asked or not rest.examples:
            continue
        quality = quality_of(rest, trust, seed)
        there = data.only(asked)
        fixed = np.tile(_fixed(quality, data.models), (len(asked), 1))
        estimated = estimates(quality, data.models, there.tasks, [""] * len(asked))
        found[tag] = routing_figures(there, estimated, fixed, prices)
    return found


def _fixed(quality: ArtefactQuality, models: Sequence[str]) -> Estimates:
    fixed: Estimates = estimates(quality, models, [Classification(label=UNKNOWN)], [""])[0]
    return fixed


def gated(
    data: Graded, trust: Trust, prices: Mapping[str, float], seed: int
) -> tuple[Trust, dict[str, RoutingFigures]]:
    """The trust that is worth no less than no router on unseen traffic: shares are halved until it is, and end at 0."""
    none = replace(trust, cluster_share=0.0, head_share=0.0)
    for factor in (1.0, 0.5, 0.25):
        tried = replace(trust, cluster_share=trust.cluster_share * factor, head_share=trust.head_share * factor)
        figures = unseen_figures(data, tried, prices, seed)
        if sum(figure.gain for figure in figures.values()) >= 0:
            return tried, figures
    return none, unseen_figures(data, none, prices, seed)


def pair_figures(pairs: Graded, seed: int) -> float:
    """APGR on domains that were left out, six groups of them, mean over the groups."""
    domains = sorted(set(pairs.tags))
    order = np.random.default_rng(seed).permutation(len(domains)).tolist()
    groups = [{domains[at] for at in order[number::6]} for number in range(6)]
    found = []
    strong, weak = pairs.models.index(STRONG), pairs.models.index(WEAK)
    for group in (group for group in groups if group):
        rest = pairs.only([at for at, tag in enumerate(pairs.tags) if tag not in group])
        there = pairs.only([at for at, tag in enumerate(pairs.tags) if tag in group])
        if not rest.examples or not there.examples:
            continue
        gain = fit_gain(rest, seed)
        told = [float(gain.scores(reading)[0]) for reading in there.readings]
        found.append(apgr(told, there.scores[:, strong].tolist(), there.scores[:, weak].tolist()))
    return sum(found) / len(found) if found else 0.5
