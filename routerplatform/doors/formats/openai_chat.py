"""What an OpenAI client says and hears on /v1/chat/completions.

Source: OpenAI API reference, Chat Completions: create, the chat completion object and chunk object (2026-11).
A request is checked here only as far as the gateway needs to understand it; everything else passes through.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from providers.domain.answer import (
    Finished,
    Frame,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReported,
)
from providers.domain.estimate import estimate_tokens
from providers.domain.types import Capability, ChatRequest, Wire
from routerplatform.doors.formats import sse
from routerplatform.doors.formats.openai_reading import read_conversation, wrong_field
from routerplatform.doors.formats.protocol import Heading
from routerplatform.gateway.errors import GatewayError, InvalidRequest


class Part(Struct):
    type: str


class Message(Struct):
    """`content` may be absent only beside tool calls; which roles a model takes is the vendor's business."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None


class StreamOptions(Struct):
    include_usage: bool | None = None


class WantedFormat(Struct):
    type: str


class Body(Struct):
    """The fields that decide something in the gateway; wrong types are refused with the field's name."""

    messages: list[Message]
    model: str = "auto"
    persona: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    tools: list[Raw] | None = None
    response_format: WantedFormat | None = None
    reasoning_effort: str | None = None
    n: int | None = None


DOOR = "chat-completions"
KEEP_ALIVE = sse.KEEP_ALIVE

MOST_TOKENS = 2**31 - 1  # what a record holds
MOST_CHOICES = 128  # of OpenAI's `n`
_body = msgspec.json.Decoder(Body)
_fields = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


def parse(raw: bytes) -> ChatRequest:
    """Read a request body.

    :raises InvalidRequest: not UTF-8, not JSON (NaN, truncated, too deep), or a wrong field, which `param` names.
    """
    body, fields = decode(raw)
    if not body.messages:
        raise InvalidRequest("“messages” must hold at least one message.", param="messages")
    limit = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    if limit is not None and not 1 <= limit <= MOST_TOKENS:
        name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
        raise InvalidRequest(f"“{name}” must be at least 1 and at most {MOST_TOKENS:,}.", param=name)
    if body.n is not None and not 1 <= body.n <= MOST_CHOICES:
        raise InvalidRequest(f"“n” must be at least 1 and at most {MOST_CHOICES}.", param="n")
    if body.temperature is not None and not 0 <= body.temperature <= 2:
        raise InvalidRequest("“temperature” must lie between 0 and 2.", param="temperature")
    options = body.stream_options
    return ChatRequest(
        model=body.model,
        persona=body.persona,
        stream=bool(body.stream),
        wire=Wire.OPENAI,
        fields=fields,
        conversation=lambda: read_conversation(fields),
        needs=_needs(body),
        input_tokens_bound=len(raw),
        input_tokens_estimate=estimate_tokens(raw),
        max_tokens=limit,
        choices=body.n or 1,
        include_usage=bool(options and options.include_usage),
        temperature=body.temperature,
    )


def decode(raw: bytes) -> tuple[Body, dict[str, Raw]]:
    """The body as far as it is understood, and all of it by top-level key."""
    try:
        raw.decode()
        return _body.decode(raw), _fields.decode(raw)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8 (byte {error.start}).") from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply.") from error
    except msgspec.ValidationError as error:
        raise wrong_field(error) from error
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from error


def _needs(body: Body) -> frozenset[Capability]:
    needs = set()
    if body.stream:
        needs.add(Capability.STREAMING)
    if body.tools:
        needs.add(Capability.TOOL_CALLING)
    if body.response_format:
        match body.response_format.type:
            case "json_object":
                needs.add(Capability.JSON_MODE)
            case "json_schema":
                needs.add(Capability.JSON_SCHEMA)
    for message in body.messages:
        if isinstance(message.content, list) and any(part.type == "image_url" for part in message.content):
            needs.add(Capability.VISION)
            break
    return frozenset(needs)


# --- answers ------------------------------------------------------------------------------------------------------


NO_ARGUMENTS = "{}"  # clients parse them as JSON, and some wires leave them out


class FunctionOut(Struct, omit_defaults=True):
    name: str | UnsetType = UNSET
    arguments: str = ""


class ToolCallOut(Struct):
    """A call in an answer (`index` unset) or a piece of one in a chunk."""

    function: FunctionOut
    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET


class MessageOut(Struct):
    role: str | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallOut] | UnsetType = UNSET


class ChoiceOut(Struct):
    index: int = 0
    message: MessageOut | UnsetType = UNSET
    delta: MessageOut | UnsetType = UNSET
    logprobs: None = None
    finish_reason: str | None = None


class Details(Struct):
    cached_tokens: int | UnsetType = UNSET
    reasoning_tokens: int | UnsetType = UNSET


