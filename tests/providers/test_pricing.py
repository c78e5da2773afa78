from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.answer import Usage
from providers.domain.pricing import (
    CostLine,
    bound_nano,
    complaint_about_tiers,
    cost_lines,
    cost_nano,
    most_output_tokens,
    price_from_snapshot,
    price_snapshot,
    rate_from_usd,
    rates_for,
    tier_from_row,
    usd,
)
from providers.domain.types import Price, PriceTier

# Claude Sonnet 4.5: 3 / 15 USD, cache 0.30 / 3.75, per million tokens.
SONNET = Price(7, 3_000_000_000, 15_000_000_000, 300_000_000, 3_750_000_000)

# Claude Haiku 5.5: 0.10 / 0.50 USD, above 100,000 tokens in 0.50 / 2.50, with its cache rates at each.
LONG = PriceTier(100_000, 500_000_000, 2_500_000_000, 50_000_000, 625_000_000, 1_000_000_000)
HAIKU = Price(8, 100_000_000, 500_000_000, 10_000_000, 125_000_000, 0, 200_000_000, (LONG,))

TOKENS = st.integers(0, 5_000_000)
MOST = 100_000  # tokens of an answer
RATES = st.none() | st.integers(0, 200_000_000_000)
KNOWN_RATES = st.integers(0, 10**11)
FEES = st.integers(0, 10**9)
USAGES = st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)


def tiers(rates: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[PriceTier, ...]]:
    """None to three tiers, in order."""
    one = st.builds(PriceTier, st.integers(1, 8_000_000), rates, rates, RATES, RATES, RATES)
    some = st.lists(one, max_size=3, unique_by=lambda tier: tier.above)
    return some.map(lambda found: tuple(sorted(found, key=lambda tier: tier.above)))


PRICES = st.builds(Price, st.just(1), RATES, RATES, RATES, RATES, FEES, RATES, tiers(RATES))
KNOWN = st.builds(Price, st.just(1), KNOWN_RATES, KNOWN_RATES, RATES, RATES, FEES, RATES, tiers(KNOWN_RATES))
FLAT = st.builds(Price, st.just(1), KNOWN_RATES, KNOWN_RATES, RATES, RATES, FEES)


def test_a_bill_is_what_the_price_list_says() -> None:
    usage = Usage(1_000, 2_000, 400, 500, 100)
    assert cost_nano(usage, SONNET) == 3_000_000 + 600_000 + 1_500_000 + 7_500_000
    assert usd(12_600_000) == Decimal("0.0126")


@pytest.mark.parametrize(
    ("usage", "price", "cost"),
    [
        (Usage(), Price(1, None, None), 0),
        (Usage(input_tokens=1), Price(1, None, 5), None),
        (Usage(output_tokens=1), Price(1, 5, None), None),
        (Usage(output_tokens=1), Price(1, None, 1_000_000), 1),
        (Usage(cache_read_input_tokens=2), Price(1, 1_000_000, 0), 2),
        (Usage(cache_creation_input_tokens=2), Price(1, 1_000_000, 0), 2),
        (Usage(cache_read_input_tokens=2), Price(1, None, 0), None),
        (Usage(cache_read_input_tokens=2), Price(1, None, 0, cache_read=1_000_000), 2),
        (Usage(1, 1, 1, 1, 1), Price(1, 0, 0), 0),
        (Usage(input_tokens=1), Price(1, 1, 0), 1),
        (Usage(1, 1, 1, 1), Price(1, 1, 1), 1),
        (Usage(), Price(1, 0, 0, per_request=9), 9),
        (Usage(output_tokens=5, reasoning_tokens=5), Price(1, 0, 1_000_000), 5),
    ],
)
def test_unknown_rates_are_none_and_fractions_are_rounded_up_once(usage: Usage, price: Price, cost: int | None) -> None:
    assert cost_nano(usage, price) == cost


