"""The vendors' protocols, pure: build a request's bytes, read an answer's bytes. One file per wire, one row here."""

from providers.domain.types import Wire
from providers.wires.anthropic import AnthropicWire
from providers.wires.openai import OpenAIWire
from providers.wires.protocol import AnswerReader, UnsupportedFeature, WireCodec

WIRES: dict[Wire, WireCodec] = {
    Wire.OPENAI: OpenAIWire(),
    Wire.ANTHROPIC: AnthropicWire(),
}

__all__ = ["WIRES", "AnswerReader", "UnsupportedFeature", "WireCodec"]