class UsageOut(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: Details
    completion_tokens_details: Details


class AnswerOut(Struct):
    id: str
    object: str
    created: int
    model: str
    choices: list[ChoiceOut]
    usage: UsageOut | UnsetType | None = UNSET


def answer_body(request: ChatRequest, frames: Sequence[Frame], heading: Heading) -> bytes:
    """A whole answer from events, for a target that spoke another wire."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCallOut] = []
    reason, usage = "stop", Usage()
    for event in (event for frame in frames for event in frame.events):
        match event:
            case TextDelta(text):
                texts.append(text)
            case ReasoningDelta(text):
                thoughts.append(text)
            case ToolCallStart(_, call_id, name):
                calls.append(ToolCallOut(FunctionOut(name=name), id=call_id, type="function"))
            case ToolCallDelta(index, arguments):
                calls[index].function.arguments += arguments
            case Finished(why):
                reason = why.value
            case UsageReported(counted):
                usage = counted
    for call in calls:
        call.function.arguments = call.function.arguments or NO_ARGUMENTS
    message = MessageOut(role="assistant", content="".join(texts) if texts or not calls else None)
    if thoughts:
        message.reasoning_content = "".join(thoughts)
    if calls:
        message.tool_calls = calls
    choice = ChoiceOut(message=message, finish_reason=reason)
    name = f"chatcmpl-{heading.request_id}"
    return _encode(AnswerOut(name, "chat.completion", heading.created, heading.model, [choice], usage_out(usage)))


def writer(request: ChatRequest, heading: Heading) -> "StreamWriter":
    return StreamWriter(heading, include_usage=request.include_usage)


class StreamWriter:
    """Chunks from events, for a target that spoke another wire: one id, one creation time, a role first."""

    def __init__(self, heading: Heading, *, include_usage: bool) -> None:
        name = f"chatcmpl-{heading.request_id}"
        self._frame = AnswerOut(name, "chat.completion.chunk", heading.created, heading.model, [])
        self._include_usage = include_usage
        self._started = False
        self._silent_calls: set[int] = set()  # those without an argument so far
        self._usage = Usage()

    def write(self, frames: Iterable[Frame]) -> bytes:
        """The bytes to send for these frames; may be empty."""
        return b"".join(self._event(event) for frame in frames for event in frame.events)

    def end(self) -> bytes:
        """What follows the last frame."""
        usage = b""
        if self._include_usage:
            usage = self._chunk([], usage_out(self._usage))
        return usage + sse.DONE

    def _event(self, event: StreamEvent) -> bytes:
        match event:
            case TextDelta(text):
                return self._delta(MessageOut(content=text))
            case ReasoningDelta(text):
                return self._delta(MessageOut(reasoning_content=text))
            case ToolCallStart(index, call_id, name):
                self._silent_calls.add(index)
                call = ToolCallOut(FunctionOut(name=name), index=index, id=call_id, type="function")
                return self._delta(MessageOut(tool_calls=[call]))
            case ToolCallDelta(index, arguments):
                self._silent_calls.discard(index)
                return self._arguments(index, arguments)
            case Finished(reason):
                silent = b"".join(self._arguments(index, NO_ARGUMENTS) for index in sorted(self._silent_calls))
                return silent + self._delta(MessageOut(), reason.value)
            case UsageReported(usage):
                self._usage = usage
        return b""

    def _arguments(self, index: int, arguments: str) -> bytes:
        return self._delta(MessageOut(tool_calls=[ToolCallOut(FunctionOut(arguments=arguments), index=index)]))

    def _delta(self, delta: MessageOut, finish_reason: str | None = None) -> bytes:
        if not self._started:
            self._started = True
            delta.role = "assistant"
        return self._chunk(
            [ChoiceOut(delta=delta, finish_reason=finish_reason)], None if self._include_usage else UNSET
        )

    def _chunk(self, choices: list[ChoiceOut], usage: UsageOut | UnsetType | None) -> bytes:
        self._frame.choices, self._frame.usage = choices, usage
        return sse.data(_encode(self._frame))


def usage_out(usage: Usage) -> UsageOut:
    """Disjoint buckets as OpenAI adds them up: cached tokens are part of the prompt, reasoning of the completion."""
    prompt = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    return UsageOut(
        prompt_tokens=prompt,
        completion_tokens=usage.output_tokens,
        total_tokens=prompt + usage.output_tokens,
        prompt_tokens_details=Details(cached_tokens=usage.cache_read_input_tokens),
        completion_tokens_details=Details(reasoning_tokens=usage.reasoning_tokens),
    )


# --- errors -------------------------------------------------------------------------------------------------------


class ErrorOut(Struct):
    message: str
    type: str
    code: str
    param: str | None
    details: dict[str, Any] | UnsetType = UNSET


class ErrorBody(Struct):
    error: ErrorOut
    request_id: str


def error_body(error: GatewayError, request_id: str) -> bytes:
    """An error in OpenAI's shape, with the id to quote."""
    out = ErrorOut(error.message, error.kind, error.code, error.param, error.details or UNSET)
    return _encode(ErrorBody(out, request_id))


def error_event(error: GatewayError, request_id: str) -> bytes:
    """No `[DONE]` follows it."""
    return sse.data(error_body(error, request_id))
