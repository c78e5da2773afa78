"""Cohere's embeddings: `POST /v2/embed`. Source: docs.cohere.com/reference/embed. Date: 2026-11."""

import hashlib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from providers.demo.cohere_reading import bad_request, unknown_model
from providers.demo.exchange import NOWHERE, BadField, JsonObject, Place, read_body
from providers.demo.vectors import EmbeddingAsk, checked_dimensions, checked_model, counted, packed

MOST_TEXTS = 96  # "Maximum number of texts per call is 96"


class _Body(Struct, forbid_unknown_fields=True):
    model: str
    input_type: Literal["search_document", "search_query", "classification", "clustering", "image"]
    texts: Annotated[list[str], Meta(max_length=MOST_TEXTS)] | None = None
    inputs: list[dict[str, Any]] | None = None
    embedding_types: list[Literal["float", "base64"]] | None = None
    output_dimension: int | None = None
    max_tokens: int | None = None
    truncate: Literal["NONE", "START", "END"] | None = None
    priority: int | None = None


_DECODER = msgspec.json.Decoder(_Body)


def read_embedding_ask(body: bytes, place: Place = NOWHERE) -> EmbeddingAsk:
    try:
        asked = read_body(body, _DECODER)
        if not asked.texts or "" in asked.texts:
            raise BadField("texts", "at least one text, and none of them empty, must be given")
    except BadField as error:
        raise bad_request(error) from None
    if not checked_model(asked.model):
        raise unknown_model(asked.model)
    return EmbeddingAsk(
        texts=tuple(asked.texts),
        input_tokens=counted(asked.texts),
        digest=hashlib.sha256(body).hexdigest(),
        dimensions=checked_dimensions(asked.output_dimension, "output_dimension"),
        wire_notes={"types": asked.embedding_types or ["float"]},
    )


def embedding_body(ask: EmbeddingAsk, *, show_usage: bool) -> JsonObject:
    vectors = ask.vectors()
    written = {"float": vectors, "base64": [packed(vector) for vector in vectors]}
    meta: dict[str, Any] = {"api_version": {"version": "2"}}
    if show_usage:
        meta["billed_units"] = {"input_tokens": float(ask.input_tokens)}
    kinds = {kind: written[kind] for kind in ask.wire_notes["types"]}
    return {"id": ask.digest[:36], "texts": ask.texts, "embeddings": kinds, "meta": meta}
