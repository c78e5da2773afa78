"""How checks insist and wait."""

import time
from collections.abc import Callable
from typing import Any, Final

from tests.contract.verdicts import NotKept

PATIENCE_S: Final = 60.0


def must(condition: object, otherwise: object) -> None:
    """:raises NotKept: the condition does not hold."""
    if not condition:
        raise NotKept(str(otherwise))


def until(condition: Callable[[], Any], what: str, *, within_s: float = PATIENCE_S) -> Any:
    """The first true answer of `condition`; it is asked ten times a second.

    :raises NotKept: there was none in time.
    """
    deadline = time.monotonic() + within_s
    while not (answer := condition()):
        must(time.monotonic() < deadline, f"not within {within_s:g} s: {what}")
        time.sleep(0.1)
    return answer
