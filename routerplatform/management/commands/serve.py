"""`manage.py serve`: one web process, as production runs it. web_server.py says what a signal does."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from routerplatform.asgi import application
from routerplatform.management.arguments import port_number, seconds
from routerplatform.web_server import Stop, bound, serve


class Command(BaseCommand):
    help = "Serve the API, the sockets and the pages, with uvicorn. SIGTERM or Ctrl-C: finish what is open, then end."
    requires_system_checks: list[str] = []  # `manage.py check` runs them; a start here should be quick

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
        parser.add_argument("--port", type=port_number, default=settings.PORT, help="default: PORT, %(default)s")
        parser.add_argument(
            "--stop-announce", type=seconds, default=settings.STOP_ANNOUNCE_S, metavar="S",
            help="when told to stop, serve new connections for so long (default: STOP_ANNOUNCE_S, %(default)g)",
        )  # fmt: skip
        parser.add_argument(
            "--stop-drain", type=seconds, default=settings.STOP_DRAIN_S, metavar="S",
            help="after that, wait for open answers for so long (default: STOP_DRAIN_S, %(default)g)",
        )  # fmt: skip

    def handle(self, *_: Any, **options: Any) -> None:
        stop = Stop(announce_s=options["stop_announce"], drain_s=options["stop_drain"])
        host, port = options["host"], options["port"]
        try:
            sock = bound(host, port)
        except OSError as error:
            raise CommandError(f"cannot listen on {host}, port {port}: {error.strerror}. Choose with --port.") from None
        with sock:
            if not serve(application, sock, stop=stop, trusted_proxies=settings.TRUSTED_PROXIES):
                sys.exit(1)
