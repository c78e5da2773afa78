"""The store that holds a process's configuration: what it loads, when it swaps, and what it survives."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test.utils import CaptureQueriesContext

from providers.models import Price, PriceSource, Provider
from routing.config_store import ConfigStore, ConfigUnavailable
from routing.models import ConfigRevision, RoutingPolicy, VirtualKey
from routing.selectors import config_rows
from routing.services import config_revision_bump, key_revoke
from tests.factories import (
    CatalogueModelFactory,
    DeploymentFactory,
    ModelAliasFactory,
    PersonaFactory,
    PriceFactory,
    ProviderFactory,
    ProviderKeyFactory,
    RoutingPolicyFactory,
    VirtualKeyFactory,
)

pytestmark = pytest.mark.django_db(transaction=True)


@asynccontextmanager
async def store(**options: object) -> AsyncIterator[ConfigStore]:
    made = ConfigStore(poll_s=0.02, **options)  # type: ignore[arg-type]
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def eventually(store: ConfigStore, revision: int) -> None:
    for _ in range(1500):
        if (store.status().revision or 0) >= revision:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"revision {revision} did not arrive, {store.status()} is in force")


def revision() -> int:
    return ConfigRevision.objects.get(pk=1).revision


async def test_what_is_active_is_in_the_snapshot() -> None:
    def configure() -> None:
        provider = ProviderFactory(name="alpha")
        ProviderKeyFactory(provider=provider, secret="sk-one-1111")
        ProviderKeyFactory(provider=provider, secret="sk-two-2222", is_active=False)
        deployment = DeploymentFactory(provider=provider, model=CatalogueModelFactory(name="swift"))
        DeploymentFactory(provider=provider, is_active=False)
        alias = ModelAliasFactory(name="fast", deployments=[deployment])
        rules = RoutingPolicyFactory(name="default", preferred=[alias], is_default=True, max_cost_per_request="0.25")
        PersonaFactory(slug="analyst", policy=rules, system_prompt="Count.", temperature=0.2)
        PersonaFactory(slug="gone", policy=rules, is_active=False)
        VirtualKeyFactory()

    await sync_to_async(configure)()
    async with store() as config:
        snapshot = config.current()
    assert set(snapshot.deployments) == {"alpha/swift"}
    swift = snapshot.deployments["alpha/swift"]
    assert [credential.last4 for credential in swift.credentials] == ["1111"]
    assert snapshot.aliases["fast"].deployments == (swift,)
    assert snapshot.default_policy is not None
    assert snapshot.default_policy.max_cost_nano == 250_000_000
    assert set(snapshot.personas) == {"analyst"}
    assert snapshot.personas["analyst"].defaults.temperature == 0.2
    assert len(snapshot.callers_by_digest) == 1


async def test_no_secret_stands_in_a_snapshot_in_clear() -> None:
    await sync_to_async(lambda: DeploymentFactory(provider=ProviderKeyFactory(secret="sk-very-secret").provider))()
    async with store() as config:
        [deployment] = config.current().deployments.values()
    assert "sk-very-secret" not in deployment.credentials[0].sealed
    assert deployment.credentials[0].sealed not in repr(config.current())


async def test_an_edit_is_swapped_in_and_a_request_keeps_its_own_snapshot() -> None:
    rules = await sync_to_async(RoutingPolicyFactory)(name="default", is_default=True)
    async with store() as config:
        before = config.current()

        def rename() -> int:
            policy = RoutingPolicy.objects.get(pk=rules.pk)
            policy.name = "renamed"
            policy.save()
            return revision()

        await eventually(config, await sync_to_async(rename)())
        assert set(before.policies) == {"default"}
        assert set(config.current().policies) == {"renamed"}
        assert config.current().revision > before.revision


async def test_a_revoked_key_arrives_as_revoked() -> None:
    key = await sync_to_async(VirtualKeyFactory)()
    async with store() as config:

        def revoke() -> int:
            assert key_revoke(key=key, by=None)
            return revision()

        await eventually(config, await sync_to_async(revoke)())
        assert config.current().callers_by_key_id[key.pk].revoked_at is not None


async def test_a_change_of_health_alone_is_no_new_configuration() -> None:
    provider = await sync_to_async(ProviderFactory)()
    async with store() as config:
        before = config.status().revision
        await sync_to_async(lambda: Provider.objects.filter(pk=provider.pk).update(health="down"))()
        await asyncio.sleep(0.1)
        assert config.status().revision == before


async def test_one_bad_row_is_named_and_keeps_no_other_edit_from_taking_effect() -> None:
    persona = await sync_to_async(PersonaFactory)(slug="analyst")
    key = await sync_to_async(VirtualKeyFactory)()
    async with store() as config:

        def break_one_and_revoke_another() -> int:
            RoutingPolicy.objects.filter(pk=persona.policy_id).update(is_active=False)
            assert key_revoke(key=key, by=None)
            return revision()

        await eventually(config, await sync_to_async(break_one_and_revoke_another)())
        assert "Persona “analyst” uses a policy that is not active" in config.status().problem
        assert config.current().personas == {}
        assert config.current().callers_by_key_id[key.pk].revoked_at is not None

        def mend_it() -> int:
            policy = RoutingPolicy.objects.get(pk=persona.policy_id)
            policy.is_active = True
            policy.save()
            return revision()

        await eventually(config, await sync_to_async(mend_it)())
        assert config.status().problem == ""
        assert set(config.current().personas) == {"analyst"}


async def test_a_configuration_that_cannot_be_compiled_never_replaces_a_good_one() -> None:
    rules = await sync_to_async(RoutingPolicyFactory)(name="default")
    async with store() as config:
        good = config.current()

        def break_it() -> None:
            policy = RoutingPolicy.objects.get(pk=rules.pk)
            policy.required_capabilities = ["telepathy"]
            policy.save()

        await sync_to_async(break_it)()
        for _ in range(1500):
            if config.status().problem:
                break
            await asyncio.sleep(0.02)
        assert "telepathy" in config.status().problem
        assert config.current() is good


async def test_a_row_that_makes_no_sense_at_all_does_not_end_the_watch() -> None:
    """Else no later edit would arrive, a revoked key among them, and nothing would say so."""
    key = await sync_to_async(VirtualKeyFactory)()
    async with store() as config:
        scopes = key.scopes
        await sync_to_async(VirtualKey.objects.filter(pk=key.pk).update)(scopes=7)
        await sync_to_async(config_revision_bump)()
        for _ in range(1500):
            if config.status().problem:
                break
            await asyncio.sleep(0.02)
        assert "TypeError" in config.status().problem
        assert config.current().callers_by_key_id[key.pk].revoked_at is None
        await sync_to_async(VirtualKey.objects.filter(pk=key.pk).update)(scopes=scopes)
        await sync_to_async(key_revoke)(key=key, by=None)
        await eventually(config, await sync_to_async(revision)())
        assert config.current().callers_by_key_id[key.pk].revoked_at is not None
        assert config.status().problem == ""


async def test_before_anything_is_loaded_the_reason_is_told() -> None:
    config = ConfigStore(poll_s=1)
    with pytest.raises(ConfigUnavailable, match="not been loaded"):
        config.current()
    assert config.status().revision is None


async def test_a_price_that_begins_later_comes_into_force_at_its_hour_without_an_edit() -> None:
    clock = [datetime(2026, 3, 10, 11, 59, tzinfo=UTC)]

    def configure() -> None:
        provider = ProviderFactory(name="alpha")
        ProviderKeyFactory(provider=provider)
        model = CatalogueModelFactory(name="swift")
        DeploymentFactory(provider=provider, model=model)
        PriceFactory(model=model, input_usd=Decimal(1), effective_from=clock[0] - timedelta(days=1))
        PriceFactory(model=model, input_usd=Decimal(3), effective_from=datetime(2026, 3, 10, 12, 0, tzinfo=UTC))

    await sync_to_async(configure)()
    async with store(clock=lambda: clock[0]) as config:
        price = config.current().deployments["alpha/swift"].price
        assert price is not None
        assert price.input == 1_000_000_000
        clock[0] += timedelta(minutes=1)
        await config.refresh()
        price = config.current().deployments["alpha/swift"].price
        assert price is not None
        assert price.input == 3_000_000_000


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("genai-prices", 1, 100)], 1),
        ([("genai-prices", 1, 100), ("genai-prices", 2, 10)], 2),
        ([("override", 5, 100), ("genai-prices", 2, 10)], 5),
        ([("override", 5, 100), ("override", 6, 50)], 6),
        ([("genai-prices", 1, 100), ("override", 7, -10)], 1),
    ],
    ids=["list", "newer list", "own wins", "newer own", "not begun"],
)
async def test_the_price_in_force_is_the_latest_begun_and_an_own_price_wins(
    rows: list[tuple[PriceSource, int, int]], expected: int
) -> None:
    now = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)

    def configure() -> None:
        provider = ProviderFactory(name="alpha")
        ProviderKeyFactory(provider=provider)
        model = CatalogueModelFactory(name="swift")
        DeploymentFactory(provider=provider, model=model)
        for source, usd, days_ago in rows:
            PriceFactory(
                model=model, source=source, input_usd=Decimal(usd), effective_from=now - timedelta(days=days_ago)
            )

    await sync_to_async(configure)()
    async with store(clock=lambda: now) as config:
        price = config.current().deployments["alpha/swift"].price
    assert price is not None
    assert price.input == expected * 1_000_000_000


async def test_a_deployments_own_price_wins_over_its_models() -> None:
    def configure() -> None:
        provider = ProviderFactory(name="alpha")
        ProviderKeyFactory(provider=provider)
        deployment = DeploymentFactory(provider=provider, model=CatalogueModelFactory(name="swift"))
        PriceFactory(model=deployment.model, input_usd=Decimal(1))
        PriceFactory(model=None, deployment=deployment, input_usd=None, output_usd=Decimal(9))

    await sync_to_async(configure)()
    async with store() as config:
        price = config.current().deployments["alpha/swift"].price
    assert price is not None
    assert (price.input, price.output) == (None, 9_000_000_000)
    assert await sync_to_async(Price.objects.count)() == 2


async def test_a_provider_that_needs_a_key_and_has_none_offers_nothing() -> None:
    def configure() -> None:
        DeploymentFactory(provider=ProviderFactory(name="openai", kind="openai"))
        DeploymentFactory(provider=ProviderFactory(name="local", kind="openai-compatible"))

    await sync_to_async(configure)()
    async with store() as config:
        assert {name.split("/")[0] for name in config.current().deployments} == {"local"}


async def test_loading_takes_the_same_number_of_queries_for_a_large_configuration() -> None:
    def configure(count: int) -> None:
        for _ in range(count):
            deployment = DeploymentFactory(provider=ProviderKeyFactory().provider)
            alias = ModelAliasFactory(deployments=[deployment])
            PersonaFactory(policy=RoutingPolicyFactory(preferred=[alias]))
            VirtualKeyFactory().allowed_models.add(alias)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            config_rows(now=datetime.now(UTC))
        return len(captured)

    await sync_to_async(configure)(1)
    few = await sync_to_async(queries)()
    await sync_to_async(configure)(5)
    assert await sync_to_async(queries)() == few