@given(USAGES, KNOWN)
def test_cost_equals_the_sum_in_decimals(usage: Usage, price: Price) -> None:
    rates = rates_for(price, usage.all_input_tokens)
    assert rates.input is not None
    assert rates.output is not None
    read = rates.input if rates.cache_read is None else rates.cache_read
    write = rates.input if rates.cache_write is None else rates.cache_write
    write_1h = write if rates.cache_write_1h is None else rates.cache_write_1h
    hour = min(usage.cache_creation_1h_input_tokens, usage.cache_creation_input_tokens)
    exact = (
        Decimal(usage.input_tokens) * rates.input
        + Decimal(usage.cache_read_input_tokens) * read
        + Decimal(usage.cache_creation_input_tokens - hour) * write
        + Decimal(hour) * write_1h
        + Decimal(usage.output_tokens) * rates.output
    ) / 1_000_000 + price.per_request
    assert cost_nano(usage, price) == int(exact.to_integral_value(ROUND_CEILING))


@given(USAGES, USAGES, FLAT)
def test_more_tokens_never_cost_less_and_parts_add_up_within_rounding(a: Usage, b: Usage, price: Price) -> None:
    both = Usage(
        a.input_tokens + b.input_tokens,
        a.cache_read_input_tokens + b.cache_read_input_tokens,
        a.cache_creation_input_tokens + b.cache_creation_input_tokens,
        a.output_tokens + b.output_tokens,
    )
    first, second, whole = cost_nano(a, price), cost_nano(b, price), cost_nano(both, price)
    assert first is not None
    assert second is not None
    assert whole is not None
    assert whole >= max(first, second)
    assert 0 <= first + second - price.per_request - whole <= 1


# --- long prompts, and what is kept for an hour -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(99_999), 9_999_900),
        (Usage(100_000), 10_000_000),  # not above it yet
        (Usage(100_001), 50_000_500),  # all of it, the first token too
        (Usage(output_tokens=1_000_000), 500_000_000),  # output alone makes no prompt long
        (Usage(100_001, output_tokens=1_000), 50_000_500 + 2_500_000),
        (Usage(1, 100_000), 500 + 5_000_000),  # what the cache served counts into the prompt
        (Usage(1, 0, 100_000), 500 + 62_500_000),
        (Usage(0, 0, 100_000, 0, 0, 100_000), 20_000_000),
        (Usage(0, 0, 100_001, 0, 0, 100_000), 625 + 100_000_000),
        (Usage(50_000, 50_000, 50_000, 10, 0, 20_000), 25_000_000 + 2_500_000 + 18_750_000 + 20_000_000 + 25_000),
        (Usage(0, 0, 10, 0, 0, 99), 2_000),  # no more can be kept for an hour than was written
    ],
)
def test_every_bucket_is_billed_at_the_rates_of_its_prompts_length(usage: Usage, cost: int) -> None:
    assert cost_nano(usage, HAIKU) == cost


@pytest.mark.parametrize(("above", "rate"), [(0, 1), (10, 1), (11, 2), (20, 2), (21, 3), (10**9, 3)])
def test_of_several_tiers_the_last_one_that_a_prompt_is_above_counts(above: int, rate: int) -> None:
    price = Price(1, 1, 0, tiers=(PriceTier(10, 2, 0), PriceTier(20, 3, 0)))
    assert rates_for(price, above).input == rate


def test_what_a_tier_does_not_know_makes_only_its_own_requests_unpriced() -> None:
    price = Price(1, 1_000_000, 1_000_000, cache_read=7_000_000, tiers=(PriceTier(10, None, 2_000_000),))
    assert cost_nano(Usage(10, output_tokens=1), price) == 11
    assert cost_nano(Usage(11), price) is None
    assert cost_nano(Usage(0, 11), price) is None  # no cache rate of its own, so it needs the input's
    assert bound_nano(10, 1, price) == 71
    assert bound_nano(11, 1, price) is None


def test_an_hour_in_the_cache_without_a_rate_of_its_own_is_billed_like_other_writes() -> None:
    usage = Usage(0, 0, 10, 0, 0, 4)
    assert cost_nano(usage, Price(1, 2_000_000, 0, cache_write=3_000_000)) == 30
    assert cost_nano(usage, Price(1, 2_000_000, 0)) == 20
    assert cost_nano(usage, Price(1, 2_000_000, 0, cache_write=3_000_000, cache_write_1h=4_000_000)) == 18 + 16


