"""Usage whose cost looks wrong: of unknown price, or free although its model is not."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from analytics.models import UsageRecord
from analytics.selectors.pricing import unpriced_usage, zero_cost_usage
from providers.models import CatalogueModel
from tests.factories import (
    NOON,
    CatalogueModelFactory,
    DeploymentFactory,
    PriceFactory,
    ProviderFactory,
    UsageAdjustmentFactory,
    UsageRecordFactory,
)

pytestmark = pytest.mark.django_db
SINCE, UNTIL = NOON - timedelta(hours=1), NOON + timedelta(hours=1)


def used(**fields: Any) -> UsageRecord:
    return UsageRecordFactory.create(**fields)


@pytest.fixture
def model() -> CatalogueModel:
    return CatalogueModelFactory.create(name="model")


def test_unpriced_usage_is_counted_by_deployment_with_the_most_first() -> None:
    used(cost_nano=None, model="rare", deployment="v/rare")
    first, last = (used(cost_nano=None, at=NOON + timedelta(minutes=n), cache_read_input_tokens=5) for n in (0, 9))
    used(cost_nano=7)
    used(cost_nano=None, at=UNTIL)
    used(cost_nano=None, at=SINCE - timedelta(microseconds=1))

    common, rare = unpriced_usage(SINCE, UNTIL)

    assert (common.deployment, common.model, common.requests) == ("vendor/model", "model", 2)
    assert common.tokens == 2 * (1000 + 200 + 5)
    assert (common.first_at, common.last_at) == (first.started_at, last.started_at)
    assert (rare.deployment, rare.requests) == ("v/rare", 1)


def test_what_was_priced_since_is_unpriced_no_longer() -> None:
    record = used(cost_nano=None)
    UsageAdjustmentFactory.create(request_id=record.pk, was_unpriced=True, delta_nano=0)
    assert unpriced_usage(SINCE, UNTIL) == []


def test_tokens_that_cost_nothing_on_a_priced_model_are_found(model: CatalogueModel) -> None:
    PriceFactory.create(model=model)
    used(cost_nano=0)
    [found] = zero_cost_usage(SINCE, UNTIL)
    assert (found.deployment, found.requests, found.tokens) == ("vendor/model", 1, 1200)


@pytest.mark.parametrize(
    "fields",
    [
        {"cost_nano": 1},
        {"cost_nano": None},
        {"cost_nano": 0, "input_tokens": 0, "output_tokens": 0},
        {"cost_nano": 0, "usage_source": "cache"},
        {"cost_nano": 0, "model": "", "deployment": "", "provider": ""},
        {"cost_nano": 0, "at": UNTIL},
    ],
)
def test_what_costs_nothing_for_a_reason_is_not_found(model: CatalogueModel, fields: dict[str, Any]) -> None:
    PriceFactory.create(model=model)
    used(**fields)
    assert zero_cost_usage(SINCE, UNTIL) == []


def test_a_free_or_unpriced_model_may_cost_nothing(model: CatalogueModel) -> None:
    used(cost_nano=0)
    assert zero_cost_usage(SINCE, UNTIL) == []
    PriceFactory.create(model=model, input_usd=Decimal(0), output_usd=Decimal(0))
    assert zero_cost_usage(SINCE, UNTIL) == []


def test_a_deployments_own_price_may_make_it_free_and_its_model_not(model: CatalogueModel) -> None:
    PriceFactory.create(model=model)
    deployment = DeploymentFactory.create(
        provider=ProviderFactory.create(name="vendor"), model=model, upstream_model="model"
    )
    PriceFactory.create(model=None, deployment=deployment, input_usd=Decimal(0), output_usd=Decimal(0))
    used(cost_nano=0)
    assert zero_cost_usage(SINCE, UNTIL) == []


def test_a_price_that_began_in_between_counts(model: CatalogueModel) -> None:
    PriceFactory.create(model=model, input_usd=Decimal(0), output_usd=Decimal(0))
    PriceFactory.create(model=model, effective_from=NOON)
    used(cost_nano=0, at=NOON - timedelta(minutes=1))
    assert zero_cost_usage(SINCE, UNTIL) == []
    used(cost_nano=0, at=NOON + timedelta(minutes=1))
    assert [found.requests for found in zero_cost_usage(SINCE, UNTIL)] == [2]


def test_what_was_corrected_since_is_not_found(model: CatalogueModel) -> None:
    PriceFactory.create(model=model)
    UsageAdjustmentFactory.create(request_id=used(cost_nano=0).pk, delta_nano=5)
    assert zero_cost_usage(SINCE, UNTIL) == []
