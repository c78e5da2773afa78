"""Ollama's embeddings: `POST /api/embed`. Source: docs.ollama.com/api/embed. Date: 2026-11."""

import hashlib
from typing import Any

import msgspec
from msgspec import Struct

from providers.demo.exchange import NOWHERE, BadField, JsonObject, Place, read_body
from providers.demo.ollama_wire import bad_request, unknown_model
from providers.demo.vectors import EmbeddingAsk, checked_dimensions, checked_model, counted


class _Body(Struct):
    model: str
    input: str | list[str]
    truncate: bool | None = None
    dimensions: int | None = None
    options: dict[str, Any] | None = None
    keep_alive: str | int | float | None = None


_DECODER = msgspec.json.Decoder(_Body)


def read_embedding_ask(body: bytes, place: Place = NOWHERE) -> EmbeddingAsk:
    try:
        asked = read_body(body, _DECODER)
    except BadField as error:
        raise bad_request(error) from None
    if not checked_model(asked.model):
        raise unknown_model(asked.model)
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    return EmbeddingAsk(
        texts=tuple(texts),
        input_tokens=counted(texts) if texts else 0,
        digest=hashlib.sha256(body).hexdigest(),
        dimensions=checked_dimensions(asked.dimensions, "dimensions"),
    )


def embedding_body(ask: EmbeddingAsk, *, show_usage: bool) -> JsonObject:
    counts = {"prompt_eval_count": ask.input_tokens} if show_usage else {}
    durations = {"total_duration": 1_000_000, "load_duration": 1_000}
    return {"model": ask.model.id, "embeddings": ask.vectors(), **durations, **counts}
