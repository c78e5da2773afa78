"""The one way out: pooled HTTP sessions to providers, with the egress guard, timeouts, no redirects, no proxies.

One `Transport` belongs to one event loop. Errors of the network become `ProviderError`, so nobody above knows aiohttp.
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from io import BytesIO

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from django.core.exceptions import ImproperlyConfigured
from yarl import URL

from providers.domain.egress import address_allowed
from providers.domain.errors import Failure, FailureKind, ProviderError
from providers.domain.types import AuthStyle, Credential, Endpoint, UpstreamRequest
from providers.fields import unseal
from providers.wires.failure_reading import clean

logger = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
ERROR_BODY_WITHIN_S = 2.0
LARGE_BODY_BYTES = 1024 * 1024  # from here on a body is sent in pieces, so that other requests get their turn
NO_ADDRESS = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)
NOT_DISPATCHED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, *NO_ADDRESS)
# Headers of our own make; a compressed answer would have to be unpacked before it could be read or passed on.
FIXED_HEADERS = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "router-platform"}


class UpstreamReply:
    """A provider's reply whose status and headers have come; the body is read once, whole or in pieces."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def read(self, limit: int = MAX_ANSWER_BYTES) -> bytes:
        """The whole body; what is beyond `limit` is refused as malformed.

        :raises ProviderError: as `piece`.
        """
        pieces: list[bytes] = []
        size = 0
        while piece := await self.piece():
            size += len(piece)
            if size > limit:
                raise _error(FailureKind.MALFORMED, f"the answer is larger than {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def piece(self) -> bytes:
        """The next of the body as it comes off the network; empty at its end.

        :raises ProviderError: TIMEOUT after the endpoint's silence or the attempt's time, STREAM_BROKEN when the
            connection is cut, MALFORMED when the body is packed.
        """
        encoding = _encoding(self._response)
        if encoding:
            raise _error(FailureKind.MALFORMED, f"the answer is {encoding}-encoded, which was not asked for")
        try:
            return await self._response.content.readany()
        except TimeoutError as error:
            raise _error(FailureKind.TIMEOUT, "the provider did not finish its answer in time") from error
        except aiohttp.ClientError as error:
            raise _error(FailureKind.STREAM_BROKEN, "the provider cut its answer off") from error

    async def read_error(self) -> bytes:
        """The beginning of an error body, whatever happens to the rest; nothing of one that is packed."""
        body = b""
        with suppress(aiohttp.ClientError, TimeoutError):
            async with asyncio.timeout(ERROR_BODY_WITHIN_S):
                while piece := await self._response.content.read(MAX_ERROR_BYTES - len(body)):
                    body += piece
        return b"" if _encoding(self._response) else body


class Transport:
    """Sessions by endpoint, opened on first use and closed together."""

    def __init__(self) -> None:
        self._sessions: dict[Endpoint, aiohttp.ClientSession] = {}
        self._headers: dict[tuple[AuthStyle, str], dict[str, str]] = {}
        self._urls: dict[tuple[Endpoint, str], URL] = {}

    @asynccontextmanager
    async def post(
        self,
        endpoint: Endpoint,
        credential: Credential | None,
        call: UpstreamRequest,
        *,
        timeout_s: float,
        head_within_s: float | None = None,
    ) -> AsyncIterator[UpstreamReply]:
        """Send `call` and wait for the reply's head; on the way out, close the connection.

        A body that was read to its end returns its connection to the pool. `timeout_s` is for all of it, the body
        too, `head_within_s` until the reply begins; the endpoint's own timeout is for each silence.

        :raises ProviderError: CONNECT, TIMEOUT, SERVER_ERROR, MALFORMED, or AUTHENTICATION for an unusable key;
            `failure.dispatched` is False when nothing can have arrived.
        """
        session, url = self._session(endpoint), self._url(endpoint, call.path)
        headers = {**self._authorization(endpoint, credential), **call.headers}
        data = call.body if len(call.body) < LARGE_BODY_BYTES else BytesIO(call.body)
        patience = asyncio.timeout(head_within_s)
        try:
            async with patience:
                response = await session.post(
                    url, data=data, headers=headers, timeout=_limits(endpoint, timeout_s), allow_redirects=False
                )
        except NOT_DISPATCHED as error:
            raise _error(FailureKind.CONNECT, _connect_text(endpoint, error), dispatched=False) from error
        except TimeoutError as error:
            given = "in the time that others leave it" if patience.expired() else "within its time"
            raise _error(FailureKind.TIMEOUT, f"no answer from {endpoint.name} {given}") from error
        except aiohttp.ClientResponseError:  # it holds the request's headers, and so the key
            raise _error(FailureKind.MALFORMED, f"{endpoint.name} did not answer in HTTP") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _error(
                FailureKind.SERVER_ERROR, f"{endpoint.name} closed the connection without answering"
            ) from error
        try:
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
        """Remembered only once it was found to be allowed."""
        url = self._urls.get((endpoint, path))
        if url is None:
            try:
                url = URL(endpoint.base_url + path)
            except ValueError:
                raise _error(FailureKind.CONNECT, _no_address(endpoint), dispatched=False) from None
            _refuse_literal_address(url, endpoint)
            self._urls[endpoint, path] = url
        return url

    def _authorization(self, endpoint: Endpoint, credential: Credential | None) -> dict[str, str]:
        """The headers of a credential; unsealed once per process and kept in memory only."""
        sealed = credential.sealed if credential else ""
        headers = self._headers.get((endpoint.auth, sealed))
        if headers is None:
            secret = _unsealed(endpoint, credential) if credential else ""
            headers = self._headers[endpoint.auth, sealed] = endpoint.auth.headers(secret)
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
        allowed = [result for result in found if _may_call(self._endpoint, result["host"])]
        if not allowed:
            raise OSError(None, _refusal(self._endpoint))
        return allowed

    async def close(self) -> None:
        await self._inner.close()


def _new_session(endpoint: Endpoint) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        resolver=GuardedResolver(endpoint), limit=0, ttl_dns_cache=30, keepalive_timeout=30, family=socket.AF_UNSPEC
    )
    return aiohttp.ClientSession(
        connector=connector,
        headers=FIXED_HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        requote_redirect_url=False,
        read_bufsize=256 * 1024,
    )


