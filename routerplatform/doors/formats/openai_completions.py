"""What a client of OpenAI's legacy completions says and hears on /v1/completions.

Source: openai 3.52 `CompletionCreateParams`, `Completion` (2026-11). For a model that chats, the prompt is what its
user says. OpenAI's default of 16 tokens for an answer is the vendor's: nobody else is held to it.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from providers.domain.answer import (
    Finished,
    FinishReason,
    Frame,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    Usage,
    UsageReported,
)
from providers.domain.conversation import Conversation, Message, Role, TextPart
from providers.domain.estimate import estimate_tokens
from providers.domain.types import Capability, ChatRequest, Wire
from providers.wires.protocol import UnsupportedFeature
from routerplatform.doors.formats import openai_chat, sse
from routerplatform.doors.formats.ascii_json import encode
from routerplatform.doors.formats.openai_body import (
    StreamOptions,
    check_choices,
    check_limit,
    check_temperature,
    decode_body,
    decode_fields,
)
from routerplatform.doors.formats.openai_reading import stop_sequences, unknown_knobs
from routerplatform.doors.formats.openai_writing import UsageOut, usage_out
from routerplatform.doors.formats.protocol import Heading
from routerplatform.gateway.errors import InvalidRequest

DOOR = "completions"
KEEP_ALIVE = sse.KEEP_ALIVE
error_body = openai_chat.error_body
error_event = openai_chat.error_event

MOST_PROMPTS = 2_048  # what one request may ask at once
# Features of a model that continues a text; one that chats has nothing like them.
ONLY_HERE = ("suffix", "echo", "best_of", "logprobs", "prompt_embeds")
UNDERSTOOD = frozenset(
    {
        *ONLY_HERE, "model", "persona", "router", "prompt", "stream", "stream_options", "max_tokens", "temperature",
        "top_p", "n", "stop", "user", "seed", "frequency_penalty", "presence_penalty", "top_k",
    }
)  # fmt: skip

Prompt = str | list[str | int | list[int]]


class Body(Struct):
    """The fields that decide something in the gateway; wrong types are refused with the field's name."""

    prompt: Prompt | None = None
    model: str = "auto"
    persona: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    n: int | None = None
    best_of: int | None = None
    prompt_embeds: Raw = Raw()


class Known(Struct):
    """What a conversation can carry of it."""

    top_p: float | None = None
    stop: str | list[str] | None = None
    user: str | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    top_k: int | None = None


_body = msgspec.json.Decoder(Body)


def parse(raw: bytes) -> ChatRequest:
    """Read a request body. :raises InvalidRequest: `param` names the field."""
    body, fields = decode_body(raw, _body)
    prompts = _count_prompts(body)
    check_limit(body.max_tokens, "max_tokens")
    check_choices(body.n)
    check_choices(body.best_of, "best_of")
    check_temperature(body.temperature)
    options = body.stream_options
    return ChatRequest(
        model=body.model,
        persona=body.persona,
        stream=bool(body.stream),
        wire=Wire.OPENAI_COMPLETIONS,
        fields=fields,
        conversation=lambda: _conversation(body, fields),
        needs=frozenset({Capability.STREAMING}) if body.stream else frozenset(),
        input_tokens_bound=len(raw),
        input_tokens_estimate=estimate_tokens(raw),
        max_tokens=body.max_tokens,
        choices=prompts * max(body.n or 1, body.best_of or 1),
        include_usage=bool(options and options.include_usage),
        temperature=body.temperature,
    )


def _count_prompts(body: Body) -> int:
    """How many texts are to be continued. A list of numbers is one text, in tokens."""
    prompt = body.prompt
    if prompt is None and bytes(body.prompt_embeds) not in {b"", b"null"}:
        return 1
    if prompt is None or prompt == []:
        raise InvalidRequest("“prompt” must hold the text to continue, or a list of texts.", param="prompt")
    if isinstance(prompt, str):
        return 1
    kinds = {type(item) for item in prompt}
    if len(kinds) > 1:
        raise InvalidRequest("“prompt” must be texts only or tokens only.", param="prompt")
    if len(prompt) > MOST_PROMPTS and int not in kinds:
        raise InvalidRequest(f"“prompt” must hold at most {MOST_PROMPTS:,} prompts.", param="prompt")
    return 1 if int in kinds else len(prompt)


