"""From the row of a classifier, or the setting, to the plug-in that it stands for."""

from typing import Any, Final

from providers.transport import Transport
from routerplatform.gateway.classifiers.dotted import DottedPlugIn, Load
from routerplatform.gateway.classifiers.embeddings import EmbeddingsPlugIn
from routerplatform.gateway.classifiers.guard import Failed, GuardedPlugIn
from routerplatform.gateway.classifiers.model import ModelPlugIn
from routerplatform.gateway.classifiers.protocol import Ask, PlugIn, PlugInFailure
from routerplatform.gateway.classifiers.webhook import WebhookPlugIn
from routing.domain.classification.types import PromptText
from routing.domain.config import ClassifierSpec

SHORTEST_TRIP_MS: Final = 1_000  # for what is asked over a network and was left at the 5 ms of a Python class
USUAL_MS: Final = 5
NO_KEY: Final = "it needs ROUTER_CLASSIFIER_KEY, the virtual key that pays for its requests"


class PlugIns:
    """The plug-in that is in force, made anew when its row changes. Belongs to one event loop."""

    def __init__(
        self, transport: Transport, failed: Failed, *, setting: str = "", allowed_networks: tuple[str, ...] = ()
    ) -> None:
        self.ask: Ask | None = None  # set once the gateway is put together; None where no key pays
        self._transport = transport
        self._failed = failed
        self._networks = allowed_networks
        self._setting = ClassifierSpec("ROUTER_CLASSIFIER", "dotted", dotted_path=setting) if setting else None
        self._given: tuple[ClassifierSpec, Load] | None = None
        self._current: tuple[ClassifierSpec, GuardedPlugIn] | None = None

    @property
    def problem(self) -> str:
        """What is wrong with the one in force, in words; empty while all is well."""
        return self._current[1].problem if self._current else ""

    def spec(self, of_snapshot: ClassifierSpec | None) -> ClassifierSpec | None:
        """Who classifies: what was given, else the active row, else the setting's class; None: the built-in one."""
        return self._given[0] if self._given else of_snapshot or self._setting

    def give(self, name: str, load: Load | None, *, timeout_ms: int) -> None:
        """Have an object of this very process classify, before all others; None: as it was. Each has a name of its own,
        so that what another one said before is not taken for its answer."""
        self._given = (ClassifierSpec(name, "dotted", timeout_ms=timeout_ms), load) if load else None

    def of(self, spec: ClassifierSpec) -> GuardedPlugIn:
        if self._current is None or self._current[0] != spec:
            plug_in = self._made(spec)
            self._current = spec, GuardedPlugIn(spec.name, plug_in, timeout_s=timeout_s(spec), failed=self._failed)
        return self._current[1]

    def _made(self, spec: ClassifierSpec) -> PlugIn:
        if self._given and self._given[0] == spec:
            return DottedPlugIn(spec.name, self._given[1])
        match spec.kind:
            case "dotted":
                return DottedPlugIn(spec.dotted_path)
            case "webhook":
                return WebhookPlugIn(
                    spec.name, spec.url, self._transport, timeout_s=timeout_s(spec), networks=self._networks
                )
        if self.ask is None or not spec.alias:
            return Unusable(NO_KEY if self.ask is None else "its row names no active alias")
        return (
            EmbeddingsPlugIn(spec.alias, self.ask) if spec.kind == "embeddings" else ModelPlugIn(spec.alias, self.ask)
        )


class Unusable:
    """Stands for a plug-in that cannot be made; it says why."""

    most = 1
    is_ready = True

    def __init__(self, why: str) -> None:
        self._why = why

    async def classify(self, prompt: PromptText) -> Any:
        raise PlugInFailure("unusable", self._why)


def timeout_s(spec: ClassifierSpec) -> float:
    """Nobody answers over a network in the 5 ms that a row begins with."""
    is_left_alone = spec.kind != "dotted" and spec.timeout_ms <= USUAL_MS
    return (SHORTEST_TRIP_MS if is_left_alone else spec.timeout_ms) / 1000
