"""Chance that can be told again, and which side of a split a request is on."""

from dataclasses import replace

import pytest

from routing.domain.config import Policy, Unit, Variant
from routing.domain.draws import draw
from routing.domain.situation import Situation
from routing.domain.splits import arm_of, is_drawn
from tests.routing.domain.build import alias, caller, deployment, policy

MANY = 10_000
CONTROL = policy("p", alias("swift", deployment(1)), version=3)
CHALLENGER = policy("p", alias("deep", deployment(2)), version=4)


def variant(percent: int = 10, unit: Unit = "request", **options: str) -> Variant:
    values = {"kind": "ab", "arm": "trial:challenger", "control": "trial:control", "seed": "s1", **options}
    return Variant(percent=percent, unit=unit, policy=CHALLENGER, **values)  # type: ignore[arg-type]


def split(*variants: Variant) -> Policy:
    return replace(CONTROL, variants=variants)


def sides(one: Variant, key_id: int = 1) -> list[bool]:
    return [is_drawn(one, caller(key_id=key_id), Situation(seed=f"r{number}")) for number in range(MANY)]


def test_draws_are_those_that_they_have_always_been() -> None:
    """Another draw would move every request of every running experiment to another side."""
    assert draw("a") == pytest.approx(0.2537936105758485)
    assert draw("split", "seed", "request") == pytest.approx(0.8145911942049536)


def test_draws_are_spread_evenly() -> None:
    numbers = sorted(draw("x", str(number)) for number in range(MANY))
    assert 0 <= numbers[0] < numbers[-1] < 1
    worst = max(abs(value - index / MANY) for index, value in enumerate(numbers))  # Kolmogorov and Smirnov
    assert worst < 1.63 / MANY**0.5


def test_seeds_are_kept_apart() -> None:
    assert draw("ab", "c") != draw("a", "bc")


@pytest.mark.parametrize("percent", [1, 5, 25, 50, 99])
def test_a_share_is_what_it_says(percent: int) -> None:
    share = percent / 100
    tolerance = 4 * (share * (1 - share) / MANY) ** 0.5
    assert sum(sides(variant(percent))) / MANY == pytest.approx(share, abs=tolerance)


def test_all_are_in_at_a_hundred_percent() -> None:
    assert all(sides(variant(100)))


def test_who_is_in_stays_in_as_the_share_grows() -> None:
    small, large = sides(variant(5)), sides(variant(25))
    assert not [1 for before, after in zip(small, large, strict=True) if before and not after]


def test_another_seed_draws_others() -> None:
    one, two = sides(variant(50)), sides(variant(50, seed="s2"))
    agree = sum(a == b for a, b in zip(one, two, strict=True)) / MANY
    assert agree == pytest.approx(0.5, abs=0.03)


def test_a_conversation_and_a_key_stay_on_one_side() -> None:
    talk = [
        is_drawn(variant(50, "conversation"), caller(), Situation(seed=str(n), conversation="c9")) for n in range(50)
    ]
    key = sides(variant(50, "key"))
    assert len(set(talk)) == len(set(key)) == 1
    assert len({tuple(sides(variant(50, "key"), key_id)[:1]) for key_id in range(40)}) == 2


def test_a_request_without_a_conversation_is_drawn_by_itself() -> None:
    assert sides(variant(30, "conversation")) == sides(variant(30, "request"))


def test_both_sides_have_a_name() -> None:
    arms = [arm_of(split(variant(50)), caller(), Situation(seed=str(number))) for number in range(100)]
    assert {(arm.name, arm.policy.version) for arm in arms} == {("trial:challenger", 4), ("trial:control", 3)}


def test_a_rollout_has_no_control() -> None:
    rollout = variant(50, kind="rollout", arm="v4", control="")
    arms = [arm_of(split(rollout), caller(), Situation(seed=str(number))) for number in range(100)]
    assert {(arm.name, arm.policy.version) for arm in arms} == {("v4", 4), ("", 3)}


def test_a_shadow_changes_nothing_but_names_the_first_answers_that_it_is_compared_with() -> None:
    mirrored = split(variant(50, kind="shadow"))
    arms = [arm_of(mirrored, caller(), Situation(seed=str(number))) for number in range(100)]
    assert {(arm.name, arm.policy.version) for arm in arms} == {("trial:control", 3), ("", 3)}
