"""Reads chat completions, whole and streamed, as OpenAI and the vendors that copy it write them.

Source: openai 3.52 `ChatCompletion`, `ChatCompletionChunk` (2026-11); a vendor's own way is named where it is handled.
"""

import msgspec
from msgspec import Raw, Struct

from providers.domain.answer import (
    Finished,
    FinishReason,
    ReasoningDelta,
    ReasoningProof,
    RefusalDelta,
    Started,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageReported,
)
from providers.wires.failure_reading import stream_broken
from providers.wires.openai_chunks import NOTHING, Dialect
from providers.wires.openai_usage import Groq, UsageIn, usage_of
from providers.wires.reasoning_formats import vendor_of

FINISH_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_NO_DETAILS = (b"null", b"[]")


class _Function(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    extra_content: Raw = NOTHING  # Gemini's OpenAI endpoint: the proof of thought


class _Google(Struct, gc=False):
    thought_signature: str | None = None


class _Extra(Struct, gc=False):
    google: _Google | None = None


class _Detail(Struct, gc=False):
    """A piece of thought (OpenRouter, MiniMax, this gateway)."""

    text: str | None = None
    summary: str | None = None
    data: str | None = None
    signature: str | None = None
    format: str | None = None
    id: str | None = None


class _ContentPart(Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: "list[_ContentPart] | str | None" = None


class _Message(Struct, gc=False):
    """A chunk's `delta`, or the `message` of a whole answer."""

    content: str | list[_ContentPart] | None = None  # Mistral sends lists of parts beside its reasoning
    reasoning_content: str | None = None  # DeepSeek, xAI, vLLM
    reasoning: str | None = None  # Groq, OpenRouter
    reasoning_details: Raw = NOTHING
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(Struct, gc=False):
    index: int | None = None
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None
    stop_reason: Raw = NOTHING  # vLLM: the stop sequence, or a token's number


class _Answer(Struct, gc=False):
    """A chunk or a whole completion. `choices` is missing from what is neither."""

    choices: list[_Choice] | None = None
    id: str | None = None
    usage: UsageIn | None = None
    x_groq: Groq | None = None
    error: Raw = NOTHING


_decode = msgspec.json.Decoder(_Answer).decode
_decode_details = msgspec.json.Decoder(list[_Detail]).decode
_decode_extra = msgspec.json.Decoder(_Extra).decode
_decode_text = msgspec.json.Decoder(str).decode


class _Call(Struct):
    """A tool call under way; `last` is the last character of its arguments so far."""

    position: int
    id: str
    name: str
    last: str = ""


class AnswerEvents:
    """Turns choices into events: the state of one answer."""

    def __init__(self) -> None:
        self.finished = False
        self._started = False
        self._calls: list[_Call] = []
        self._thoughts: list[str] = []  # told, and not proven so far
        self._by_slot: dict[tuple[int, int], _Call] = {}  # (choice, vendor's index): its latest call

    def read(self, answer: _Answer) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        if not self._started and (answer.id or answer.choices):  # Azure begins with a chunk that has neither
            self._started = True
            events.append(Started(answer.id or ""))
        for choice in answer.choices or ():
            message = choice.delta or choice.message
            number = choice.index or 0
            if message is not None:
                self._read_message(message, number, events)
            # With n > 1 every choice's content counts, and the first one's end is the answer's.
            if choice.finish_reason and number == 0 and not self.finished:
                self.finish(choice.finish_reason, events, choice.stop_reason)
        usage = usage_of(answer.usage, answer.x_groq)
        if usage is not None:
            events.append(UsageReported(usage))
        return events

    def finish(self, reason: str, events: list[StreamEvent], stop_reason: Raw = NOTHING) -> None:
        """A call of a named tool ends in "stop" (Source: community.openai.com/t/437226, 500 of 500 tries, 2024)."""
        if reason == "error":  # OpenRouter
            raise stream_broken("the provider broke the answer off with an error")
        self.finished = True
        known = FINISH_REASONS.get(reason, FinishReason.STOP)
        if known is FinishReason.STOP and self._calls:
            known = FinishReason.TOOL_CALLS
        sequence = _decode_text(stop_reason) if bytes(stop_reason).startswith(b'"') else ""
        events.append(Finished(known, sequence))

    def _read_message(self, message: _Message, number: int, events: list[StreamEvent]) -> None:
        details = message.reasoning_details
        if details is not NOTHING and bytes(details) not in _NO_DETAILS:
            self._read_details(message, events)
        elif text := message.reasoning_content or message.reasoning:
            self._thoughts.append(text)
            events.append(ReasoningDelta(text))
        content = message.content
        if isinstance(content, list):
            content = _read_parts(content, events)
        if content:
            events.append(TextDelta(content))
        if message.refusal:
            events.append(RefusalDelta(message.refusal))
        for call in message.tool_calls or ():
            self._read_call(call, number, events)

    def _read_details(self, message: _Message, events: list[StreamEvent]) -> None:
        """Thoughts with their proofs. They repeat what `reasoning` says, at once or (this gateway) in the end."""
        try:
            details = _decode_details(message.reasoning_details)
        except msgspec.DecodeError:
            details = []
        if not any(detail.text or detail.summary for detail in details):
            details.insert(0, _Detail(text=message.reasoning_content or message.reasoning))
        for detail in details:
            text = detail.text or detail.summary
            if text and text != "".join(self._thoughts):
                events.append(ReasoningDelta(text))
            if detail.signature or detail.data:
                self._thoughts.clear()
                vendor = vendor_of(detail.format or "")
                proof = ReasoningProof(detail.signature or "", detail.data or "", vendor, detail.id or "")
                events.append(proof)

    def _read_call(self, sent: _ToolCall, number: int, events: list[StreamEvent]) -> None:
        name = (sent.function.name if sent.function else None) or ""
        arguments = (sent.function.arguments if sent.function else None) or ""
        call = self._open_call(sent, number, name, arguments)
        if call is None:
            call = _Call(len(self._calls), sent.id or f"call_{len(self._calls)}", name)
            self._calls.append(call)
            slot = sent.index if sent.index is not None else -1 - call.position
            self._by_slot[number, slot] = call
            events.append(ToolCallStart(call.position, call.id, call.name, _signature(sent.extra_content)))
        if arguments:
            call.last = arguments.rstrip()[-1:] or call.last
            events.append(ToolCallDelta(call.position, arguments))

    def _open_call(self, sent: _ToolCall, number: int, name: str, arguments: str) -> _Call | None:
        """The call that this piece continues; None when it begins one.

        OpenAI names a call by its index and sends id and name once. Others repeat them with every piece, or leave the
        index out, or send every parallel call whole at index 0 (Gemini's OpenAI endpoint), with or without an id.
        """
        if sent.index is not None:
            call = self._by_slot.get((number, sent.index))
        elif sent.id:
            call = next((known for known in self._calls if known.id == sent.id), None)
        else:
            call = self._calls[-1] if self._calls and not name else None
        if call is None or (sent.id and sent.id != call.id):
            return None
        begins_anew = bool(name) and not sent.id and call.last == "}" and arguments.startswith("{")
        return None if begins_anew else call


def _read_parts(parts: list[_ContentPart], events: list[StreamEvent]) -> str:
    """The text; Mistral's thoughts, which stand among its parts, become events before it."""
    texts: list[str] = []
    for part in parts:
        if part.type == "text":
            texts.append(part.text or "")
        elif part.type == "thinking" and part.thinking:
            pieces = [_ContentPart(text=part.thinking)] if isinstance(part.thinking, str) else part.thinking
            events.append(ReasoningDelta("".join(piece.text or "" for piece in pieces)))
    return "".join(texts)


def _signature(extra: Raw) -> str:
    if extra is NOTHING:
        return ""
    try:
        google = _decode_extra(extra).google
    except msgspec.DecodeError:
        return ""
    return (google and google.thought_signature) or ""


CHAT = Dialect("chat completion", _decode, AnswerEvents)
