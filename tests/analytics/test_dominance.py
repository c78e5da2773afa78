"""When nothing speaks for a model any more, by the rule itself."""

from dataclasses import replace
from typing import Any

import pytest

from analytics.domain.dominance import Grades, Known, dominated, dominates, would_have_cost
from analytics.domain.rollup import Sums
from providers.domain.types import Capability, Deployment, Endpoint, Price, PriceTier, Wire

USD = 10**9
BOTH = frozenset({Capability.STREAMING, Capability.TOOL_CALLING})
ENDPOINT = Endpoint(1, "alpha", "openai-compatible", (Wire.OPENAI,), "https://a.example", 5.0, 60.0)


def model(number: int, dollars_in: float | None = 1, dollars_out: float | None = 2, **fields: Any) -> Known:
    """Standard tier, streams and calls tools, 128k of context."""
    rates = [None if one is None else int(one * USD) for one in (dollars_in, dollars_out)]
    known = {name: fields.pop(name) for name in ("grades", "latency_ms") if name in fields}
    price = replace(Price(number, *rates), **fields.pop("price", {}))
    values = {"capabilities": BOTH, "context_window": 128_000, "max_output_tokens": 4096, "cost_tier": "standard"}
    deployment = Deployment(
        id=number, name=f"alpha/m{number}", endpoint=fields.pop("endpoint", ENDPOINT), upstream_model=f"m{number}",
        model=f"m{number}", credentials=(), price=price, **{**values, **fields},
    )  # fmt: skip
    return Known(deployment, **known)


def test_the_cheaper_of_two_equal_models_replaces_the_dearer_and_not_the_other_way() -> None:
    cheap, dear = model(1, 1, 2), model(2, 3, 2)
    assert dominates(cheap, dear)
    assert not dominates(dear, cheap)
    assert not dominates(cheap, cheap)
    assert not dominates(cheap, model(3, 1, 2))  # no dearer is no reason


@pytest.mark.parametrize(
    "what_speaks_for_it",
    [
        {"cost_tier": "premium"},
        {"grades": Grades(38, 40)},
        {"capabilities": BOTH | {Capability.VISION}},
        {"context_window": 200_000},
        {"context_window": None},
        {"max_output_tokens": 8192},
        {"latency_ms": 700.0},
        {"endpoint": replace(ENDPOINT, id=2, name="beta", region="eu")},
        {"dollars_out": 1.9},
        {"dollars_out": None},
        {"price": {"cache_read": USD // 10}},
        {"price": {"tiers": (PriceTier(100_000, 0, 0),)}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_one_thing_that_speaks_for_a_model_is_enough(what_speaks_for_it: dict[str, Any]) -> None:
    assert dominates(model(1, 1, 2, latency_ms=800.0), model(2, 3, 2, latency_ms=800.0))
    fields = {"latency_ms": 800.0, "dollars_in": 3, **what_speaks_for_it}
    assert not dominates(model(1, 1, 2, latency_ms=800.0), model(2, **fields))


def test_a_time_that_nobody_knows_or_could_notice_speaks_for_nobody() -> None:
    assert dominates(model(1, 1), model(2, 3, latency_ms=10.0))
    assert dominates(model(1, 1, latency_ms=105.0), model(2, 3, latency_ms=100.0))
    assert not dominates(model(1, 1, latency_ms=115.0), model(2, 3, latency_ms=100.0))


def test_grades_move_a_model_away_from_what_its_tier_promises() -> None:
    premium = model(2, 3, cost_tier="premium")
    assert premium.quality == pytest.approx(0.85)
    assert not dominates(model(1, 1, grades=Grades(9, 9)), premium)  # nine grades are little evidence
    assert dominates(model(1, 1, grades=Grades(58, 60)), premium)
    assert not dominates(model(1, 1, grades=Grades(30, 60)), model(2, 3))


def test_models_for_embeddings_are_not_compared() -> None:
    vectors = frozenset({Capability.EMBEDDINGS})
    assert not dominates(model(1, 1, capabilities=vectors), model(2, 3, capabilities=vectors))
    assert not dominates(model(1, 1), model(2, 3, capabilities=vectors))


def test_a_dearer_fee_per_request_or_long_prompt_is_dearer() -> None:
    assert not dominates(model(1, 1, price={"per_request": 5}), model(2, 3))
    long = {"tiers": (PriceTier(200_000, 4 * USD, 9 * USD),)}
    assert not dominates(model(1, 1, price=long), model(2, 3))
    assert dominates(model(1, 1, price=long), model(2, 3, price={"tiers": (PriceTier(200_000, 6 * USD, 9 * USD),)}))


def test_the_one_to_take_is_the_cheapest_that_nothing_replaces() -> None:
    found = dominated([model(1, 3, 3), model(2, 2, 2), model(3, 1, 1), model(4, 1, 1, cost_tier="premium")])
    assert [(one.worse.deployment.name, one.better.deployment.name) for one in found] == [
        ("alpha/m1", "alpha/m3"),
        ("alpha/m2", "alpha/m3"),
    ]
    assert dominated([]) == []


def test_what_it_would_have_cost_counts_every_bucket_and_every_request() -> None:
    used = Sums(requests=3, input_tokens=1_000_000, cache_read_input_tokens=500_000, output_tokens=2_000_000)
    price = Price(1, 1 * USD, 2 * USD, cache_read=USD // 10, per_request=7, tiers=(PriceTier(10, 9 * USD, 9 * USD),))
    assert would_have_cost(used, price) == 1 * USD + USD // 20 + 4 * USD + 21
    assert would_have_cost(used, Price(1, 1 * USD, None)) is None
    assert would_have_cost(Sums(), price) == 0
