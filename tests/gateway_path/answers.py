"""Vendors' answers with every kind of count in them: for each wire the same answer whole and streamed."""

import json
from typing import Any

from aiohttp import web

from tests.upstreams.scripted import Script, frames, openai_chunk, sse

TOOL_ARGUMENTS = '{"city":"Paris"}'


def openai_said(message: dict[str, Any], *, usage: dict[str, Any] | None, finish: str = "stop") -> Script:
    """One message of OpenAI's wire, with these counts or none."""

    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if body.get("stream"):
            calls = [{"index": i, **call} for i, call in enumerate(message.get("tool_calls", []))]
            delta = {**message, **({"tool_calls": calls} if calls else {})}
            chunks: list[dict[str, Any] | str] = [openai_chunk(delta), openai_chunk({}, finish)]
            if usage is not None:
                chunks.append({**openai_chunk({}), "choices": [], "usage": usage})
            return await frames(*sse(*chunks, "[DONE]"))(request, body)
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
        return web.json_response({"id": "chatcmpl-up", "choices": [choice], **({"usage": usage} if usage else {})})

    return script


def anthropic_said(
    block: dict[str, Any], delta: dict[str, Any], *, start: dict[str, int], end: dict[str, int] | None, **options: Any
) -> Script:
    """One content block of Anthropic's wire. `start` counts stand at the beginning of a stream, `end` at its end."""

    async def script(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        head = {"id": "msg_up", "type": "message", "role": "assistant", "model": "m"}
        reason = options.get("stop_reason", "end_turn")
        if not body.get("stream"):
            usage = {"usage": {**start, **end}} if end is not None else {}
            return web.json_response({**head, "content": [block], "stop_reason": reason, **usage})
        empty = {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": {**head, "content": [], "usage": {**start, "output_tokens": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": empty},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": reason}, **({"usage": end} if end is not None else {})},
            {"type": "message_stop"},
        ]
        pieces = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
        return await frames(
            *pieces[: options.get("cut_after", len(pieces))], pause_s=0.01, end=options.get("ends", "eof")
        )(request, body)

    return script


def anthropic_text(text: str, *, start: dict[str, int], end: dict[str, int] | None, **options: Any) -> Script:
    return anthropic_said(
        {"type": "text", "text": text}, {"type": "text_delta", "text": text}, start=start, end=end, **options
    )


def anthropic_tool_call(*, start: dict[str, int], end: dict[str, int] | None) -> Script:
    return anthropic_said(
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": json.loads(TOOL_ARGUMENTS)},
        {"type": "input_json_delta", "partial_json": TOOL_ARGUMENTS},
        start=start,
        end=end,
        stop_reason="tool_use",
    )


OPENAI_TOOL_CALL = {
    "content": None,
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": TOOL_ARGUMENTS}}],
}
