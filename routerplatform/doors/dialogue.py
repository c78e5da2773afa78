"""What a door does with one request and its answer beside their formats: what the request refers to, what is kept."""

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from providers.domain.answer import Frame
from providers.domain.types import ChatRequest
from routerplatform.doors.formats.protocol import Format, Heading, StreamWriter
from routerplatform.gateway.errors import GatewayError
from routerplatform.gateway.steps import Opened


class Dialogue(Protocol):
    """One request, from its body to its last byte. The methods are called in this order, `keep` only after a whole
    answer, and `broken` instead of what is left when it comes to nothing."""

    async def read(self, body: bytes) -> ChatRequest:
        """:raises GatewayError: it cannot be understood, or refers to what is not there."""

    def whole(self, opened: Opened, frames: Sequence[Frame]) -> bytes: ...

    def writer(self, opened: Opened) -> StreamWriter: ...

    async def keep(self) -> None:
        """Called before the last byte leaves; never fails."""

    def broken(self, error: GatewayError) -> bytes:
        """The last event of a stream that broke."""


class PlainDialogue:
    """A request that stands for itself, and an answer that is forgotten."""

    def __init__(self, request_id: str, caller_format: Format) -> None:
        self._request_id = request_id
        self._format = caller_format
        self._request: ChatRequest | None = None

    async def read(self, body: bytes) -> ChatRequest:
        self._request = self._format.parse(body)
        return self._request

    def whole(self, opened: Opened, frames: Sequence[Frame]) -> bytes:
        assert self._request is not None
        if self._request.wire is opened.wire:
            return b"".join(frame.raw for frame in frames)
        return self._format.answer_body(self._request, frames, heading_of(self._request_id, opened))

    def writer(self, opened: Opened) -> StreamWriter:
        assert self._request is not None
        if self._request.wire is opened.wire:
            return Verbatim()
        return self._format.writer(self._request, heading_of(self._request_id, opened))

    async def keep(self) -> None:
        return

    def broken(self, error: GatewayError) -> bytes:
        return self._format.error_event(error, self._request_id)


class Verbatim:
    """Passes a target's own bytes on: it speaks the caller's wire."""

    def write(self, frames: Iterable[Frame]) -> bytes:
        return b"".join([frame.raw for frame in frames])

    def end(self) -> bytes:
        return b""


def heading_of(request_id: str, opened: Opened) -> Heading:
    return Heading(request_id, opened.deployment.model, int(time.time()))
