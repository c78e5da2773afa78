"""The circuit breaker's rules: when it opens, who may try, what closes it; and that its blobs survive a round trip."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.breaker import (
    CLAIM_S,
    PRISTINE,
    WINDOW_S,
    Advice,
    Breaker,
    BreakerRules,
    BreakerState,
    Second,
    advice,
    claimed,
    failed,
    probed,
    released,
    renewed,
    since,
    succeeded,
    tidied,
)

NOON = 1_790_000_000.0
RULES = BreakerRules()


def fail(breaker: Breaker, at: float, kind: str = "timeout") -> Breaker:
    return failed(breaker, at=at, kind=kind, rules=RULES)


def succeed(breaker: Breaker, at: float, number: int = 1) -> Breaker:
    return succeeded(breaker, seconds=(Second(int(at), number),), at=at)


def after_failures(number: int, *, start: float = NOON) -> Breaker:
    breaker = PRISTINE
    for index in range(number):
        breaker = fail(breaker, start + index)
    return breaker


OPEN = after_failures(5)
OPENED_AT = NOON + 4
DUE = OPENED_AT + 60


# --- opening ------------------------------------------------------------------------------------------------------


def test_four_failures_in_a_row_leave_it_closed_and_the_fifth_opens_it() -> None:
    assert after_failures(4).state(NOON + 4) is BreakerState.CLOSED
    assert OPEN.state(NOON + 5) is BreakerState.OPEN
    assert (OPEN.opened_at, OPEN.by_share, OPEN.last_failure) == (OPENED_AT, False, "timeout")


def test_a_success_in_between_begins_the_row_anew() -> None:
    breaker = succeed(after_failures(4), NOON + 4)
    for index in range(4):
        breaker = fail(breaker, NOON + 5 + index)
    assert breaker.state(NOON + 9) is BreakerState.CLOSED
    assert fail(breaker, NOON + 9).state(NOON + 10) is BreakerState.OPEN


def test_a_success_that_is_told_late_only_forgives_the_failures_before_it() -> None:
    """Another process says so a moment after: the failures since then still count."""
    breaker = succeed(after_failures(4), NOON + 1.5)
    assert breaker.row == (NOON + 2, NOON + 3)


def test_a_failure_that_is_told_late_does_not_count_after_a_success() -> None:
    breaker = fail(succeed(after_failures(2), NOON + 5), NOON + 4)
    assert breaker.row == ()
    assert sum(second.failed for second in breaker.window) == 3


def test_a_row_has_no_time_limit() -> None:
    breaker = PRISTINE
    for hour in range(5):
        breaker = tidied(fail(breaker, NOON + 3600 * hour), now=NOON + 3600 * hour)
    assert breaker.state(NOON + 4 * 3600) is BreakerState.OPEN


def alternating(pairs: int, *, start: float = NOON) -> Breaker:
    breaker = PRISTINE
    for index in range(pairs):
        breaker = fail(succeed(breaker, start + index), start + index + 0.5)
    return breaker


def test_half_of_twenty_failures_open_it_though_none_follows_another() -> None:
    assert alternating(9).state(NOON + 9) is BreakerState.CLOSED
    breaker = alternating(10)
    assert (breaker.state(NOON + 10), breaker.by_share) == (BreakerState.OPEN, True)


def test_less_than_half_leaves_it_closed() -> None:
    breaker = succeed(PRISTINE, NOON, 100)
    for index in range(20):
        breaker = succeed(fail(breaker, NOON + index), NOON + index + 0.5, 2)
    assert breaker.state(NOON + 20) is BreakerState.CLOSED


def test_what_ended_more_than_30_seconds_ago_does_not_count_for_the_share() -> None:
    breaker = succeed(PRISTINE, NOON - 60, 20)
    for index in range(9):
        breaker = succeed(fail(breaker, NOON + index), NOON + index + 0.5)
    assert breaker.window[0].at == NOON
    assert fail(succeed(breaker, NOON + 9), NOON + 9.5).by_share


@pytest.mark.parametrize("rules", [BreakerRules(row=1), BreakerRules(row=3)])
def test_how_many_is_a_rule_of_the_installation(rules: BreakerRules) -> None:
    breaker = PRISTINE
    for index in range(rules.row):
        assert not breaker.opened_at
        breaker = failed(breaker, at=NOON + index, kind="connect", rules=rules)
    assert breaker.opened_at


# --- trying again -------------------------------------------------------------------------------------------------


def test_it_stays_open_for_60_seconds_and_says_how_long() -> None:
    assert [OPEN.is_due(at, RULES) for at in (OPENED_AT, DUE - 0.01, DUE)] == [False, False, True]
    assert OPEN.probe_in_s(OPENED_AT + 20, RULES) == 40
    assert OPEN.probe_in_s(DUE + 5, RULES) == PRISTINE.probe_in_s(NOON, RULES) == 0


def test_one_claim_is_given_and_no_second_one() -> None:
    first = claimed(OPEN, prober="a", now=DUE, rules=RULES)
    assert claimed(first, prober="b", now=DUE, rules=RULES).prober == "a"
    assert first.state(DUE) is BreakerState.HALF_OPEN
    assert claimed(OPEN, prober="a", now=DUE - 1, rules=RULES) == OPEN
    assert claimed(PRISTINE, prober="a", now=DUE, rules=RULES) == PRISTINE


def test_a_claim_whose_prober_is_dead_lapses() -> None:
    first = claimed(OPEN, prober="a", now=DUE, rules=RULES)
    assert claimed(first, prober="b", now=DUE + CLAIM_S, rules=RULES).prober == "b"


def test_a_claim_that_is_renewed_does_not_lapse() -> None:
    first = renewed(claimed(OPEN, prober="a", now=DUE, rules=RULES), prober="a", now=DUE + 10)
    assert claimed(first, prober="b", now=DUE + CLAIM_S, rules=RULES).prober == "a"
    assert renewed(first, prober="b", now=DUE + 20) == first


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker = probed(claimed(OPEN, prober="a", now=DUE, rules=RULES), prober="a", is_well=True, at=DUE + 1)
    assert tidied(breaker, now=DUE + 1) == PRISTINE


def test_a_probe_that_fails_opens_it_for_as_long_again() -> None:
    claim = claimed(OPEN, prober="a", now=DUE, rules=RULES)
    breaker = probed(claim, prober="a", is_well=False, at=DUE + 1, kind="connect")
    assert (breaker.state(DUE + 2), breaker.probe_in_s(DUE + 2, RULES)) == (BreakerState.OPEN, 59)
    assert breaker.last_failure == "connect"


def test_a_probe_that_learned_nothing_lets_another_try_at_once() -> None:
    breaker = released(claimed(OPEN, prober="a", now=DUE, rules=RULES), prober="a")
    assert claimed(breaker, prober="b", now=DUE, rules=RULES).prober == "b"


@pytest.mark.parametrize("is_well", [True, False])
def test_a_prober_whose_claim_has_gone_to_another_is_not_heard(is_well: bool) -> None:
    first = claimed(OPEN, prober="a", now=DUE, rules=RULES)
    second = claimed(first, prober="b", now=DUE + CLAIM_S, rules=RULES)
    assert probed(second, prober="a", is_well=is_well, at=DUE + 20) == second
    assert released(second, prober="a") == second


def test_what_began_before_it_opened_changes_nothing_any_more() -> None:
    assert succeed(OPEN, OPENED_AT + 1) == fail(OPEN, OPENED_AT + 1) == OPEN


# --- the operator -------------------------------------------------------------------------------------------------


def test_a_reset_closes_what_opened_before_it() -> None:
    assert since(OPEN, OPENED_AT + 1) == PRISTINE
    assert since(OPEN, OPENED_AT - 1) == OPEN
    assert since(OPEN, 0.0) == OPEN


def test_a_reset_forgets_the_failures_before_it() -> None:
    assert since(after_failures(4), NOON + 1.5).row == (NOON + 2, NOON + 3)
    assert since(PRISTINE, NOON) is PRISTINE


def test_the_operators_word_comes_first() -> None:
    for breaker in (PRISTINE, OPEN, claimed(OPEN, prober="a", now=DUE, rules=RULES)):
        assert advice(breaker, "open", now=DUE, rules=RULES) is Advice.REFUSE
        assert advice(breaker, "closed", now=DUE, rules=RULES) is Advice.ASK


@pytest.mark.parametrize(
    ("breaker", "now", "said"),
    [
        (PRISTINE, NOON, Advice.ASK),
        (after_failures(4), NOON + 5, Advice.ASK),
        (OPEN, NOON + 5, Advice.REFUSE),
        (OPEN, DUE, Advice.PROBE),
        (claimed(OPEN, prober="a", now=DUE, rules=RULES), DUE + 1, Advice.REFUSE),
        (alternating(10), NOON + 11, Advice.AVOID),
        (alternating(10), NOON + 100, Advice.PROBE),
    ],
)
def test_what_it_advises(breaker: Breaker, now: float, said: Advice) -> None:
    assert advice(breaker, "", now=now, rules=RULES) is said


# --- what is kept -------------------------------------------------------------------------------------------------


def test_a_breaker_that_has_nothing_to_tell_is_nothing() -> None:
    assert tidied(succeed(fail(PRISTINE, NOON), NOON + 1), now=NOON + 2) != PRISTINE, "its failure is recent"
    assert tidied(succeed(fail(PRISTINE, NOON), NOON + 1), now=NOON + WINDOW_S + 3) == PRISTINE
    assert tidied(after_failures(1), now=NOON + 3600).row == (NOON,)
    assert tidied(OPEN, now=NOON + 86_400) == OPEN


STEPS = st.lists(st.sampled_from(["fail", "succeed", "claim", "well", "unwell", "release"]), max_size=60)


@given(STEPS, st.floats(0.05, 40.0))
def test_whatever_happens_at_most_one_holds_the_claim_and_only_while_it_is_open(
    steps: list[str], pause_s: float
) -> None:
    breaker, now, probers = PRISTINE, NOON, 0
    for step in steps:
        now += pause_s
        before = breaker
        match step:
            case "fail":
                breaker = fail(breaker, now)
            case "succeed":
                breaker = succeed(breaker, now)
            case "claim":
                probers += 1
                breaker = claimed(breaker, prober=str(probers), now=now, rules=RULES)
                if breaker.prober == str(probers):
                    assert not before.is_claimed(now)
            case "well" | "unwell":
                breaker = probed(breaker, prober=breaker.prober or "?", is_well=step == "well", at=now)
            case "release":
                breaker = released(breaker, prober=breaker.prober)
        assert not breaker.prober or breaker.opened_at
        assert len(breaker.row) < RULES.row
        assert len(breaker.window) <= WINDOW_S + 2
        assert all(one.at < other.at for one, other in pairwise(breaker.window))
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(breaker), type=Breaker) == breaker
