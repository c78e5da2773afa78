"""Options for tests of strategies: anything that a snapshot and a situation can make of them."""

from typing import Any

from hypothesis import strategies as st

from routing.domain.config import TaskType
from routing.domain.strategies.protocol import Option
from tests.routing.domain.build import deployment

SHARES = st.floats(0, 1)
COSTS = st.none() | st.integers(0, 10**12)


def option(number: int, **figures: Any) -> Option:
    """The model “alpha/m<number>”; what is not named is the same for all."""
    return Option(deployment(number, f"m{number:03}"), f"alias-{number}", number, **figures)


@st.composite
def options(draw: st.DrawFn, *, least: int = 0, most: int = 12) -> list[Option]:
    numbers = draw(st.lists(st.integers(1, 400), unique=True, min_size=least, max_size=most))
    return [
        option(
            number,
            weight=draw(st.integers(0, 9)),
            task_type=draw(st.sampled_from(TaskType)),
            cost_nano=draw(COSTS),
            quality=draw(SHARES),
            latency_ms=draw(st.none() | st.floats(0, 1e6)),
            in_flight=draw(st.integers(0, 50)),
            headroom=draw(SHARES),
        )
        for number in numbers
    ]
