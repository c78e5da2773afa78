"""What is kept of a decision beside its usage record, on its way through the journal."""

from typing import Final

from msgspec import Struct

PROMPT_LENGTH: Final = 4_000  # characters of the last human turn


class KeptDecision(Struct, frozen=True, omit_defaults=True):
    """A row of `analytics.models.DecisionRecord` as far as the usage entry that carries it does not say it already.

    `inputs` is a `routing.domain.recording.RecordedInputs`, in msgpack (base64 in the journal). `prompt` is sealed.
    """

    inputs: bytes
    confidence: float | None = None
    prompt: str = ""
