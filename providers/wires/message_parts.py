"""Parts of messages: what several wires make of them alike."""

import re
from collections.abc import Iterable, Iterator

from providers.domain.conversation import DocumentPart, ImagePart, Part, ReasoningPart, TextPart
from providers.wires.protocol import UnsupportedFeature
from providers.wires.request_fields import NAMES

_DATA_URL = re.compile(r"data:(?P<media_type>[\w.+-]+/[\w.+-]+)(?:;[\w=.-]+)*;base64,(?P<data>.*)", re.DOTALL)


def inline(part: ImagePart | DocumentPart) -> tuple[str, str] | None:
    """Media type and base64 data, also out of a data URL; None for what is only an address.

    :raises UnsupportedFeature: a data URL that is not base64.
    """
    if not part.url:
        return part.media_type, part.data
    if not part.url.startswith("data:"):
        return None
    found = _DATA_URL.fullmatch(part.url)
    if found is None:
        raise UnsupportedFeature(f"{NAMES[type(part)]} in a data URL that is not base64")
    return found["media_type"], found["data"]


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
    return UnsupportedFeature(f"{NAMES[type(part)]} in {where}")
