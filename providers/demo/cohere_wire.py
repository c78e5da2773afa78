"""Cohere's chat wire: `POST /v2/chat`, whole and as events, and `GET /v1/models`.

Source: docs.cohere.com/reference/chat and chat-stream (v2), guides "Tool use", "Reasoning" and "Structured outputs";
field names checked with the cohere SDK 5.21 (`V2ChatResponse`, `V2ChatStreamResponse`, `Usage`). Date: 2026-11.
The requests are read in cohere_reading.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import msgspec

from providers.demo.cohere_reading import read_ask as read_ask
from providers.demo.exchange import LISTED, Frame, JsonObject, Piece, Refusal, Reply
from providers.demo.texts import vendor_error

NAME = "cohere"
REQUEST_ID_HEADER = "x-debug-trace-id"
RETRY_HEADER = "retry-after"
KEY_HEADERS: tuple[str, ...] = ("authorization",)
STREAM_TYPE = "text/event-stream"
OVERLOADED = 500
BLOCKED: JsonObject = {}
GARBAGE = b'event: content-delta\ndata: {"type":"content-delta","index":0,"delta":{"mess\n\n'
PREAMBLE_TOKENS = 400  # what Cohere puts before a prompt: counted in `tokens`, not in `billed_units`
_FINISH = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL", "content_filter": "COMPLETE"}


def body_of(reply: Reply) -> JsonObject:
    """With calls, the text beside them is the plan."""
    content = [{"type": "thinking", "thinking": reply.thought()}] if reply.thought() else []
    message: dict[str, Any] = {"role": "assistant"}
    calls = reply.tool_calls()
    if calls and reply.text():
        message["tool_plan"] = reply.text()
    elif reply.text() or not calls:
        content.append({"type": "text", "text": reply.text()})
    if content:
        message["content"] = content
    if calls:
        message["tool_calls"] = [_call(head, arguments) for head, arguments in calls]
    body: dict[str, Any] = {"id": _id(reply), "message": message}
    if reply.show_finish:
        body["finish_reason"] = _finish(reply)
    return {**body, "usage": _usage(reply)} if reply.show_usage else body


def frames_of(reply: Reply) -> Iterator[Frame]:
    """message-start, each content and call from start to end, message-end with reason and usage, and `[DONE]`."""
    empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    yield _event("message-start", id=_id(reply), delta={"message": empty})
    plans = bool(reply.tool_calls())
    index = -1
    for _, group in groupby(reply.pieces, key=lambda piece: (piece.thought, piece.call)):
        pieces = list(group)
        if plans and pieces[0].call is None and not pieces[0].thought:
            yield from (
                _event("tool-plan-delta", tokens=1, delta={"message": {"tool_plan": piece.text}}) for piece in pieces
            )
            continue
        index += 1
        yield from _call_events(pieces, index) if pieces[0].call is not None else _content_events(pieces, index)
    if not reply.show_finish:
        return
    usage = {"usage": _usage(reply)} if reply.show_usage else {}
    yield _event("message-end", delta={"finish_reason": _finish(reply), **usage})
    if reply.show_done:
        yield b"data: [DONE]\n\n", 0


def _content_events(pieces: list[Piece], index: int) -> Iterator[Frame]:
    kind = "thinking" if pieces[0].thought else "text"
    yield _event("content-start", index=index, delta={"message": {"content": {"type": kind, kind: ""}}})
    for piece in pieces:
        yield _event("content-delta", tokens=1, index=index, delta={"message": {"content": {kind: piece.text}}})
    yield _event("content-end", index=index)


def _call_events(pieces: list[Piece], index: int) -> Iterator[Frame]:
    call = _call(pieces[0], "")
    yield _event("tool-call-start", tokens=1, index=index, delta={"message": {"tool_calls": call}})
    for piece in pieces[1:]:
        delta = {"message": {"tool_calls": {"function": {"arguments": piece.text}}}}
        yield _event("tool-call-delta", tokens=1, index=index, delta=delta)
    yield _event("tool-call-end", index=index)


def _call(head: Piece, arguments: str) -> JsonObject:
    return {"id": head.id, "type": "function", "function": {"name": head.name, "arguments": arguments}}


def _id(reply: Reply) -> str:
    digest = reply.digest
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))


def _finish(reply: Reply) -> str:
    return "STOP_SEQUENCE" if reply.stop_sequence is not None else _FINISH[reply.finish]


def _event(kind: str, *, tokens: int = 0, **fields: Any) -> Frame:
    data = msgspec.json.encode({"type": kind, **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data), tokens


def _usage(reply: Reply) -> JsonObject:
    """`billed_units` is what is paid for; `tokens` is all that went through the model; the counts are floats."""
    new, read, written, output, _ = reply.usage
    prompt = new + read + written
    cached = {"cached_tokens": read} if read else {}
    return {
        "billed_units": {"input_tokens": float(prompt), "output_tokens": float(output)},
        "tokens": {"input_tokens": float(prompt + PREAMBLE_TOKENS), "output_tokens": float(output)},
        **cached,
    }


def error_body(refusal: Refusal, request_id: str) -> JsonObject:
    words = vendor_error(NAME, refusal.status, refusal.code)
    return {"id": request_id.removeprefix("req_"), "message": refusal.message or words.message}


def error_frame(request_id: str) -> bytes:
    """Cohere ends a stream that failed with a message-end of its own."""
    delta = {"finish_reason": "ERROR", "error": vendor_error(NAME, 500, None).message}
    return _event("message-end", delta=delta)[0]


def key_refusal(key: str) -> Refusal:
    return Refusal(401, "invalid api token" if key else "no api key supplied")


def model_list(name: str | None) -> JsonObject | None:
    rows = [
        {
            "name": model.id,
            "endpoints": ["embed"] if model.id == "demo-embed" else ["chat"],
            "finetuned": False,
            "context_length": 128_000,
            "is_deprecated": False,
        }
        for model in LISTED
    ]
    return {"models": rows} if name is None else next((row for row in rows if row["name"] == name), None)
