"""Replays on several processors: parts of a range are decided in processes of their own, which know no database."""

import os
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from typing import Final

from routing.domain.classification.types import QualityEstimate, QualityQuestion
from routing.domain.config import ConfigSnapshot, Policy
from routing.domain.recording import Estimate
from routing.domain.replay import Replayer, Sums, without_callers
from routing.domain.situation import quality_by_tier
from routing.trained import trained_from

MOST_PROCESSES: Final = 4
AHEAD: Final = 2  # parts for each process that wait for it: the rest stays in the database
NICE: Final = 5  # a gateway on the same machine goes first


@dataclass(frozen=True, slots=True)
class Rules:
    """What the parts of a replay are decided by. `artefact` is the trained artefact's bytes, empty for none."""

    snapshot: ConfigSnapshot
    base: Policy
    draft: Policy
    artefact: bytes = field(default=b"", repr=False)

    def estimate(self) -> Estimate:
        """:raises ArtefactError:"""
        return remembering(trained_from(self.artefact).quality if self.artefact else quality_by_tier)

    def replayer(self) -> Replayer:
        return Replayer(self.snapshot, self.base, self.draft, self.estimate())


def remembering(estimate: Estimate) -> Estimate:
    """The same estimate, asked once for each model, kind of work and tag: recorded tasks have no features."""
    known: dict[tuple[str, str, str, str], QualityEstimate] = {}

    def remembered(question: QualityQuestion) -> QualityEstimate:
        label = question.task.label.value if question.task else ""
        key = (question.model, question.tier, label, question.tag)
        found = known.get(key)
        if found is None:
            found = known[key] = estimate(question)
        return found

    return remembered


Part = Sequence[bytes]


def decided_here(parts: Iterable[Part], rules: Rules) -> Generator[tuple[int, Sums], None, None]:
    """(size, sums) of each part, in this very thread: for a few thousand inputs."""
    replayer = rules.replayer()
    for part in parts:
        yield len(part), replayer.sums(part)


def decided_apart(
    parts: Iterable[Part], rules: Rules, *, processes: int = 0
) -> Generator[tuple[int, Sums], None, None]:
    """(size, sums) of each part, in its order, by so many processes; 0: one for each processor, up to four.

    Ends its processes when it is closed: consume it inside `closing`.

    :raises BrokenProcessPool: one of them was killed.
    """
    count = processes or max(1, min(MOST_PROCESSES, os.cpu_count() or 1))
    lean = Rules(without_callers(rules.snapshot), rules.base, rules.draft, rules.artefact)
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_prepare, initargs=(lean,))
    under_way: deque[tuple[int, Future[Sums]]] = deque()
    try:
        for part in parts:
            under_way.append((len(part), pool.submit(_sums, part)))
            if len(under_way) >= count * AHEAD:
                size, oldest = under_way.popleft()
                yield size, oldest.result()
        for size, oldest in under_way:
            yield size, oldest.result()
    finally:
        pool.shutdown(cancel_futures=True)


# --- in those processes -------------------------------------------------------------------------------------------

_RULES: list[Rules] = []


def _prepare(rules: Rules) -> None:
    os.nice(NICE)
    _RULES[:] = [rules]


@cache
def _replayer() -> Replayer:
    return _RULES[0].replayer()


def _sums(part: Part) -> Sums:
    return _replayer().sums(part)
