"""The same request in the same situation goes the same way: in every process, and after every restart."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gateway_path.deciding import digest_of

DECISIONS = 10_000
PROGRAM = """
import asyncio, sys, django
django.setup()
from tests.gateway_path.deciding import digest_of
print(asyncio.run(digest_of(int(sys.argv[1]))))
"""


def in_a_process(hash_seed: str, count: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "DJANGO_SETTINGS_MODULE": "routerplatform.settings"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(count)],
        env=environment, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout.strip()


@pytest.fixture
def two_at_a_time() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.mark.e2e
def test_10000_decisions_are_the_same_in_two_processes(two_at_a_time: ThreadPoolExecutor) -> None:
    one, other = two_at_a_time.map(in_a_process, ("1", "2"), (DECISIONS, DECISIONS))
    assert len(one) == 64
    assert one == other


@pytest.mark.e2e
async def test_and_in_this_one_when_it_begins_anew() -> None:
    there = await asyncio.to_thread(in_a_process, "3", 1_000)
    assert [await digest_of(1_000), await digest_of(1_000)] == [there, there]


async def test_other_requests_are_other_decisions() -> None:
    assert await digest_of(200) != await digest_of(198)
