"""What a client of OpenAI's embeddings says and hears on /v1/embeddings.

Source: openai 3.52 `EmbeddingCreateParams`, `CreateEmbeddingResponse`; developers.openai.com/api/docs/guides/embeddings
(2026-11). The official Python client asks for base64 unless told otherwise, and unpacks it as little-endian float32.
"""

import base64
import sys
from array import array
from collections.abc import Sequence
from typing import Literal, NoReturn

import msgspec
from msgspec import Raw, Struct

from providers.domain.answer import Embedded, Frame, UsageReported
from providers.domain.conversation import Conversation, EmbeddingBatch
from providers.domain.estimate import count_text
from providers.domain.types import Capability, ChatRequest, Wire
from providers.wires.protocol import UnsupportedFeature
from routerplatform.doors.formats import openai_chat, sse
from routerplatform.doors.formats.ascii_json import encode
from routerplatform.doors.formats.openai_body import decode_body
from routerplatform.doors.formats.protocol import Heading
from routerplatform.gateway.errors import InvalidRequest

DOOR = "embeddings"
KEEP_ALIVE = sse.KEEP_ALIVE
error_body = openai_chat.error_body
error_event = openai_chat.error_event

MOST_INPUTS = 2_048  # "any array must be 2048 dimensions or less"
MOST_DIMENSIONS = 65_536

Input = str | list[str | int | list[int]]


class Body(Struct):
    """The fields that decide something in the gateway; wrong types are refused with the field's name."""

    input: Input
    model: str = "auto"
    persona: str = ""
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


_body = msgspec.json.Decoder(Body)


def parse(raw: bytes) -> ChatRequest:
    """Read a request body. :raises InvalidRequest: `param` names the field."""
    body, fields = decode_body(raw, _body)
    _check_input(body.input)
    if body.dimensions is not None and not 1 <= body.dimensions <= MOST_DIMENSIONS:
        raise InvalidRequest(f"“dimensions” must be at least 1 and at most {MOST_DIMENSIONS:,}.", param="dimensions")
    return ChatRequest(
        model=body.model,
        persona=body.persona,
        stream=False,
        wire=Wire.OPENAI_EMBEDDINGS,
        fields=fields,
        conversation=_no_conversation,
        needs=frozenset({Capability.EMBEDDINGS}),
        input_tokens_bound=len(raw),
        input_tokens_estimate=_likely_tokens(body.input),
        embeddings=lambda: _batch(body),
    )


def _check_input(given: Input) -> None:
    """:raises InvalidRequest:"""
    if not given or (isinstance(given, list) and any(item in ("", []) for item in given)):
        raise InvalidRequest("“input” must not be empty, nor any text in it: there is nothing to embed.", param="input")
    if isinstance(given, str):
        return
    kinds = {type(item) for item in given}
    if len(kinds) > 1:
        raise InvalidRequest("“input” must be texts only or tokens only.", param="input")
    if len(given) > MOST_INPUTS and int not in kinds:
        raise InvalidRequest(
            f"“input” holds {len(given):,} texts, and {MOST_INPUTS:,} is the most. Send them in several requests.",
            param="input",
        )


def _likely_tokens(given: Input) -> int:
    """Texts are estimated; tokens are counted."""
    if isinstance(given, str):
        return count_text(given)
    texts = [item for item in given if isinstance(item, str)]
    if texts:
        return count_text("\n".join(texts))
    return sum(len(item) if isinstance(item, list) else 1 for item in given)


def _batch(body: Body) -> EmbeddingBatch:
    """:raises UnsupportedFeature: tokens, which are numbers that only OpenAI's models know."""
    if isinstance(body.input, str):
        texts = [body.input]
    else:
        texts = [item for item in body.input if isinstance(item, str)]
        if len(texts) < len(body.input):
            raise UnsupportedFeature("input of tokens")
    return EmbeddingBatch(tuple(texts), body.dimensions, body.user or "")


def _no_conversation() -> Conversation:
    raise UnsupportedFeature("embeddings")


# --- answers ------------------------------------------------------------------------------------------------------


class EmbeddingOut(Struct):
    """`embedding` is a list of numbers, or their base64."""

    object: str
    index: int
    embedding: tuple[float, ...] | str


class UsageOut(Struct):
    prompt_tokens: int
    total_tokens: int


class ListOut(Struct):
    object: str
    data: list[EmbeddingOut]
    model: str
    usage: UsageOut


def answer_body(request: ChatRequest, frames: Sequence[Frame], heading: Heading) -> bytes:
    """The vectors of a target of another wire. Where it counted no tokens, the estimate stands for them."""
    vectors: tuple[tuple[float, ...], ...] = ()
    tokens = request.input_tokens_estimate
    for event in (event for frame in frames for event in frame.events):
        match event:
            case Embedded(came):
                vectors = came
            case UsageReported(usage):
                tokens = usage.all_input_tokens
    is_packed = bytes(request.fields.get("encoding_format", Raw())) == b'"base64"'
    data = [EmbeddingOut("embedding", i, _packed(vector) if is_packed else vector) for i, vector in enumerate(vectors)]
    return encode(ListOut("list", data, heading.model, UsageOut(tokens, tokens)))


def _packed(vector: tuple[float, ...]) -> str:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


def writer(request: ChatRequest, heading: Heading) -> NoReturn:
    raise AssertionError("embeddings do not stream")
