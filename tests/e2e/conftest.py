"""What end-to-end tests share: one demo provider and one installation for the session, copies of it for each test."""

from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.processes import Database, DemoProvider, GatewayProcess, Installation, Platform
from tests.gateway import Gateway


@pytest.fixture(scope="session")
def demo_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProvider]:
    """The demo provider as a process; it answers at once."""
    provider = DemoProvider(tmp_path_factory.mktemp("demo"))
    yield provider
    provider.stop()


@pytest.fixture(scope="session")
def installation(demo_provider: DemoProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The demo installation, to be copied: nobody works in it."""
    folder = tmp_path_factory.mktemp("installation")
    database = Database.create(folder)
    yield Installation.make(database, folder, demo_provider)
    database.drop()


@pytest.fixture
def platform(installation: Installation, tmp_path: Path) -> Iterator[Platform]:
    """A platform of the test's own; no gateway runs yet."""
    with closing(Platform.make(installation, tmp_path)) as platform:
        yield platform


@pytest.fixture(scope="session")
def shared_platform(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that many tests may use, with two gateways: leave its configuration as it was."""
    with closing(Platform.make(installation, tmp_path_factory.mktemp("shared"))) as platform:
        for gateway in [platform.start(), platform.start()]:
            gateway.wait_ready()
        yield platform


@pytest.fixture
def pair(shared_platform: Platform) -> tuple[GatewayProcess, GatewayProcess]:
    """The two gateways of the shared platform."""
    first, second = shared_platform.started[:2]
    return first, second


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Raw HTTP with as many connections as a test wants."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


@pytest.fixture
def caller(
    shared_platform: Platform, pair: tuple[GatewayProcess, GatewayProcess], session: aiohttp.ClientSession
) -> Gateway:
    """Somebody with a key, at the shared platform's first gateway."""
    return Gateway(pair[0].url, session, shared_platform.key)
