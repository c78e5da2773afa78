"""A vendor that costs next to nothing: canned answers over a bare asyncio protocol, so that the gateway dominates.

It reads a request only as far as its length, and answers by what the path and body say: OpenAI's or Anthropic's wire,
whole, or as a stream of 30 chunks sent in one burst or one by one.
"""

import asyncio
import json
import sys
from typing import Any, cast

import uvloop

CHUNKS = 30
WORD = "a word or two "
PACE_S = 0.01


def _http(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def _chunked(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _sse(*events: dict[str, Any] | str, names: bool = False) -> list[bytes]:
    lines = []
    for event in events:
        name = f"event: {event['type']}\n" if names and isinstance(event, dict) else ""
        lines.append(f"{name}data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode())
    return lines


def _openai_chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"id": "chatcmpl-b", "object": "chat.completion.chunk", "created": 1, "model": "bench", "choices": [choice]}


USAGE = {"prompt_tokens": 300, "completion_tokens": 120, "total_tokens": 420}
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
OPENAI_WHOLE = _http(
    json.dumps(
        {
            "id": "chatcmpl-b",
            "object": "chat.completion",
            "created": 1,
            "model": "bench",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": WORD * 60}, "finish_reason": "stop"}],
            "usage": USAGE,
        }
    ).encode()
)
OPENAI_STREAM = _sse(
    _openai_chunk({"role": "assistant", "content": ""}),
    *[_openai_chunk({"content": WORD}) for _ in range(CHUNKS)],
    _openai_chunk({}, "stop"),
    {**_openai_chunk({}), "choices": [], "usage": USAGE},
    "[DONE]",
)
_MESSAGE = {"id": "msg_b", "type": "message", "role": "assistant", "model": "bench"}
ANTHROPIC_WHOLE = _http(
    json.dumps(
        {
            **_MESSAGE,
            "content": [{"type": "text", "text": WORD * 60}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 300, "output_tokens": 120},
        }
    ).encode()
)
ANTHROPIC_STREAM = _sse(
    {
        "type": "message_start",
        "message": {**_MESSAGE, "content": [], "usage": {"input_tokens": 300, "output_tokens": 1}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    *[
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORD}}
        for _ in range(CHUNKS)
    ],
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 120}},
    {"type": "message_stop"},
    names=True,
)


class Vendor(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its base class
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head_end = self.buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self.buffer[:head_end].lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(self.buffer) - head_end - 4 < length:
            return
        body, self.buffer = self.buffer[head_end + 4 : head_end + 4 + length], b""
        self.answer(b"/messages" in head[:60], body)

    def answer(self, is_anthropic: bool, body: bytes) -> None:
        if b'"stream":true' not in body and b'"stream": true' not in body:
            self.transport.write(ANTHROPIC_WHOLE if is_anthropic else OPENAI_WHOLE)
            return
        events = ANTHROPIC_STREAM if is_anthropic else OPENAI_STREAM
        if b"paced" in body:
            self.transport.write(STREAM_HEAD)
            self.paced(events, 0)
        else:
            self.transport.write(STREAM_HEAD + _chunked(b"".join(events)) + b"0\r\n\r\n")

    def paced(self, events: list[bytes], position: int) -> None:
        if self.transport.is_closing():
            return
        if position == len(events):
            self.transport.write(b"0\r\n\r\n")
            return
        self.transport.write(_chunked(events[position]))
        asyncio.get_running_loop().call_later(PACE_S, self.paced, events, position + 1)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Vendor, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
