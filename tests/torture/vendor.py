"""A vendor that keeps its own bills: `python -m tests.torture.vendor SEED` prints its port. OpenAI's wire.

It costs next to nothing (a bare asyncio protocol), and does what real ones do. The first part of the model's name says
how it behaves:

    fixed   answers within 20 ms and bills the longest answer that was asked for, and a token for every byte sent
    mixed   random lengths; some calls are refused, dropped, cut, or never answered
    slow    thinks up to half a second, then writes a token every 20 ms; whole answers take two seconds

A bill is of one attempt: prompt from its arrival on, answer as far as it was written to the connection. Of a prompt
that nobody reports (the answer was cut) it bills a token per word of eight bytes, which no honest count is above. A
call that was refused, or dropped without an answering byte, is free.
"""

import asyncio
import json
import random
import re
import sys
import time
import urllib.request
from dataclasses import asdict, dataclass
from typing import Final, cast

import msgspec
import uvloop

WORD: Final = "letters "  # one token
PACE_S: Final = 0.02
SLOW_WHOLE_S: Final = 2.0
REQUEST_ID: Final = re.compile(rb"\r\nx-request-id: *([\w-]+)", re.IGNORECASE)
STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(slots=True)
class Bill:
    """What one attempt is charged, in tokens. Times are `time.monotonic()`, the same for all processes of a machine;
    `left_at` is when the other side had gone before the end."""

    request_id: str
    model: str
    limit: int  # of the answer, as it was asked for
    input_tokens: int
    output_tokens: int = 0
    asked_at: float = 0.0
    left_at: float | None = None
    is_whole: bool = False


class Message(msgspec.Struct):
    content: str = ""


class Asked(msgspec.Struct):
    """The part of a request's body that matters here."""

    model: str
    messages: list[Message]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream: bool = False

    @property
    def limit(self) -> int:
        return self.max_completion_tokens or self.max_tokens or 100

    @property
    def words(self) -> int:
        return sum(len(message.content) for message in self.messages) // len(WORD)


read_asked: Final = msgspec.json.Decoder(Asked).decode


