"""Gemini's side of a conversation for tests: models by name, bodies as they are sent, answers as Google writes them."""

from dataclasses import replace
from typing import Any

import msgspec

from providers.domain.conversation import Conversation
from providers.domain.types import NO_DEFAULTS, Capability, Deployment, PromptDefaults, UpstreamRequest, Wire
from providers.wires import WIRES
from tests.providers.wires.builders import deployment, saying

THREE = "gemini-3.5-flash"
TWO = "gemini-2.5-flash"
SAMPLING = (Capability.TEMPERATURE, Capability.REASONING)


def model(name: str = THREE, *, can: tuple[Capability, ...] = SAMPLING, longest: int | None = None) -> Deployment:
    return replace(deployment(Wire.GEMINI, capabilities=can, max_output_tokens=longest), upstream_model=name)


def called(
    conversation: Conversation,
    target: Deployment | None = None,
    defaults: PromptDefaults = NO_DEFAULTS,
    *,
    stream: bool = False,
) -> UpstreamRequest:
    return WIRES[Wire.GEMINI].build(saying(conversation, stream=stream), target or model(), defaults)


def said(
    conversation: Conversation, target: Deployment | None = None, defaults: PromptDefaults = NO_DEFAULTS
) -> dict[str, Any]:
    """The body that is sent."""
    decoded: dict[str, Any] = msgspec.json.decode(called(conversation, target, defaults).body)
    return decoded


def answer(*parts: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk, or a whole answer."""
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": THREE, "responseId": "r3sP_0nse-Id", **more}


def text(written: str, **more: Any) -> dict[str, Any]:
    return {"text": written, **more}


def call(name: str, args: Any = None, **more: Any) -> dict[str, Any]:
    function: dict[str, Any] = {"name": name}
    if args is not None:
        function["args"] = args
    if "id" in more:
        function["id"] = more.pop("id")
    return {"functionCall": function, **more}


def usage(prompt: int = 10, output: int = 5, **more: int) -> dict[str, Any]:
    counts = {"promptTokenCount": prompt, "candidatesTokenCount": output, **more}
    return {"usageMetadata": {**counts, "totalTokenCount": prompt + output + more.get("thoughtsTokenCount", 0)}}
