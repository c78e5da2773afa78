"""What a format is: how callers of one kind speak to the gateway, and how it answers them. A format is a module."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from providers.domain.answer import Frame
from providers.domain.types import ChatRequest
from routerplatform.gateway.errors import GatewayError


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands at the top of an answer; `created` is in seconds since the epoch."""

    request_id: str
    model: str
    created: int


class StreamWriter(Protocol):
    """Writes one streamed answer."""

    def write(self, frames: Iterable[Frame]) -> bytes:
        """The bytes to send for these frames; may be empty."""

    def end(self) -> bytes:
        """What follows the last frame of a whole answer."""


class Format(Protocol):
    """`DOOR` names it on usage records. `KEEP_ALIVE` is what a waiting client of a stream passes over."""

    DOOR: str
    KEEP_ALIVE: bytes

    def parse(self, raw: bytes) -> ChatRequest:
        """Read a request body. :raises InvalidRequest: `param` names the field."""

    def answer_body(self, request: ChatRequest, frames: Sequence[Frame], heading: Heading) -> bytes:
        """A whole answer from events, for a target that spoke another wire."""

    def writer(self, request: ChatRequest, heading: Heading) -> StreamWriter:
        """A stream from events, for a target that spoke another wire."""

    def error_body(self, error: GatewayError, request_id: str) -> bytes:
        """An error instead of an answer."""

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """The last event of a stream that broke: a client must not take what came for a whole answer."""