def _conversation(body: Body, fields: dict[str, Raw]) -> Conversation:
    """One message of a user, for models that chat.

    :raises UnsupportedFeature: several prompts or tokens, and what continues no conversation.
    """
    for name in ONLY_HERE:
        if name in fields and bytes(fields[name]) not in {b"null", b"false", b'""'} and not _is_one_best(name, body):
            raise UnsupportedFeature(name)
    if body.n not in {None, 1}:
        raise UnsupportedFeature("n")
    match body.prompt:
        case str(text) | [str(text)]:
            pass
        case _:
            raise UnsupportedFeature("a prompt of tokens, or several prompts")
    known = decode_fields(fields, Known)
    return Conversation(
        messages=(Message(Role.USER, (TextPart(text),)),),
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_p=known.top_p,
        stop=stop_sequences(known.stop),
        user=known.user or "",
        seed=known.seed,
        frequency_penalty=known.frequency_penalty,
        presence_penalty=known.presence_penalty,
        top_k=known.top_k,
        dropped=tuple(unknown_knobs(fields, UNDERSTOOD)),
    )


def _is_one_best(name: str, body: Body) -> bool:
    return name == "best_of" and body.best_of == 1


# --- answers ------------------------------------------------------------------------------------------------------


class ChoiceOut(Struct):
    text: str
    index: int = 0
    logprobs: None = None
    finish_reason: str | None = None


class CompletionOut(Struct):
    """Chunks of a stream have the same shape."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChoiceOut]
    usage: UsageOut | UnsetType | None = UNSET


def answer_body(request: ChatRequest, frames: Sequence[Frame], heading: Heading) -> bytes:
    """A whole answer from events. What was thought has no place in it."""
    texts: list[str] = []
    reason, usage = "stop", Usage()
    for event in (event for frame in frames for event in frame.events):
        match event:
            case TextDelta(text) | RefusalDelta(text):
                texts.append(text)
            case Finished(why):
                reason = _reason(why)
            case UsageReported(counted):
                usage = counted
    choice = ChoiceOut("".join(texts), finish_reason=reason)
    return encode(_completion(heading, [choice], usage_out(usage)))


def writer(request: ChatRequest, heading: Heading) -> "StreamWriter":
    return StreamWriter(heading, include_usage=request.include_usage)


class StreamWriter:
    """A stream from events: one id, one creation time."""

    def __init__(self, heading: Heading, *, include_usage: bool) -> None:
        self._heading = heading
        self._include_usage = include_usage
        self._usage = Usage()

    def write(self, frames: Iterable[Frame]) -> bytes:
        return b"".join(self._event(event) for frame in frames for event in frame.events)

    def end(self) -> bytes:
        usage = b""
        if self._include_usage:
            usage = sse.data(encode(_completion(self._heading, [], usage_out(self._usage))))
        return usage + sse.DONE

    def _event(self, event: StreamEvent) -> bytes:
        match event:
            case TextDelta(text) | RefusalDelta(text):
                return self._chunk(ChoiceOut(text))
            case Finished(why):
                return self._chunk(ChoiceOut("", finish_reason=_reason(why)))
            case UsageReported(usage):
                self._usage = usage
        return b""

    def _chunk(self, choice: ChoiceOut) -> bytes:
        return sse.data(encode(_completion(self._heading, [choice], None if self._include_usage else UNSET)))


def _completion(heading: Heading, choices: list[ChoiceOut], usage: UsageOut | UnsetType | None) -> CompletionOut:
    name = f"cmpl-{heading.request_id}"
    return CompletionOut(name, "text_completion", heading.created, heading.model, choices, usage)


def _reason(reason: FinishReason) -> str:
    """The three that there are here; nobody asked for a tool."""
    return "stop" if reason is FinishReason.TOOL_CALLS else reason.value
