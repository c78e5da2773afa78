"""The one way out, against servers on loopback that speak HTTP byte by byte."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from providers.domain.errors import Failure, FailureKind, ProviderError
from providers.domain.types import Credential, Endpoint, UpstreamRequest, Wire
from providers.fields import seal
from providers.transport import Transport, UpstreamReply
from tests.stalls import PATIENCE_S, Stalls

SECRET = "sk-loopback-000000000042"
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """Answers each request with the next of `replies`, the last one again and again; a handler takes over instead.

    `heads` are the requests' heads as they arrived, `connections` counts who connected.
    """

    replies: list[bytes | Handler]
    port: int = 0
    connections: int = 0
    heads: list[str] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await self._request(reader):
                self.heads.append(head)
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                if not isinstance(reply, bytes):
                    await reply(reader, writer)
                    return
                writer.write(reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> str:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lengths = [line.partition(":")[2] for line in head.split("\r\n") if line.lower().startswith("content-length")]
        await reader.readexactly(int(lengths[0]) if lengths else 0)
        return head


@asynccontextmanager
async def server(*replies: bytes | Handler) -> AsyncIterator[Server]:
    serving = Server(list(replies))
    listener = await asyncio.start_server(serving.handle, "127.0.0.1", 0)
    serving.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield serving
        listener.close()


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    made = Transport()
    yield made
    await made.close()


def endpoint(port: int, host: str = "127.0.0.1", **options: Any) -> Endpoint:
    values: dict[str, Any] = {
        "base_url": f"http://{host}:{port}/v1",
        "connect_timeout_s": 1.0,
        "timeout_s": 5.0,
        "allowed_networks": ("127.0.0.1/32",),
    }
    return Endpoint(id=1, name="loop", kind="openai-compatible", wires=(Wire.OPENAI,), **{**values, **options})


def credential(secret: str = SECRET) -> Credential:
    return Credential(1, "key", secret[-4:], seal(secret))


def call(body: bytes = b"{}", headers: dict[str, str] | None = None) -> UpstreamRequest:
    return UpstreamRequest("/chat/completions", {"content-type": "application/json", **(headers or {})}, body)


async def ask(
    transport: Transport, to: Endpoint, *, key: Credential | None = None, timeout_s: float = 5.0, body: bytes = b"{}"
) -> bytes:
    async with transport.post(to, key, call(body), timeout_s=timeout_s) as reply:
        return await reply.read()


async def failure_of(answer: Awaitable[Any]) -> Failure:
    with pytest.raises(ProviderError) as caught:
        await answer
    return caught.value.failure


# --- where it may go ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127.0.0.2", "0.0.0.0"])  # noqa: S104
async def test_a_private_address_is_refused_however_it_is_written_and_however_often(
    transport: Transport, host: str
) -> None:
    async with server(OK) as serving:
        closed = endpoint(serving.port, host, allowed_networks=())
        for _ in range(3):
            failure = await failure_of(ask(transport, closed))
            assert failure.kind is FailureKind.CONNECT
            assert not failure.dispatched
            assert "has no public address" in failure.message
            assert "127.0.0" not in failure.message, "callers read it too"
    assert serving.connections == 0


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0177.0.0.1", "0x7f.0.0.1"])
async def test_old_spellings_of_an_address_do_not_get_around_the_guard(transport: Transport, host: str) -> None:
    async with server(OK) as serving:
        failure = await failure_of(ask(transport, endpoint(serving.port, host, allowed_networks=())))
    assert (failure.kind, failure.dispatched, serving.connections) == (FailureKind.CONNECT, False, 0)


async def test_what_one_provider_may_reach_does_not_open_it_for_another(transport: Transport) -> None:
    async with server(OK) as serving:
        assert await ask(transport, endpoint(serving.port)) == b"{}"
        failure = await failure_of(ask(transport, endpoint(serving.port, allowed_networks=())))
    assert failure.kind is FailureKind.CONNECT
    assert serving.connections == 1


async def test_a_network_that_cannot_be_read_opens_nothing(transport: Transport) -> None:
    async with server(OK) as serving:
        with pytest.raises(ValueError, match="nonsense"):
            await ask(transport, endpoint(serving.port, allowed_networks=("nonsense",)))
    assert serving.connections == 0


@pytest.mark.parametrize("base_url", ["http://[/v1", "http://host:99999/v1", "nonsense", "", "ftp://127.0.0.1/v1"])
async def test_a_base_url_that_is_none_is_told_as_what_it_is(transport: Transport, base_url: str) -> None:
    failure = await failure_of(ask(transport, endpoint(1, base_url=base_url)))
    assert (failure.kind, failure.dispatched) == (FailureKind.CONNECT, False)
    assert "base URL of loop" in failure.message


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(transport: Transport, status: int) -> None:
    async with server(OK) as elsewhere:
        head = f"HTTP/1.1 {status} Moved\r\nlocation: http://127.0.0.1:{elsewhere.port}/\r\ncontent-length: 0\r\n\r\n"
        async with (
            server(head.encode()) as serving,
            transport.post(endpoint(serving.port), credential(), call(), timeout_s=5) as reply,
        ):
            assert reply.status == status
    assert elsewhere.connections == 0


async def test_proxies_of_the_environment_are_ignored(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(OK) as proxy, server(OK) as serving:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert await ask(transport, endpoint(serving.port)) == b"{}"
    assert (proxy.connections, serving.connections) == (0, 1)


# --- what it says -------------------------------------------------------------------------------------------------


async def test_cookies_are_not_kept(transport: Transport) -> None:
    cookie = OK.replace(b"content-type", b"set-cookie: session=1; path=/\r\ncontent-type")
    async with server(cookie) as serving:
        for _ in range(2):
            await ask(transport, endpoint(serving.port))
    assert len(serving.heads) == 2
    assert "cookie" not in serving.heads[1].lower()


async def test_the_key_is_in_its_header_and_nothing_says_who_called(transport: Transport) -> None:
    async with server(OK) as serving:
        await ask(transport, endpoint(serving.port), key=credential())
    head = serving.heads[0]
    assert head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    assert f"authorization: Bearer {SECRET}" in head
    assert "accept-encoding: identity" in head.lower()


@pytest.mark.parametrize("secret", ["sk-1\r\nx-evil: yes", "sk-1\nx-evil: yes", "sk-1\x00"])
async def test_a_key_cannot_bring_a_header_along(transport: Transport, secret: str) -> None:
    async with server(OK) as serving:
        failure = await failure_of(ask(transport, endpoint(serving.port), key=credential(secret)))
    assert (failure.kind, failure.dispatched, serving.connections) == (FailureKind.AUTHENTICATION, False, 0)
    assert "sk-1" not in failure.message


async def test_a_header_value_with_a_line_break_never_leaves(transport: Transport) -> None:
    async with server(OK) as serving:
        with pytest.raises(ValueError, match="header injection"):
            async with transport.post(
                endpoint(serving.port), None, call(headers={"x-request-id": "1\r\nx-evil: yes"}), timeout_s=5
            ):
                pytest.fail("it was sent")
    assert serving.heads == []


async def test_a_sealed_key_that_no_field_key_opens_is_a_clear_refusal(
    transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = Credential(1, "production", "0042", "00000000:gAAAAforeign")
    async with server(OK) as serving:
        failure = await failure_of(ask(transport, endpoint(serving.port), key=foreign))
    assert (failure.kind, failure.dispatched, serving.connections) == (FailureKind.AUTHENTICATION, False, 0)
    assert failure.message == "a key of loop cannot be decrypted"
    assert "rotate_field_keys" in caplog.text, "the operator reads the way out in the log"


@pytest.mark.parametrize("fault", ["refused", "reset", "silent", "garbage"])
async def test_the_secret_is_in_no_exception(
    transport: Transport, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    replies: dict[str, bytes | Handler] = {
        "refused": OK,
        "reset": _reset,
        "silent": _silent,
        "garbage": b"nonsense\r\n\r\n",
    }
    async with server(replies[fault]) as serving:
        port = 1 if fault == "refused" else serving.port
        with pytest.raises(ProviderError) as caught:
            await ask(transport, endpoint(port, timeout_s=0.3), key=credential())
    seen: BaseException | None = caught.value
    while seen is not None:
        assert SECRET not in f"{seen!r} {seen} {vars(seen)}"
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    assert SECRET not in caplog.text


# --- when it goes wrong -------------------------------------------------------------------------------------------


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


def _begins(head: bytes, *pieces: bytes, pause_s: float = 0.0, then: Handler | None = None) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in (head, *pieces):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        if then is not None:
            await then(reader, writer)

    return handler


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"


async def test_a_refused_connection_was_not_dispatched(transport: Transport) -> None:
    async with server(OK) as serving:
        port = serving.port
    failure = await failure_of(ask(transport, endpoint(port)))
    assert (failure.kind, failure.dispatched) == (FailureKind.CONNECT, False)
    assert "could not connect to loop" in failure.message


async def test_a_name_that_does_not_resolve_was_not_dispatched(transport: Transport) -> None:
    failure = await failure_of(ask(transport, endpoint(80, "nowhere.invalid")))
    assert (failure.kind, failure.dispatched) == (FailureKind.CONNECT, False)


async def test_a_server_that_never_agrees_on_tls_was_not_dispatched(transport: Transport) -> None:
    async with server(_silent) as serving:
        to = endpoint(0, base_url=f"https://127.0.0.1:{serving.port}/v1", connect_timeout_s=0.3)
        failure = await failure_of(ask(transport, to))
    assert (failure.kind, failure.dispatched) == (FailureKind.CONNECT, False)


async def test_a_connection_that_is_reset_before_the_head_is_a_fault_of_the_server(transport: Transport) -> None:
    async with server(_reset) as serving:
        failure = await failure_of(ask(transport, endpoint(serving.port)))
    assert (failure.kind, failure.dispatched) == (FailureKind.SERVER_ERROR, True)


@pytest.mark.parametrize(
    "handler",
    [_silent, _begins(b"HTTP/1.1 200", b" ", b"O", b"K", b"\r", pause_s=0.1, then=_silent)],
    ids=["none", "slow"],
)
async def test_a_head_that_does_not_come_is_a_timeout(transport: Transport, handler: Handler, stalls: Stalls) -> None:
    async with server(handler) as serving:
        watch = stalls.watch()
        failure = await failure_of(ask(transport, endpoint(serving.port, timeout_s=0.3)))
    assert (failure.kind, failure.dispatched) == (FailureKind.TIMEOUT, True)
    assert watch.seconds < 0.9  # the slow one: four pieces, then the silence


async def test_silence_in_the_middle_of_a_body_is_a_timeout(transport: Transport) -> None:
    async with server(_begins(LONG, b"{", then=_silent)) as serving:
        failure = await failure_of(ask(transport, endpoint(serving.port, timeout_s=0.3)))
    assert failure.kind is FailureKind.TIMEOUT


@pytest.mark.parametrize("head", [LONG, b"HTTP/1.0 200 OK\r\n\r\n"], ids=["length", "until it closes"])
async def test_a_body_that_drips_ends_with_the_time_of_the_whole_attempt(
    transport: Transport, head: bytes, stalls: Stalls
) -> None:
    """No silence is ever long enough to end it."""
    async with server(_begins(head, *[b"x"] * 100, pause_s=0.05)) as serving:
        started, watch = asyncio.get_running_loop().time(), stalls.watch()
        failure = await failure_of(ask(transport, endpoint(serving.port), timeout_s=0.5))
    assert failure.kind is FailureKind.TIMEOUT
    assert asyncio.get_running_loop().time() - started > 0.4
    assert watch.seconds < 1.0


@pytest.mark.parametrize("begun", [_begins(LONG, b"{"), _begins(CHUNKED, b"5\r\nhel")], ids=["length", "chunked"])
async def test_a_body_that_is_cut_is_a_broken_stream(transport: Transport, begun: Handler) -> None:
    async with server(begun) as serving:
        failure = await failure_of(ask(transport, endpoint(serving.port)))
    assert failure.kind is FailureKind.STREAM_BROKEN


async def test_a_body_without_a_length_ends_where_the_connection_does(transport: Transport) -> None:
    async with server(_begins(b"HTTP/1.0 200 OK\r\n\r\n", b'{"a":', b"1}", pause_s=0.02)) as serving:
        assert await ask(transport, endpoint(serving.port)) == b'{"a":1}'


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
async def test_a_packed_answer_is_refused_by_name(transport: Transport, encoding: str) -> None:
    packed = OK.replace(b"content-type", f"content-encoding: {encoding}\r\ncontent-type".encode())
    async with server(packed) as serving:
        failure = await failure_of(ask(transport, endpoint(serving.port)))
    assert failure.kind is FailureKind.MALFORMED
    assert f"{encoding}-encoded" in failure.message


async def test_what_a_failure_quotes_of_a_vendors_header_can_be_written_down(transport: Transport) -> None:
    """A byte that is no UTF-8 becomes half a surrogate pair, which no record and no answer could hold."""
    odd = OK.replace(b"content-type", b"content-encoding: \xff" + b"z" * 300 + b"\r\ncontent-type")
    async with server(odd) as serving:
        failure = await failure_of(ask(transport, endpoint(serving.port)))
    assert failure.kind is FailureKind.MALFORMED
    assert msgspec.json.decode(msgspec.json.encode(failure.message)) == failure.message
    assert len(failure.message) < 200


async def test_an_answer_over_the_limit_is_refused_before_it_is_read_whole(transport: Transport) -> None:
    endless = _begins(CHUNKED, *[b"400\r\n" + b"x" * 1024 + b"\r\n"] * 5000)
    async with server(endless) as serving:
        async with transport.post(endpoint(serving.port), None, call(), timeout_s=5) as reply:
            failure = await failure_of(reply.read(limit=4096))
    assert (failure.kind, failure.message) == (FailureKind.MALFORMED, "the answer is larger than 4096 bytes")


# --- error bodies -------------------------------------------------------------------------------------------------


async def _error_body(transport: Transport, handler: bytes | Handler, *, silence_s: float = PATIENCE_S) -> bytes:
    async with (
        server(handler) as serving,
        transport.post(endpoint(serving.port, timeout_s=silence_s), None, call(), timeout_s=PATIENCE_S) as reply,
    ):
        assert reply.status == 500
        return await reply.read_error()


ERROR_HEAD = b"HTTP/1.1 500 Oops\r\ncontent-length: 10\r\n"


async def test_an_error_that_comes_in_pieces_is_read_whole(transport: Transport) -> None:
    body = await _error_body(transport, _begins(ERROR_HEAD + b"\r\n", b'{"err', b'":1}\n', pause_s=0.05))
    assert body == b'{"err":1}\n'[:10]


@pytest.mark.parametrize("then", [None, _silent], ids=["cut", "silent"])
async def test_of_an_error_that_breaks_off_the_beginning_counts(transport: Transport, then: Handler | None) -> None:
    begun = _begins(ERROR_HEAD + b"\r\n", b'{"err', pause_s=0.05, then=then)
    assert await _error_body(transport, begun, silence_s=0.5) == b'{"err'


async def test_of_a_packed_error_nothing_is_read(transport: Transport) -> None:
    assert await _error_body(transport, ERROR_HEAD + b"content-encoding: gzip\r\n\r\n0123456789") == b""


# --- connections --------------------------------------------------------------------------------------------------


async def test_a_connection_is_used_again_after_a_whole_answer(transport: Transport) -> None:
    async with server(OK) as serving:
        for _ in range(3):
            await ask(transport, endpoint(serving.port))
        assert (serving.connections, len(serving.heads)) == (1, 3)


async def test_a_connection_is_closed_when_the_answer_was_not_read_to_its_end(transport: Transport) -> None:
    closed = asyncio.Event()

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(LONG + b"{")
        assert await reader.read() == b""
        closed.set()

    async with server(half, OK) as serving:
        async with transport.post(endpoint(serving.port), None, call(), timeout_s=5) as reply:
            assert await reply.piece() == b"{"
        await asyncio.wait_for(closed.wait(), PATIENCE_S)
        await ask(transport, endpoint(serving.port))
        assert serving.connections == 2


async def test_a_large_body_arrives_whole(transport: Transport) -> None:
    large = msgspec.json.encode({"x": "y" * (5 * 1024 * 1024)})
    async with server(OK) as serving:
        assert await ask(transport, endpoint(serving.port), body=large) == b"{}"
    assert f"content-length: {len(large)}" in serving.heads[0].lower()


async def test_a_closed_transport_can_be_used_again(transport: Transport) -> None:
    async with server(OK) as serving:
        await ask(transport, endpoint(serving.port))
        await transport.close()
        assert await ask(transport, endpoint(serving.port)) == b"{}"


async def test_headers_of_a_reply_are_found_whatever_their_case(transport: Transport) -> None:
    async with (
        server(OK) as serving,
        transport.post(endpoint(serving.port), None, call(), timeout_s=5) as reply,
    ):
        assert isinstance(reply, UpstreamReply)
        assert reply.headers["Content-Type"] == reply.headers["content-type"] == "application/json"
