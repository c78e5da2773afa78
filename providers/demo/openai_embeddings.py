"""OpenAI's embeddings: `POST /v1/embeddings`.

Source: OpenAI API reference, "Create embeddings" and "The embedding object"; field names checked with the openai SDK
3.52. Date: 2026-11.
"""

import hashlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from providers.demo.exchange import NOWHERE, BadField, JsonObject, Place, read_body
from providers.demo.openai_wire import field_refusal, unknown_model
from providers.demo.vectors import MOST_TEXTS, EmbeddingAsk, checked_dimensions, checked_model, counted, packed

Tokens = Annotated[list[int], Meta(min_length=1)]


class _Body(Struct):
    model: str
    input: str | Annotated[list[str | int | Tokens], Meta(min_length=1, max_length=MOST_TEXTS)]
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


_DECODER = msgspec.json.Decoder(_Body)


def read_embedding_ask(body: bytes, place: Place = NOWHERE) -> EmbeddingAsk:
    try:
        asked = read_body(body, _DECODER)
        texts, tokens = _texts(asked.input)
    except BadField as error:
        raise field_refusal(error) from None
    if not checked_model(asked.model):
        raise unknown_model(asked.model)
    return EmbeddingAsk(
        texts=tuple(texts),
        input_tokens=tokens,
        digest=hashlib.sha256(body).hexdigest(),
        dimensions=checked_dimensions(asked.dimensions, "dimensions"),
        as_base64=asked.encoding_format == "base64",
    )


def _texts(sent: str | list[str | int | list[int]]) -> tuple[list[str], int]:
    """The texts, and the tokens of all: one text, several, one as token numbers, or several such."""
    if isinstance(sent, str):
        sent = [sent]
    if all(isinstance(one, int) for one in sent):
        return [" ".join(map(str, sent))], len(sent)
    if any(isinstance(one, int) for one in sent) or "" in sent:
        raise BadField("input", "it must be a text, a list of texts, or token numbers, and none of them empty")
    texts = [one if isinstance(one, str) else " ".join(map(str, one)) for one in sent]  # type: ignore[arg-type]
    numbers = sum(len(one) for one in sent if isinstance(one, list))
    return texts, numbers or counted(texts)


def embedding_body(ask: EmbeddingAsk, *, show_usage: bool) -> JsonObject:
    rows = [
        {"object": "embedding", "index": at, "embedding": packed(vector) if ask.as_base64 else vector}
        for at, vector in enumerate(ask.vectors())
    ]
    usage = {"usage": {"prompt_tokens": ask.input_tokens, "total_tokens": ask.input_tokens}} if show_usage else {}
    return {"object": "list", "data": rows, "model": ask.model.id, **usage}
