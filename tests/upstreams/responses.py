"""Scripts of OpenAI's Responses wire, for `tests.upstreams.scripted.Upstream`."""

import json
from typing import Any

from aiohttp import web

from tests.upstreams.scripted import Script, frames

RESPONSES_USAGE = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 17,
}


def message(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "message", "id": "msg_up", "status": "completed", "role": "assistant", "content": [part]}


def call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    body = {"call_id": call_id, "name": name, "arguments": arguments}
    return {"type": "function_call", "id": f"fc_{call_id}", "status": "completed", **body}


def response(*items: dict[str, Any], response_id: str = "resp_up", status: str = "completed") -> dict[str, Any]:
    return {
        "id": response_id,
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "m",
        "output": list(items),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": RESPONSES_USAGE if status == "completed" else None,
        "x_only_here": "passes",
    }


def response_events(*items: dict[str, Any], response_id: str = "resp_up") -> list[bytes]:
    """A whole stream: its first two events, those of each item, and its last."""
    begun = response(response_id=response_id, status="in_progress")
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for place, item in enumerate(items):
        events += _item_events(item, place)
    events.append({"type": "response.completed", "response": response(*items, response_id=response_id)})
    numbered = [{**event, "sequence_number": number} for number, event in enumerate(events)]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in numbered]


def _item_events(item: dict[str, Any], place: int) -> list[dict[str, Any]]:
    where: dict[str, Any] = {"item_id": item["id"], "output_index": place}
    added = {"type": "response.output_item.added", "output_index": place}
    done = {"type": "response.output_item.done", "output_index": place, "item": item}
    if item["type"] == "function_call":
        delta = {"type": "response.function_call_arguments.delta", **where, "delta": item["arguments"]}
        end = {"type": "response.function_call_arguments.done", **where, "arguments": item["arguments"]}
        return [{**added, "item": {**item, "arguments": ""}}, delta, end, done]
    where["content_index"] = 0
    part = item["content"][0]
    return [
        {**added, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **where, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **where, "delta": c, "logprobs": []} for c in part["text"]),
        {"type": "response.output_text.done", **where, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **where, "part": part},
        done,
    ]


def responses_answer(*items: dict[str, Any], response_id: str = "resp_up") -> Script:
    """A whole answer when asked for one, the same in a stream when asked for that. Without items it says Hello."""
    said = items or (message("Hello"),)

    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if body.get("stream"):
            return await frames(*response_events(*said, response_id=response_id))(request, body)
        return web.json_response(response(*said, response_id=response_id))

    return script
