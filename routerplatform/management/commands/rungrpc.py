"""`manage.py rungrpc`: the gRPC door, a gateway process of its own."""

import asyncio
import signal
import socket
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from routerplatform.doors.grpc_server import CannotListen, GrpcServer, Listening, Stopping
from routerplatform.gateway.build import build_runtime
from routerplatform.management.arguments import port_number, seconds


class Command(BaseCommand):
    help = (
        "Serve gRPC until a stop signal; then calls under way may finish. A second signal cuts them. See docs/grpc.md."
    )
    requires_system_checks: list[str] = []  # a gateway starts quickly; `manage.py check` is a step of its own

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=settings.GRPC_HOST, help="address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=port_number, default=settings.GRPC_PORT, help="(default: %(default)s)")
        parser.add_argument(
            "--stop-announce", type=seconds, default=settings.STOP_ANNOUNCE_S, metavar="SECONDS",
            help="after a stop signal: how long new calls are still taken, while health says NOT_SERVING "
            "(default: %(default)s)",
        )  # fmt: skip
        parser.add_argument(
            "--stop-drain", type=seconds, default=settings.STOP_DRAIN_S, metavar="SECONDS",
            help="how long calls under way may go on after that, before they are cut (default: %(default)s)",
        )  # fmt: skip

    def handle(self, *_: Any, host: str, port: int, **options: Any) -> None:
        stopping = Stopping(announce_s=options["stop_announce"], drain_s=options["stop_drain"])
        listening = Listening(
            host=host,
            port=port,
            certificate=Path(settings.GRPC_TLS_CERT) if settings.GRPC_TLS_CERT else None,
            key=Path(settings.GRPC_TLS_KEY) if settings.GRPC_TLS_KEY else None,
            plaintext=settings.GRPC_PLAINTEXT,
            reflection=settings.GRPC_REFLECTION,
        )
        try:
            listening.credentials()
            require_free(host, port)
            asyncio.run(self._serve(listening, stopping))
        except (CannotListen, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error

    async def _serve(self, listening: Listening, stopping: Stopping) -> None:
        stop, hurry = asyncio.Event(), asyncio.Event()

        def on_signal() -> None:
            if stop.is_set():
                hurry.set()
            stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        runtime = build_runtime()
        await runtime.start()
        try:
            server = GrpcServer(runtime, listening)
            await server.start()
            self._say(f"gRPC listens on {listening.host}, port {server.port}.")
            await stop.wait()
            self._say("Stopping: calls under way may finish.")
            cut = await server.stop(stopping, hurry)
            if cut:
                self._say(f"{cut} calls did not finish in time and were cut.")
        finally:
            await runtime.close()

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def require_free(host: str, port: int) -> None:
    """Ask the system before gRPC does, which would only say that it failed.

    :raises CannotListen:
    """
    try:
        if not 0 <= port < 2**16:  # the system would take what is left of it
            raise OverflowError("a port is a number from 0 to 65535")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:  # the last: a name that is no name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CannotListen(
            f"{host}, port {port} cannot be listened on: {reason}. Set another GRPC_PORT or GRPC_HOST."
        ) from error
