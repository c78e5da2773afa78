"""Which wire is spoken at which address. An address may stand below any prefix; its end decides."""

import re
from collections.abc import Mapping

from providers.demo import (
    anthropic_wire,
    cohere_embeddings,
    cohere_wire,
    completions_wire,
    gemini_embeddings,
    gemini_wire,
    ollama_embeddings,
    ollama_wire,
    openai_embeddings,
    openai_wire,
    responses_wire,
)
from providers.demo.exchange import Wire
from providers.demo.vectors import EmbeddingWire

OPENAI: Wire = openai_wire
RESPONSES: Wire = responses_wire
COMPLETIONS: Wire = completions_wire
ANTHROPIC: Wire = anthropic_wire
GEMINI: Wire = gemini_wire
COHERE: Wire = cohere_wire
OLLAMA: Wire = ollama_wire

PREFIX = r"/{prefix:(?:[\w.-]+/)*}"
_GEMINI_MODEL = PREFIX + r"models/{model:[^/:]+}:"
POSTS: tuple[tuple[str, Wire], ...] = (
    (PREFIX + "chat/completions", OPENAI),
    (PREFIX + "completions", COMPLETIONS),
    (PREFIX + "responses", RESPONSES),
    (PREFIX + "messages", ANTHROPIC),
    (_GEMINI_MODEL + "{operation:generateContent|streamGenerateContent}", GEMINI),
    (PREFIX + "v2/chat", COHERE),
    (PREFIX + "api/chat", OLLAMA),
)
EMBEDDINGS: tuple[tuple[str, EmbeddingWire, Wire], ...] = (
    (PREFIX + "embeddings", openai_embeddings, OPENAI),
    (_GEMINI_MODEL + "{operation:embedContent|batchEmbedContents}", gemini_embeddings, GEMINI),
    (PREFIX + "v2/embed", cohere_embeddings, COHERE),
    (PREFIX + "api/embed", ollama_embeddings, OLLAMA),
)

# The first that fits; the models of Cohere stand at OpenAI's address, so its own prefix or parameters tell it there.
_ENDS: tuple[tuple[re.Pattern[str], Wire], ...] = (
    (re.compile(r"/chat/completions\Z"), OPENAI),
    (re.compile(r"/completions\Z"), COMPLETIONS),
    (re.compile(r"/responses(?:/[^/]+)?\Z"), RESPONSES),
    (re.compile(r"/messages(?:/count_tokens)?\Z"), ANTHROPIC),
    (re.compile(r"/v1beta/(?!openai/)"), GEMINI),
    (re.compile(r"/v2/(?:chat|embed)\Z|/cohere/"), COHERE),
    (re.compile(r"/api/(?:chat|embed|tags)\Z"), OLLAMA),
)


def wire_of(path: str, headers: Mapping[str, str]) -> Wire:
    """The wire in whose shape an answer at `path` is given, also when there is nothing at it."""
    found = next((wire for end, wire in _ENDS if end.search(path)), None)
    if found is not None:
        return found
    if anthropic_wire.VERSION_HEADER in headers:
        return ANTHROPIC
    return GEMINI if "x-goog-api-key" in headers else OPENAI
