"""A bounded load over kept-alive connections: bare sockets, one request after the other on each."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

CHAT = [
    {"role": "system" if i == 0 else ("user", "assistant")[(i + 1) % 2], "content": "Some words of a chat. " * 6}
    for i in range(8)
]


@dataclass(frozen=True, slots=True)
class Shot:
    """One kind of request: what is sent, and whether a stream comes back."""

    path: str
    model: str
    stream: bool = False
    note: str = ""  # words that the vendor looks for

    def request(self, *, key: str) -> bytes:
        body = json.dumps({"model": self.model, "messages": CHAT, "stream": self.stream, "user": self.note}).encode()
        head = f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
        return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@dataclass(slots=True)
class Result:
    """`latencies_s` of the answers that were right; `errors` counts the others."""

    latencies_s: list[float] = field(default_factory=list)
    errors: int = 0
    wall_s: float = 0.0

    def percentile_ms(self, share: float) -> float:
        ranked = sorted(self.latencies_s) or [0.0]
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))] * 1000


async def fire(*, port: int, request: bytes, connections: int, requests: int) -> Result:
    """Send `requests` in all over `connections`; an answer counts as right with status 200 and a whole body."""
    result = Result()
    left = iter(range(requests))
    began = time.perf_counter()
    await asyncio.gather(*(_connection(port, request, left, result) for _ in range(connections)))
    result.wall_s = time.perf_counter() - began
    return result


async def _connection(port: int, request: bytes, left: Iterator[int], result: Result) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in left:
        began = time.perf_counter()
        writer.write(request)
        if await _read_answer(reader):
            result.latencies_s.append(time.perf_counter() - began)
        else:
            result.errors += 1
    writer.close()


async def _read_answer(reader: asyncio.StreamReader) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"transfer-encoding: chunked" in head:
        tail = b""
        while not tail.endswith(b"0\r\n\r\n"):
            tail = tail[-16:] + await reader.read(65536)
    else:
        await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
    return head.startswith(b"http/1.1 200")
