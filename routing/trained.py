"""The trained artefacts of a process: the shipped one, and the one in force. Loaded away from the event loop."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from routing.domain.classification.artefact import ArtefactError, load
from routing.domain.classification.linear import LinearClassifier
from routing.domain.classification.quality import ArtefactQuality
from routing.domain.classification.types import Classification, QualityEstimate, QualityQuestion, TaskClassifier
from routing.domain.situation import quality_by_tier

SHIPPED: Final = ""  # the version that stands for the artefact that the platform ships
SHIPPED_FILE: Final = Path(__file__).parent / "artefacts" / "default.npz"
KEPT: Final = 3  # versions: requests that began before a swap still use the one before

Quality = Callable[[QualityQuestion], QualityEstimate]

logger = logging.getLogger(__name__)


def _by_tier_alone(task: Classification | None) -> Quality:
    return quality_by_tier


@dataclass(frozen=True, slots=True)
class Trained:
    """What decisions take from an artefact. Without a classifier nobody knows what kind of work a request is."""

    version: str
    classifier: TaskClassifier | None = None
    quality: Quality = quality_by_tier
    about: Callable[[Classification | None], Quality] = _by_tier_alone  # the same, for one text, read once


UNTRAINED: Final = Trained(SHIPPED)


def trained_from(data: bytes) -> Trained:
    """:raises ArtefactError: the bytes are no artefact that this version can use."""
    artefact = load(data)
    quality = ArtefactQuality.of(artefact)
    return Trained(artefact.version, LinearClassifier.of(artefact), quality.estimate, quality.about)


class TrainedArtefacts:
    """`prepare` blocks and belongs to the thread that reads the configuration; `of` is a lookup, for the event loop."""

    def __init__(self, *, shipped: Path = SHIPPED_FILE) -> None:
        self._shipped_file = shipped
        self._ready: dict[str, Trained] = {}
        self.problems: tuple[str, ...] = ()  # in words for the operator

    def of(self, version: str) -> Trained:
        """The artefact of a snapshot; the shipped one where that could not be read."""
        found = self._ready.get(version)
        return self._ready.get(SHIPPED, UNTRAINED) if found is None else found

    def prepare(self, version: str, data_of: Callable[[str], bytes | None]) -> None:
        """Have it ready before the snapshot that names it is in force. One that cannot be read is a problem to tell,
        and no reason to keep an edit from taking effect: the shipped one stands in for it."""
        if SHIPPED not in self._ready:
            self._ready[SHIPPED] = self._shipped()
        if version in self._ready:
            self.problems = ()
            self._keep(version, self._ready[version])
            return
        try:
            data = data_of(version)
            if data is None:
                raise ArtefactError("Its row is gone.")
            ready = trained_from(data)
        except ArtefactError as error:
            self.problems = (f"The trained artefact {version} is not used, the shipped one is: {error}",)
            return
        self.problems = ()
        self._keep(version, ready)

    def _keep(self, version: str, ready: Trained) -> None:
        """As the latest in force. One value takes the place of another: the event loop looks at it meanwhile."""
        if version == SHIPPED:
            return
        others = [known for known in self._ready.items() if known[0] not in {SHIPPED, version}][1 - KEPT :]
        self._ready = {SHIPPED: self._ready[SHIPPED], **dict(others), version: ready}

    def _shipped(self) -> Trained:
        try:
            return trained_from(self._shipped_file.read_bytes())
        except (OSError, ArtefactError) as error:
            logger.error("the shipped artefact cannot be used, nobody knows what kind of work requests are: %s", error)
            return UNTRAINED
