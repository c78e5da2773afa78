"""Reads Cohere's answers, whole and streamed.

Source: docs.cohere.com/reference/chat-stream, /docs/tool-use-streaming, /docs/reasoning, and the types of Cohere's
Python SDK (`V2ChatStreamResponse`, `AssistantMessageResponse`, `Usage`, 2026-11). Citations are passed by.
"""

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
from providers.domain.errors import Failure, FailureKind, ProviderError
from providers.domain.failures import VendorError, classify
from providers.wires.failure_reading import clean, error_in_answer, malformed, stream_broken
from providers.wires.half_pairs import mended
from providers.wires.sse import SseFrame
from providers.wires.usage_counts import Count, tokens

_FINISH_REASONS = {
    "COMPLETE": FinishReason.STOP,
    "STOP_SEQUENCE": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "TOOL_CALL": FinishReason.TOOL_CALLS,
}
_NO_ENDS = {"ERROR", "TIMEOUT"}


class _Function(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct, gc=False):
    id: str | None = None
    function: _Function | None = None


class _Block(Struct, gc=False):
    """A content block, or more of one: text or thought."""

    text: str | None = None
    thinking: str | None = None


class _Message(Struct, gc=False):
    """A whole message holds lists; an event one thing, without its type after the first."""

    content: list[_Block] | _Block | str | None = None
    tool_plan: str | None = None
    tool_calls: list[_ToolCall] | _ToolCall | None = None


class _Counts(Struct, gc=False):
    input_tokens: Count = None
    output_tokens: Count = None


class UsageSent(Struct, gc=False):
    """`usage` of a chat, `meta` of embeddings."""

    billed_units: _Counts | None = None
    tokens: _Counts | None = None
    cached_tokens: Count = None


class _Delta(Struct, gc=False):
    message: _Message | None = None
    finish_reason: str | None = None
    usage: UsageSent | None = None
    error: str | None = None


class _Event(Struct, gc=False):
    type: str = ""
    id: str | None = None
    index: int | None = None
    delta: _Delta | None = None
    message: Raw = Raw()
    error: Raw = Raw()


class _Answer(Struct, gc=False):
    id: str | None = None
    message: _Message | str | None = None  # a text: what went wrong
    finish_reason: str | None = None
    usage: UsageSent | None = None
    error: Raw = Raw()


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_NOTHING = (b"", b"null")


class EventInterpreter:
    """A `FrameInterpreter` for the events of Cohere's chat."""

    def __init__(self) -> None:
        self.finished = False
        self._calls: dict[int | None, int] = {}  # index of the tool call: its place among the calls

    def read(self, frame: SseFrame) -> Frame:
        raw, data = frame
        if not data:
            return Frame(raw, ())
        if data == b"[DONE]":
            if not self.finished:
                raise stream_broken("the stream ended without a finish reason")
            return Frame(raw, ())
        event = _decode_event(data)
        if bytes(event.error) not in _NOTHING or (not event.type and bytes(event.message) not in _NOTHING):
            raise error_in_answer(data)
        return Frame(raw, self._events(event))

    def _events(self, event: _Event) -> tuple[StreamEvent, ...]:
        delta = event.delta or _Delta()
        message = delta.message or _Message()
        match event.type:
            case "content-delta" | "content-start":
                return tuple(_content(message))
            case "tool-plan-delta":
                return (TextDelta(message.tool_plan),) if message.tool_plan else ()
            case "tool-call-start":
                return self._call_start(event.index, message)
            case "tool-call-delta":
                return self._call_delta(event.index, message)
            case "message-start":
                return (Started(event.id or ""),)
            case "message-end":
                return self._end(delta)
        return ()

    def _call_start(self, index: int | None, message: _Message) -> tuple[StreamEvent, ...]:
        events: list[StreamEvent] = []
        for call in _calls(message):
            place = len(self._calls)
            self._calls[index if index is not None else -1 - place] = place
            events.extend(_tool_call(call, place))
        return tuple(events)

    def _call_delta(self, index: int | None, message: _Message) -> tuple[StreamEvent, ...]:
        """More of the call with this index; without one, of the latest."""
        place = self._calls.get(index, len(self._calls) - 1 if index is None else -1)
        if place < 0:
            return ()
        pieces = (call.function.arguments for call in _calls(message) if call.function)
        return tuple(ToolCallDelta(place, piece) for piece in pieces if piece)

    def _end(self, delta: _Delta) -> tuple[StreamEvent, ...]:
        events: list[StreamEvent] = []
        if not self.finished:
            reason = delta.finish_reason or ""
            if delta.error or reason in _NO_ENDS or not reason:
                raise _broken_off(reason, delta.error or "")
            self.finished = True
            events.append(Finished(_reason(reason, has_calls=bool(self._calls))))
        return (*events, *usage_events(delta.usage))


