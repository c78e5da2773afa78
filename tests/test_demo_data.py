"""The demo installation: made once, never over somebody's work, and gone without a trace when it is not wanted."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext

from analytics.domain.rollup import hour_of
from analytics.models import Budget, UsageRecord, UsageRollup, UsageState
from analytics.selectors.sums import dirty_hours
from providers.domain.answer import Usage
from providers.domain.pricing import cost_nano, price_from_snapshot
from providers.models import CatalogueModel, Deployment, Price, Provider, ProviderKey
from routerplatform.demo import SeedResult, remove, seed
from routerplatform.demo_content import DEMO_MODELS, DEMO_TEAMS
from routerplatform.starter import STARTER_PERSONAS
from routing.domain.compile import compile_snapshot
from routing.domain.config import ConfigSnapshot
from routing.domain.keys import key_digest
from routing.models import AliasTarget, ModelAlias, Persona, PolicyCandidate, RoutingPolicy, Team, VirtualKey
from routing.selectors import config_revision, config_rows
from routing.services import key_revoke
from tests.factories import (
    ModelAliasFactory,
    ProviderFactory,
    TeamFactory,
    UsageRecordFactory,
    UsageRollupFactory,
    VirtualKeyFactory,
)

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
PORT = 8901

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _quick_password_hashes(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def seeded(*, now: datetime = NOW, port: int = PORT, usage_per_day: int | None = 0, anew: bool = False) -> SeedResult:
    return seed(now=now, demo_provider_port=port, usage_per_day=usage_per_day, anew=anew)


@pytest.fixture
def month() -> None:
    """A first start as it really is: with a month of invented usage."""
    seeded(usage_per_day=None)


def snapshot(now: datetime = NOW) -> ConfigSnapshot:
    return compile_snapshot(config_rows(now=now), now=now)


def counts() -> dict[str, int]:
    tables = (User, Provider, ProviderKey, CatalogueModel, Price, Deployment, ModelAlias, AliasTarget, RoutingPolicy)
    more = (PolicyCandidate, Persona, Team, VirtualKey, Budget, UsageRecord)
    return {table.__name__: table.objects.count() for table in (*tables, *more)}


# --- the first start ----------------------------------------------------------------------------------------------


def test_a_fresh_installation_can_route_every_persona_policy_and_alias() -> None:
    seeded()
    config = snapshot()
    assert config.default_policy
    assert config.default_policy.name == "default"
    assert set(config.personas) == {"code_assistant", "chatbot", "analyst", "creative_writer"}
    for persona in config.personas.values():
        assert len({candidate.alias.deployments[0].endpoint.name for candidate in persona.policy.candidates}) == 2
        assert (persona.defaults.temperature, persona.defaults.max_tokens) == (0.7, 4096)
        assert len(persona.defaults.system_prompt) > 500
    assert {policy.task_type for policy in config.policies.values()} == {
        "ANY",
        "CODING",
        "SIMPLE_QA",
        "ANALYSIS",
        "CREATIVE",
    }
    assert {"fast", "smart", *(model.name for model in DEMO_MODELS)} == set(config.aliases)
    assert len(config.aliases["fast"].deployments) == 2


def test_demo_deployments_are_priced_and_reach_only_this_machine() -> None:
    seeded(port=4242)
    for deployment in snapshot().deployments.values():
        assert deployment.price
        assert deployment.price.input
        assert deployment.endpoint.base_url == "http://127.0.0.1:4242/v1"
        assert deployment.endpoint.allowed_networks == ("127.0.0.1/32", "::1/128")
        assert len(deployment.credentials) == 1


def test_the_admin_s_password_is_told_once_and_works() -> None:
    first, second = seeded(), seeded()
    assert first.admin_password
    assert second.admin_password is None
    assert first.admin_username == second.admin_username == "admin"
    assert User.objects.get(username="admin", is_superuser=True).check_password(first.admin_password)
    assert first.admin_password not in repr(first)


def test_where_there_is_a_superuser_no_other_is_made() -> None:
    User.objects.create_superuser("boss", password="a long test password")
    result = seeded()
    assert (result.admin_username, result.admin_password) == ("boss", None)
    assert User.objects.count() == 1


def test_an_ordinary_account_called_admin_does_not_become_one() -> None:
    User.objects.create_user("admin", password="a long test password")
    result = seeded()
    assert result.admin_username.startswith("admin-")
    assert not User.objects.get(username="admin").is_superuser


# --- the demo key -------------------------------------------------------------------------------------------------


def test_the_demo_key_is_a_key_of_the_support_bot_and_can_be_printed_again() -> None:
    first, second = seeded().demo_key, seeded().demo_key
    assert first
    assert first == second
    assert first.startswith("rp_demo")
    caller = snapshot().callers_by_digest[key_digest(settings.KEY_PEPPER.encode(), first)]
    assert (caller.team_name, caller.key_name) == ("Support bot", "Demo key")


def test_a_revoked_demo_key_stays_revoked_and_is_not_printed() -> None:
    seeded()
    key_revoke(key=VirtualKey.objects.get(name="Demo key"), by=None)
    assert seeded().demo_key is None
    assert seeded(anew=True).demo_key is None


@pytest.mark.parametrize("name", ["SECRET_KEY", "KEY_PEPPER"])
def test_new_secrets_bring_another_demo_key_and_revoke_the_one_nobody_can_print(name: str, settings: Any) -> None:
    old = seeded().demo_key
    setattr(settings, name, "f" * 64)
    new = seeded().demo_key
    assert new
    assert new != old
    live = VirtualKey.objects.filter(name="Demo key", revoked_at=None)
    assert [key.digest for key in live] == [key_digest(settings.KEY_PEPPER.encode(), new)]


# --- later starts -------------------------------------------------------------------------------------------------


def test_a_second_start_looks_and_changes_nothing() -> None:
    seeded()
    before, revision = counts(), config_revision()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        seeded(now=NOW + timedelta(days=3))
    assert len(queries) <= 8
    assert (counts(), config_revision()) == (before, revision)


@pytest.mark.parametrize("anew", [False, True])
def test_what_somebody_edited_is_never_written_over(anew: bool) -> None:
    seeded()
    Persona.objects.filter(slug="chatbot").update(system_prompt="Ours")
    Provider.objects.filter(name="demo").update(label="Ours", base_url="http://10.0.0.7/v1")
    PolicyCandidate.objects.filter(policy__name="chat", alias__name="demo-swift").delete()
    Price.objects.filter(model__name="demo-deep").update(input_usd=7)
    before = counts()
    seeded(anew=anew, port=5555)
    assert counts() == before
    assert Persona.objects.get(slug="chatbot").system_prompt == "Ours"
    demo = Provider.objects.get(name="demo")
    assert (demo.label, demo.base_url) == ("Ours", "http://10.0.0.7/v1")
    assert not PolicyCandidate.objects.filter(policy__name="chat", alias__name="demo-swift").exists()
    assert Price.objects.get(model__name="demo-deep").input_usd == 7


def test_what_somebody_deleted_does_not_come_back_at_the_next_start() -> None:
    seeded()
    Persona.objects.get(slug="analyst").delete()
    seeded()
    assert not Persona.objects.filter(slug="analyst").exists()


def test_the_demo_server_may_move_to_another_port() -> None:
    seeded()
    revision = config_revision()
    seeded(port=5555)
    assert {d.endpoint.base_url for d in snapshot().deployments.values()} == {"http://127.0.0.1:5555/v1"}
    assert config_revision() > revision


def test_an_own_default_policy_remains_the_default() -> None:
    RoutingPolicy.objects.create(name="ours", is_default=True)
    seeded()
    assert RoutingPolicy.objects.get(is_default=True).name == "ours"


def test_rows_that_were_there_before_keep_their_names_and_get_nothing_added() -> None:
    team = TeamFactory.create(name="Search", slug="find")
    alias = ModelAliasFactory.create(name="fast")
    seeded()
    assert not team.keys.exists()
    assert not team.budgets.exists()
    assert not alias.targets.exists()
    remove()
    assert list(Team.objects.all()) == [team]


# --- invented usage -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("month")
def test_the_first_seeding_invents_a_month_of_usage_that_adds_up() -> None:
    records = list(UsageRecord.objects.all())
    assert 2000 < len(records) < 3500
    assert {record.team_name for record in records} == {team.name for team in DEMO_TEAMS}
    assert min(record.started_at for record in records) > NOW - timedelta(days=30)
    assert max(record.finished_at for record in records) < NOW
    for record in records:
        assert record.price
        usage = Usage(record.input_tokens, record.cache_read_input_tokens, 0, record.output_tokens)
        assert record.cost_nano == cost_nano(usage, price_from_snapshot(record.price))
        assert "demo data" in record.decision["how"]
    assert set(dirty_hours()) == {hour_of(record.started_at) for record in records}


def test_invented_requests_end_in_every_way_that_real_ones_do() -> None:
    seeded(usage_per_day=40)
    states = set(UsageRecord.objects.values_list("state", flat=True))
    assert states == {UsageState.SETTLED, UsageState.CANCELLED, UsageState.RELEASED}
    failed = UsageRecord.objects.filter(state=UsageState.RELEASED).first()
    assert failed
    assert failed.cost_nano == failed.output_tokens == 0
    assert all(attempt["failure"] for attempt in failed.attempts)
    fallbacks = [record for record in UsageRecord.objects.filter(state=UsageState.SETTLED) if len(record.attempts) > 1]
    assert fallbacks
    assert all(record.attempts[-1]["deployment"] == record.deployment for record in fallbacks)


def test_a_denser_history_keeps_what_was_there_and_adds_to_it() -> None:
    seeded(usage_per_day=5)
    sparse = dict(UsageRecord.objects.values_list("request_id", "cost_nano"))
    seeded(anew=True, usage_per_day=20)
    dense = dict(UsageRecord.objects.values_list("request_id", "cost_nano"))
    assert len(dense) > 3 * len(sparse) > 200
    assert sparse.items() <= dense.items()
    seeded(anew=True, usage_per_day=20)
    assert UsageRecord.objects.count() == len(dense)


def test_where_requests_have_been_served_no_usage_is_invented() -> None:
    UsageRecordFactory.create()
    seeded(usage_per_day=None)
    assert UsageRecord.objects.count() == 1


# --- removal ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("month")
def test_removal_takes_the_demo_away_with_its_usage_and_leaves_policies_and_personas() -> None:
    record = UsageRecord.objects.first()
    assert record
    UsageRollupFactory.create(key=VirtualKey.objects.get(pk=record.key_id))
    result = remove()
    assert not result.switched_off
    assert result.usage_records > 2000
    left = {name: count for name, count in counts().items() if count}
    assert left == {"User": 1, "RoutingPolicy": 5, "Persona": len(STARTER_PERSONAS)}
    assert not UsageRollup.objects.exists()
    assert snapshot().aliases == {}


def test_a_removed_demo_stays_away_until_it_is_asked_for() -> None:
    seeded()
    before = counts()
    remove()
    assert seeded().demo_key is None
    assert not Provider.objects.exists()
    seeded(anew=True)
    after = counts()
    assert after == before


def test_usage_of_other_teams_survives_the_removal() -> None:
    seeded(usage_per_day=5)
    ours = UsageRecordFactory.create()
    remove()
    assert list(UsageRecord.objects.all()) == [ours]


def test_beside_real_providers_the_demo_is_switched_off_and_every_record_stays() -> None:
    seeded(usage_per_day=5)
    ProviderFactory.create(name="openai", kind="openai")
    spent = UsageRecord.objects.aggregate(Sum("cost_nano"))
    assert remove().switched_off
    assert UsageRecord.objects.aggregate(Sum("cost_nano")) == spent
    assert snapshot().deployments == {}


def test_a_key_limited_to_a_demo_model_does_not_become_a_key_for_everything() -> None:
    seeded()
    key = VirtualKeyFactory.create()
    key.allowed_models.set([ModelAlias.objects.get(name="demo-swift")])
    remove()
    caller = snapshot().callers_by_key_id[key.pk]
    assert caller.allowed_aliases == {"demo-swift"}


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def told() -> Iterator[io.StringIO]:
    with io.StringIO() as out:
        yield out


def test_the_command_makes_the_demo_and_says_how_to_get_in(told: io.StringIO) -> None:
    call_command("demo_data", "--with-history", stdout=told)
    [key_line] = [line for line in told.getvalue().splitlines() if line.startswith("Demo key: rp_demo")]
    digest = key_digest(settings.KEY_PEPPER.encode(), key_line.removeprefix("Demo key: "))
    assert VirtualKey.objects.filter(digest=digest).exists()
    assert "Sign in as admin with " in told.getvalue()
    assert UsageRecord.objects.count() > 4000


def test_the_command_removes_the_demo(told: io.StringIO) -> None:
    seeded()
    call_command("demo_data", "--remove", stdout=told)
    assert "The demo is gone" in told.getvalue()
    assert not Team.objects.exists()
    ProviderFactory.create()
    call_command("demo_data", stdout=io.StringIO())
    call_command("demo_data", "--remove", stdout=told)
    assert "switched off" in told.getvalue()
