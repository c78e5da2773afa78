"""Reads what OpenAI's two completion APIs answer, chat and legacy alike: whole, or in chunks of the same shape.

They differ in what a choice holds; a `Dialect` says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from msgspec import Raw

from providers.domain.answer import Frame, StreamEvent, UsageReported
from providers.wires.failure_reading import malformed, stream_broken
from providers.wires.half_pairs import mended
from providers.wires.openai_usage import Groq, UsageIn, raise_error, usage_of
from providers.wires.sse import SseFrame

NOTHING = Raw()  # a field that was not sent is this very object


class Answer(Protocol):
    """A chunk or a whole answer. `choices` is missing from what is neither; `error` is `NOTHING` when not sent."""

    usage: UsageIn | None
    x_groq: Groq | None
    error: Raw

    @property
    def choices(self) -> Sequence[Any] | None: ...


A = TypeVar("A", bound=Answer)
A_contra = TypeVar("A_contra", bound=Answer, contravariant=True)


class AnswerState(Protocol[A_contra]):
    """Turns choices into events: the state of one answer."""

    finished: bool

    def read(self, answer: A_contra) -> list[StreamEvent]: ...
    def finish(self, reason: str, events: list[StreamEvent]) -> None: ...


@dataclass(frozen=True, slots=True)
class Dialect(Generic[A]):
    """`what` an answer is, in words; how its bytes are decoded; a fresh state for one answer."""

    what: str
    decode: Callable[[bytes], A]
    state: Callable[[], AnswerState[A]]


class ChunkInterpreter(Generic[A]):
    """A `FrameInterpreter` for chunks.

    `include_usage`: the caller asked for the usage chunk too. Else its bytes are kept back: the gateway asked for it.
    """

    def __init__(self, dialect: Dialect[A], *, include_usage: bool) -> None:
        self._decode = dialect.decode
        self._state = dialect.state()
        self._include_usage = include_usage

    @property
    def finished(self) -> bool:
        return self._state.finished

    def read(self, frame: SseFrame) -> Frame:
        raw, data = frame
        if not data:
            return Frame(raw, ())
        if data == b"[DONE]":
            if not self.finished:
                raise stream_broken("the stream ended without a finish reason")
            return Frame(raw, ())
        answer = self._decode(data)
        _raise_error(answer, data)
        events = tuple(self._state.read(answer))
        only_usage = not answer.choices and answer.usage is not None
        return Frame(b"" if only_usage and not self._include_usage else raw, events)


def read_whole(dialect: Dialect[A], body: bytes) -> Frame:
    """A whole answer, with the same events in the same order as its stream would have had."""
    try:
        answer = _decoded(dialect, body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"the answer is not a {dialect.what}: {error}") from None
    _raise_error(answer, body)
    if not answer.choices:
        raise malformed("the answer has no choices")
    counted = usage_of(answer.usage, answer.x_groq)
    answer.usage = answer.x_groq = None
    state = dialect.state()
    events = state.read(answer)
    if not state.finished:
        state.finish("stop", events)
    if counted is not None:
        events.append(UsageReported(counted))
    return Frame(body, tuple(events))


def _decoded(dialect: Dialect[A], body: bytes) -> A:
    try:
        return dialect.decode(body)
    except msgspec.DecodeError:  # half a character, perhaps
        return dialect.decode(mended(body))


def _raise_error(answer: Answer, body: bytes) -> None:
    if answer.choices and answer.error is NOTHING and answer.x_groq is None:
        return  # nearly every chunk
    is_answer = answer.choices is not None or answer.usage is not None
    raise_error(answer.error, answer.x_groq, is_answer=is_answer, body=body)
