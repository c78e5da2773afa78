"""What the gRPC door says, without a server: errors of every kind, kept answers, ends of calls, addresses."""

import asyncio
import importlib
import pkgutil
import re
import socket
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc import aio

import routerplatform
from analytics.domain.idempotency import MAX_ANSWER_BYTES, KeptAnswer
from providers.domain.errors import Failure, FailureKind
from routerplatform.doors import grpc_calls
from routerplatform.doors.grpc_answers import _cost, usage_of
from routerplatform.doors.grpc_calls import (
    DeadlineExceeded,
    Recorder,
    RpcCall,
    kept_messages,
    metadata_of,
    parsed,
    tell_again,
)
from routerplatform.doors.grpc_errors import rich_status, status_code, tell_error
from routerplatform.doors.grpc_server import CannotListen
from routerplatform.doors.grpc_under_way import CallsUnderWay
from routerplatform.doors.idempotency import NOT_KEPT
from routerplatform.gateway.errors import UPSTREAM, GatewayError, InvalidRequest, Stopping, upstream_error
from routerplatform.management.commands.rungrpc import require_free
from routerplatform.protos.ai_router_pb2 import AIRequest, AIResponse
from tests.analytics.ledger.samples import settled as entry

Code = grpc.StatusCode
LEGAL_NAME = re.compile(r"[0-9a-z_.\-]+")
LEGAL_VALUE = re.compile(r"[\x20-\x7e]*")


def kinds() -> Iterator[type[GatewayError]]:
    """Every error of the platform, wherever it is defined."""
    for module in pkgutil.walk_packages(routerplatform.__path__, "routerplatform."):
        if ".doors" in module.name or ".gateway" in module.name or module.name.startswith("routerplatform.api"):
            importlib.import_module(module.name)
    waiting = [GatewayError]
    while waiting:
        kind = waiting.pop()
        yield kind
        waiting += kind.__subclasses__()


class Ended(Exception):
    pass


class Context:
    """A call that nobody carries: what is said of its end is kept."""

    code: grpc.StatusCode | None = None
    message = ""
    trailing: tuple[tuple[str, Any], ...] = ()

    async def abort(self, code: grpc.StatusCode, message: str, trailing: tuple[tuple[str, Any], ...]) -> None:
        self.code, self.message, self.trailing = code, message, trailing
        raise Ended


async def ended(error: GatewayError) -> Context:
    context = Context()
    with pytest.raises(Ended):
        await tell_error(context, error, "r-1")  # type: ignore[arg-type]
    return context


# --- errors -------------------------------------------------------------------------------------------------------


async def test_every_error_of_the_platform_ends_a_call_with_a_status_that_says_something() -> None:
    """And with metadata that a caller's library takes, whatever stands in the error."""
    found = set(kinds())
    assert {"CallerGone", "Conflict", "FieldsRefused", "BatchExpired"} <= {kind.__name__ for kind in found}
    for kind in found:
        error = kind.__new__(kind)
        GatewayError.__init__(error, "“Schön” \ud83d\0\n" * 500, param="a.ü[\n]\ud83d", retry_after_s=1e12)
        error.headers = {"x-should-retry": "fälse", "allow": "GET,\r\nx: y"}
        error.details = {"ü": "\ud83d", "list": [1, {"a": None}], "none": None, "number": 1e300}
        context = await ended(error)
        assert context.code not in {None, Code.OK, Code.UNKNOWN}, kind
        for name, value in context.trailing:
            assert LEGAL_NAME.fullmatch(name), name
            assert isinstance(value, bytes) is name.endswith("-bin")
            assert isinstance(value, bytes) or LEGAL_VALUE.fullmatch(value), value
        assert sum(len(name) + len(value) for name, value in context.trailing) < 6_000


