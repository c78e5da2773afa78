"""The torture in a few seconds each; `script/torture --long` is the real one."""

import random
from collections.abc import Iterator

import pytest
from django.db import connection

from routerplatform.embedded import EmbeddedError
from tests.torture.scenarios import QUICK, SCENARIOS, shutdown
from tests.torture.stage import Stage, stage

pytestmark = pytest.mark.e2e
SEED = random.randrange(10**6)


@pytest.fixture(scope="module")
def tortured() -> Iterator[Stage]:
    """Two gateways and all they need, on the kind of database that the tests run on; nothing is left in the end."""
    try:
        with stage(connection.vendor, seed=SEED, rounds=QUICK.rounds, limit_usd=QUICK.limit_usd) as on:
            yield on
            assert shutdown(on).misses == []
    except EmbeddedError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_lost_and_nothing_is_spent_twice(name: str, tortured: Stage) -> None:
    outcome = SCENARIOS[name](tortured, QUICK, random.Random(SEED))
    print(f"seed {SEED}: {outcome}")
    assert outcome.misses == []
    assert outcome.answers > 0
