"""Reads messages, whole and streamed.

Source: platform.claude.com/docs/en/build-with-claude/streaming, and anthropic 2.11 `Message`, `RawMessageStreamEvent`,
`StopReason`, `MessageDeltaUsage` (2026-11). New event and block types may appear at any time and are passed by.
"""

import msgspec
from msgspec import Raw, Struct

from providers.domain.answer import (
    Finished,
    FinishReason,
    Frame,
    ReasoningDelta,
    ReasoningProof,
    RefusalDelta,
    Started,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReported,
)
from providers.wires.anthropic_turns import VENDOR
from providers.wires.failure_reading import error_in_answer, malformed, stream_broken
from providers.wires.half_pairs import mended
from providers.wires.sse import SseFrame
from providers.wires.usage_counts import Count, tokens

_STOP_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "pause_turn": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
}


class _OutputDetails(Struct, gc=False):
    thinking_tokens: Count = None


class _CacheCreation(Struct, gc=False):
    ephemeral_1h_input_tokens: Count = None


class _Usage(Struct, gc=False):
    input_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    cache_creation: _CacheCreation | None = None
    output_tokens: Count = None
    output_tokens_details: _OutputDetails | None = None


class _StopDetails(Struct, gc=False):
    explanation: str | None = None


class _Block(Struct, gc=False):
    """A content block, or a delta of one, or what `message_delta` changes."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    partial_json: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw()
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: _StopDetails | None = None


class _Message(Struct, gc=False):
    id: str | None = None
    type: str = ""
    content: list[_Block] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: _StopDetails | None = None
    usage: _Usage | None = None
    error: Raw = Raw()


class _Event(Struct, gc=False):
    type: str = ""
    index: int | None = None
    delta: _Block | None = None
    content_block: _Block | None = None
    message: _Message | None = None
    usage: _Usage | None = None
    error: Raw = Raw()


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_NO_INPUT = (b"", b"{}", b"null")
_NO_ERROR = (b"", b"null")


class EventInterpreter:
    """A `FrameInterpreter` for message stream events."""

    def __init__(self) -> None:
        self.finished = False
        self._usage = Usage()
        self._calls: dict[int | None, int] = {}  # index of the tool_use block: its place among the calls

    def read(self, frame: SseFrame) -> Frame:
        raw, data = frame
        if not data:
            return Frame(raw, ())
        event = _decode_event(data)
        match event.type:
            case "content_block_delta":
                return Frame(raw, self._delta(event))
            case "content_block_start":
                return Frame(raw, self._block_start(event))
            case "message_start":
                return Frame(raw, self._message_start(event.message or _Message()))
            case "message_delta":
                return Frame(raw, self._message_delta(event))
            case "message_stop" if not self.finished:
                raise stream_broken("the stream ended without a stop reason")
            case "error":
                raise error_in_answer(data)
        if bytes(event.error) not in _NO_ERROR:
            raise error_in_answer(data)
        return Frame(raw, ())

    def _message_start(self, message: _Message) -> tuple[StreamEvent, ...]:
        started = Started(message.id or "")
        if message.usage is None:
            return (started,)
        self._usage = _merged(self._usage, message.usage)
        return (started, UsageReported(self._usage))

    def _block_start(self, event: _Event) -> tuple[StreamEvent, ...]:
        block = event.content_block or _Block()
        if block.type != "tool_use":
            return _content(block)
        place = self._calls[event.index] = len(self._calls)
        return _tool_call(block, place)

    def _delta(self, event: _Event) -> tuple[StreamEvent, ...]:
        delta = event.delta
        if delta is None:
            return ()
        if delta.partial_json is None:
            return _content(delta)
        place = self._calls.get(event.index)  # none: a tool that runs at the vendor
        return (ToolCallDelta(place, delta.partial_json),) if place is not None and delta.partial_json else ()

    def _message_delta(self, event: _Event) -> tuple[StreamEvent, ...]:
        """Usage is cumulative; what this event leaves out stands as `message_start` said."""
        events: list[StreamEvent] = []
        if event.delta is not None and event.delta.stop_reason and not self.finished:
            self.finished = True
            events += _ending(event.delta.stop_reason, event.delta)
        if event.usage is not None:
            self._usage = _merged(self._usage, event.usage)
            events.append(UsageReported(self._usage))
        return tuple(events)


def read_whole(body: bytes) -> Frame:
    """A whole message, with the same events in the same order as its stream would have had."""
    message = _whole_message(body)
    if message.type == "error" or bytes(message.error) not in _NO_ERROR:
        raise error_in_answer(body)
    if message.content is None:
        raise malformed("the answer has no content")
    events: list[StreamEvent] = [Started(message.id or "")]
    calls = 0
    for block in message.content:
        if block.type == "tool_use":
            events.extend(_tool_call(block, calls))
            calls += 1
        else:
            events.extend(_content(block))
    events += _ending(message.stop_reason or ("tool_use" if calls else "end_turn"), message)
    if message.usage is not None:
        events.append(UsageReported(_merged(Usage(), message.usage)))
    return Frame(body, tuple(events))


def _whole_message(body: bytes) -> _Message:
    try:
        try:
            return _decode_message(body)
        except msgspec.DecodeError:  # it may hold half a character
            return _decode_message(mended(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"the answer is not a message: {error}") from None


def _content(block: _Block) -> tuple[StreamEvent, ...]:
    """Text, a thought, its proof; a block of an answer that is whole may hold the last two at once."""
    if block.text:
        return (TextDelta(block.text),)
    thought = (ReasoningDelta(block.thinking),) if block.thinking else ()
    if block.signature:
        return (*thought, ReasoningProof(signature=block.signature, vendor=VENDOR))
    if block.data and block.type == "redacted_thinking":
        return (ReasoningProof(encrypted=block.data, vendor=VENDOR),)
    return thought


def _ending(stop_reason: str, told: _Block | _Message) -> tuple[StreamEvent, ...]:
    """Why it stopped; a refusal is explained beside the content, so that is said first."""
    finished = Finished(_reason(stop_reason), told.stop_sequence or "")
    explanation = told.stop_details.explanation if told.stop_details else None
    return (RefusalDelta(explanation), finished) if explanation and stop_reason == "refusal" else (finished,)


def _tool_call(block: _Block, place: int) -> tuple[StreamEvent, ...]:
    """A call's arguments follow in deltas; some compatible servers send them whole with its start."""
    start = ToolCallStart(place, block.id or f"call_{place}", block.name or "")
    arguments = bytes(block.input)
    return (start,) if arguments in _NO_INPUT else (start, ToolCallDelta(place, arguments.decode()))