@pytest.mark.parametrize("kind", FailureKind)
def test_every_failure_of_a_vendor_has_a_code(kind: FailureKind) -> None:
    error = upstream_error(Failure(kind, message="no"))
    assert status_code(error) not in {Code.OK, Code.UNKNOWN, Code.INTERNAL}
    assert UPSTREAM[kind][0] == error.code
    info = ErrorInfo()
    assert rich_status(error, "r").details[0].Unpack(info)
    assert info.reason == error.code.upper()


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 1e-12, 0.5, 86_400.0, 1e15])
async def test_any_time_to_wait_can_be_told(seconds: float) -> None:
    context = await ended(InvalidRequest("x", retry_after_s=seconds))
    assert context.code is Code.INVALID_ARGUMENT


async def test_the_details_are_those_of_the_trailing_metadata() -> None:
    context = await ended(Stopping())
    told = dict(context.trailing)
    assert (told["x-router-error-code"], told["retry-after"], told["x-request-id"]) == ("unavailable", "1", "r-1")
    assert told["grpc-status-details-bin"] == rich_status(Stopping(), "r-1").SerializeToString()


# --- ends of calls ------------------------------------------------------------------------------------------------


async def end_by(raised: BaseException, *, cut: bool = False) -> Context:
    """What a call is told whose answering ends so; nothing where its caller is told nothing."""
    context, calls = Context(), CallsUnderWay()
    calls.is_cut = cut
    try:
        async with calls.told(RpcCall(context, "/x/Y")):  # type: ignore[arg-type]
            raise raised
    except (Ended, type(raised)):
        return context


@pytest.mark.parametrize(
    ("raised", "cut", "code"),
    [
        (DeadlineExceeded(), False, Code.DEADLINE_EXCEEDED),
        (TimeoutError(), False, Code.DEADLINE_EXCEEDED),
        (asyncio.CancelledError(), True, Code.UNAVAILABLE),
        (asyncio.CancelledError(), False, None),
        (aio.UsageError("gone"), False, None),
        (UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "no"), False, Code.INTERNAL),
        (RecursionError(), False, Code.INTERNAL),
        (MemoryError(), False, Code.INTERNAL),
        (KeyboardInterrupt(), False, None),
    ],
)
async def test_a_call_ends_with_our_words_or_with_none(
    raised: BaseException, cut: bool, code: grpc.StatusCode | None
) -> None:
    assert (await end_by(raised, cut=cut)).code is code


async def test_calls_under_way_are_counted_until_they_are_over() -> None:
    calls, go = CallsUnderWay(), asyncio.Event()
    context = Context()

    async def answering() -> None:
        async with calls.told(RpcCall(context, "/x/Y")):  # type: ignore[arg-type]
            await go.wait()

    task = asyncio.create_task(answering())
    await asyncio.sleep(0)
    assert not await calls.drained(0.01)
    assert calls.cut() == 1
    with pytest.raises(Ended):
        await task
    assert (context.code, await calls.drained(0)) == (Code.UNAVAILABLE, True)


# --- kept answers -------------------------------------------------------------------------------------------------


class Heard:
    """An outlet, and a store of answers, that remember what they were given."""

    def __init__(self) -> None:
        self.messages: list[AIResponse] = []
        self.head: Any = None
        self.tail: Any = None
        self.kept: list[KeptAnswer | None] = []
        self.released = 0

    async def begin(self, headers: Any) -> None:
        self.head = headers

    async def say(self, message: AIResponse) -> None:
        self.messages.append(message)

    async def finish(self, message: AIResponse, trailers: Any) -> None:
        self.messages.append(message)
        self.tail = trailers

    async def keep(self, _: Any, answer: KeptAnswer | None) -> None:
        self.kept.append(answer)

    async def release(self, _: Any) -> None:
        self.released += 1


