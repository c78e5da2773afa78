"""What kind of work a prompt is: by a plug-in where there is one, else by the trained classifier; each text once."""

import asyncio
from dataclasses import replace
from hashlib import blake2b
from typing import Final

from routerplatform.gateway.classifiers.build import PlugIns
from routerplatform.gateway.recent import Recent
from routing.domain.classification.types import Classification, PromptText
from routing.domain.config import ClassifierSpec, ConfigSnapshot, TaskType
from routing.trained import TrainedArtefacts

MOST: Final = 2_048  # texts remembered; with the features of each, 8 kB at most, that is 16 MB
FREE_KINDS: Final = frozenset({"dotted"})  # plug-ins that neither cost money nor leave the process

Key = tuple[str | ClassifierSpec, bytes]  # who says it, and of which text


class TaskClassifiers:
    """Belongs to one event loop. Equal texts that come at once are classified once."""

    def __init__(self, artefacts: TrainedArtefacts, plug_ins: PlugIns, *, most: int = MOST) -> None:
        self.plug_ins = plug_ins
        self._artefacts = artefacts
        self._known: Recent[Key, Classification] = Recent(most=most)
        self._asking: dict[Key, asyncio.Task[Classification | None]] = {}

    async def classify(
        self, snapshot: ConfigSnapshot, prompt: PromptText, *, is_rehearsal: bool = False
    ) -> Classification | None:
        """None where there is neither a plug-in that answers nor a trained classifier. A rehearsal asks nobody outside
        this process: it takes what is known already, else what the built-in one says."""
        text = _digest(prompt)
        spec = self.plug_ins.spec(snapshot.classifier)
        if spec is not None:
            key = spec, text
            found = self._known.get(key)
            if found is None and (spec.kind in FREE_KINDS or not is_rehearsal):
                found = await self._asked_once(key, spec, snapshot, prompt)
            if found is not None:
                return found
        return self._built_in(snapshot, prompt, text)

    def _built_in(self, snapshot: ConfigSnapshot, prompt: PromptText, text: bytes) -> Classification | None:
        trained = self._artefacts.of(snapshot.artefact)
        key = trained.version, text
        found = self._known.get(key)
        if found is None and trained.classifier is not None:
            said = trained.classifier.classify(prompt)
            found = said if isinstance(said, Classification) else Classification(TaskType(said))
            self._known.put(key, found)
        return found

    async def _asked_once(
        self, key: Key, spec: ClassifierSpec, snapshot: ConfigSnapshot, prompt: PromptText
    ) -> Classification | None:
        """A caller who leaves does not take the answer away from the others who wait for it."""
        task = self._asking.get(key)
        if task is None:
            plug_in = self.plug_ins.of(spec)
            if plug_in.is_resting:
                return None
            task = self._asking[key] = asyncio.create_task(plug_in.classify(prompt))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        said = await asyncio.shield(task)
        if said is None:
            return None
        known = self._known.get(key)
        if known is None:
            known = self._with_features(said, self._built_in(snapshot, prompt, key[1]))
            self._known.put(key, known)
        return known

    @staticmethod
    def _with_features(said: Classification, ours: Classification | None) -> Classification:
        """The label is the plug-in's; what estimates of quality read stays that of the artefact they were trained
        with."""
        if ours is None or said.features:
            return said
        return replace(said, features=ours.features, known=ours.known)


def _digest(prompt: PromptText) -> bytes:
    digest = blake2b(prompt.text.encode("utf-8", "surrogatepass"), digest_size=16)
    digest.update(b"\x1f")
    digest.update(prompt.system.encode("utf-8", "surrogatepass"))
    return digest.digest()
