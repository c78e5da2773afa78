"""The OpenAI completions wire: a text is continued. Legacy at OpenAI, alive at the servers that people run themselves.

Source: openai 3.52 `CompletionCreateParams`, `Completion`, `CompletionChoice` (2026-11).
"""

import msgspec
from msgspec import Raw, Struct

from providers.domain.answer import Finished, FinishReason, Frame, Started, StreamEvent, TextDelta, UsageReported
from providers.domain.conversation import Conversation, Role, TextPart
from providers.domain.types import ChatRequest, Deployment, PromptDefaults, UpstreamRequest, Wire
from providers.wires.openai import with_usage
from providers.wires.openai_answer import FINISH_REASONS
from providers.wires.openai_chunks import NOTHING, ChunkInterpreter, Dialect, read_whole
from providers.wires.openai_knobs import add_knobs, add_sampling
from providers.wires.openai_request import stop_of
from providers.wires.openai_usage import Groq, UsageIn, usage_of
from providers.wires.protocol import AnswerReader, UnsupportedFeature
from providers.wires.request_fields import (
    JSON,
    NAMES,
    Body,
    copied,
    is_set,
    limit_of,
    output_limit,
    takes_sampling,
)
from providers.wires.sse import EVENT_STREAM, SseAnswerReader

PATH = "/completions"

_decode_prompts = msgspec.json.Decoder(str | list[str]).decode


class OpenAICompletionsWire:
    """A `WireCodec`."""

    stream_type = EVENT_STREAM

    def build(self, request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> UpstreamRequest:
        if request.wire is Wire.OPENAI_COMPLETIONS:
            return UpstreamRequest(PATH, dict(JSON), msgspec.json.encode(_touched(request, deployment, defaults)))
        body, dropped = _translated(request, deployment, defaults)
        return UpstreamRequest(PATH, dict(JSON), msgspec.json.encode(body), dropped)

    def read_answer(self, body: bytes) -> Frame:
        return read_whole(COMPLETIONS, body)

    def stream_reader(self, request: ChatRequest) -> AnswerReader:
        return SseAnswerReader(ChunkInterpreter(COMPLETIONS, include_usage=request.include_usage))


# --- requests -----------------------------------------------------------------------------------------------------


def _touched(request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> Body:
    body = copied(request, deployment)
    if request.stream:
        body["stream_options"] = with_usage(request.fields.get("stream_options"))
    limit = output_limit(request.max_tokens, deployment, defaults)
    if limit is not None:
        body["max_tokens"] = limit
    if defaults.temperature is not None and takes_sampling(deployment) and not is_set(body, "temperature"):
        body["temperature"] = defaults.temperature
    if defaults.system_prompt and "prompt" in request.fields:
        body["prompt"] = _introduced(request.fields["prompt"], defaults.system_prompt)
    return body


def _introduced(prompt: Raw, introduction: str) -> str | list[str]:
    """The prompts after a persona's: there is no other place for it. Tokens are numbers that only one model knows."""
    try:
        prompts = _decode_prompts(prompt)
    except msgspec.DecodeError:
        raise UnsupportedFeature("a persona's prompt before a prompt of tokens") from None
    if isinstance(prompts, str):
        return f"{introduction}\n\n{prompts}"
    return [f"{introduction}\n\n{text}" for text in prompts]


def _translated(request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> tuple[Body, tuple[str, ...]]:
    """One question becomes the text to continue; who said what in a longer conversation has no words here."""
    conversation = request.conversation()
    dropped = list(conversation.dropped)
    prompt = _prompt(conversation, defaults.system_prompt)
    body: Body = {"model": deployment.upstream_model, "prompt": prompt}
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    limit = output_limit(limit_of(request, conversation), deployment, defaults)
    if limit is not None:
        body["max_tokens"] = limit
    add_sampling(body, conversation, deployment, defaults, dropped)
    add_knobs(body, conversation, deployment, dropped)
    if conversation.reasoning is not None and conversation.reasoning.effort != "none":
        dropped.append("reasoning_effort")
    if conversation.stop:
        body["stop"] = stop_of(conversation)
    if conversation.user:
        body["user"] = conversation.user
    return body, tuple(dict.fromkeys(dropped))


def _prompt(conversation: Conversation, introduction: str) -> str:
    if conversation.tools:
        raise UnsupportedFeature("tools")
    if conversation.response_format is not None and conversation.response_format.kind != "text":
        raise UnsupportedFeature("response_format")
    *before, last = conversation.messages
    if last.role is not Role.USER or any(message.role is not Role.SYSTEM for message in before):
        raise UnsupportedFeature("a conversation of several turns")
    texts = [introduction] if introduction else []
    for part in (part for message in conversation.messages for part in message.parts):
        if not isinstance(part, TextPart):
            raise UnsupportedFeature(f"{NAMES[type(part)]} in a prompt")
        texts.append(part.text)
    return "\n\n".join(texts)


# --- answers ------------------------------------------------------------------------------------------------------


class _Choice(Struct, gc=False):
    text: str | None = None
    index: int | None = None
    finish_reason: str | None = None


class _Answer(Struct, gc=False):
    """A chunk or a whole completion: both have the same shape."""

    choices: list[_Choice] | None = None
    id: str | None = None
    usage: UsageIn | None = None
    x_groq: Groq | None = None
    error: Raw = NOTHING


_decode = msgspec.json.Decoder(_Answer).decode


class _Events:
    """Turns choices into events: the state of one answer. All choices' texts count, the first one's end is its end."""

    def __init__(self) -> None:
        self.finished = False
        self._started = False

    def read(self, answer: _Answer) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        if not self._started and (answer.id or answer.choices):
            self._started = True
            events.append(Started(answer.id or ""))
        for choice in answer.choices or ():
            if choice.text:
                events.append(TextDelta(choice.text))
            if choice.finish_reason and not choice.index and not self.finished:
                self.finish(choice.finish_reason, events)
        usage = usage_of(answer.usage, answer.x_groq)
        if usage is not None:
            events.append(UsageReported(usage))
        return events

    def finish(self, reason: str, events: list[StreamEvent]) -> None:
        self.finished = True
        events.append(Finished(FINISH_REASONS.get(reason, FinishReason.STOP)))


COMPLETIONS = Dialect("completion", _decode, _Events)