def test_lines_name_the_tier_and_the_hour() -> None:
    assert cost_lines(Usage(100_000, 0, 30, 10, 0, 20), HAIKU) == [
        CostLine("Input, above 100,000 tokens in", 100_000, Decimal("0.5"), 50_000_000),
        CostLine("Cache write, above 100,000 tokens in", 10, Decimal("0.625"), 6_250),
        CostLine("Cache write for 1 hour, above 100,000 tokens in", 20, Decimal(1), 20_000),
        CostLine("Output, above 100,000 tokens in", 10, Decimal("2.5"), 25_000),
    ]


@given(USAGES, PRICES)
def test_lines_add_up_to_the_bill(usage: Usage, price: Price) -> None:
    lines = cost_lines(usage, price)
    cost = cost_nano(usage, price)
    if cost is None:
        assert any(line.cost_nano is None for line in lines)
    else:
        assert sum(line.cost_nano or 0 for line in lines) == cost
    assert all(line.tokens != 0 for line in lines)


def test_lines_name_bucket_tokens_rate_and_cost() -> None:
    price = Price(7, 3_000_000_000, None, per_request=2_000_000)
    assert cost_lines(Usage(1_000, 0, 0, 5), price) == [
        CostLine("Input", 1_000, Decimal(3), 3_000_000),
        CostLine("Output", 5, None, None),
        CostLine("Request", None, Decimal("0.002"), 2_000_000),
    ]


@given(USAGES, PRICES, TOKENS, TOKENS)
def test_no_bill_passes_the_bound_of_what_it_stays_within(
    usage: Usage, price: Price, more_in: int, more_out: int
) -> None:
    bound = bound_nano(usage.all_input_tokens + more_in, usage.output_tokens + more_out, price)
    cost = cost_nano(usage, price)
    if bound is not None:
        assert cost is not None
        assert cost <= bound


def test_a_bound_below_the_threshold_is_not_that_of_long_prompts() -> None:
    assert bound_nano(100_000, 0, HAIKU) == 20_000_000
    assert bound_nano(100_001, 0, HAIKU) == 100_001_000


def test_a_bound_thinks_of_a_shorter_prompt_that_is_dearer() -> None:
    rebate = Price(1, 10_000_000, 0, tiers=(PriceTier(100, 1_000_000, 0),))
    assert bound_nano(200, 0, rebate) == cost_nano(Usage(100), rebate) == 1_000
    assert bound_nano(5_000, 0, rebate) == cost_nano(Usage(5_000), rebate) == 5_000


@pytest.mark.parametrize(
    ("price", "bound"),
    [
        (SONNET, 3_750_000 + 15_000_000),
        (Price(1, 2_000_000_000, 1_000_000_000, cache_read=5_000_000_000), 6_000_000),
        (Price(1, None, 0), None),
        (Price(1, 0, None), None),
        (Price(1, 0, 0, per_request=3), 3),
    ],
)
def test_a_bound_takes_the_dearest_input_rate(price: Price, bound: int | None) -> None:
    assert bound_nano(1_000, 1_000, price) == bound


def test_a_bound_needs_only_the_rates_that_it_uses() -> None:
    assert bound_nano(0, 1_000_000, Price(1, None, 4)) == 4
    assert bound_nano(1_000_000, 0, Price(1, 4, None)) == 4


@given(st.integers(0, 10**10), TOKENS, PRICES)
def test_the_longest_answer_that_money_is_there_for_fits_and_one_token_more_does_not(
    nano: int, inputs: int, price: Price
) -> None:
    longest = most_output_tokens(nano, inputs, price, most=MOST)
    if longest:
        bound = bound_nano(inputs, longest, price)
        assert bound is not None
        assert bound <= nano
    if longest < MOST:
        more = bound_nano(inputs, longest + 1, price)
        assert more is None or more > nano


