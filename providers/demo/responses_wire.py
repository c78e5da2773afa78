"""OpenAI's Responses wire: `POST /v1/responses`, whole and as events. Requests are read in responses_reading.

Source: OpenAI API reference, "The response object" and "Streaming events"; field names checked with the openai SDK 3.52
(`Response`, `ResponseStreamEvent`). Date: 2026-11.
"""

from collections.abc import Iterator
from itertools import count, groupby
from typing import Any, NamedTuple

import msgspec

from providers.demo.exchange import Frame, JsonObject, Piece, Refusal, Reply, proof_of
from providers.demo.openai_wire import BLOCKED as BLOCKED
from providers.demo.openai_wire import KEY_HEADERS as KEY_HEADERS
from providers.demo.openai_wire import OVERLOADED as OVERLOADED
from providers.demo.openai_wire import REQUEST_ID_HEADER as REQUEST_ID_HEADER
from providers.demo.openai_wire import RETRY_HEADER as RETRY_HEADER
from providers.demo.openai_wire import STREAM_TYPE as STREAM_TYPE
from providers.demo.openai_wire import error_body as error_body
from providers.demo.openai_wire import key_refusal as key_refusal
from providers.demo.openai_wire import model_list as model_list
from providers.demo.responses_reading import read_ask as read_ask
from providers.demo.texts import vendor_error

NAME = "openai"
GARBAGE = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","del\n\n'
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response_id(reply: Reply) -> str:
    return f"resp_{reply.digest[:40]}"


def body_of(reply: Reply) -> JsonObject:
    return _response(reply, _output(reply), is_over=True)


def kept_items(reply: Reply) -> tuple[JsonObject, ...]:
    """The conversation up to and with this answer, empty when it is not to be stored."""
    return (*reply.wire_notes["items"], *_output(reply)) if reply.wire_notes.get("store") else ()


def frames_of(reply: Reply) -> Iterator[Frame]:
    """created, in_progress, each item from added to done, then the whole response: completed or incomplete. There is
    no event behind it, and without a finish it is what is missing."""
    numbers = count()
    for kind in ("response.created", "response.in_progress"):
        yield _event(kind, numbers, response=_response(reply, [], is_over=False))
    items = _output(reply)
    for index, pieces in enumerate(_grouped(reply)):
        yield from _item_events(reply, items[index], index, pieces, numbers)
    if reply.show_finish:
        whole = _response(reply, items, is_over=True)
        yield _event(f"response.{whole['status']}", numbers, response=whole)


def _grouped(reply: Reply) -> list[list[Piece]]:
    """The pieces of each item of the output."""
    return [list(pieces) for _, pieces in groupby(reply.pieces, key=lambda piece: (piece.thought, piece.call))]


def _output(reply: Reply) -> list[dict[str, Any]]:
    items = []
    for index, pieces in enumerate(_grouped(reply)):
        text, mark = "".join(piece.text for piece in pieces), f"{reply.digest[:36]}{index:04}"
        cut = reply.finish == "length" and index == len(_grouped(reply)) - 1
        status = "incomplete" if cut else "completed"
        if pieces[0].thought:
            item: dict[str, Any] = {"id": f"rs_{mark}", "type": "reasoning"}
            item["summary"] = [{"type": "summary_text", "text": text}]
            if reply.wire_notes.get("encrypted"):
                item["encrypted_content"] = proof_of(text)
        elif pieces[0].call is not None:
            head = pieces[0]
            item = {"id": f"fc_{mark}", "type": "function_call", "status": status, "call_id": head.id}
            item |= {"name": head.name, "arguments": text}
        else:
            item = {"id": f"msg_{mark}", "type": "message", "status": status, "role": "assistant"}
            item["content"] = [_text_part(reply, text)]
        items.append(item)
    return items


