"""What a wire is: the two protocols that the gateway speaks through.

A codec is one API of a vendor. It says in its own words what a `Conversation` or an `EmbeddingBatch` holds, or refuses
with `UnsupportedFeature`; a tuning knob it has no word for is left out and named in `UpstreamRequest.dropped`.
"""

from typing import Protocol

from providers.domain.answer import Frame
from providers.domain.types import ChatRequest, Deployment, PromptDefaults, UpstreamRequest


class AnswerReader(Protocol):
    """Reads one streamed answer. Bytes may be cut anywhere; each returned frame is whole."""

    def feed(self, data: bytes) -> list[Frame]:
        """Read more bytes. Frames that came whole before an error are returned first; the next call raises it.

        :raises ProviderError: the vendor reported an error inside the stream, or the bytes are not this wire.
        """

    def close(self) -> list[Frame]:
        """The bytes ended.

        :raises ProviderError: of kind STREAM_BROKEN when the answer had not finished.
        """


class WireCodec(Protocol):
    """One wire, both directions. `stream_type` is the media type of its streams."""

    stream_type: str

    def build(self, request: ChatRequest, deployment: Deployment, defaults: PromptDefaults) -> UpstreamRequest:
        """The call that asks `deployment` for `request`: the caller's own bytes when it speaks this wire already.

        :raises UnsupportedFeature: the request needs something that this wire cannot say.
        """

    def read_answer(self, body: bytes) -> Frame:
        """A whole, unstreamed answer.

        :raises ProviderError: of kind MALFORMED, or the error that a 200 body carries.
        """

    def stream_reader(self, request: ChatRequest) -> AnswerReader:
        """A fresh reader for one streamed answer."""


class UnsupportedFeature(Exception):
    """A request's feature that a wire has no words for; `feature` names it as the caller wrote it."""

    def __init__(self, feature: str) -> None:
        super().__init__(feature)
        self.feature = feature
