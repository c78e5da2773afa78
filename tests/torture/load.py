"""Callers in a process of their own: `python -m tests.torture.load` reads a `Load` as JSON from stdin's first line.

Each caller asks one question after the other over a kept connection, of any gateway that takes it, until `answers` are
there or a line (or the end) comes on stdin. What became of every request goes to the file `told`, one JSON line each;
`progress` is replaced ten times a second.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

WORDS: Final = "letters " * 12
PATIENCE_S: Final = 30.0  # for one answer; longer is a fault
AFTER_A_REFUSAL_S: Final = 0.1
AFTER_A_LOSS_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Question:
    """What callers ask for; `key` is a virtual key. Every other one is streamed."""

    key: str = field(repr=False)
    model: str
    max_tokens: int

    def request(self, *, stream: bool) -> bytes:
        messages = [{"role": "user", "content": WORDS}]
        body = {"model": self.model, "messages": messages, "max_tokens": self.max_tokens, "stream": stream}
        data = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {self.key}\r\n"
        return f"{head}content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data


@dataclass(frozen=True, slots=True)
class Load:
    ports: list[int]
    questions: list[Question]
    callers: int
    told: str
    progress: str
    seed: int
    answers: int | None = None
    stop_after_s: float = 600.0


@dataclass(slots=True)
class Told:
    """What a caller was told. `is_whole`: the whole answer came, good or bad; `cost_usd` as its headers said."""

    request_id: str = ""
    model: str = ""
    status: int = 0
    is_whole: bool = False
    is_good: bool = False  # whole, status 200 and no error inside
    code: str = ""  # of an error
    cost_usd: str = ""
    at: float = 0.0  # time.monotonic() of its end
    seconds: float = 0.0


class Callers:
    def __init__(self, load: Load) -> None:
        self.load = load
        self.rng = random.Random(load.seed)
        self.told: list[Told] = []
        self.counts: Counter[str] = Counter()
        self.stopping = asyncio.Event()
        self.requests = [
            (question.model, question.request(stream=stream)) for question in load.questions for stream in (False, True)
        ]

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin, self.stop)
        loop.call_later(self.load.stop_after_s, self.stopping.set)
        reporting = asyncio.create_task(self.report())
        await asyncio.gather(*(self.caller(number) for number in range(self.load.callers)))
        reporting.cancel()
        self.write_progress(is_over=True)
        self.write_told()

    def write_told(self) -> None:
        lines = (json.dumps(asdict(told)) for told in self.told)
        Path(self.load.told).write_text("".join(f"{line}\n" for line in lines))

    def stop(self) -> None:
        self.stopping.set()
        asyncio.get_running_loop().remove_reader(sys.stdin)

    async def caller(self, number: int) -> None:
        connection: Connection | None = None
        port = self.load.ports[number % len(self.load.ports)]
        while not self.stopping.is_set():
            if connection is None:
                try:
                    connection = await Connection.open(port)
                except OSError:
                    port = self.rng.choice(self.load.ports)
                    await asyncio.sleep(AFTER_A_LOSS_S)
                    continue
            model, request = self.rng.choice(self.requests)
            told = await connection.ask(model, request)
            self.note(told)
            if not told.is_whole:
                connection.close()
                connection, port = None, self.rng.choice(self.load.ports)
            elif told.status == 429:
                await asyncio.sleep(AFTER_A_REFUSAL_S)
        if connection is not None:
            connection.close()

    def note(self, told: Told) -> None:
        self.told.append(told)
        self.counts["good" if told.is_good else told.code or (str(told.status) if told.is_whole else "lost")] += 1
        self.counts["answers"] += told.is_whole
        self.counts["late"] += told.seconds > PATIENCE_S
        if self.load.answers is not None and self.counts["answers"] >= self.load.answers:
            self.stopping.set()

    async def report(self) -> None:
        while True:
            self.write_progress(is_over=False)
            await asyncio.sleep(0.1)

    def write_progress(self, *, is_over: bool) -> None:
        temporary = Path(self.load.progress + ".new")
        temporary.write_text(json.dumps({"is_over": is_over, **self.counts}))
        temporary.replace(self.load.progress)


class Connection(asyncio.Protocol):
    """One kept connection; `ask` is for one request at a time."""

    def __init__(self) -> None:
        self.buffer = b""
        self.done: asyncio.Future[None] | None = None
        self.is_open = True

    @classmethod
    async def open(cls, port: int) -> "Connection":
        transport, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        connection.transport = transport
        return connection

    transport: asyncio.Transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.done is not None and not self.done.done() and _is_whole(self.buffer):
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self.done is not None and not self.done.done():
            self.done.set_result(None)

    def close(self) -> None:
        self.transport.close()

    async def ask(self, model: str, request: bytes) -> Told:
        began = time.monotonic()
        self.buffer = b""
        self.done = asyncio.get_running_loop().create_future()
        if self.is_open:
            self.transport.write(request)
            await self.done
        told = _told(model, self.buffer, is_whole=_is_whole(self.buffer))
        told.at = time.monotonic()
        told.seconds = told.at - began
        return told


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    head = head.lower()
    if b"transfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    return len(body) >= int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)


def _told(model: str, answer: bytes, *, is_whole: bool) -> Told:
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = [line.partition(b": ") for line in head.split(b"\r\n")[1:]]
    headers = {name.lower(): value.decode() for name, _, value in lines}
    is_stream = b"event-stream" in head
    is_bad = b'"error"' in body
    return Told(
        request_id=headers.get(b"x-request-id", ""),
        model=model,
        status=int(head[9:12] or 0),
        is_whole=is_whole,
        is_good=is_whole and head[9:12] == b"200" and not is_bad and (not is_stream or b"data: [DONE]" in body),
        code=body.partition(b'"code":')[2].lstrip(b' "').partition(b'"')[0].decode() if is_bad else "",
        cost_usd=headers.get(b"x-router-cost-usd", ""),
    )


# --- for whoever starts it ---


@dataclass(frozen=True, slots=True)
class Progress:
    """`counts` by what callers got: good, lost, or the code of an error."""

    is_over: bool
    counts: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> "Progress":
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"is_over": False}
        return cls(found.pop("is_over"), found)


def read_told(path: Path) -> list[Told]:
    return [Told(**json.loads(line)) for line in path.read_text().splitlines()]


def parse(text: str) -> Load:
    given = json.loads(text)
    questions: Sequence[dict[str, Any]] = given.pop("questions")
    return Load(**given, questions=[Question(**question) for question in questions])


if __name__ == "__main__":
    uvloop.run(Callers(parse(sys.stdin.readline())).run())
