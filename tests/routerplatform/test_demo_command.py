"""`manage.py demo_data` typed in any order, and more often than it was meant to be."""

from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from analytics.models import Alert, Budget, UsageRecord, UsageRollup
from analytics.services.rollups import rollups_refresh
from providers.models import CatalogueModel, Deployment, Provider, ProviderKey
from routing.models import Membership, ModelAlias, Persona, RoutingPolicy, Team, VirtualKey
from tests.factories import AlertFactory, MembershipFactory, ProviderFactory, UsageRecordFactory

pytestmark = pytest.mark.django_db


GONE = (Provider, ProviderKey, CatalogueModel, Deployment, ModelAlias, Team, VirtualKey)


def demo(*options: str) -> str:
    out = StringIO()
    call_command("demo_data", *options, stdout=out)
    return out.getvalue()


def test_removing_takes_all_that_is_the_demos_and_twice_finds_nothing_the_second_time() -> None:
    """Also what has come to hang on it since: rollups, alerts, members, a team that was renamed."""
    demo()
    requests = UsageRecord.objects.count()
    rollups_refresh()
    team = Team.objects.get(slug="support-bot")
    MembershipFactory(team=team)
    AlertFactory(budget=Budget.objects.get(team=team))
    Team.objects.filter(pk=team.pk).update(name="Renamed", slug="renamed")
    left = {table: table._default_manager.count() for table in (User, RoutingPolicy, Persona)}
    assert f"The demo is gone, with {requests} usage records." in demo("--remove")
    assert "The demo is gone, with 0 usage records." in demo("--remove")
    for table in (*GONE, UsageRecord, UsageRollup, Alert, Budget, Membership):
        assert not table._default_manager.exists(), table
    assert {table: table._default_manager.count() for table in left} == left


def test_removing_what_was_never_there_breaks_nothing() -> None:
    assert "with 0 usage records" in demo("--remove")
    assert not User.objects.exists()


def test_the_demo_is_made_again_after_its_removal_and_the_password_is_told_once_and_lets_in(client: Client) -> None:
    line = next(line for line in demo().splitlines() if line.startswith("Sign in as "))
    username, _, password = line.removeprefix("Sign in as ").removesuffix(" (shown only now).").partition(" with ")
    assert client.post("/login/", {"username": username, "password": password}).status_code == 302
    demo("--remove")
    again = demo()
    assert "The demo is in place." in again
    assert "Sign in as" not in again
    assert Provider.objects.count() == 2


def test_an_own_team_of_a_demo_teams_name_is_left_alone_by_both() -> None:
    own = UsageRecordFactory(key__team__slug="support-bot", key__team__name="Ours").team
    demo()
    demo("--remove")
    assert list(Team.objects.all()) == [own]
    assert UsageRecord.objects.count() == 1


def test_beside_real_providers_removing_twice_deletes_nothing_either_time() -> None:
    demo()
    ProviderFactory(name="ours")
    requests = UsageRecord.objects.count()
    for _ in range(2):
        assert "the demo providers are switched off" in demo("--remove")
    assert UsageRecord.objects.count() == requests
    assert list(Provider.objects.filter(is_active=True).values_list("name", flat=True)) == ["ours"]


def test_with_history_and_remove_exclude_each_other() -> None:
    with pytest.raises(CommandError, match="not allowed with"):
        demo("--with-history", "--remove")
    assert not Provider.objects.exists()


def test_every_page_opens_on_the_demo_and_after_its_removal(admin_client: Client) -> None:
    dashboards = ["/dashboards/", "/dashboards/?by=persona", "/dashboards/providers/", "/dashboards/requests/"]
    pages = [*dashboards, "/playground/", "/admin/", "/admin/analytics/usagerecord/"]
    demo()
    one = UsageRecord.objects.order_by("pk").first()
    assert one
    assert [
        url for url in [*pages, f"/dashboards/requests/{one.pk}/"] if admin_client.get(url).status_code != 200
    ] == []
    demo("--remove")
    assert [url for url in pages if admin_client.get(url).status_code != 200] == []
