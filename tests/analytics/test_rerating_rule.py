"""The arithmetic of corrections: whatever was billed and corrected before, one correction sets it right."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from analytics.domain.rerating import Rated, alias_of, broken_nano, corrected, is_beyond_knowing
from analytics.domain.usage import ESCALATED
from providers.domain.answer import Usage
from providers.domain.pricing import bound_nano, cost_nano
from providers.domain.types import Price

TOKENS = st.integers(0, 10**6)
AMOUNTS = st.integers(0, 10**12)
RATES = st.integers(0, 10**10)


@given(
    st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS),
    st.booleans(),
    st.none() | AMOUNTS,
    st.none() | st.integers(-(10**12), 10**12),
    st.lists(AMOUNTS, max_size=2),
    st.builds(Price, st.just(1), RATES, RATES, st.none() | RATES, st.none() | RATES, AMOUNTS),
)
def test_a_correction_makes_it_cost_what_it_should_and_there_is_no_second_one(
    usage: Usage, is_bound: bool, cost: int | None, adjusted: int | None, broken: list[int], price: Price
) -> None:
    attempts = (*({"failure": "timeout", "billed_nano": nano} for nano in broken), {"failure": ""})
    record = Rated(usage, is_bound, cost, attempts, adjusted)
    correction = corrected(record, price)
    if is_beyond_knowing(record):
        assert correction is None
        return
    bound = bound_nano(usage.all_input_tokens, usage.output_tokens, price)
    fresh = bound if is_bound else cost_nano(usage, price)
    assert fresh is not None
    if correction is None:
        assert record.now_nano == fresh + sum(broken)
        return
    assert correction.was_unpriced is (cost is None and adjusted is None)
    after = replace(record, adjusted_nano=(adjusted or 0) + correction.delta_nano)
    assert after.now_nano == fresh + sum(broken)
    assert corrected(after, price) is None


def test_what_attempts_were_billed_is_added_up_where_it_is_known() -> None:
    assert broken_nano([{"billed_nano": 5}, {}, {"billed_nano": None}, {"billed_nano": 2}]) == 7


def test_the_first_candidate_of_a_name_says_which_alias_it_was() -> None:
    listed = [{"deployment": "a/x", "alias": "one"}, {"deployment": "b/x", "alias": "two"}, {"deployment": "c/x"}]
    assert [alias_of(name, listed) for name in ("b/x", "c/x", "d/x")] == ["two", "", ""]


def test_an_answer_that_was_not_given_keeps_what_it_cost_and_one_of_unknown_price_cannot_be_corrected() -> None:
    price, usage = Price(1, 1000, 2000), Usage(input_tokens=10, output_tokens=5)
    escalated = {"failure": ESCALATED, "http_status": 200, "billed_nano": 777}
    answered = {"failure": "", "http_status": 200}
    known = Rated(usage, False, 777, (escalated, answered))
    found = corrected(known, price)
    assert found is not None
    assert known.cost_nano is not None
    assert known.cost_nano + found.delta_nano == (cost_nano(usage, price) or 0) + 777
    unknown = Rated(usage, False, None, ({**escalated, "billed_nano": None}, answered))
    assert is_beyond_knowing(unknown)
    assert corrected(unknown, price) is None
