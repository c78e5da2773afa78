"""Long prompts and what is kept for an hour, billed over HTTP, in nano-USD worked out by hand."""

from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from analytics.request_page import bill
from providers.models import Deployment
from tests.factories import PriceFactory
from tests.gateway import Gateway, records
from tests.gateway_path.answers import anthropic_text
from tests.gateway_path.changes import changed
from tests.upstreams.scripted import Upstream

RATES = {
    "input_usd": Decimal(3),
    "output_usd": Decimal(15),
    "cache_read_usd": Decimal("0.3"),
    "cache_write_usd": Decimal("3.75"),
    "cache_write_1h_usd": Decimal(6),
    "tiers": [
        {
            "above": 200_000,
            "input_usd": "6",
            "output_usd": "22.5",
            "cache_read_usd": "0.6",
            "cache_write_usd": "7.5",
            "cache_write_1h_usd": "12",
        }
    ],
}


def price_sage() -> None:
    """An own price of the deployment: it comes before the model's."""
    PriceFactory.create(model=None, deployment=Deployment.objects.get(upstream_model="sage-1"), **RATES)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("counts", "cost"),
    [
        ({"input_tokens": 100_000, "cache_read_input_tokens": 100_000}, 300_000_000 + 30_000_000 + 750_000),
        ({"input_tokens": 100_000, "cache_read_input_tokens": 100_001}, 600_000_000 + 60_000_600 + 1_125_000),
        (
            {
                "input_tokens": 10,
                "cache_creation_input_tokens": 1_000,
                "cache_creation": {"ephemeral_1h_input_tokens": 400},
            },
            30_000 + 600 * 3_750 + 400 * 6_000 + 750_000,
        ),
    ],
    ids=["at the threshold", "above it", "an hour"],
)
async def test_the_vendors_count_is_billed_at_the_rates_of_its_length(
    gateway: Gateway, anthropic_upstream: Upstream, counts: dict[str, Any], cost: int, stream: bool
) -> None:
    await changed(gateway, partial(price_sage))
    anthropic_upstream.play(anthropic_text("Hi", start=counts, end={"output_tokens": 50}))

    assert (await gateway.chat(model="sage", stream=stream)).status == 200

    [record] = await records()
    assert record.cost_nano == cost
    assert (record.cache_creation_1h_input_tokens or 0) == counts.get("cache_creation", {}).get(
        "ephemeral_1h_input_tokens", 0
    )
    shown = await sync_to_async(bill)(record)
    assert shown is not None
    assert sum(line.cost_nano or 0 for line in shown.lines) == cost
