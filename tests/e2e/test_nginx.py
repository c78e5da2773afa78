"""What the world is told through the nginx that the platform ships, in front of two gateways."""

from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.processes import GatewayProcess, Platform
from tests.gateway import Gateway
from tests.rolling.proxy import Nginx, nginx_binary

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(nginx_binary() is None, reason="no nginx for this machine")]


@pytest.fixture
def nginx(pair: tuple[GatewayProcess, GatewayProcess], tmp_path: Path) -> Iterator[Nginx]:
    first, second = pair
    proxy = Nginx(tmp_path / "nginx", (first.port, second.port), MAX_BODY_BYTES=1000)
    yield proxy
    proxy.stop()


async def test_the_world_is_answered_and_told_nothing_of_the_inside(
    nginx: Nginx, shared_platform: Platform, session: aiohttp.ClientSession
) -> None:
    caller = Gateway(nginx.url, session, shared_platform.key)
    reply = await caller.chat(model="demo-swift", max_tokens=5)
    assert reply.status == 200
    async with session.get(f"{nginx.url}/health") as health:
        assert health.status == 200
        told = await health.json()
    assert told.keys() == {"status", "config_revision"}
    assert told["status"] == "ok"
    for path in ("/metrics", "/health/"):
        async with session.get(nginx.url + path) as answer:
            assert answer.status == 404, path


async def test_what_is_too_large_is_refused_in_the_shape_of_the_api(
    nginx: Nginx, shared_platform: Platform, session: aiohttp.ClientSession
) -> None:
    caller = Gateway(nginx.url, session, shared_platform.key)
    reply = await caller.chat(model="demo-swift", messages=[{"role": "user", "content": "x" * 2000}])
    assert reply.status == 413
    assert reply.error["code"] == "request_too_large"
    assert "1000 bytes" in reply.error["message"]
