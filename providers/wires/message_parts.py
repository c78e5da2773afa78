"""Parts of messages, as wires read them that know texts and little else."""

from collections.abc import Iterable, Iterator

from providers.domain.conversation import Part, ReasoningPart, TextPart
from providers.wires.protocol import UnsupportedFeature
from providers.wires.request_fields import NAMES


def texts(parts: Iterable[Part], where: str) -> Iterator[str]:
    """:raises UnsupportedFeature: a part is no text."""
    for part in parts:
        if not isinstance(part, TextPart):
            raise cannot_say(part, where)
        yield part.text


def plain_thought(parts: Iterable[Part]) -> str:
    """What a model thought, but for what a vendor has proved or encrypted for itself."""
    thoughts = (part for part in parts if isinstance(part, ReasoningPart))
    return "".join(thought.text for thought in thoughts if not (thought.signature or thought.encrypted))


def cannot_say(part: Part, where: str) -> UnsupportedFeature:
    return UnsupportedFeature(f"{NAMES.get(type(part), 'a document')} in {where}")
