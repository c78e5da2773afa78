"""Answers of OpenAI's Responses API, item by item, and the streams that tell them."""

from collections.abc import Iterable
from typing import Any

from tests.providers.wires.builders import named_sse

Item = dict[str, Any]
Event = dict[str, Any]

USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 120,
}


def message(*parts: Item | str, item_id: str = "msg_1") -> Item:
    content = [said(part) if isinstance(part, str) else part for part in parts]
    return {"type": "message", "id": item_id, "role": "assistant", "status": "completed", "content": content}


def said(text: str) -> Item:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def refused(text: str) -> Item:
    return {"type": "refusal", "refusal": text}


def call(name: str = "f", arguments: str = "{}", *, call_id: str = "call_1", item_id: str = "fc_1") -> Item:
    return {
        "type": "function_call",
        "id": item_id,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        "status": "completed",
    }


def thought(*summary: str, content: Iterable[str] = (), encrypted: str | None = None, item_id: str = "rs_1") -> Item:
    item: Item = {"type": "reasoning", "id": item_id, "summary": [{"type": "summary_text", "text": t} for t in summary]}
    if content:
        item["content"] = [{"type": "reasoning_text", "text": text} for text in content]
    if encrypted is not None:
        item["encrypted_content"] = encrypted
    return item


def response(*output: Item, status: str = "completed", **more: Any) -> Item:
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "status": status, "error": None,
        "incomplete_details": None, "instructions": None, "metadata": {}, "model": "m", "output": list(output),
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "temperature": 1.0, "top_p": 1.0,
        "usage": USAGE if status == "completed" else None, **more,
    }  # fmt: skip


def stream_of(*output: Item, size: int = 3, end: Event | None = None) -> bytes:
    """The stream that OpenAI sends for these items: begun, told in pieces of `size` characters, told whole."""
    events: list[Event] = [{"type": "response.created", "response": response(status="in_progress")}]
    events.append({"type": "response.in_progress", "response": response(status="in_progress")})
    for index, item in enumerate(output):
        events += item_events(item, index, size)
    events.append(end or {"type": "response.completed", "response": response(*output)})
    return named_sse(*({**event, "sequence_number": number} for number, event in enumerate(events)))


def item_events(item: Item, index: int, size: int = 3) -> list[Event]:
    place = {"output_index": index, "item_id": item.get("id")}
    match item["type"]:
        case "message":
            told = [event for n, part in enumerate(item["content"]) for event in part_events(part, n, place, size)]
            empty = {**item, "content": [], "status": "in_progress"}
        case "reasoning":
            told = thought_events(item, place, size)
            empty = {**item, "summary": [], "encrypted_content": "half of it"}
        case "function_call":
            name = "response.function_call_arguments"
            told = [{"type": f"{name}.delta", "delta": piece, **place} for piece in cut(item["arguments"], size)]
            told.append({"type": f"{name}.done", "arguments": item["arguments"], **place})
            empty = {**item, "arguments": "", "status": "in_progress"}
        case _:
            told, empty = [], item
    added = {"type": "response.output_item.added", "output_index": index, "item": empty}
    return [added, *told, {"type": "response.output_item.done", "output_index": index, "item": item}]


def part_events(part: Item, index: int, place: Item, size: int) -> list[Event]:
    field, name = ("text", "output_text") if part["type"] == "output_text" else ("refusal", "refusal")
    place = {**place, "content_index": index}
    return [
        {"type": "response.content_part.added", "part": {**part, field: ""}, **place},
        *({"type": f"response.{name}.delta", "delta": piece, **place} for piece in cut(part[field], size)),
        {"type": f"response.{name}.done", field: part[field], **place},
        {"type": "response.content_part.done", "part": part, **place},
    ]


def thought_events(item: Item, place: Item, size: int) -> list[Event]:
    told: list[Event] = []
    for n, part in enumerate(item["summary"]):
        at: Item = {**place, "summary_index": n}
        told.append({"type": "response.reasoning_summary_part.added", "part": {**part, "text": ""}, **at})
        pieces = cut(part["text"], size)
        told += [{"type": "response.reasoning_summary_text.delta", "delta": piece, **at} for piece in pieces]
        told.append({"type": "response.reasoning_summary_text.done", "text": part["text"], **at})
        told.append({"type": "response.reasoning_summary_part.done", "part": part, **at})
    for n, part in enumerate(item.get("content") or ()):
        at = {**place, "content_index": n}
        pieces = cut(part["text"], size)
        told += [{"type": "response.reasoning_text.delta", "delta": piece, **at} for piece in pieces]
        told.append({"type": "response.reasoning_text.done", "text": part["text"], **at})
    return told


def cut(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]
