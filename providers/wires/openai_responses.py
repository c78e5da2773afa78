"""OpenAI's Responses wire, and what the servers that copy it make of it.

Source: developers.openai.com/api/reference/resources/responses, and the types of openai 3.52 (2026-11). Copies: vLLM,
Ollama, LM Studio and llama.cpp at /v1/responses; docs.x.ai/developers/model-capabilities/text/comparison;
docs.mistral.ai/api/endpoint/responses; openresponses.org/reference (all 2026-11).
"""

import msgspec
from msgspec import Raw

from providers.domain.answer import Frame
from providers.domain.types import ChatRequest, Deployment, PromptDefaults, UpstreamRequest, Wire
from providers.wires.openai_responses_answer import ResponseInterpreter, read_whole
from providers.wires.openai_responses_request import translated
from providers.wires.protocol import AnswerReader, UnsupportedFeature
from providers.wires.request_fields import JSON, Body, copied, is_set, output_limit, takes_sampling
from providers.wires.sse import EVENT_STREAM, SseAnswerReader

PATH = "/responses"

_UNSET = (None, Raw(b"null"), Raw(b"false"))


class OpenAIResponsesWire:
    """A `WireCodec`."""

    stream_type = EVENT_STREAM

    def build(self, request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> UpstreamRequest:
        if request.wire is Wire.OPENAI_RESPONSES:
            return UpstreamRequest(PATH, dict(JSON), msgspec.json.encode(_touched(request, deployment, defaults)))
        body, dropped = translated(request, deployment, defaults)
        return UpstreamRequest(PATH, dict(JSON), msgspec.json.encode(body), dropped)

    def read_answer(self, body: bytes) -> Frame:
        return read_whole(body)

    def stream_reader(self, request: ChatRequest) -> AnswerReader:
        return SseAnswerReader(ResponseInterpreter())


def _touched(request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> Body:
    """:raises UnsupportedFeature: `background`: what is not there yet can be neither handed on nor billed."""
    if request.fields.get("background") not in _UNSET:
        raise UnsupportedFeature("background")
    body = copied(request, deployment)
    limit = output_limit(request.max_tokens, deployment, defaults)
    if limit is not None:
        body["max_output_tokens"] = limit
    if defaults.temperature is not None and takes_sampling(deployment) and not is_set(body, "temperature"):
        body["temperature"] = defaults.temperature
    if defaults.system_prompt:
        body["instructions"] = _extended_instructions(request.fields.get("instructions"), defaults.system_prompt)
    return body


def _extended_instructions(instructions: Raw | None, prompt: str) -> object:
    """The persona's prompt before the caller's own. They are not carried over from a previous response: "the
    instructions from a previous response will not be carried over to the next response", so they always go along."""
    try:
        own = msgspec.json.decode(instructions or b"null", type=str | None)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return instructions  # no text: for the vendor to refuse
    return f"{prompt}\n\n{own}" if own else prompt
