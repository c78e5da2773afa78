"""Reads chat completions, whole and streamed, as OpenAI and the vendors that copy it write them.

Source: openai 3.52 `ChatCompletion`, `ChatCompletionChunk`, `CompletionUsage` (2026-11); a vendor's own way is named
where it is handled.
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
from providers.wires.failure_reading import clean, error_in_answer, malformed, read_error, stream_broken
from providers.wires.sse import SseFrame
from providers.wires.usage_counts import Count, tokens

_FINISH_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class _Function(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _ContentPart(Struct, gc=False):
    type: str = ""
    text: str | None = None


class _Message(Struct, gc=False):
    """A chunk's `delta`, or the `message` of a whole answer."""

    content: str | list[_ContentPart] | None = None  # Mistral sends lists of parts beside its reasoning
    reasoning_content: str | None = None  # DeepSeek, xAI, vLLM
    reasoning: str | None = None  # Groq, OpenRouter
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(Struct, gc=False):
    index: int | None = None
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None


class _PromptDetails(Struct, gc=False):
    cached_tokens: Count = None
    cache_write_tokens: Count = None


class _CompletionDetails(Struct, gc=False):
    reasoning_tokens: Count = None


class _Usage(Struct, gc=False):
    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Groq(Struct, gc=False):
    """Groq's extras: usage on the last chunk, and what went wrong in the middle (groq SDK `XGroq`, 2026-11)."""

    usage: _Usage | None = None
    error: str | None = None


class _Answer(Struct, gc=False):
    """A chunk or a whole completion. `choices` is missing from what is neither."""

    choices: list[_Choice] | None = None
    id: str | None = None
    usage: _Usage | None = None
    x_groq: _Groq | None = None
    error: Raw = Raw()


_decode = msgspec.json.Decoder(_Answer).decode
_NO_ERROR = (b"", b"null")


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
                self.finish(choice.finish_reason, events)
        usage = _usage_of(answer)
        if usage is not None:
            events.append(UsageReported(usage))
        return events

    def finish(self, reason: str, events: list[StreamEvent]) -> None:
        """A call of a named tool ends in "stop" (Source: community.openai.com/t/437226, 500 of 500 tries, 2024)."""
        if reason == "error":  # OpenRouter
            raise stream_broken("the provider broke the answer off with an error")
        self.finished = True
        known = _FINISH_REASONS.get(reason, FinishReason.STOP)
        if known is FinishReason.STOP and self._calls:
            known = FinishReason.TOOL_CALLS
        events.append(Finished(known))

    def _read_message(self, message: _Message, number: int, events: list[StreamEvent]) -> None:
        if text := message.reasoning_content or message.reasoning:
            events.append(ReasoningDelta(text))
        content = message.content
        if isinstance(content, list):
            content = "".join(part.text or "" for part in content if part.type == "text")
        if content:
            events.append(TextDelta(content))
        if message.refusal:
            events.append(TextDelta(message.refusal))
        for call in message.tool_calls or ():
            self._read_call(call, number, events)

    def _read_call(self, sent: _ToolCall, number: int, events: list[StreamEvent]) -> None:
        name = (sent.function.name if sent.function else None) or ""
        arguments = (sent.function.arguments if sent.function else None) or ""
        call = self._open_call(sent, number, name, arguments)
        if call is None:
            call = _Call(len(self._calls), sent.id or f"call_{len(self._calls)}", name)
            self._calls.append(call)
            slot = sent.index if sent.index is not None else -1 - call.position
            self._by_slot[number, slot] = call
            events.append(ToolCallStart(call.position, call.id, call.name))
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


class ChunkInterpreter:
    """A `FrameInterpreter` for chat completion chunks.

    `include_usage`: the caller asked for the usage chunk too. Else its bytes are kept back: the gateway asked for it.
    """

    def __init__(self, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._events = AnswerEvents()

    @property
    def finished(self) -> bool:
        return self._events.finished

    def read(self, frame: SseFrame) -> Frame:
        raw, data = frame
        if not data:
            return Frame(raw, ())
        if data == b"[DONE]":
            if not self.finished:
                raise stream_broken("the stream ended without a finish reason")
            return Frame(raw, ())
        answer = _decode(data)
        _raise_error(answer, data)
        events = tuple(self._events.read(answer))
        only_usage = not answer.choices and answer.usage is not None
        return Frame(b"" if only_usage and not self._include_usage else raw, events)


def read_whole(body: bytes) -> Frame:
    """A whole completion, with the same events in the same order as its stream would have had."""
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"the answer is not a chat completion: {error}") from None
    _raise_error(answer, body)
    if not answer.choices:
        raise malformed("the answer has no choices")
    usage, answer.usage = answer.usage, None
    groq, answer.x_groq = answer.x_groq, None
    state = AnswerEvents()
    events = state.read(answer)
    if not state.finished:
        state.finish("stop", events)
    counted = _usage_of(_Answer(usage=usage, x_groq=groq))
    if counted is not None:
        events.append(UsageReported(counted))
    return Frame(body, tuple(events))


def _raise_error(answer: _Answer, body: bytes) -> None:
    """An error instead of content; vLLM's has no `error` key, only a message and no choices. Other objects pass."""
    if bytes(answer.error) not in _NO_ERROR:
        raise error_in_answer(body)
    if answer.x_groq is not None and answer.x_groq.error:
        raise stream_broken(clean(answer.x_groq.error))
    if answer.choices is None and answer.usage is None and read_error(None, body).message:
        raise error_in_answer(body)


def _usage_of(answer: _Answer) -> Usage | None:
    """Groq has sent a top-level usage with an empty prompt beside the right one, so the fuller of the two counts."""
    usage = answer.usage
    if answer.x_groq is not None and answer.x_groq.usage is not None:
        other = answer.x_groq.usage
        if usage is None or tokens(other.prompt_tokens) > tokens(usage.prompt_tokens):
            usage = other
    return None if usage is None else _disjoint(usage)


def _disjoint(usage: _Usage) -> Usage:
    """`prompt_tokens` counts cached and cache-written tokens too; each is billed at one rate only.

    Source: developers.openai.com/api/docs/guides/prompt-caching, "not an additive fee" (2026-11). Where the total is
    more than prompt and completion, the rest is reasoning that the vendor bills as output (Gemini's OpenAI endpoint,
    xAI; OpenAI's own completion_tokens holds it already).
    """
    prompt, completion = tokens(usage.prompt_tokens), tokens(usage.completion_tokens)
    details = usage.prompt_tokens_details
    read = min(tokens(details.cached_tokens), prompt) if details else 0
    written = min(tokens(details.cache_write_tokens), prompt - read) if details else 0
    output = max(completion, tokens(usage.total_tokens) - prompt) if usage.prompt_tokens is not None else completion
    hidden = output - completion
    thinking = usage.completion_tokens_details
    return Usage(
        input_tokens=prompt - read - written,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        output_tokens=output,
        reasoning_tokens=min(max(tokens(thinking.reasoning_tokens) if thinking else 0, hidden), output),
    )
