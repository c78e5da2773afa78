"""What a policy does as a budget fills, step by step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.domain.config import NO_LADDER, Ladder
from routing.domain.ladder import refusal_of, step_in_words, step_of

FULL = Ladder(cap_at=50, cap_tokens=300, cheaper_at=70, cache_only_at=85, refuse_at=95)


@pytest.mark.parametrize(
    ("used", "name", "max_tokens"),
    [
        (0.0, "", None),
        (0.4999, "", None),
        (0.5, "cap", 300),
        (0.7, "cheaper", 300),
        (0.8499, "cheaper", 300),
        (0.85, "cache", 300),
        (0.95, "refuse", 300),
        (1.7, "refuse", 300),
    ],
)
def test_each_step_begins_at_its_percentage(used: float, name: str, max_tokens: int | None) -> None:
    step = step_of(FULL, used)
    assert (step.name, step.max_tokens) == (name, max_tokens)


def test_a_ladder_may_lack_steps() -> None:
    assert step_of(Ladder(cheaper_at=50), 0.9).name == "cheaper"
    assert step_of(Ladder(cheaper_at=50), 0.9).max_tokens is None
    assert step_of(Ladder(refuse_at=100), 0.999).name == ""
    assert not NO_LADDER
    assert FULL


def test_a_step_shortens_answers_and_never_lengthens_them() -> None:
    step = step_of(FULL, 0.6)
    assert [step.capped(limit) for limit in (None, 100, 300, 4_000)] == [300, 100, 300, 300]
    assert [step_of(FULL, 0.1).capped(limit) for limit in (None, 100)] == [None, 100]


@pytest.mark.parametrize(
    ("used", "cheaper", "cache_only", "refuses"),
    [(0.6, False, False, False), (0.75, True, False, False), (0.9, True, True, False), (0.96, False, False, True)],
)
def test_what_holds_on_each_step(used: float, cheaper: bool, cache_only: bool, refuses: bool) -> None:
    step = step_of(FULL, used)
    assert (step.is_cheaper, step.is_cache_only, step.refuses) == (cheaper, cache_only, refuses)


@given(st.floats(0, 3), st.floats(0, 3))
def test_a_fuller_budget_is_never_on_an_earlier_step(one: float, other: float) -> None:
    order = ["", "cap", "cheaper", "cache", "refuse"]
    less, more = sorted((one, other))
    assert order.index(step_of(FULL, less).name) <= order.index(step_of(FULL, more).name)


def test_a_step_is_told_in_words() -> None:
    assert step_in_words(step_of(FULL, 0.2), 0.2) == ""
    assert step_in_words(step_of(FULL, 0.52), 0.52) == "52% of a budget is used: answers have at most 300 tokens"
    assert step_in_words(step_of(FULL, 0.72), 0.72) == "72% of a budget is used: cheaper models go first"
    assert step_in_words(step_of(FULL, 0.86), 0.86) == "86% of a budget is used: only kept answers are given"
    assert step_in_words(step_of(FULL, 0.97), 0.97) == "97% of a budget is used: nothing is served"
    assert "policy “chat” refuses" in refusal_of("chat", 0.97)
