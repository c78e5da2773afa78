"""Reads Ollama's chat answers, whole and streamed: each line of a stream has the shape of a whole answer.

Source: docs.ollama.com/api/chat, /api/streaming, /api/usage, /api/errors, and `ChatResponse` and `Metrics` in
api/types.go of github.com/ollama/ollama (2026-11).
"""

from hashlib import blake2b

import msgspec
from msgspec import Raw, Struct

from providers.domain.answer import (
    Finished,
    FinishReason,
    Frame,
    ReasoningDelta,
    Started,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReported,
)
from providers.wires.failure_reading import error_in_answer, malformed
from providers.wires.half_pairs import mended
from providers.wires.ndjson import Line
from providers.wires.usage_counts import Count, tokens

# "load" and "unload" answer requests without a message.
_DONE_REASONS = {"length": FinishReason.LENGTH}


class _Function(Struct, gc=False):
    name: str | None = None
    arguments: Raw = Raw()


class _ToolCall(Struct, gc=False):
    id: str | None = None  # since 0.13
    function: _Function | None = None


class _Message(Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ToolCall] | None = None


class Counts(Struct, gc=False):
    """`prompt_eval_count` holds what was cached too (github.com/ollama/ollama/pull/16428, 2026-06)."""

    prompt_eval_count: Count = None
    prompt_eval_cached_count: Count = None
    eval_count: Count = None


class _Answer(Counts, gc=False):
    created_at: str | None = None
    message: _Message | None = None
    done: bool | None = None
    done_reason: str | None = None
    error: Raw = Raw()


_decode = msgspec.json.Decoder(_Answer).decode
_decode_text = msgspec.json.Decoder(str).decode
_NOTHING = (b"", b"null")


class LineInterpreter:
    """A `FrameInterpreter` for the lines of Ollama's chat."""

    def __init__(self) -> None:
        self.finished = False
        self._started = False
        self._calls = 0

    def read(self, frame: Line) -> Frame:
        raw, data = frame
        if not data:
            return Frame(raw, ())
        answer = _decode(data)
        if bytes(answer.error) not in _NOTHING:
            raise error_in_answer(data)
        events: list[StreamEvent] = []
        if not self._started:
            self._started = True
            events.append(Started(""))  # answers have no ids
        if answer.message is not None:
            self._read_message(answer.message, answer.created_at or "", events)
        if answer.done and not self.finished:
            self.finished = True
            reason = _DONE_REASONS.get(answer.done_reason or "", FinishReason.STOP)
            if reason is FinishReason.STOP and self._calls:
                reason = FinishReason.TOOL_CALLS
            events.append(Finished(reason))
            events.extend(usage_events(answer))
        return Frame(raw, tuple(events))

    def _read_message(self, message: _Message, created_at: str, events: list[StreamEvent]) -> None:
        if message.thinking:
            events.append(ReasoningDelta(message.thinking))
        if message.content:
            events.append(TextDelta(message.content))
        for call in message.tool_calls or ():
            events.extend(_tool_call(call, self._calls, created_at))
            self._calls += 1


def read_whole(body: bytes) -> Frame:
    """A whole answer, with the same events in the same order as its stream would have had."""
    state = LineInterpreter()
    try:
        frame = state.read((body, mended(body)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"the answer is not one of Ollama's chat: {error}") from None
    if not state.finished:
        raise malformed("the answer is not done")
    return frame


def usage_events(counts: Counts) -> tuple[UsageReported, ...]:
    """None where the server did not count: older ones leave out what was cached."""
    if counts.prompt_eval_count is None and counts.eval_count is None:
        return ()
    prompt, output = tokens(counts.prompt_eval_count), tokens(counts.eval_count)
    cached = min(tokens(counts.prompt_eval_cached_count), prompt)
    return (UsageReported(Usage(prompt - cached, cache_read_input_tokens=cached, output_tokens=output)),)


def _tool_call(call: _ToolCall, place: int, created_at: str) -> tuple[StreamEvent, ...]:
    """A call comes whole, its arguments as an object."""
    function = call.function or _Function()
    name, arguments = function.name or "", _text(bytes(function.arguments))
    start = ToolCallStart(place, call.id or _invented_id(created_at, place, name, arguments), name)
    return (start, ToolCallDelta(place, arguments)) if arguments else (start,)


def _text(arguments: bytes) -> str:
    """Servers that copy the API send the JSON text of OpenAI's wire at times."""
    if arguments in _NOTHING:
        return ""
    return _decode_text(arguments) if arguments.startswith(b'"') else arguments.decode()


def _invented_id(created_at: str, place: int, name: str, arguments: str) -> str:
    """Older servers give calls no ids. Two calls of one conversation must not share one, as their results would be
    mixed up; nothing but the moment and the call itself tells them apart."""
    seen = f"{created_at}\n{place}\n{name}\n{arguments}".encode("utf-8", "replace")
    return f"call_{blake2b(seen, digest_size=12).hexdigest()}"
