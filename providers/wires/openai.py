"""The OpenAI chat completions wire, and what the vendors that copy it make of it.

Source: developers.openai.com/api/docs/api-reference/chat, and the types of openai 3.52 (2026-11).
"""

import msgspec
from msgspec import Raw

from providers.domain.answer import Frame
from providers.domain.types import ChatRequest, Deployment, PromptDefaults, UpstreamRequest, Wire
from providers.wires.openai_answer import CHAT
from providers.wires.openai_chunks import ChunkInterpreter, read_whole
from providers.wires.openai_request import translated
from providers.wires.openai_said import STRICT, without_added
from providers.wires.protocol import AnswerReader
from providers.wires.request_fields import JSON, Body, copied, is_set, output_limit, prepended, takes_sampling
from providers.wires.sse import EVENT_STREAM, SseAnswerReader

PATH = "/chat/completions"

_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
_ASK_FOR_USAGE = Raw(b'{"include_usage":true}')


class OpenAIWire:
    """A `WireCodec`."""

    stream_type = EVENT_STREAM

    def build(self, request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> UpstreamRequest:
        if request.wire is Wire.OPENAI:
            return UpstreamRequest(PATH, dict(JSON), msgspec.json.encode(_touched(request, deployment, defaults)))
        body, dropped = translated(request, deployment, defaults)
        return UpstreamRequest(PATH, dict(JSON), msgspec.json.encode(body), dropped)

    def read_answer(self, body: bytes) -> Frame:
        return read_whole(CHAT, body)

    def stream_reader(self, request: ChatRequest) -> AnswerReader:
        return SseAnswerReader(ChunkInterpreter(CHAT, include_usage=request.include_usage))


def _touched(request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> Body:
    body = copied(request, deployment)
    if request.stream:
        body["stream_options"] = with_usage(request.fields.get("stream_options"))
    limit = output_limit(request.max_tokens, deployment, defaults)
    if limit is not None:
        # Under the one name that this vendor knows: newer OpenAI models refuse `max_tokens`, others know only that.
        for name in _LIMIT_FIELDS:
            body.pop(name, None)
        body[deployment.endpoint.max_tokens_field] = limit
    if defaults.temperature is not None and takes_sampling(deployment) and not is_set(body, "temperature"):
        body["temperature"] = defaults.temperature
    if defaults.system_prompt and "messages" in request.fields:
        system = {"role": "system", "content": defaults.system_prompt}
        body["messages"] = prepended(system, request.fields["messages"]) or request.fields["messages"]
    messages = body.get("messages")
    if deployment.endpoint.kind in STRICT and isinstance(messages, Raw):
        body["messages"] = without_added(messages)
    return body


def with_usage(options: Raw | None) -> Raw | dict[str, Raw]:
    """The caller's stream options, with usage asked for; what is no object is left for the vendor to refuse."""
    if options is None or options == Raw(b"null"):
        return _ASK_FOR_USAGE
    try:
        return {**msgspec.json.decode(options, type=dict[str, Raw]), "include_usage": Raw(b"true")}
    except msgspec.DecodeError:
        return options
