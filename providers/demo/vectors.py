"""Embeddings, free of any wire: an EmbeddingAsk comes in, unit vectors go out, the same ones for the same text.

A vector is drawn from a hash of its text, so that equal texts meet and different ones do not; asking for fewer
dimensions cuts it and makes it a unit vector again, as the vendors' own models do.
"""

import base64
import hashlib
import math
import struct
from typing import Protocol

from msgspec import Struct

from providers.demo.exchange import EMBEDDER, NOWHERE, DemoModel, JsonObject, Place, Refusal, count

DIMENSIONS = 256
MOST_TEXTS = 2048


class EmbeddingAsk(Struct, frozen=True, kw_only=True):
    """One request for vectors. `texts` are never empty; a text that came as token numbers is those numbers."""

    texts: tuple[str, ...]
    input_tokens: int
    digest: str
    dimensions: int = DIMENSIONS
    as_base64: bool = False
    model: DemoModel = EMBEDDER
    wire_notes: JsonObject = {}

    def vectors(self) -> list[list[float]]:
        return [vector_of(text, self.dimensions) for text in self.texts]


class EmbeddingWire(Protocol):
    """A vendor's protocol for embeddings: a module, and pure. The rest of a `Wire` is that of the vendor's chat."""

    def read_embedding_ask(self, body: bytes, place: Place = NOWHERE) -> EmbeddingAsk: ...  # raises Refusal
    def embedding_body(self, ask: EmbeddingAsk, *, show_usage: bool) -> JsonObject: ...


def vector_of(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """A unit vector of float32 values."""
    stream = hashlib.shake_256(text.encode()).digest(2 * DIMENSIONS)
    drawn = [value / 32_768 - 1 for value in struct.unpack(f"<{DIMENSIONS}H", stream)][:dimensions]
    length = math.sqrt(math.fsum(value * value for value in drawn)) or 1.0
    return list(struct.unpack(f"<{dimensions}f", struct.pack(f"<{dimensions}f", *(value / length for value in drawn))))


def packed(vector: list[float]) -> str:
    """The vector in base64: little-endian float32, one after the other."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def checked_dimensions(wanted: int | None, field: str) -> int:
    """Raises Refusal for more than a vector has."""
    if wanted is not None and not 1 <= wanted <= DIMENSIONS:
        raise Refusal(400, f"Invalid value for '{field}': it must be between 1 and {DIMENSIONS}.", param=field)
    return wanted or DIMENSIONS


def checked_model(name: str) -> bool:
    return name == EMBEDDER.id


def counted(texts: list[str]) -> int:
    return max(1, sum(map(count, texts)))