def read_whole(body: bytes) -> Frame:
    """A whole answer, with the same events in the same order as its stream would have had."""
    try:
        answer = _decode_answer(mended(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"the answer is not one of Cohere's chat: {error}") from None
    if bytes(answer.error) not in _NOTHING or isinstance(answer.message, str):
        raise error_in_answer(body)
    if answer.message is None:
        raise malformed("the answer has no message")
    if answer.finish_reason in _NO_ENDS:
        raise _broken_off(answer.finish_reason, "")
    message = answer.message
    events: list[StreamEvent] = [Started(answer.id or ""), *_content(message)]
    if message.tool_plan:
        events.append(TextDelta(message.tool_plan))
    calls = _calls(message)
    for place, call in enumerate(calls):
        events.extend(_tool_call(call, place))
    events.append(Finished(_reason(answer.finish_reason or "COMPLETE", has_calls=bool(calls))))
    return Frame(body, (*events, *usage_events(answer.usage)))


def usage_events(sent: UsageSent | None) -> tuple[UsageReported, ...]:
    """The billed units, where there are any: `tokens` also counts what Cohere adds to the prompt and what the model
    writes for itself, and "since these are tokens you don't have control over, you are not charged for them".

    `cached_tokens` is in replies, not in the documents: a part of the input, which has no price of its own.
    Source: docs.cohere.com/v2/docs/how-does-cohere-pricing-work (2026-11).
    """
    counts = (sent.billed_units or sent.tokens) if sent is not None else None
    if sent is None or counts is None:
        return ()
    prompt, output = tokens(counts.input_tokens), tokens(counts.output_tokens)
    cached = min(tokens(sent.cached_tokens), prompt)
    return (UsageReported(Usage(prompt - cached, cache_read_input_tokens=cached, output_tokens=output)),)


def _content(message: _Message) -> list[StreamEvent]:
    content = message.content
    if isinstance(content, str):
        return [TextDelta(content)] if content else []
    events: list[StreamEvent] = []
    for block in content if isinstance(content, list) else [content or _Block()]:
        if block.thinking:
            events.append(ReasoningDelta(block.thinking))
        if block.text:
            events.append(TextDelta(block.text))
    return events


def _calls(message: _Message) -> list[_ToolCall]:
    calls = message.tool_calls or []
    return calls if isinstance(calls, list) else [calls]


def _tool_call(call: _ToolCall, place: int) -> tuple[StreamEvent, ...]:
    function = call.function or _Function()
    start = ToolCallStart(place, call.id or f"call_{place}", function.name or "")
    return (start, ToolCallDelta(place, function.arguments)) if function.arguments else (start,)


def _reason(reason: str, *, has_calls: bool) -> FinishReason:
    known = _FINISH_REASONS.get(reason, FinishReason.STOP)
    return FinishReason.TOOL_CALLS if known is FinishReason.STOP and has_calls else known


def _broken_off(reason: str, text: str) -> ProviderError:
    """The answer ended, but not with its end: `message-end` says why."""
    if not reason and not text:
        return stream_broken("the stream ended without a finish reason")
    kind = FailureKind.TIMEOUT if reason == "TIMEOUT" else classify(VendorError(None, "", "", text))
    message = clean(text) or f"the provider broke the answer off ({clean(reason)})"
    return ProviderError(Failure(kind, message, vendor_code=clean(reason)[:100]))
