"""Everything that a vendor can do wrong, on two wires, whole and streamed: what the caller is told, who is blamed for
it, that another target serves where that is still possible, and that each request has exactly one record.

All faults of a case are played at once behind one gateway, each by a provider of its own, so that a test takes as long
as its slowest fault.
"""

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from pytest_django import Settings

from routerplatform.embedded import free_port
from tests import gateway as configure
from tests.gateway import Gateway, Reply, records
from tests.gateway_path.changes import changed
from tests.stalls import PATIENCE_S, Stalls
from tests.upstreams.scripted import (
    Script,
    Upstream,
    anthropic_answer,
    drop,
    frames,
    hang,
    openai_answer,
    openai_chunk,
    openai_events,
    sse,
    status,
)

DEADLINE_S = 6.0
SILENCE_S = 1.0
OVERHEAD_S = 3.0  # of a busy machine
HTML = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
MEGABYTE = b"x" * 1_000_000
MOST_READ_MB = 80  # of an endless line; what is buffered on the way counts too


@dataclass(frozen=True)
class Told:
    """What a caller of a lone target is told: the error's code and the HTTP status; an empty code is a good answer.

    `blame` is how many failures its breaker counts, `keeps` that no other target may be asked.
    """

    code: str
    http_status: int
    blame: int
    keeps: bool = False


@dataclass(frozen=True)
class Dialect:
    """A wire, in scripts. `begun` is a stream up to its first content, `rest` what follows, `finish` how often."""

    kind: str
    path: str
    answer: Script
    begun: list[bytes]
    rest: list[bytes]
    unfinished: list[bytes]
    finished_twice: list[bytes]
    error_event: bytes
    error_kind: Told


def anthropic_event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


_MESSAGE = {"id": "msg_up", "type": "message", "role": "assistant", "model": "m", "content": []}
_BLOCK = {"type": "text", "text": ""}
_ENDING = anthropic_event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5})
_STOP = anthropic_event("message_stop")

OPENAI = Dialect(
    kind="openai-compatible",
    path="chat/completions",
    answer=openai_answer("Hello"),
    begun=openai_events("Hel", "lo")[:3],
    rest=openai_events("Hel", "lo")[3:],
    unfinished=[*openai_events("Hel", "lo")[:3], *sse("[DONE]")],
    finished_twice=[*openai_events("Hel", "lo")[:-1], *sse(openai_chunk({}, "stop"), "[DONE]")],
    error_event=sse({"error": {"message": "it broke", "type": "server_error"}})[0],
    error_kind=Told("upstream_failed", 502, 2),
)
_ANTHROPIC_BEGUN = [
    anthropic_event("message_start", message={**_MESSAGE, "usage": {"input_tokens": 12, "output_tokens": 1}}),
    anthropic_event("content_block_start", index=0, content_block=_BLOCK),
    anthropic_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello"}),
]
_ANTHROPIC_REST = [anthropic_event("content_block_stop", index=0), _ENDING, _STOP]
ANTHROPIC = Dialect(
    kind="anthropic-compatible",
    path="messages",
    answer=anthropic_answer("Hello"),
    begun=_ANTHROPIC_BEGUN,
    rest=_ANTHROPIC_REST,
    unfinished=[*_ANTHROPIC_BEGUN, anthropic_event("content_block_stop", index=0)],
    finished_twice=[*_ANTHROPIC_BEGUN, *_ANTHROPIC_REST, _ENDING, _STOP],
    error_event=anthropic_event("error", error={"type": "overloaded_error", "message": "it broke"}),
    error_kind=Told("upstream_overloaded", 503, 2),
)
DIALECTS = {"openai": OPENAI, "anthropic": ANTHROPIC}


# --- the faults ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """`play` is the script; None is a provider that nobody listens for."""

    play: Script | None
    told: Told


def whole_body(body: bytes, *, end: str = "eof", content_type: str = "application/json") -> Script:
    """An answer that is not streamed, up to where it breaks."""
    return frames(body, end=end, content_type=content_type)


