"""What every test may use: two scripted vendors, and a gateway that is configured to reach them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import hypothesis
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.test import TransactionTestCase, override_settings
from pytest_django import Settings
from redis import Redis
from redis.exceptions import RedisError

from providers.fleet.shared import HASH
from routerplatform.application import Application
from routerplatform.asgi import pages
from routerplatform.doors.websocket import socket_application
from routerplatform.gateway.build import build_runtime
from routerplatform.gateway.runtime import Runtimes
from tests import gateway as configure
from tests.clean_database import CleanDatabase
from tests.gateway import Gateway, serving
from tests.stalls import Stalls, heartbeat
from tests.upstreams.scripted import Upstream, anthropic_answer, openai_answer


def pytest_configure() -> None:
    """Passwords of made-up people may be hashed fast: the real hasher costs a quarter of a second each.

    The folder of metrics is there before the first of them is counted, as it is in every gateway.
    """
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.METRICS_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    hypothesis.settings.register_profile("suite", deadline=None)  # a busy machine is no failure
    hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The database of pytest-django; after a test that commits it is cleaned in our own, faster way."""
    with pytest.MonkeyPatch.context() as patch:
        with django_db_blocker.unblock():
            database = CleanDatabase()
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda case: database.restore())
        yield
        database.close()


@pytest.fixture(scope="session")
def stalls() -> Iterator[Stalls]:
    """For a promise in seconds: tells what the machine itself took from a test."""
    with heartbeat() as found:
        yield found


@pytest.fixture
async def openai_upstream() -> AsyncIterator[Upstream]:
    """A vendor that speaks OpenAI's wire."""
    upstream = Upstream(openai_answer())
    await upstream.start()
    yield upstream
    await upstream.stop()


@pytest.fixture
async def anthropic_upstream() -> AsyncIterator[Upstream]:
    """A vendor that speaks Anthropic's wire."""
    upstream = Upstream(anthropic_answer())
    await upstream.start()
    yield upstream
    await upstream.stop()


@pytest.fixture
def application(settings: Settings, tmp_path: Path) -> Application:
    """The platform's own application, with a journal of its own and a configuration that is looked at often.

    What Redis knows of failures goes by the ids of deployments, which another test may have had.
    """
    if settings.REDIS_URL:
        with suppress(RedisError), Redis.from_url(settings.REDIS_URL) as redis:
            redis.delete(HASH)
    settings.JOURNAL_DIR = tmp_path / "journal"
    settings.CONFIG_POLL_S = 0.05
    return Application(runtimes=Runtimes(build_runtime), pages=pages, sockets=socket_application())


@pytest.fixture
async def gateway(
    transactional_db: None, application: Application, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> AsyncIterator[Gateway]:
    """A gateway with one team, one key, and two models: `swift` (OpenAI's wire, then `sage`) and `sage` (Anthropic's).

    The default policy prefers `swift` and falls back to `sage`.
    """
    with override_settings(SIMPLE_HISTORY_ENABLED=False):  # who entered it is of no interest, and half of the work
        key = await sync_to_async(configure_two_vendors)(openai_upstream.url, anthropic_upstream.url)
    async with serving(application) as url, aiohttp.ClientSession() as session:
        yield Gateway(url, session, key)


def configure_two_vendors(openai_url: str, anthropic_url: str) -> str:
    """What `gateway` says; returns the key."""
    [swift] = configure.vendor("alpha", openai_url, "swift-1")
    [sage] = configure.vendor("beta", anthropic_url, "sage-1", kind="anthropic-compatible")
    swift_alias, sage_alias = configure.alias("swift", swift), configure.alias("sage", sage)
    configure.policy("default", preferred=[swift_alias], fallbacks=[sage_alias], is_default=True)
    return configure.key(1)
