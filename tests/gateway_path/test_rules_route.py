"""An operator's rule, entered while the gateway runs, sends real requests elsewhere, and is on their record."""

from typing import Any

import pytest

from routing.models import ModelAlias, RoutingRule
from tests.gateway import Gateway, records
from tests.gateway_path.changes import changed
from tests.upstreams.scripted import Upstream

TRACE = [{"role": "user", "content": "A Traceback (most recent call last), what now?"}]


@pytest.fixture
async def rule(gateway: Gateway) -> None:
    def entered() -> None:
        RoutingRule.objects.create(
            name="traces", pattern="traceback", outcome="alias", alias=ModelAlias.objects.get(name="sage")
        )

    await changed(gateway, entered)


async def test_what_it_fits_goes_to_its_model_and_the_rest_where_it_went(
    gateway: Gateway, rule: Any, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    await gateway.chat(messages=TRACE)
    assert (len(openai_upstream.calls), len(anthropic_upstream.calls)) == (0, 1)
    await gateway.chat()
    assert (len(openai_upstream.calls), len(anthropic_upstream.calls)) == (1, 1)
    first, second = await records(2)
    assert (first.rule, first.deployment) == ("traces", "beta/sage-1")
    assert (second.rule, second.deployment) == ("", "alpha/swift-1")


async def test_a_request_that_names_its_model_is_not_looked_at(
    gateway: Gateway, rule: Any, openai_upstream: Upstream
) -> None:
    await gateway.chat(messages=TRACE, model="swift")
    assert len(openai_upstream.calls) == 1
    [record] = await records()
    assert record.rule == ""