@pytest.mark.parametrize(
    ("nano", "inputs", "price", "longest"),
    [
        (0, 0, SONNET, 0),
        (15_000, 0, SONNET, 1),
        (29_999, 0, SONNET, 1),
        (15_000, 1, SONNET, 0),
        (10**9, 0, Price(1, None, None), 0),
        (10**9, 1, Price(1, None, 0), 0),
        (2, 0, Price(1, 0, 10**6, per_request=3), 0),
        (5, 0, Price(1, 0, 10**6, per_request=3), 2),
        (5, 9, Price(1, 0, 0), MOST),  # a free model
        (50_000_500, 100_001, HAIKU, 0),  # above the threshold its cache writes cost a dollar
    ],
)
def test_how_long_an_answer_may_be(nano: int, inputs: int, price: Price, longest: int) -> None:
    assert most_output_tokens(nano, inputs, price, most=MOST) == longest


@pytest.mark.parametrize(
    ("amount", "rate"),
    [
        (None, None),
        (Decimal(0), 0),
        (Decimal("0.15"), 150_000_000),
        (Decimal("3"), 3_000_000_000),
        (Decimal("0.0000000001"), 1),
    ],
)
def test_rates_are_kept_in_whole_nano_dollars(amount: Decimal | None, rate: int | None) -> None:
    assert rate_from_usd(amount) == rate


@pytest.mark.parametrize("amount", ["-0.01", "NaN", "Infinity"])
def test_what_is_no_price_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="not a price"):
        rate_from_usd(Decimal(amount))


@given(st.integers(0, 10**40))
def test_dollars_and_nano_dollars_convert_exactly(nano: int) -> None:
    assert rate_from_usd(usd(nano)) == nano


@given(PRICES)
def test_a_snapshot_survives_json_and_gives_the_price_back(price: Price) -> None:
    assert price_from_snapshot(msgspec.json.decode(msgspec.json.encode(price_snapshot(price)))) == price


def test_a_snapshot_from_before_tiers_and_hours_still_reads_and_a_plain_price_s_is_no_longer() -> None:
    old = {"id": 7, "input": 3, "output": 15, "cache_read": 1, "cache_write": None, "per_request": 2}
    assert price_from_snapshot(old) == Price(7, 3, 15, 1, None, 2)
    assert price_snapshot(Price(7, 3, 15, 1, None, 2)) == old


# --- tiers as a price row keeps them ------------------------------------------------------------------------------


def row(above: Any = 200_000, **rates: Any) -> dict[str, Any]:
    return {"above": above, "input_usd": "2.50", "output_usd": "15"} | rates


def test_a_tier_of_a_price_row_has_the_rates_that_it_says() -> None:
    assert tier_from_row(row(cache_read_usd="0.25", cache_write_usd=None, cache_write_1h_usd="0")) == PriceTier(
        200_000, 2_500_000_000, 15_000_000_000, 250_000_000, None, 0
    )


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([], ""),
        ([row(), row(272_000, input_usd=None)], ""),
        ({}, "Tiers are a list of lines."),
        (["x"], "Tiers are a list of lines."),
        ([row(audio_usd="1")], "A tier has no “audio_usd”."),
        ([row(0)], "Say above how many input tokens a tier begins: a whole number, at least 1."),
        ([row("200k")], "Say above how many input tokens a tier begins: a whole number, at least 1."),
        ([row(True)], "Say above how many input tokens a tier begins: a whole number, at least 1."),
        ([{"input_usd": "1"}], "Say above how many input tokens a tier begins: a whole number, at least 1."),
        ([row(), row()], "Tiers go up: 200,000 comes after 200,000."),
        ([row(), row(100_000)], "Tiers go up: 100,000 comes after 200,000."),
        ([row(input_usd="-1")], "Above 200,000 tokens: “-1” is no price. Give USD per 1M tokens, or leave it empty."),
        (
            [row(output_usd="NaN")],
            "Above 200,000 tokens: “NaN” is no price. Give USD per 1M tokens, or leave it empty.",
        ),
        (
            [row(output_usd="ten")],
            "Above 200,000 tokens: “ten” is no price. Give USD per 1M tokens, or leave it empty.",
        ),
        ([row(input_usd=2.5)], "Above 200,000 tokens: “2.5” is no price. Give USD per 1M tokens, or leave it empty."),
    ],
)
def test_tiers_that_make_no_sense_are_refused_in_words(rows: object, complaint: str) -> None:
    assert complaint_about_tiers(rows) == complaint