def _text_part(reply: Reply, text: str) -> dict[str, Any]:
    if reply.is_refusal:
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response(reply: Reply, output: list[dict[str, Any]], *, is_over: bool) -> dict[str, Any]:
    """The response as it is now; usage only when it is over."""
    reason = _INCOMPLETE.get(reply.finish)
    status = "in_progress" if not is_over else "incomplete" if reason else "completed"
    body = {
        "id": response_id(reply),
        "object": "response",
        "created_at": reply.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": reason} if is_over and reason else None,
        "instructions": None,
        "max_output_tokens": None,
        "model": reply.model.id,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": reply.wire_notes.get("store", True),
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": _usage(reply) if is_over and reply.show_usage else None,
        "metadata": {},
        **reply.wire_notes.get("echo", {}),
    }
    if is_over:
        body["completed_at"] = reply.created
    return body if reply.show_finish or not is_over else {**body, "status": None}


class _Telling(NamedTuple):
    """How an item's text is told: the name of its deltas, the fields that all of them share, how the text ends, and
    the part around it, empty for a call."""

    kind: str
    where: dict[str, Any]
    done: dict[str, Any]
    around: str
    part: dict[str, Any]


def _telling(reply: Reply, item: dict[str, Any], index: int, text: str) -> _Telling:
    place = {"item_id": item["id"], "output_index": index}
    if item["type"] == "reasoning":
        part = {"type": "summary_text", "text": text}
        where, around = {**place, "summary_index": 0}, "response.reasoning_summary_part"
        return _Telling("response.reasoning_summary_text", where, {"text": text}, around, part)
    if item["type"] == "function_call":
        done = {"arguments": text, "name": item["name"]}
        return _Telling("response.function_call_arguments", place, done, "", {})
    where, around = {**place, "content_index": 0}, "response.content_part"
    if reply.is_refusal:
        return _Telling("response.refusal", where, {"refusal": text}, around, _text_part(reply, text))
    where["logprobs"] = []
    return _Telling("response.output_text", where, {"text": text}, around, _text_part(reply, text))


def _item_events(
    reply: Reply, item: dict[str, Any], index: int, pieces: list[Piece], numbers: Iterator[int]
) -> Iterator[Frame]:
    """One item: how it begins, a delta for each token, how it ends."""
    kind, where, done, around, part = _telling(reply, item, index, "".join(piece.text for piece in pieces))
    part_where = {name: value for name, value in where.items() if name != "logprobs"}
    yield _event("response.output_item.added", numbers, output_index=index, item=_begun(item))
    if around:
        empty = {name: "" if name in {"text", "refusal"} else value for name, value in part.items()}
        yield _event(f"{around}.added", numbers, **part_where, part=empty)
    for piece in pieces:
        yield _encoded(f"{kind}.delta", numbers, {**where, "delta": piece.text}), 1
    if not reply.show_finish:
        return
    yield _event(f"{kind}.done", numbers, **where, **done)
    if around:
        yield _event(f"{around}.done", numbers, **part_where, part=part)
    yield _event("response.output_item.done", numbers, output_index=index, item=item)


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    """An item when nothing of it has been said."""
    match item["type"]:
        case "reasoning":
            return {"id": item["id"], "type": "reasoning", "summary": []}
        case "function_call":
            return {**item, "status": "in_progress", "arguments": ""}
    return {**item, "status": "in_progress", "content": []}


def _event(kind: str, numbers: Iterator[int], **fields: Any) -> Frame:
    return _encoded(kind, numbers, fields), 0


def _encoded(kind: str, numbers: Iterator[int], fields: dict[str, Any]) -> bytes:
    data = msgspec.json.encode({"type": kind, "sequence_number": next(numbers), **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _usage(reply: Reply) -> JsonObject:
    """OpenAI counts cached tokens inside `input_tokens`, reasoning inside `output_tokens`."""
    new, read, written, output, reasoning = reply.usage
    return {
        "input_tokens": new + read + written,
        "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": new + read + written + output,
    }


def error_frame(request_id: str) -> bytes:
    words = vendor_error(NAME, 500, None)
    data = {"type": "error", "sequence_number": 9, "code": words.type, "message": words.message, "param": None}
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode(data)


def not_found(name: str) -> Refusal:
    return Refusal(404, f"Response with id '{name}' not found.")
