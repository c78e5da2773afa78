"""Google's embeddings: `POST /v1beta/models/{model}:batchEmbedContents` and `:embedContent`.

Source: ai.google.dev/api/embeddings. Date: 2026-11.
"""

import hashlib
from typing import Annotated

import msgspec
from msgspec import Meta

from providers.demo.exchange import NOWHERE, BadField, JsonObject, Place, Refusal, read_body
from providers.demo.gemini_reading import Content, Strict, bad_request, unknown_model
from providers.demo.vectors import EmbeddingAsk, checked_dimensions, checked_model, counted

MOST_TEXTS = 100  # "at most 100 requests can be in one batch"
_TASKS = (
    "TASK_TYPE_UNSPECIFIED", "RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT", "SEMANTIC_SIMILARITY", "CLASSIFICATION",
    "CLUSTERING", "QUESTION_ANSWERING", "FACT_VERIFICATION", "CODE_RETRIEVAL_QUERY",
)  # fmt: skip


class _Single(Strict):
    content: Content
    model: str | None = None
    task_type: str | None = None
    title: str | None = None
    output_dimensionality: int | None = None


class _Batch(Strict):
    requests: Annotated[list[_Single], Meta(min_length=1, max_length=MOST_TEXTS)]


_SINGLE = msgspec.json.Decoder(_Single)
_BATCH = msgspec.json.Decoder(_Batch)


def read_embedding_ask(body: bytes, place: Place = NOWHERE) -> EmbeddingAsk:
    is_batch = place.operation == "batchEmbedContents"
    try:
        singles = read_body(body, _BATCH).requests if is_batch else [read_body(body, _SINGLE)]
    except BadField as error:
        raise bad_request(error) from None
    if not checked_model(place.model):
        raise unknown_model(place)
    for at, single in enumerate(singles):
        if is_batch and single.model != f"models/{place.model}":
            raise Refusal(400, f"* BatchEmbedContentsRequest.requests[{at}].model: unexpected model name format")
        if single.task_type not in {None, *_TASKS}:
            raise Refusal(400, f"Invalid value at 'requests[{at}].task_type': \"{single.task_type}\"")
    texts = [single.content.text() for single in singles]
    if "" in texts:
        raise Refusal(400, "* BatchEmbedContentsRequest.requests[0].content: contents is not specified")
    return EmbeddingAsk(
        texts=tuple(texts),
        input_tokens=counted(texts),
        digest=hashlib.sha256(body).hexdigest(),
        dimensions=checked_dimensions(singles[0].output_dimensionality, "output_dimensionality"),
        wire_notes={"is_batch": is_batch},
    )


def embedding_body(ask: EmbeddingAsk, *, show_usage: bool) -> JsonObject:
    vectors = [{"values": vector} for vector in ask.vectors()]
    body: JsonObject = {"embeddings": vectors} if ask.wire_notes["is_batch"] else {"embedding": vectors[0]}
    return {**body, "usageMetadata": {"promptTokenCount": ask.input_tokens}} if show_usage else body
