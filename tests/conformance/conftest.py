"""One gateway for a whole module, so that thousands of cells need one database and one server."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.test import override_settings

from providers.demo.server import running
from routerplatform.application import Application
from routerplatform.asgi import pages
from routerplatform.doors.websocket import socket_application
from routerplatform.gateway.build import build_runtime
from routerplatform.gateway.runtime import Runtimes
from tests.conformance.installation import Grid, install
from tests.gateway import serving


@pytest.fixture(scope="module")
def transactional_db(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The fixture of this name, but for a whole module: what is in the database is gone after its last test."""
    with django_db_blocker.unblock():
        yield
        call_command("flush", verbosity=0, interactive=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def grid(transactional_db: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Grid]:
    journal = tmp_path_factory.mktemp("grid") / "journal"
    with override_settings(JOURNAL_DIR=journal, CONFIG_POLL_S=0.05):
        async with running(pace_factor=0) as vendor:
            key = await sync_to_async(install)(vendor)
            application = Application(runtimes=Runtimes(build_runtime), pages=pages, sockets=socket_application())
            async with serving(application) as url, aiohttp.ClientSession() as session:
                yield Grid(url, session, key, vendor)