class Vendor(asyncio.Protocol):
    """One connection; requests come one after the other."""

    bills: Final[list[Bill]] = []
    rng: random.Random = random.Random(0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.loop = asyncio.get_running_loop()
        self.buffer = b""
        self.bill: Bill | None = None
        self.timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()
        if self.bill is not None and not self.bill.is_whole:
            self.bill.left_at = time.monotonic()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head_end = self.buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self.buffer[: head_end + 2]
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(self.buffer) - head_end - 4 < length:
            return
        body, self.buffer = self.buffer[head_end + 4 : head_end + 4 + length], b""
        if head.startswith(b"GET"):
            first = int(head.partition(b"/bills/")[2].partition(b" ")[0])
            self.transport.write(_http(json.dumps([asdict(bill) for bill in self.bills[first:]]).encode()))
            return
        found = REQUEST_ID.search(head)
        self.answer(read_asked(body), found[1].decode() if found else "", len(body))

    def later(self, seconds: float, what: object, *arguments: object) -> None:
        self.timer = self.loop.call_later(seconds, what, *arguments)  # type: ignore[arg-type]

    def answer(self, asked: Asked, request_id: str, size: int) -> None:
        self.bill = Bill(request_id, asked.model, asked.limit, asked.words, asked_at=time.monotonic())
        behaviour = asked.model.partition("-")[0]
        if behaviour == "fixed":
            self.bill.input_tokens, self.bill.output_tokens = size, asked.limit
            self.later(self.rng.uniform(0, 0.02), self.burst if asked.stream else self.whole, asked.limit)
        elif behaviour == "slow":
            thinks_s = self.rng.uniform(0, 0.5) if asked.stream else SLOW_WHOLE_S
            self.later(thinks_s, self.pace if asked.stream else self.whole, asked.limit)
        else:
            self.mixed(asked, size)
        self.bills.append(self.bill)

    def mixed(self, asked: Asked, size: int) -> None:
        assert self.bill is not None
        tokens, chance = self.rng.randint(1, asked.limit), self.rng.random()
        if chance < 0.06:
            status = self.rng.choice([b"429 Too Many Requests", b"500 Internal Server Error", b"503 Unavailable"])
            self.bill.input_tokens, self.bill.is_whole = 0, True
            self.transport.write(_http(b'{"error": {"message": "not now"}}', status))
        elif chance < 0.075:
            self.bill.input_tokens = 0
            self.transport.close()
        elif chance < 0.08:
            pass  # until somebody loses patience
        elif chance < 0.11:
            self.cut(tokens, is_stream=asked.stream)
        else:
            self.bill.input_tokens = self.rng.randint(1, size)
            delay_s = self.rng.choice([0, 0, self.rng.uniform(0, 0.05), self.rng.uniform(0, 0.4)])
            self.later(delay_s, self.burst if asked.stream else self.whole, tokens)

    # --- ways to answer ---

    def whole(self, tokens: int) -> None:
        self.end(tokens)
        message = {"role": "assistant", "content": WORD * min(tokens, 20)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.transport.write(_http(json.dumps({**_HEAD, "choices": [choice], "usage": self.usage()}).encode()))

    def burst(self, tokens: int) -> None:
        self.end(tokens)
        events = (*_first_pieces(tokens), *self.last_pieces())
        self.transport.write(STREAM_HEAD + b"".join(map(_chunk, events)) + b"0\r\n\r\n")

    def pace(self, tokens: int, written: int = 0) -> None:
        """A token at a time."""
        assert self.bill is not None
        if written == 0:
            self.transport.write(STREAM_HEAD)
        if written < tokens:
            self.bill.output_tokens = written + 1
            self.transport.write(_chunk(_piece({"content": WORD})))
            self.later(PACE_S, self.pace, tokens, written + 1)
        else:
            self.end(tokens)
            self.transport.write(b"".join(map(_chunk, self.last_pieces())) + b"0\r\n\r\n")

    def cut(self, tokens: int, *, is_stream: bool) -> None:
        """Begin an answer, and close the connection in the middle of it."""
        assert self.bill is not None
        if is_stream:
            self.bill.output_tokens = tokens
            self.transport.write(STREAM_HEAD + b"".join(map(_chunk, _first_pieces(tokens))))
        else:
            self.transport.write(_http(b"{" + b" " * 100)[:-50])
        self.transport.close()

    def end(self, tokens: int) -> None:
        assert self.bill is not None
        self.bill.output_tokens, self.bill.is_whole = tokens, True

    def last_pieces(self) -> tuple[bytes, ...]:
        closing = {**_CHUNK, "choices": [], "usage": self.usage()}
        return _piece({}, "stop"), f"data: {json.dumps(closing)}\n\n".encode(), b"data: [DONE]\n\n"

    def usage(self) -> dict[str, int]:
        assert self.bill is not None
        counted = self.bill.input_tokens, self.bill.output_tokens
        return {"prompt_tokens": counted[0], "completion_tokens": counted[1], "total_tokens": sum(counted)}


_HEAD: Final = {"id": "chatcmpl-t", "object": "chat.completion", "created": 1, "model": "torture"}
_CHUNK: Final = {**_HEAD, "object": "chat.completion.chunk"}


def _http(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _piece(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return f"data: {json.dumps({**_CHUNK, 'choices': [choice]})}\n\n".encode()


def _first_pieces(tokens: int) -> list[bytes]:
    """An answer of that many tokens, in up to eight pieces."""
    sizes = [tokens // 8 + (1 if number < tokens % 8 else 0) for number in range(8)]
    return [_piece({"content": WORD * size}) for size in sizes if size]


def bills_of(port: int, first: int = 0) -> list[Bill]:
    """The bills of the vendor there, in the order of asking, from that one on."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/bills/{first}", timeout=30) as response:
        return [Bill(**bill) for bill in json.load(response)]


async def main(seed: int) -> None:
    Vendor.rng = random.Random(seed)
    server = await asyncio.get_running_loop().create_server(Vendor, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
