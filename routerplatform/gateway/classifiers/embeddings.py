"""Embeddings of a model of the platform's own: a prompt is the kind of work whose examples it is most like.

What leaves for the model is paid for by the virtual key that the settings name for it.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from providers.domain.answer import Embedded, Frame
from providers.domain.conversation import Conversation, EmbeddingBatch
from providers.domain.estimate import count_text
from providers.domain.types import ChatRequest
from routerplatform.gateway.classifiers.examples import EXAMPLES
from routerplatform.gateway.classifiers.protocol import Ask, PlugInFailure
from routing.domain.classification.types import UNKNOWN, Classification, PromptText
from routing.domain.config import TaskType

LONGEST_TEXT: Final = 2_000  # characters
SHARPNESS: Final = 20.0  # of the softmax over cosines, which lie close together
SURE_ENOUGH: Final = 0.3  # five kinds: 0.2 is a guess

Vectors = NDArray[np.float32]


class EmbeddingsPlugIn:
    """The examples are embedded once, by whoever asks first; after a failure the next one tries again."""

    def __init__(self, alias: str, ask: Ask) -> None:
        self.most = 64
        self.is_ready = True
        self._alias = alias
        self._ask = ask
        self._centres: tuple[tuple[TaskType, ...], Vectors] | None = None
        self._learning = asyncio.Lock()

    async def classify(self, prompt: PromptText) -> Classification:
        labels, centres = await self._known()
        text = prompt.text[:LONGEST_TEXT]
        [vector] = _normal(await self._embedded((text,)))
        if vector.shape[0] != centres.shape[1]:
            self._centres = None  # another model stands behind the alias now
            raise PlugInFailure("nonsense", "its vectors have changed their length")
        likeness = SHARPNESS * (centres @ vector)
        shares = np.exp(likeness - likeness.max())
        shares /= shares.sum()
        scores = {label: float(share) for label, share in zip(labels, shares, strict=True)}
        best = max(scores, key=lambda label: scores[label])
        return Classification(best if scores[best] >= SURE_ENOUGH else UNKNOWN, scores[best], scores)

    async def _known(self) -> tuple[tuple[TaskType, ...], Vectors]:
        async with self._learning:
            if self._centres is None:
                self._centres = await self._learned()
            return self._centres

    async def _learned(self) -> tuple[tuple[TaskType, ...], Vectors]:
        """The middle of each kind's examples."""
        labels = tuple(EXAMPLES)
        vectors = _normal(await self._embedded(tuple(text for texts in EXAMPLES.values() for text in texts)))
        ends = np.cumsum([len(texts) for texts in EXAMPLES.values()])[:-1]
        return labels, _normal(np.stack([part.mean(axis=0) for part in np.split(vectors, ends)]))

    async def _embedded(self, texts: tuple[str, ...]) -> Vectors:
        vectors = vectors_of(await self._ask(embedding_request(self._alias, texts)))
        if len(vectors) != len(texts) or not vectors[0] or len({len(vector) for vector in vectors}) != 1:
            raise PlugInFailure("nonsense", f"it gave {len(vectors)} vectors for {len(texts)} texts, or uneven ones")
        return np.asarray(vectors, dtype=np.float32)


def embedding_request(alias: str, texts: tuple[str, ...]) -> ChatRequest:
    batch = EmbeddingBatch(tuple(text or " " for text in texts))
    return ChatRequest(
        model=alias,
        stream=False,
        wire=None,
        fields={},
        conversation=lambda: Conversation(()),
        needs=frozenset(),
        input_tokens_bound=len(msgspec.json.encode([text.encode("utf-8", "replace").decode() for text in texts])) + 200,
        input_tokens_estimate=sum(count_text(text) for text in texts),
        embeddings=lambda: batch,
    )


class _Item(Struct):
    embedding: tuple[float, ...]


class _Answer(Struct):
    data: tuple[_Item, ...]


_decode = msgspec.json.Decoder(_Answer).decode


def vectors_of(frames: Sequence[Frame]) -> tuple[tuple[float, ...], ...]:
    """The vectors of an answer. OpenAI's wire hands its bytes on and leaves the numbers unread, so they are read here.

    :raises PlugInFailure: there are none.
    """
    for frame in frames:
        for event in frame.events:
            if isinstance(event, Embedded) and event.vectors and event.vectors[0]:
                return event.vectors
            if isinstance(event, Embedded):
                try:
                    return tuple(item.embedding for item in _decode(frame.raw).data)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise PlugInFailure("nonsense", f"its vectors are no numbers: {error}") from error
    raise PlugInFailure("nonsense", "it gave no vectors")


def _normal(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(vectors).all() or not (lengths > 0).all():
        raise PlugInFailure("nonsense", "a vector has no direction")
    normal: Vectors = (vectors / lengths).astype(np.float32)
    return normal
