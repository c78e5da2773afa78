"""Estimates of quality, remembered with the classification that they rest on: the text is weighed once."""

from collections.abc import Callable
from typing import Final

from routerplatform.gateway.recent import Recent
from routing.domain.classification.types import Classification, QualityEstimate, QualityQuestion
from routing.trained import Trained

MOST: Final = 2_048  # classifications
MOST_EACH: Final = 256  # models and tags; tags are the callers' own, so they may be many

Estimates = dict[tuple[str, str, str], QualityEstimate]  # by model, tier and tag


class QualityMemo:
    """Belongs to one event loop. A classification is known by its identity, and held so that this stays its own."""

    def __init__(self, *, most: int = MOST) -> None:
        self._known: Recent[tuple[str, int], tuple[Classification | None, Estimates]] = Recent(most=most)

    def reader(self, trained: Trained, task: Classification | None) -> Callable[[QualityQuestion], QualityEstimate]:
        """Answers questions about this classification."""
        key = trained.version, id(task)
        held = self._known.get(key)
        if held is None:
            held = task, {}
            self._known.put(key, held)
        estimates = held[1]
        estimate: Callable[[QualityQuestion], QualityEstimate] | None = None

        def known(question: QualityQuestion) -> QualityEstimate:
            nonlocal estimate
            name = question.model, question.tier, question.tag
            found = estimates.get(name)
            if found is None:
                if len(estimates) >= MOST_EACH:
                    estimates.clear()
                estimate = estimate or trained.about(task)
                found = estimates[name] = estimate(question)
            return found

        return known