async def gzip_bomb(request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
    bomb = gzip.compress(b"\0" * 10_000_000)
    return web.Response(body=bomb, headers={"content-encoding": "gzip", "content-type": "application/json"})


class EndlessLine:
    """Sends one line for as long as anybody reads; `megabytes` is what it got rid of."""

    def __init__(self, content_type: str) -> None:
        self.megabytes: list[int] = []
        self._content_type = content_type

    async def __call__(self, request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": self._content_type})
        await response.prepare(request)
        await response.write(b"data: ")
        self.megabytes.append(0)
        for sent in range(1000):
            self.megabytes[-1] = sent
            await response.write(MEGABYTE)
        return response


def error(code: int, *, headers: dict[str, str] | None = None, kind: str = "") -> Script:
    return status(code, {"type": "error", "error": {"type": kind or "some_error", "message": "no"}}, headers)


REFUSALS = {
    "400": Fault(error(400, kind="invalid_request_error"), Told("upstream_rejected", 400, 0, keeps=True)),
    "401": Fault(error(401), Told("upstream_credentials", 502, 0)),
    "403": Fault(error(403), Told("upstream_credentials", 502, 0)),
    "404": Fault(error(404), Told("upstream_model_not_found", 502, 0)),
    "408": Fault(error(408), Told("upstream_timeout", 504, 1)),
    "413": Fault(error(413), Told("context_length_exceeded", 400, 0)),
    "429": Fault(error(429), Told("upstream_rate_limited", 429, 0)),
    "429-named": Fault(error(429, headers={"retry-after": "7"}), Told("upstream_rate_limited", 429, 0)),
    "500": Fault(error(500), Told("upstream_failed", 502, 2)),
    "503": Fault(error(503), Told("upstream_overloaded", 503, 2)),
    "529": Fault(error(529, kind="overloaded_error"), Told("upstream_overloaded", 503, 2)),
}
UNREADABLE = Told("upstream_malformed", 502, 1)
NETWORK = {
    "refused": Fault(None, Told("upstream_unreachable", 502, 2)),
    "reset-before": Fault(drop(), Told("upstream_failed", 502, 2)),
    "hang-before": Fault(hang(), Told("upstream_timeout", 504, 1)),
    "html": Fault(status(200, HTML, {"content-type": "text/html"}), UNREADABLE),
    "redirect": Fault(status(302, "", {"location": "http://127.0.0.1:9/elsewhere"}), UNREADABLE),
    "gzip-bomb": Fault(gzip_bomb, UNREADABLE),
}


def whole_faults(wire: Dialect) -> dict[str, Fault]:
    part = b'{"id":"up","choices":[{"message":{"cont'
    failed = b'{"error":{"message":"it broke","type":"%s"}}' % (
        b"server_error" if wire is OPENAI else b"overloaded_error"
    )
    return {
        "reset-after": Fault(whole_body(part, end="cut"), Told("upstream_failed", 502, 2)),
        "hang-midway": Fault(whole_body(part, end="hang"), Told("upstream_timeout", 504, 1)),
        "truncated": Fault(whole_body(part), UNREADABLE),
        "malformed": Fault(whole_body(b'{"id": "up", broken'), UNREADABLE),
        "wrong-type": Fault(frames(*wire.begun, *wire.rest), UNREADABLE),
        "endless": Fault(EndlessLine("application/json"), UNREADABLE),
        "error-in-200": Fault(whole_body(failed), wire.error_kind),
        "no-finish": Fault(wire.answer, Told("", 200, 0)),
        "two-finishes": Fault(wire.answer, Told("", 200, 0)),
    }


def stream_faults(wire: Dialect) -> dict[str, Fault]:
    """After the first content nobody else can be asked: the stream ends in an error."""
    broken = Told("upstream_failed", 200, 1, keeps=True)
    return {
        "reset-after": Fault(frames(*wire.begun, end="cut"), broken),
        "hang-midway": Fault(frames(*wire.begun, end="hang"), Told("upstream_timeout", 200, 1, keeps=True)),
        "truncated": Fault(frames(*wire.begun, wire.rest[0][:12]), broken),
        "malformed": Fault(
            frames(*wire.begun, b"data: {broken\n\n", pause_s=0.05), Told("upstream_malformed", 200, 1, keeps=True)
        ),
        "wrong-type": Fault(frames(*wire.begun, *wire.rest, content_type="application/json"), UNREADABLE),
        "endless": Fault(EndlessLine("text/event-stream"), UNREADABLE),
        "error-in-200": Fault(frames(wire.error_event), wire.error_kind),
        "error-midway": Fault(
            frames(*wire.begun, wire.error_event, pause_s=0.05), Told(wire.error_kind.code, 200, 1, keeps=True)
        ),
        "no-finish": Fault(frames(*wire.unfinished), broken),
        "two-finishes": Fault(frames(*wire.finished_twice), Told("", 200, 0)),
    }


# --- the case -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    wire: Dialect
    stream: bool
    faults: dict[str, Fault]


@pytest.fixture(params=["openai-whole", "openai-stream", "anthropic-whole", "anthropic-stream"])
def case(request: pytest.FixtureRequest) -> Case:
    name, how = request.param.split("-")
    wire = DIALECTS[name]
    own = stream_faults(wire) if how == "stream" else whole_faults(wire)
    return Case(wire, how == "stream", {**REFUSALS, **NETWORK, **own})


@pytest.fixture
async def vendor(case: Case) -> AsyncIterator[Upstream]:
    """One server for all faults; the path says which provider is meant."""

    async def play(request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        fault = case.faults[request.path.split("/")[2]]
        assert fault.play
        return await fault.play(request, asked)

    upstream = Upstream(play)
    await upstream.start()
    yield upstream
    await upstream.stop()


@pytest.fixture(autouse=True)
def short_patience(settings: Settings) -> None:
    settings.REQUEST_TIMEOUT_S = DEADLINE_S


def configure_faults(case: Case, url: str) -> None:
    """A provider, and two aliases, for each fault: alone, and with a fallback that answers."""
    from_beta = configure.Deployment.objects.get(provider__name="beta")
    for name, fault in case.faults.items():
        address = f"{url}/{name}" if fault.play else f"http://127.0.0.1:{free_port()}/v1"
        [row] = configure.vendor(f"x-{name}", address, "m", kind=case.wire.kind, timeout_s=SILENCE_S)
        configure.alias(f"{name}-alone", row)
        configure.alias(f"{name}-first", row, from_beta)


async def ask_all(gateway: Gateway, case: Case, which: str, stalls: Stalls) -> dict[str, Reply]:
    """Every fault's alias at once; each ends in time, or this fails."""
    watch = stalls.watch()

    async def ask(name: str) -> Reply:
        async with asyncio.timeout(DEADLINE_S + PATIENCE_S):
            reply = await gateway.chat(model=f"{name}-{which}", stream=case.stream)
        assert watch.seconds < DEADLINE_S + OVERHEAD_S, name
        return reply

    return dict(zip(case.faults, await asyncio.gather(*(ask(name) for name in case.faults)), strict=True))


async def blame(gateway: Gateway) -> dict[str, int]:
    rows = (await gateway.get("/v1/providers/status")).json["data"]
    return {row["name"].removeprefix("x-"): row["deployments"][0]["failures_in_a_row"] for row in rows}


def differences(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (found.get(name), wanted) for name, wanted in expected.items() if found.get(name) != wanted}


def summary(reply: Reply) -> tuple[str, int]:
    is_broken = reply.status != 200 or any("error" in event for event in reply.events)
    return (str(reply.error["code"]) if is_broken else "", reply.status)


@pytest.mark.usefixtures("short_patience")
async def test_every_fault_ends_as_documented(gateway: Gateway, vendor: Upstream, case: Case, stalls: Stalls) -> None:
    await changed(gateway, lambda: configure_faults(case, vendor.url))

    alone = await ask_all(gateway, case, "alone", stalls)
    told = {name: (fault.told.code, fault.told.http_status) for name, fault in case.faults.items()}
    assert differences({name: summary(reply) for name, reply in alone.items()}, told) == {}
    assert differences(await blame(gateway), {name: fault.told.blame for name, fault in case.faults.items()}) == {}
    assert alone["429-named"].headers["retry-after"] == "7"
    for name, reply in alone.items():
        assert not (reply.done and case.faults[name].told.code), f"{name}: it looks like a good end"

    first = await ask_all(gateway, case, "first", stalls)
    served = {name: ("", 200) if not fault.told.keeps else told[name] for name, fault in case.faults.items()}
    assert differences({name: summary(reply) for name, reply in first.items()}, served) == {}
    texts = {name: reply.text for name, reply in first.items() if served[name] == ("", 200)}
    expected = {name: "Bonjour" if case.faults[name].told.code else "Hello" for name in texts}
    assert differences(texts, expected) == {}

    await one_record_each(list(alone.values()) + list(first.values()))
    for fault in case.faults.values():
        if isinstance(fault.play, EndlessLine):
            assert fault.play.megabytes
            assert max(fault.play.megabytes) < MOST_READ_MB


async def one_record_each(replies: list[Reply]) -> None:
    found = await records(len(replies))
    asked = [reply.headers["x-request-id"] for reply in replies]
    assert Counter(str(record.request_id) for record in found) == Counter(asked)
    by_id = {str(record.request_id): record for record in found}
    for name, reply in zip(asked, replies, strict=True):
        assert by_id[name].error_code == summary(reply)[0]
        assert by_id[name].state in {"settled", "released"}
