"""How long a key rests, which of several is taken, and how many retries there are."""

import pytest

from providers.domain.errors import FailureKind
from providers.domain.failures import REACTIONS
from providers.domain.key_rest import REMEMBERED_S, RESTS_S, KeyRest, answered, chosen, remembered, rested
from providers.domain.retry_budget import RESERVE, RetryBudget
from providers.domain.types import Credential, KeyStrategy

NOON = 1_790_000_000.0
LIMITED, REFUSED, EMPTY = FailureKind.RATE_LIMITED, FailureKind.AUTHENTICATION, FailureKind.QUOTA_EXHAUSTED
KEYS = [Credential(number, f"key {number}", "0000", "sealed") for number in (1, 2, 3)]


def lengths(kind: FailureKind, number: int) -> list[float]:
    """How long each of so many rests in a row is."""
    rest, now, found = None, NOON, []
    for _ in range(number):
        rest = rested(rest, kind=kind, retry_after_s=None, now=now)
        found.append(rest.left_s(now))
        now = rest.until + 1
    return found


def test_every_kind_that_cools_a_key_has_a_rest() -> None:
    assert {kind for kind, reaction in REACTIONS.items() if reaction.cools_key} == RESTS_S.keys()


def test_a_limited_key_rests_5_seconds_then_twice_as_long_up_to_a_minute() -> None:
    assert lengths(LIMITED, 6) == [5, 10, 20, 40, 60, 60]


@pytest.mark.parametrize("kind", [REFUSED, EMPTY])
def test_a_refused_or_empty_key_rests_a_minute_then_twice_as_long_up_to_ten(kind: FailureKind) -> None:
    assert lengths(kind, 6) == [60, 120, 240, 480, 600, 600]


def test_very_many_rests_in_a_row_overflow_nothing() -> None:
    rest = KeyRest(NOON, LIMITED, times=5_000)
    assert rested(rest, kind=LIMITED, retry_after_s=None, now=NOON + 1).left_s(NOON + 1) == 60


def test_what_the_vendor_names_is_what_it_rests() -> None:
    rest = rested(None, kind=LIMITED, retry_after_s=7.5, now=NOON)
    assert (rest.left_s(NOON), rest.is_named) == (7.5, True)
    assert rested(None, kind=LIMITED, retry_after_s=0.0, now=NOON).left_s(NOON) == 0


def test_refusals_that_were_under_way_already_do_not_count_again() -> None:
    """Fifty requests at a time, all refused: that is one reason to rest."""
    rest = rested(None, kind=LIMITED, retry_after_s=None, now=NOON)
    for _ in range(50):
        rest = rested(rest, kind=LIMITED, retry_after_s=None, now=NOON + 1)
    assert (rest.times, rest.left_s(NOON)) == (1, 5)


def test_a_longer_time_that_the_vendor_names_meanwhile_counts() -> None:
    rest = rested(None, kind=LIMITED, retry_after_s=None, now=NOON)
    longer = rested(rest, kind=LIMITED, retry_after_s=30.0, now=NOON + 1)
    assert (longer.left_s(NOON + 1), longer.is_named) == (30, True)
    shorter = rested(longer, kind=LIMITED, retry_after_s=2.0, now=NOON + 2)
    assert shorter.until == longer.until


def test_a_good_answer_forgets_the_rests_but_not_one_that_was_asked_for_before() -> None:
    rest = rested(None, kind=LIMITED, retry_after_s=None, now=NOON)
    assert answered(rest, now=NOON + 1) == rest
    assert answered(rest, now=NOON + 6) is None
    assert answered(None, now=NOON) is None


def test_an_old_rest_is_forgotten() -> None:
    rest = rested(None, kind=LIMITED, retry_after_s=None, now=NOON)
    assert remembered(rest, now=rest.until + REMEMBERED_S - 1) == rest
    assert remembered(rest, now=rest.until + REMEMBERED_S) is None


# --- which key ----------------------------------------------------------------------------------------------------


def picks(strategy: KeyStrategy, under_way: dict[int, int], turns: int = 6) -> list[int]:
    return [chosen(KEYS, strategy, turn=turn, under_way=under_way).id for turn in range(turns)]


def test_keys_take_turns() -> None:
    assert picks("round_robin", {1: 9}) == [1, 2, 3, 1, 2, 3]


def test_the_key_with_the_fewest_requests_under_way_is_taken_and_equals_take_turns() -> None:
    assert picks("least_used", {1: 2, 2: 1, 3: 4}) == [2] * 6
    assert picks("least_used", {1: 5}) == [2, 2, 3, 2, 2, 3]
    assert picks("least_used", {}) == [1, 2, 3, 1, 2, 3]


# --- how many retries ---------------------------------------------------------------------------------------------


def spent(budget: RetryBudget, wanted: int) -> int:
    return sum(budget.spend() for _ in range(wanted))


def test_a_reserve_is_there_from_the_start_and_no_more() -> None:
    assert spent(RetryBudget(), 100) == RESERVE


def test_a_tenth_of_the_requests_may_be_retried_when_the_reserve_is_used_up() -> None:
    budget = RetryBudget()
    spent(budget, 100)
    made = 0
    for _ in range(1000):
        budget.earn()
        made += budget.spend()
    assert 95 <= made <= 100


def test_quiet_times_save_up_the_reserve_only() -> None:
    budget = RetryBudget()
    for _ in range(10_000):
        budget.earn()
    assert spent(budget, 100) == RESERVE


def test_without_a_share_the_reserve_is_all_there_is() -> None:
    budget = RetryBudget(share=0.0)
    for _ in range(1000):
        budget.earn()
    assert spent(budget, 100) == RESERVE
    budget.earn()
    assert spent(budget, 1) == 0
