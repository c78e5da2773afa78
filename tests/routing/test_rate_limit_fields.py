"""Rate limits as ops enter them, and as they reach the gateway's configuration."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client

from providers.admin.pages import change_url
from providers.domain.types import RateLimit
from providers.models import Deployment
from routing.domain.compile import compile_snapshot
from routing.domain.config import ConfigSnapshot
from routing.models import ConfigRevision, ModelAlias, Team, VirtualKey
from routing.selectors import config_rows
from tests.admin_pages import errors_of, submit
from tests.factories import DeploymentFactory, ModelAliasFactory, ProviderKeyFactory, TeamFactory, VirtualKeyFactory

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
FACTORIES: list[Any] = [TeamFactory, VirtualKeyFactory, ModelAliasFactory, DeploymentFactory]


def snapshot() -> ConfigSnapshot:
    return compile_snapshot(config_rows(now=NOW), now=NOW)


# --- in the admin -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", FACTORIES)
def test_limits_are_entered_and_taken_away_again(admin_client: Client, factory: Any) -> None:
    row: Any = factory()
    assert "Rate limits" in admin_client.get(change_url(row)).content.decode()
    before = ConfigRevision.objects.get(pk=1).revision
    submit(admin_client, change_url(row), rpm_limit="60", tpm_limit="100000", max_parallel_requests="5")
    row.refresh_from_db()
    assert (row.rpm_limit, row.tpm_limit, row.max_parallel_requests) == (60, 100_000, 5)
    submit(admin_client, change_url(row), rpm_limit="", tpm_limit="", max_parallel_requests="")
    row.refresh_from_db()
    assert (row.rpm_limit, row.tpm_limit, row.max_parallel_requests) == (None, None, None)
    assert ConfigRevision.objects.get(pk=1).revision > before + 1, "gateways hear of it"
    assert [old.rpm_limit for old in row.history.all()][:2] == [None, 60]


@pytest.mark.parametrize("value", ["0", "-1", "many"])
@pytest.mark.parametrize("column", ["rpm_limit", "tpm_limit", "max_parallel_requests"])
def test_a_limit_is_at_least_one(admin_client: Client, column: str, value: str) -> None:
    """Nothing at all is said by switching it off."""
    row: Model = TeamFactory()
    answer = submit(admin_client, change_url(row), **{column: value})
    assert ("greater than or equal to" in errors_of(answer)) or ("whole number" in errors_of(answer))


def test_a_key_is_limited_from_its_first_moment(admin_client: Client) -> None:
    url, team = "/admin/routing/virtualkey/add/", TeamFactory()
    page = submit(admin_client, url, team=team.pk, name="bot", rpm_limit="60", tpm_limit="", max_parallel_requests="")
    assert "Key issued" in page.content.decode()
    [caller] = snapshot().callers_by_key_id.values()
    assert caller.key_limit == RateLimit(rpm=60)


# --- in the configuration -----------------------------------------------------------------------------------------


def test_limits_are_in_the_snapshot_where_they_belong() -> None:
    team = TeamFactory(tpm_limit=1_000)
    key = VirtualKeyFactory(team=team, rpm_limit=60, max_parallel_requests=2)
    target = DeploymentFactory(provider=ProviderKeyFactory().provider, max_parallel_requests=9)
    ModelAliasFactory(name="fast", deployments=[target], rpm_limit=7)
    found = snapshot()
    caller = found.callers_by_key_id[key.pk]
    assert (caller.key_limit, caller.team_limit) == (RateLimit(60, None, 2), RateLimit(tpm=1_000))
    assert found.aliases["fast"].rate_limit == RateLimit(rpm=7)
    assert found.aliases["fast"].deployments[0].rate_limit == RateLimit(max_parallel=9)


def test_what_is_not_limited_has_no_limit_rather_than_an_empty_one() -> None:
    """The request path asks for nothing more than this."""
    target = DeploymentFactory(provider=ProviderKeyFactory().provider)
    ModelAliasFactory(name="fast", deployments=[target])
    key = VirtualKeyFactory()
    found = snapshot()
    caller = found.callers_by_key_id[key.pk]
    assert (caller.key_limit, caller.team_limit) == (None, None)
    assert (found.aliases["fast"].rate_limit, found.aliases["fast"].deployments[0].rate_limit) == (None, None)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({}, ""),
        ({"rpm_limit": 60}, "60 requests/min"),
        ({"tpm_limit": 100_000, "max_parallel_requests": 5}, "100,000 tokens/min, 5 at a time"),
    ],
)
def test_limits_are_said_in_words(limits: dict[str, int], words: str) -> None:
    assert VirtualKeyFactory.build(team=TeamFactory.build(), **limits).limits_in_words() == words


def test_the_page_of_keys_shows_their_limits(admin_client: Client) -> None:
    VirtualKeyFactory(rpm_limit=60)
    assert "60 requests/min" in admin_client.get("/dashboards/keys/").content.decode()


@pytest.mark.parametrize("model", [Team, VirtualKey, ModelAlias, Deployment])
def test_every_limit_says_its_unit_and_what_empty_means(model: type[Model]) -> None:
    for column in ("rpm_limit", "tpm_limit", "max_parallel_requests"):
        text = str(model._meta.get_field(column).help_text)  # type: ignore[union-attr]
        assert text.endswith("Empty: no limit.")
        assert "60 seconds" in text or "at once" in text
