"""The vendors' protocols, pure: build a request's bytes, read an answer's bytes. One file per wire, one row here."""

from providers.domain.types import Wire
from providers.wires.anthropic import AnthropicWire
from providers.wires.cohere import CohereWire
from providers.wires.cohere_embeddings import CohereEmbeddingsWire
from providers.wires.gemini import GeminiWire
from providers.wires.gemini_embeddings import GeminiEmbeddingsWire
from providers.wires.ollama import OllamaWire
from providers.wires.ollama_embeddings import OllamaEmbeddingsWire
from providers.wires.openai import OpenAIWire
from providers.wires.openai_completions import OpenAICompletionsWire
from providers.wires.openai_embeddings import OpenAIEmbeddingsWire
from providers.wires.openai_responses import OpenAIResponsesWire
from providers.wires.protocol import AnswerReader, UnsupportedFeature, WireCodec

WIRES: dict[Wire, WireCodec] = {
    Wire.OPENAI: OpenAIWire(),
    Wire.OPENAI_COMPLETIONS: OpenAICompletionsWire(),
    Wire.OPENAI_EMBEDDINGS: OpenAIEmbeddingsWire(),
    Wire.OPENAI_RESPONSES: OpenAIResponsesWire(),
    Wire.ANTHROPIC: AnthropicWire(),
    Wire.GEMINI: GeminiWire(),
    Wire.GEMINI_EMBEDDINGS: GeminiEmbeddingsWire(),
    Wire.COHERE: CohereWire(),
    Wire.COHERE_EMBEDDINGS: CohereEmbeddingsWire(),
    Wire.OLLAMA: OllamaWire(),
    Wire.OLLAMA_EMBEDDINGS: OllamaEmbeddingsWire(),
}

__all__ = ["WIRES", "AnswerReader", "UnsupportedFeature", "WireCodec"]
