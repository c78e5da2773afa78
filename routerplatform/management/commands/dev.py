"""`manage.py dev`: the whole platform on this machine, under one supervisor."""

import contextlib
import fcntl
import http.client
import os
import shutil
import socket
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from routerplatform import demo
from routerplatform.embedded import EmbeddedError, running, start_valkey
from routerplatform.management.arguments import port_number
from routerplatform.management.banner import Access, Console, banner
from routerplatform.supervisor import Command as Child
from routerplatform.supervisor import Supervisor

HOST: Final = "127.0.0.1"
READY_TIMEOUT_S: Final = 60.0
WEB_DRAIN_S: Final = "3"
BEAT_SCHEDULER: Final = "django_celery_beat.schedulers:DatabaseScheduler"
ROOT_WARNING: Final = "You're running the worker with superuser privileges"


class Command(BaseCommand):
    help = "Run the whole platform here: Valkey, web, gRPC, worker and beat, demo provider. Ctrl-C stops everything."
    requires_system_checks: list[str] = []  # the test command runs them; a start here should be quick

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=port_number, default=settings.PORT, help="web server (default: %(default)s)")
        parser.add_argument("--no-redis", action="store_true", help="neither Valkey nor Redis: limits are per process")
        parser.add_argument("--no-demo", action="store_true", help="no demo data and no demo provider")
        parser.add_argument("--no-grpc", action="store_true", help="no gRPC: a process less")

    def handle(self, *_: Any, **options: Any) -> None:
        started = time.monotonic()
        console = Console(sys.stdout)
        port: int = options["port"]
        with contextlib.ExitStack() as stack:
            stack.enter_context(only_one_on(settings.DATA_DIR))
            require_free(port)
            demo_port = None if options["no_demo"] else usable_demo_port()
            grpc_port = None if options["no_grpc"] else usable_grpc_port()
            redis_url = "" if options["no_redis"] else settings.REDIS_URL or own_valkey(stack, console)
            if not redis_url:
                console.line("", "Running without Redis: background work is queued in files.")
            env = {"LOG_LEVEL": "WARNING", **os.environ}
            env |= {"REDIS_URL": redis_url, "PORT": str(port), "PYTHONUNBUFFERED": "1"}
            env["DEMO_PROVIDER_PORT"] = str(demo_port or settings.DEMO_PROVIDER_PORT)
            supervisor = stack.enter_context(Supervisor(env=env, cwd=settings.BASE_DIR, write=console.line))
            access = prepare(console, demo_port)
            for child in children(port, demo_port, grpc_port):
                supervisor.start(child)

            def welcome() -> None:
                seconds = time.monotonic() - started
                origin, grpc = f"http://{HOST}:{port}", f"{HOST}:{grpc_port}" if grpc_port else ""
                console.write(banner(console, origin=origin, grpc=grpc, access=access, seconds=seconds))

            code = supervisor.run(
                is_ready=lambda: is_ready(port, demo_port, grpc_port),
                ready_timeout_s=READY_TIMEOUT_S,
                on_ready=welcome,
            )
        sys.exit(code)


@contextlib.contextmanager
def only_one_on(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process: two beats on one database would run every periodic task twice."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "dev.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"it already runs on {folder}. Stop it first, or choose another DATA_DIR.") from None
        yield


def require_free(port: int) -> None:
    try:
        bound_port(port)
    except OSError as error:
        raise CommandError(f"port {port} is not free ({error.strerror}). Choose another with --port.") from None


def usable_demo_port() -> int:
    """The configured port of the demo provider, or another one: nobody but our own database has to know it."""
    return usable_port(settings.DEMO_PROVIDER_PORT)


def usable_grpc_port() -> int:
    """The configured port of gRPC, or another one, which the first page tells."""
    return usable_port(settings.GRPC_PORT)


def usable_port(wanted: int) -> int:
    try:
        return bound_port(wanted)
    except OSError:
        return bound_port(0)


def bound_port(port: int) -> int:
    """Take `port` (0: any) for a moment. Raises OSError if it cannot be had."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return int(probe.getsockname()[1])


def own_valkey(stack: contextlib.ExitStack, console: Console) -> str:
    """Start Valkey out of its wheel; an empty string if that cannot be."""
    try:
        return stack.enter_context(running(start_valkey(settings.DATA_DIR / "valkey"))).url
    except EmbeddedError as error:
        console.line("", f"Valkey is not available: {error}")
        return ""


def prepare(console: Console, demo_port: int | None) -> Access:
    """Bring the database up to date, with catalogue and demo data; skips what is done. Metrics begin anew."""
    shutil.rmtree(settings.METRICS_DIR, ignore_errors=True)
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        console.line("", "Preparing the database ...")
        call_command("migrate", verbosity=0, interactive=False)
    call_command("catalogue_load", verbosity=0)
    access = access_to_demo(demo_port) if demo_port else access_without_demo()
    call_command("vendor_keys", verbosity=0)
    connections.close_all()
    return access


def access_to_demo(demo_port: int) -> Access:
    seeded = demo.seed(now=timezone.now(), demo_provider_port=demo_port)
    return Access(username=seeded.admin_username, password=seeded.admin_password, key=seeded.demo_key)


def access_without_demo() -> Access:
    admin = get_user_model().objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    return Access(username=admin.get_username() if admin else None)


def children(port: int, demo_port: int | None, grpc_port: int | None = None) -> Iterator[Child]:
    python = sys.executable
    soon = ["--stop-announce", "0", "--stop-drain", WEB_DRAIN_S]  # nobody balances over this one, and Ctrl-C is quick
    yield Child("web", [python, "manage.py", "serve", "--host", HOST, "--port", str(port), *soon])
    # Alone on its broker, so there is nobody to gossip with; and in a container, root is the usual user.
    celery = [python, "-W", f"ignore:{ROOT_WARNING}", "-m", "celery", "--quiet", "-A", "routerplatform", "worker"]
    alone = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "warning"]
    work = ["--pool", "threads", "--concurrency", "4", "--beat", "--scheduler", BEAT_SCHEDULER]
    yield Child("worker", [*celery, *alone, *work], nice=5)
    if grpc_port:
        listening = ["--host", HOST, "--port", str(grpc_port), *soon]
        yield Child("grpc", [python, "manage.py", "rungrpc", *listening])
    if demo_port:
        yield Child("demo", [python, "-m", "providers.demo", "--port", str(demo_port)])


def is_ready(port: int, demo_port: int | None, grpc_port: int | None = None) -> bool:
    """Whether the web process says so; gRPC listens, as it does once it can serve; and so does the provider that
    answers the first request."""
    return answers(port) and all(listens(other) for other in (demo_port, grpc_port) if other)


def listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def answers(port: int) -> bool:
    """Whether the web process says that it is ready."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