async def recorded(*messages: AIResponse) -> tuple[Heard, KeptAnswer | None]:
    heard = Heard()
    recorder = Recorder(heard, heard, None)  # type: ignore[arg-type]
    await recorder.begin([(b"x-request-id", b"r"), (b"x-ratelimit-limit-requests", b"1")])
    for message in messages[:-1]:
        await recorder.say(message)
    await recorder.finish(messages[-1], [(b"x-router-cost-usd", b"1")])
    await recorder.end()
    assert heard.released == 0
    [kept] = heard.kept
    return heard, kept


async def test_a_kept_answer_is_told_again_message_by_message() -> None:
    messages = [AIResponse(), AIResponse(text="ü" * 1_000), AIResponse(done=True)]
    first, kept = await recorded(*messages)
    assert kept is not None
    assert kept_messages(kept) == first.messages == messages
    again = Heard()
    await tell_again(again, kept)
    assert (again.messages, again.tail) == (messages, [(b"x-router-cost-usd", b"1")])
    assert again.head == [(b"x-request-id", b"r"), (b"idempotent-replayed", b"true")]


async def test_an_answer_that_is_too_large_is_told_and_not_kept() -> None:
    piece = AIResponse(text="x" * (MAX_ANSWER_BYTES // 2))
    heard, kept = await recorded(piece, piece, piece, AIResponse(done=True))
    assert (kept, len(heard.messages)) == (None, 4)
    assert NOT_KEPT in heard.tail


async def test_what_has_not_come_to_its_end_may_be_tried_again() -> None:
    heard = Heard()
    recorder = Recorder(heard, heard, None)  # type: ignore[arg-type]
    await recorder.say(AIResponse(text="x"))
    await recorder.end()
    assert (heard.released, heard.kept) == (1, [])


# --- messages and metadata ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\x02\xff\xfe", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a", b"\x07"])
def test_what_is_no_message_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        parsed(AIRequest, raw)


def test_fields_that_nobody_knows_yet_are_left_aside() -> None:
    assert parsed(AIRequest, b"\xfa\xff\x01\x01x" + AIRequest(prompt="x").SerializeToString()).prompt == "x"


@pytest.mark.parametrize("value", [b"", b"plain", b"\xff\xfe", "日本\n".encode(), b"\x00", b"\x7f"])
def test_metadata_is_always_what_the_library_takes(value: bytes) -> None:
    [(name, told)] = metadata_of([(b"x-router-notice", value)])
    assert name == "x-router-notice"
    assert LEGAL_VALUE.fullmatch(str(told))


def test_a_message_of_a_kept_answer_is_as_long_as_it_says() -> None:
    assert grpc_calls.LENGTH.size == 4
    assert kept_messages(KeptAnswer(200, [], b"")) == []


def test_every_token_is_counted_once() -> None:
    told = usage_of(
        entry(
            input_tokens=7, cache_read_input_tokens=5, cache_creation_input_tokens=3, output_tokens=2,
            reasoning_tokens=1, usage_source="provider",
        )
    )  # fmt: skip
    assert (told.total_tokens, told.reasoning_tokens, told.source) == (17, 1, "provider")


@pytest.mark.parametrize(
    ("nano", "usd"), [(0, "0.000000000"), (1, "0.000000001"), (22_000, "0.000022000"), (10**15, "1000000.000000000")]
)
def test_a_cost_is_exact_whatever_its_size(nano: int, usd: str) -> None:
    told = _cost(entry(cache="miss"), nano)
    assert (told.usd, told.nano_usd, told.HasField("saved_nano_usd")) == (usd, nano, False)


# --- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "port"), [("nowhere.invalid", 0), ("256.1.1.1", 0), ("a" * 300, 0), ("127.0.0.1", 70_000)]
)
def test_an_address_that_is_none_is_told_with_the_way_out(host: str, port: int) -> None:
    with pytest.raises(CannotListen, match="GRPC_PORT or GRPC_HOST"):
        require_free(host, port)


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(CannotListen, match="cannot be listened on"):
        require_free("127.0.0.1", taken.getsockname()[1])
    require_free("127.0.0.1", 0)
