from decimal import ROUND_CEILING, Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.pricing import (
    CostLine,
    bound_nano,
    cost_lines,
    cost_nano,
    price_from_snapshot,
    price_snapshot,
    rate_from_usd,
    usd,
)
from providers.domain.types import Price, Usage

# Claude Sonnet 4.5: 3 / 15 USD, cache 0.30 / 3.75, per million tokens.
SONNET = Price(7, 3_000_000_000, 15_000_000_000, 300_000_000, 3_750_000_000)

TOKENS = st.integers(0, 5_000_000)
RATES = st.none() | st.integers(0, 200_000_000_000)
USAGES = st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)
PRICES = st.builds(Price, st.just(1), RATES, RATES, RATES, RATES, st.integers(0, 10**9))
KNOWN = st.builds(
    Price, st.just(1), st.integers(0, 10**11), st.integers(0, 10**11), RATES, RATES, st.integers(0, 10**9)
)


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
    assert price.input is not None
    assert price.output is not None
    read = price.input if price.cache_read is None else price.cache_read
    write = price.input if price.cache_write is None else price.cache_write
    exact = (
        Decimal(usage.input_tokens) * price.input
        + Decimal(usage.cache_read_input_tokens) * read
        + Decimal(usage.cache_creation_input_tokens) * write
        + Decimal(usage.output_tokens) * price.output
    ) / 1_000_000 + price.per_request
    assert cost_nano(usage, price) == int(exact.to_integral_value(ROUND_CEILING))


@given(USAGES, USAGES, KNOWN)
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


@given(USAGES, PRICES)
def test_no_bill_passes_its_bound(usage: Usage, price: Price) -> None:
    inputs = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    bound, cost = bound_nano(inputs, usage.output_tokens, price), cost_nano(usage, price)
    if bound is not None:
        assert cost is not None
        assert cost <= bound


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
