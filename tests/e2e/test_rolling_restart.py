"""The rolling restart of docs/deployment.md in short: two rounds under 20 streams; `script/rolling` is the real one."""

import random
from pathlib import Path

import pytest

from tests.e2e.processes import Platform
from tests.rolling.proxy import nginx_binary
from tests.rolling.restarts import SHORT, roll

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(nginx_binary() is None, reason="no nginx for this machine")]


async def test_nobody_notices_rolling_restarts(platform: Platform, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    outcome = await roll(platform, SHORT, folder=tmp_path / "nginx", seed=seed, say=print)
    print(f"seed {seed}: {outcome}")
    assert outcome.is_clean
    assert outcome.restarts == 2 * SHORT.rounds
    assert min(outcome.spanning) >= SHORT.streams / 2
    assert outcome.answers > 50