def _reason(stop_reason: str) -> FinishReason:
    return _STOP_REASONS.get(stop_reason, FinishReason.STOP)


def _merged(known: Usage, sent: _Usage) -> Usage:
    """The four buckets are disjoint as sent; thinking is part of the output, what is kept for an hour of what is
    written to the cache. Source: anthropic 2.11 `CacheCreation` (2026-11)."""
    output = _newer(sent.output_tokens, known.output_tokens)
    written = _newer(sent.cache_creation_input_tokens, known.cache_creation_input_tokens)
    kept = sent.cache_creation
    for_an_hour = known.cache_creation_1h_input_tokens if kept is None else tokens(kept.ephemeral_1h_input_tokens)
    details = sent.output_tokens_details
    thinking = known.reasoning_tokens if details is None else tokens(details.thinking_tokens)
    return Usage(
        input_tokens=_newer(sent.input_tokens, known.input_tokens),
        cache_read_input_tokens=_newer(sent.cache_read_input_tokens, known.cache_read_input_tokens),
        cache_creation_input_tokens=written,
        output_tokens=output,
        reasoning_tokens=min(thinking, output),
        cache_creation_1h_input_tokens=min(for_an_hour, written),
    )


def _newer(sent: Count, known: int) -> int:
    return known if sent is None else tokens(sent)
