"""Providers as their page shows them, and as their traffic judges them."""

from datetime import timedelta
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from analytics.models import UsageState
from analytics.selectors import provider_states
from analytics.services.providers import providers_judge
from analytics.services.rollups import rollups_refresh
from providers.models import ProviderCheck
from tests.factories import (
    NOON,
    DeploymentFactory,
    ProviderCheckFactory,
    ProviderFactory,
    ProviderKeyFactory,
    UsageRecordFactory,
    mark_day,
)

MINUTE = timedelta(minutes=1)

pytestmark = pytest.mark.django_db


def attempts(provider: str, *failures: str) -> list[dict[str, Any]]:
    """As the ledger stores them: a field that has its default is left out."""
    return [{"deployment": "d", "provider": provider, **({"failure": one} if one else {})} for one in failures]


def test_a_provider_without_any_traffic_is_there() -> None:
    provider = ProviderFactory.create(name="quiet", label="Quiet")

    [state] = provider_states(now=NOON)

    assert (state.id, state.provider, state.label, state.health) == (provider.pk, "quiet", "Quiet", "unknown")
    assert (state.checks, state.deployments, state.active_keys, state.requests_24h, state.p50_ms) == ((), 0, 0, 0, None)


def test_deployments_and_keys_are_counted_when_active() -> None:
    provider = ProviderFactory.create()
    for is_active in (True, True, False):
        ProviderKeyFactory.create(provider=provider, is_active=is_active)
        DeploymentFactory.create(provider=provider, is_active=is_active)
    DeploymentFactory.create(provider=provider)

    [state] = provider_states(now=NOON)

    assert (state.active_keys, state.deployments) == (2, 3)


def test_traffic_is_that_of_the_last_24_hours() -> None:
    ProviderFactory.create(name="vendor")
    for latency_ms in (100, 200, 300):
        UsageRecordFactory.create(at=NOON - MINUTE, latency_ms=latency_ms)
    UsageRecordFactory.create(at=NOON, state=UsageState.RELEASED, error_code="upstream_failed", latency_ms=9000)
    for hours in (23, 25):
        UsageRecordFactory.create(at=NOON - timedelta(hours=hours), latency_ms=200)
    mark_day(NOON.date())
    mark_day((NOON - timedelta(hours=24)).date())

    [from_records] = provider_states(now=NOON)
    rollups_refresh()
    [from_rollups] = provider_states(now=NOON)

    assert (from_records.requests_24h, from_records.errors_24h, from_records.p50_ms) == (5, 1, 200)
    assert from_records.p95_ms == pytest.approx(285)
    assert from_rollups == from_records


def test_the_strip_has_the_last_90_checks_oldest_first() -> None:
    provider = ProviderFactory.create()
    ProviderCheckFactory.create_batch(3)
    for number in range(95):
        ProviderCheckFactory.create(provider=provider, checked_at=NOON - number * MINUTE, note=str(number))

    state = next(one for one in provider_states(now=NOON) if one.id == provider.pk)

    assert [int(mark.note) for mark in state.checks] == list(reversed(range(90)))


def test_the_number_of_queries_is_the_same_for_any_number_of_providers(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for number in range(4):
        provider = DeploymentFactory.create(provider__name=f"vendor-{number}").provider
        ProviderCheckFactory.create(provider=provider, checked_at=NOON)
        UsageRecordFactory.create(provider=provider.name)

    with django_assert_num_queries(8):
        assert len(provider_states(now=NOON)) == 4


def test_enough_traffic_judges_a_provider_without_a_call() -> None:
    good, bad = ProviderFactory.create(name="good"), ProviderFactory.create(name="bad")
    for _ in range(5):
        UsageRecordFactory.create(at=NOON - MINUTE, attempts=attempts("bad", "timeout") + attempts("good", ""))

    assert providers_judge(now=NOON) == 2

    good.refresh_from_db()
    bad.refresh_from_db()
    assert (good.health, bad.health, bad.checked_at) == ("healthy", "down", NOON)
    assert bad.health_note == "5 of 5 recent attempts failed, most often: timeout"
    assert set(ProviderCheck.objects.values_list("is_passive", flat=True)) == {True}


def test_too_little_old_or_foreign_traffic_judges_nobody() -> None:
    ProviderFactory.create(name="rare")
    ProviderFactory.create(name="old")
    ProviderFactory.create(name="off", is_active=False)
    UsageRecordFactory.create(
        at=NOON, attempts=attempts("rare", *["timeout"] * 4) + attempts("unknown", *["timeout"] * 9)
    )
    UsageRecordFactory.create(at=NOON, attempts=attempts("off", *["timeout"] * 9))
    UsageRecordFactory.create(at=NOON - 6 * MINUTE, attempts=attempts("old", *["timeout"] * 9))
    UsageRecordFactory.create(at=NOON, attempts=[])

    assert providers_judge(now=NOON) == 0
    assert not ProviderCheck.objects.exists()


def test_callers_who_leave_and_faults_of_ours_say_nothing_about_a_provider() -> None:
    provider = ProviderFactory.create(name="good")
    for _ in range(5):
        said = attempts("good", "", "cancelled", "cancelled", "internal_error", "bad_request")
        UsageRecordFactory.create(at=NOON - MINUTE, attempts=said)

    assert providers_judge(now=NOON) == 1

    provider.refresh_from_db()
    assert provider.health == "healthy"
