"""The whole contract, tried from outside as `script/contract` does. Takes some minutes: it starts the platform."""

import subprocess
import sys

import pytest

from tests.contract.browser import CHROMIUM
from tests.contract.promises import PROMISES
from tests.contract.stage import ROOT

SECONDS = 1500

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(SECONDS + 100),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: install it, or name one in CHROMIUM"),
]


def test_every_promise_is_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.contract"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert f"{len(PROMISES)} of {len(PROMISES)} promises are kept" in done.stdout
