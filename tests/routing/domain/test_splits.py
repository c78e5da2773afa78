"""Which side a request is on: drawn by its own name, the same for ever, and in the shares that were set."""

from dataclasses import replace
from typing import Any

import pytest

from routing.domain.config import Caller, Policy, TaskType, Variant
from routing.domain.situation import Situation
from routing.domain.splits import arm_of, is_drawn

CALLER = Caller(
    key_id=7, key_prefix="p", key_name="k", team_id=1, team_name="t", scopes=frozenset(), allowed_aliases=frozenset(),
    expires_at=None, revoked_at=None, team_active=True,
)  # fmt: skip


def rules(name: str, *variants: Variant) -> Policy:
    return Policy(id=1, name=name, task_type=TaskType.ANY, candidates=(), required=frozenset(), variants=variants)


def variant(**changes: Any) -> Variant:
    options: dict[str, Any] = {
        "kind": "ab", "arm": "x:challenger", "control": "x:control", "percent": 30, "seed": "salt", "unit": "request",
        "policy": rules("challenger"),
    }  # fmt: skip
    return Variant(**options | changes)


def situations(count: int) -> list[Situation]:
    return [Situation(seed=f"request-{number}", conversation=f"talk-{number // 5}") for number in range(count)]


@pytest.mark.parametrize("percent", [1, 5, 30, 50, 95])
@pytest.mark.parametrize("unit", ["request", "conversation"])
def test_the_share_is_what_was_set(percent: int, unit: str) -> None:
    count = 20_000
    one = variant(percent=percent, unit=unit)
    share = sum(is_drawn(one, CALLER, situation) for situation in situations(count)) / count
    drawn = count if unit == "request" else count // 5
    assert abs(share - percent / 100) < 4 * (percent / 100 * (1 - percent / 100) / drawn) ** 0.5


def test_all_requests_of_a_conversation_are_on_one_side() -> None:
    policy = rules("house", variant(percent=50, unit="conversation"))
    sides: dict[str, set[str]] = {}
    for situation in situations(1_000):
        sides.setdefault(situation.conversation, set()).add(arm_of(policy, CALLER, situation).name)
    assert all(len(side) == 1 for side in sides.values())
    assert {name for side in sides.values() for name in side} == {"x:challenger", "x:control"}


def test_a_request_that_belongs_to_no_conversation_is_drawn_by_itself() -> None:
    one = variant(percent=50, unit="conversation")
    drawn = {is_drawn(one, CALLER, Situation(seed=f"request-{number}")) for number in range(50)}
    assert drawn == {True, False}


def test_who_is_in_stays_in_as_the_share_grows() -> None:
    before: set[str] = set()
    for percent in (5, 25, 50, 100):
        one = variant(percent=percent)
        inside = {situation.seed for situation in situations(2_000) if is_drawn(one, CALLER, situation)}
        assert before <= inside
        before = inside
    assert len(before) == 2_000


def test_another_seed_draws_others() -> None:
    chosen = [
        {situation.seed for situation in situations(1_000) if is_drawn(variant(seed=seed), CALLER, situation)}
        for seed in ("salt", "pepper")
    ]
    both = len(chosen[0] & chosen[1])
    assert 50 < both < 130  # 9 % of a thousand, were they independent


def test_a_key_is_on_one_side_and_not_all_keys_on_the_same() -> None:
    one = variant(percent=50, unit="key")
    sides = {
        key_id: {is_drawn(one, replace(CALLER, key_id=key_id), situation) for situation in situations(20)}
        for key_id in range(40)
    }
    assert all(len(side) == 1 for side in sides.values())
    assert {True, False} == {next(iter(side)) for side in sides.values()}


def test_the_challengers_rules_decide_for_its_share_and_the_policy_for_the_rest() -> None:
    policy = rules("house", variant())
    arms = {arm.name: arm.policy.name for arm in (arm_of(policy, CALLER, one) for one in situations(100))}
    assert arms == {"x:challenger": "challenger", "x:control": "house"}


def test_a_shadow_serves_nobody_and_names_those_that_it_hits() -> None:
    policy = rules("house", variant(kind="shadow"))
    arms = [arm_of(policy, CALLER, situation) for situation in situations(1_000)]
    assert {arm.policy.name for arm in arms} == {"house"}
    hit = sum(arm.name == "x:control" for arm in arms)
    assert 240 < hit < 360
    assert {arm.name for arm in arms} == {"x:control", ""}


def test_a_rollout_has_no_control() -> None:
    policy = rules("house", variant(kind="rollout", arm="v4", control="", percent=50))
    assert {arm_of(policy, CALLER, situation).name for situation in situations(100)} == {"v4", ""}


def test_without_variants_there_are_no_sides() -> None:
    assert arm_of(rules("house"), CALLER, Situation(seed="one")).name == ""