def _limits(endpoint: Endpoint, timeout_s: float) -> aiohttp.ClientTimeout:
    """`connect` is for all of connecting: to look the name up, to connect, to agree on TLS."""
    return aiohttp.ClientTimeout(total=timeout_s, connect=endpoint.connect_timeout_s, sock_read=endpoint.timeout_s)


def _refuse_literal_address(url: URL, endpoint: Endpoint) -> None:
    """An address written into the URL never reaches the resolver, so it is looked at here."""
    host = url.host or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return  # a name: the resolver's business
    if not _may_call(endpoint, host):
        raise _error(FailureKind.CONNECT, _refusal(endpoint), dispatched=False)


def _may_call(endpoint: Endpoint, address: str) -> bool:
    return address_allowed(address, endpoint.allowed_networks, public=endpoint.public_addresses)


def _unsealed(endpoint: Endpoint, credential: Credential) -> str:
    """The secret. Why one cannot be used is for the operator to read; a caller only learns that it cannot."""
    try:
        secret = unseal(credential.sealed)
    except ImproperlyConfigured as error:
        logger.error("key %s of provider %s cannot be used: %s", credential.label, endpoint.name, error)
        text = f"a key of {endpoint.name} cannot be decrypted"
        raise _error(FailureKind.AUTHENTICATION, text, dispatched=False) from None
    if not secret.isprintable():
        text = f"a key of {endpoint.name} has characters that no header may carry"
        raise _error(FailureKind.AUTHENTICATION, text, dispatched=False)
    return secret


def _encoding(response: aiohttp.ClientResponse) -> str:
    """How a body is packed, in a word that can be quoted; empty when it is not."""
    encoding = clean(response.headers.get("content-encoding", "").lower())[:40]
    return "" if encoding == "identity" else encoding


def _connect_text(endpoint: Endpoint, error: Exception) -> str:
    if isinstance(error, NO_ADDRESS):
        return _no_address(endpoint)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return f"could not connect to {endpoint.name}: {reason}"


def _no_address(endpoint: Endpoint) -> str:
    return f"the base URL of {endpoint.name} is not an address that can be called"


def _refusal(endpoint: Endpoint) -> str:
    """For callers too, so it names no address: the provider's page shows that to those who may see it."""
    return (
        f"{endpoint.name} has no public address. To call it all the same, list its network under “allowed private "
        "networks” on its page in the admin."
    )


def _error(kind: FailureKind, message: str, *, dispatched: bool = True) -> ProviderError:
    return ProviderError(Failure(kind, message, dispatched=dispatched))
