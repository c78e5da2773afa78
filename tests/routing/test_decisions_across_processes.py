"""The same configuration and the same request give the same decision, wherever and whenever they meet."""

import json
import os
import subprocess
import sys
from hashlib import blake2b

from routing.domain.explanation import explanation
from tests.routing.domain.test_decision_properties import decided
from tests.routing.domain.worlds import world


def test_decisions_are_the_same_in_another_process() -> None:
    """With other hashes of strings there, so that no order of a set or dictionary of names gets through."""
    numbers = range(10_000)
    program = (
        "from tests.routing.test_decisions_across_processes import fingerprint\n"
        f"print(fingerprint(range({len(numbers)})))"
    )
    here = fingerprint(numbers)
    for seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed}, timeout=300,
        )  # fmt: skip
        assert told.stdout.strip() == here


def fingerprint(numbers: range) -> str:
    """All decisions of these worlds, as one number in words."""
    digest = blake2b(digest_size=16)
    for number in numbers:
        plan = decided(world(number))
        digest.update(json.dumps(explanation(plan) if plan else None, sort_keys=True).encode())
    return digest.hexdigest()
