"""OpenAI's legacy completions wire: `POST /v1/completions`. One prompt, one answer, no tools.

Source: OpenAI API reference, "Create completion (legacy)" and "The completion object"; field names checked with the
openai SDK 3.52 (`Completion`). Date: 2026-11.
"""

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from providers.demo.exchange import (
    NOWHERE,
    Ask,
    BadField,
    Frame,
    JsonObject,
    Place,
    Reply,
    count_prompt,
    model_named,
    read_body,
)
from providers.demo.openai_wire import BLOCKED as BLOCKED
from providers.demo.openai_wire import KEY_HEADERS as KEY_HEADERS
from providers.demo.openai_wire import OVERLOADED as OVERLOADED
from providers.demo.openai_wire import REQUEST_ID_HEADER as REQUEST_ID_HEADER
from providers.demo.openai_wire import RETRY_HEADER as RETRY_HEADER
from providers.demo.openai_wire import STREAM_TYPE as STREAM_TYPE
from providers.demo.openai_wire import error_body as error_body
from providers.demo.openai_wire import error_frame as error_frame
from providers.demo.openai_wire import field_refusal, unknown_model, usage_of
from providers.demo.openai_wire import key_refusal as key_refusal
from providers.demo.openai_wire import model_list as model_list

NAME = "openai"
GARBAGE = b'data: {"id":"cmpl-broken","object":"text_completion","choices":[{"index":0,"te\n\n'
DEFAULT_LIMIT = 16  # "The maximum number of tokens that can be generated"; defaults to 16


class _Body(Struct):
    model: str
    prompt: str | Annotated[list[str | int], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    n: Annotated[int, Meta(ge=1, le=1)] | None = None
    best_of: Annotated[int, Meta(ge=1, le=1)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None


_DECODER = msgspec.json.Decoder(_Body)
_MESSAGES = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_ask(body: bytes, place: Place = NOWHERE) -> Ask:
    """Raises Refusal: 400 for what cannot be read, 404 for a model that is not served here."""
    try:
        asked = read_body(body, _DECODER)
        if "messages" in _MESSAGES.decode(body):
            raise BadField("messages", "it belongs to chat completions")
        prompt = _prompt(asked.prompt)
    except BadField as error:
        raise field_refusal(error) from None
    model = model_named(asked.model)
    if model is None:
        raise unknown_model(asked.model)
    return Ask(
        model=model,
        stream=bool(asked.stream),
        system="",
        history=(),
        prompt=prompt,
        digest=hashlib.sha256(body).hexdigest(),
        input_tokens=count_prompt([prompt, asked.suffix or ""], (), messages=0, images=0),
        limit=DEFAULT_LIMIT if asked.max_tokens is None else asked.max_tokens,
        stops=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ()),
        include_usage=not asked.stream or bool((asked.stream_options or {}).get("include_usage")),
        shows_thought=False,
        wire_notes={"before": prompt if asked.echo else ""},
    )


def _prompt(sent: str | list[str | int]) -> str:
    """The one prompt; token numbers stand for themselves."""
    if isinstance(sent, str):
        return sent
    if all(isinstance(token, int) for token in sent):
        return " ".join(map(str, sent))
    if len(sent) > 1 or not isinstance(sent[0], str):
        raise BadField("prompt", "the demo provider answers one prompt at a time")
    return sent[0]


def body_of(reply: Reply) -> JsonObject:
    text = reply.wire_notes["before"] + "".join(piece.text for piece in reply.pieces)
    body = {**_head(reply), "choices": [_choice(text, _finish(reply) if reply.show_finish else None)]}
    return {**body, "usage": usage_of(reply)} if reply.show_usage else body


def frames_of(reply: Reply) -> Iterator[Frame]:
    """A chunk for each token, the finish reason, the usage when it was asked for, and `[DONE]`."""
    head = _head(reply)
    if reply.wire_notes["before"]:
        yield _event({**head, "choices": [_choice(reply.wire_notes["before"], None)]}), 0
    for piece in reply.pieces:
        yield _event({**head, "choices": [_choice(piece.text, None)]}), 1
    if not reply.show_finish:
        return
    yield _event({**head, "choices": [_choice("", _finish(reply))]}), 0
    if reply.show_usage:
        yield _event({**head, "choices": [], "usage": usage_of(reply)}), 0
    if reply.show_done:
        yield b"data: [DONE]\n\n", 0


def _finish(reply: Reply) -> str:
    """There are no calls here: a tool's arguments are text like any other."""
    return "stop" if reply.finish == "tool_calls" else reply.finish


def _head(reply: Reply) -> dict[str, Any]:
    ids = {"id": f"cmpl-{reply.digest[:29]}", "object": "text_completion", "created": reply.created}
    return {**ids, "model": reply.model.id, "system_fingerprint": "fp_demo"}


def _choice(text: str, finish: str | None) -> JsonObject:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}


def _event(data: JsonObject) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"
