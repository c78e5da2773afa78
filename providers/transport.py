"""The one way out: pooled HTTP sessions to providers, with the egress guard, timeouts, no redirects, no proxies.

One `Transport` belongs to one event loop. Errors of the network become `ProviderError`, so nobody above knows aiohttp.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from providers.domain.egress import address_allowed
from providers.domain.errors import Failure, FailureKind, ProviderError
from providers.domain.types import Credential, Endpoint, UpstreamRequest, Wire
from providers.fields import unseal
from providers.wires import WIRES

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
NOT_DISPATCHED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
# Headers of our own make; a compressed answer would have to be unpacked before it could be read or passed on.
FIXED_HEADERS = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "router-platform"}


class UpstreamReply:
    """A provider's reply whose status and headers have come; the body is read once, whole or in pieces."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def read(self, limit: int = MAX_ANSWER_BYTES) -> bytes:
        """The whole body; what is beyond `limit` is refused as malformed."""
        pieces: list[bytes] = []
        size = 0
        async for piece in self.pieces():
            size += len(piece)
            if size > limit:
                raise _error(FailureKind.MALFORMED, f"the answer is larger than {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def read_error(self) -> bytes:
        """The beginning of an error body, whatever happens to the rest."""
        try:
            return await self._response.content.read(MAX_ERROR_BYTES)
        except (aiohttp.ClientError, TimeoutError):
            return b""

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes off the network.

        :raises ProviderError: TIMEOUT after the endpoint's silence, STREAM_BROKEN when the connection is cut.
        """
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except TimeoutError as error:
            raise _error(FailureKind.TIMEOUT, "the provider went silent in the middle of its answer") from error
        except aiohttp.ClientError as error:
            raise _error(FailureKind.STREAM_BROKEN, "the provider cut its answer off") from error


class Transport:
    """Sessions by endpoint, opened on first use and closed together."""

    def __init__(self) -> None:
        self._sessions: dict[Endpoint, aiohttp.ClientSession] = {}
        self._headers: dict[tuple[Wire, str], dict[str, str]] = {}
        self._urls: dict[tuple[str, str], URL] = {}

    @asynccontextmanager
    async def post(
        self, endpoint: Endpoint, credential: Credential | None, call: UpstreamRequest, *, timeout_s: float
    ) -> AsyncIterator[UpstreamReply]:
        """Send `call`, wait at most `timeout_s` for the reply's head, and close the connection on the way out.

        A body that was read to its end returns its connection to the pool.

        :raises ProviderError: CONNECT or TIMEOUT; `failure.dispatched` is False when nothing can have arrived.
        """
        session = self._session(endpoint)
        headers = {**self._authorization(endpoint, credential), **call.headers}
        try:
            async with asyncio.timeout(timeout_s):
                response = await session.post(self._url(endpoint, call.path), data=call.body, headers=headers)
        except NOT_DISPATCHED as error:
            raise _error(FailureKind.CONNECT, _connect_text(endpoint, error), dispatched=False) from error
        except TimeoutError as error:
            raise _error(FailureKind.TIMEOUT, f"no answer from {endpoint.name} within its time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _error(
                FailureKind.SERVER_ERROR, f"{endpoint.name} closed the connection without answering"
            ) from error
        try:
            _refuse_encoded(response)
            yield UpstreamReply(response)
        finally:
            response.release() if response.content.at_eof() else response.close()

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    def _session(self, endpoint: Endpoint) -> aiohttp.ClientSession:
        session = self._sessions.get(endpoint)
        if session is None:
            session = self._sessions[endpoint] = _new_session(endpoint)
        return session

    def _url(self, endpoint: Endpoint, path: str) -> URL:
        url = self._urls.get((endpoint.base_url, path))
        if url is None:
            url = self._urls[endpoint.base_url, path] = URL(endpoint.base_url + path)
            _refuse_literal_address(url, endpoint)
        return url

    def _authorization(self, endpoint: Endpoint, credential: Credential | None) -> dict[str, str]:
        """The headers of a credential; unsealed once per process and kept in memory only."""
        sealed = credential.sealed if credential else ""
        headers = self._headers.get((endpoint.wire, sealed))
        if headers is None:
            secret = unseal(sealed) if sealed else ""
            headers = self._headers[endpoint.wire, sealed] = WIRES[endpoint.wire].authorization(secret)
        return headers


class GuardedResolver(AbstractResolver):
    """Resolves names and drops every address that the endpoint may not reach; checked at the moment of connecting, so
    that a name cannot point elsewhere after a first look."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        allowed = [result for result in found if address_allowed(result["host"], self._endpoint.allowed_networks)]
        if not allowed:
            raise OSError(None, _refusal(host))
        return allowed

    async def close(self) -> None:
        await self._inner.close()


def _new_session(endpoint: Endpoint) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        resolver=GuardedResolver(endpoint), limit=0, ttl_dns_cache=30, keepalive_timeout=30, family=socket.AF_UNSPEC
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=endpoint.connect_timeout_s, sock_read=endpoint.timeout_s
        ),
        headers=FIXED_HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        requote_redirect_url=False,
        read_bufsize=256 * 1024,
    )


def _refuse_literal_address(url: URL, endpoint: Endpoint) -> None:
    """An address written into the URL never reaches the resolver, so it is looked at here."""
    try:
        allowed = address_allowed(url.host or "", endpoint.allowed_networks)
    except ValueError:
        return  # a name: the resolver's business
    if not allowed:
        raise _error(FailureKind.CONNECT, _refusal(url.host or ""), dispatched=False)


def _refuse_encoded(response: aiohttp.ClientResponse) -> None:
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding not in {"identity", ""}:
        raise _error(FailureKind.MALFORMED, f"the answer is {encoding}-encoded, which was not asked for")


def _connect_text(endpoint: Endpoint, error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return f"could not connect to {endpoint.name}: {reason}"


def _refusal(host: str) -> str:
    return (
        f"{host} is not a public address. To call it all the same, list its network under "
        "“allowed private networks” of the provider."
    )


def _error(kind: FailureKind, message: str, *, dispatched: bool = True) -> ProviderError:
    return ProviderError(Failure(kind, message, dispatched=dispatched))
