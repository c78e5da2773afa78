"""The gRPC server: the door's services, the standard health service, how it listens, and how it stops.

Source: gRPC core, grpc/impl/channel_arg_names.h; guides “Keepalive”, “Graceful shutdown”, “Health checking” (2026-11).
"""

import asyncio
import ipaddress
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from grpc import aio
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

from routerplatform.doors.grpc_service import PROXY, ROUTER, RouterService
from routerplatform.gateway.runtime import CLOSE_WITHIN_S, Runtime

LOOK_EVERY_S: Final = 0.25  # whether this gateway serves
SERVICES: Final = ("", ROUTER, PROXY)
KEEP_ALIVE_MS: Final = 60_000  # of silence, before a caller is asked whether it is still there
OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # two servers on one port would share its callers, and nobody would be told
    ("grpc.keepalive_time_ms", KEEP_ALIVE_MS),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),  # callers may ask, too: models think for minutes
    ("grpc.keepalive_permit_without_calls", 1),
)


class CannotListen(Exception):
    """The server cannot listen as it is told to; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where to listen, and how. Without a certificate: only on loopback, or with `plaintext`, behind a proxy."""

    host: str
    port: int  # 0: any that is free
    certificate: Path | None = None
    key: Path | None = None
    plaintext: bool = False
    reflection: bool = False

    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def credentials(self) -> grpc.ServerCredentials | None:
        """None: calls are not encrypted, and may be.

        :raises CannotListen:
        """
        if self.certificate is None and self.key is None:
            if not self.plaintext and not is_loopback(self.host):
                raise CannotListen(
                    f"{self.host} can be reached from other machines, and keys and prompts must not travel in the "
                    "open. Set GRPC_TLS_CERT and GRPC_TLS_KEY; or GRPC_HOST=127.0.0.1; or GRPC_PLAINTEXT=true, where "
                    "a proxy in front speaks TLS."
                )
            return None
        if self.certificate is None or self.key is None:
            missing = "GRPC_TLS_CERT" if self.certificate is None else "GRPC_TLS_KEY"
            raise CannotListen(f"TLS needs both files: set {missing} too.")
        return grpc.ssl_server_credentials([_pair(self.certificate, self.key)])


@dataclass(frozen=True, slots=True)
class Stopping:
    """Seconds of each step: new calls are still taken while health says NOT_SERVING, so that balancers look elsewhere;
    then those under way may finish; what is left is cut and settled."""

    announce_s: float
    drain_s: float


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it. A name other than localhost may stand for anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """The private key and the certificate chain, both PEM, in the order that gRPC takes them.

    :raises CannotListen: one cannot be read, or they do not belong together.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
        return key.read_bytes(), certificate.read_bytes()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise CannotListen(
            f"GRPC_TLS_CERT ({certificate}) and GRPC_TLS_KEY ({key}) cannot be used: {reason}. They must be readable "
            "PEM files, a certificate chain and its private key without a passphrase."
        ) from error


def _no_password() -> str:
    raise ValueError("the key has a passphrase")


class GrpcServer:
    """One server on one runtime, which is started before it and closed after it."""

    def __init__(self, runtime: Runtime, listening: Listening) -> None:
        """:raises CannotListen:"""
        self._runtime = runtime
        self._service = RouterService(runtime)
        self._health = health.aio.HealthServicer()
        self._watch: asyncio.Task[None] | None = None
        credentials = listening.credentials()
        self._server = aio.server(options=[*OPTIONS, ("grpc.max_receive_message_length", runtime.max_body_bytes)])
        self._server.add_generic_rpc_handlers(self._service.handlers())
        add_HealthServicer_to_server(self._health, self._server)
        if listening.reflection:
            names = (ROUTER, PROXY, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(listening.address())
            else:
                self.port = self._server.add_secure_port(listening.address(), credentials)
        except RuntimeError as error:
            raise CannotListen(
                f"{listening.address()} cannot be listened on: the port is taken, or this machine has no such address. "
                "Set another GRPC_PORT or GRPC_HOST."
            ) from error

    async def start(self) -> None:
        await self._tell_health()
        await self._server.start()
        self._watch = asyncio.create_task(self._watch_health())

    async def stop(self, stopping: Stopping, hurry: asyncio.Event) -> int:
        """Stop in order; once `hurry` is set, no step waits any longer. Says how many calls were cut."""
        if self._watch is not None:
            self._watch.cancel()
        await self._health.enter_graceful_shutdown()
        calls = self._service.under_way
        await _first_of(asyncio.sleep(stopping.announce_s), hurry.wait())
        closing = asyncio.create_task(self._server.stop(stopping.drain_s + CLOSE_WITHIN_S))
        await _first_of(calls.drained(stopping.drain_s), hurry.wait())
        cut = calls.cut()
        await calls.drained(CLOSE_WITHIN_S)
        await self._server.stop(None)  # who watches the health watches for ever
        await closing
        return cut

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._tell_health()

    async def _tell_health(self) -> None:
        status = HealthCheckResponse.NOT_SERVING if self._runtime.problem() else HealthCheckResponse.SERVING
        for service in SERVICES:
            await self._health.set(service, status)


async def _first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until one of them is over; the others end."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
