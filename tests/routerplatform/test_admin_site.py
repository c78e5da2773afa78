"""The admin as a whole: its first page, its sidebar, its content policy, its sign-in, and who may touch whom."""

import re
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from providers.admin.pages import change_url, list_url
from tests.admin_pages import queries_of, submit
from tests.factories import (
    AlertFactory,
    BudgetFactory,
    MembershipFactory,
    ModelAliasFactory,
    ProviderFactory,
    UsageRecordFactory,
    UserFactory,
    mark_hour,
)

pytestmark = pytest.mark.django_db


def spend(cents: int, *, days_ago: int = 0, **fields: Any) -> Any:
    record = UsageRecordFactory(at=timezone.now() - timedelta(days=days_ago), cost_nano=cents * 10_000_000, **fields)
    mark_hour(record.started_at)
    return record


def staff_with(*codenames: str) -> User:
    user: User = UserFactory(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


def test_the_project_is_without_complaints() -> None:
    call_command("check", fail_level="WARNING")


def test_the_overview_shows_spend_providers_budgets_and_alerts(admin_client: Client) -> None:
    record = spend(1234)
    spend(2468, days_ago=40, key=record.key)
    BudgetFactory(team=record.team)
    AlertFactory(budget__team__name="Alarmed team")
    ProviderFactory(label="Broken vendor", health="down", health_note="connection refused")
    text = admin_client.get("/admin/").content.decode()
    assert "$12.34" in text
    assert "−50.0\N{NO-BREAK SPACE}%" in text
    assert f"{record.team.name} $12.34" in text
    assert "$12.34 of $100.00" in text
    assert "Alarmed team" in text
    assert text.index("Broken vendor") > 0


def test_the_overview_says_what_will_be_there_when_there_is_nothing(admin_client: Client) -> None:
    text = admin_client.get("/admin/").content.decode()
    assert "No requests in these days" in text
    assert "No provider is on" in text
    assert "No budget is set" in text
    assert "Nothing waits for you" in text


def test_the_overview_takes_as_many_queries_for_many_teams_as_for_two(admin_client: Client) -> None:
    def grow(count: int) -> None:
        for _ in range(count):
            AlertFactory(budget__team=spend(100).team)
            ProviderFactory()

    grow(2)
    admin_client.get("/admin/")
    with_two = queries_of(admin_client, "/admin/")
    grow(6)
    assert queries_of(admin_client, "/admin/") == with_two


def test_staff_without_the_right_to_usage_see_their_own_teams_money_only(client: Client) -> None:
    mine, other = spend(100), spend(70_000)
    AlertFactory(budget__team=other.team)
    user = staff_with("view_team")
    MembershipFactory(user=user, team=mine.team)
    client.force_login(user)
    text = client.get("/admin/").content.decode()
    assert "$1.00" in text
    assert "$700" not in text
    assert other.team.name not in text
    assert "Providers</h2>" not in text


def test_the_sidebar_counts_what_is_wrong_and_hides_what_one_may_not_see(admin_client: Client, client: Client) -> None:
    ProviderFactory(health="down")
    ProviderFactory(health="down", is_active=False)
    groups = {group["title"]: group["items"] for group in admin_client.get("/admin/").context["sidebar_navigation"]}
    assert list(groups) == ["Operate", "Routing", "Providers", "Access"]
    providers = next(item for item in groups["Providers"] if item["title"] == "Providers")
    assert providers["badge"] == 1
    assert "badge" not in next(item for item in groups["Operate"] if item["title"] == "Alerts")
    links = {str(item["link"]) for items in groups.values() for item in items}
    assert {"/dashboards/", "/dashboards/requests/", "/playground/"} <= links

    client.force_login(staff_with("view_team"))
    seen = client.get("/admin/").context["sidebar_navigation"]
    shown = {item["title"] for group in seen for item in group["items"] if item["has_permission"]}
    assert "Teams" in shown
    assert not shown & {"Virtual keys", "Provider keys", "People"}


def test_a_rows_name_is_headed_as_callers_write_it(admin_client: Client) -> None:
    page = admin_client.get(change_url(ModelAliasFactory(name="house"))).content.decode()
    crumbs = re.findall(r'class="crumb [^>]*>([^<]+)<', page)
    assert crumbs == ["Routing", "chevron_right", "Model aliases", "chevron_right", "house"]


def test_the_environment_is_named_on_every_page(admin_client: Client) -> None:
    assert settings.ENVIRONMENT in admin_client.get("/admin/").content.decode()


def test_only_the_admin_may_evaluate_and_nothing_may_run_inline_scripts(admin_client: Client) -> None:
    for url in ("/admin/", list_url(User), "/admin/login/"):
        policy = admin_client.get(url, follow=True).headers["Content-Security-Policy"]
        scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
        assert "'unsafe-eval'" in scripts
        assert "'unsafe-inline'" not in scripts
        assert "frame-ancestors 'none'" in policy
    assert "unsafe-eval" not in admin_client.get("/login/").headers["Content-Security-Policy"]


def test_ten_failed_sign_ins_lock_the_account_and_an_admin_unlocks_it(client: Client, admin_client: Client) -> None:
    UserFactory(username="ops", is_staff=True, password="the right password")
    wrong = {"username": "ops", "password": "a wrong password"}
    answers = [client.post("/admin/login/", wrong).status_code for _ in range(settings.AXES_FAILURE_LIMIT)]
    assert answers == [200] * (settings.AXES_FAILURE_LIMIT - 1) + [429]
    right = {"username": "ops", "password": "the right password"}
    assert client.post("/admin/login/", right).status_code == 429

    attempt = AccessAttempt.objects.get()
    assert "wrong password" not in admin_client.get(change_url(attempt)).content.decode()
    admin_client.post(list_url(AccessAttempt), {"action": "unlock", "_selected_action": [attempt.pk]})
    assert client.post("/admin/login/", right).status_code == 302


def test_only_superusers_hand_out_rights(client: Client) -> None:
    client.force_login(staff_with("view_user", "change_user"))
    person = UserFactory()
    role = Group.objects.create(name="Ops")
    submit(client, change_url(person), first_name="Ann", is_superuser="on", is_staff="on", groups=[role.pk])
    person.refresh_from_db()
    assert person.first_name == "Ann"
    assert (person.is_superuser, person.is_staff, person.groups.count()) == (False, False, 0)


def test_a_superusers_account_is_out_of_reach_for_everybody_else(client: Client) -> None:
    client.force_login(staff_with("view_user", "change_user", "delete_user"))
    boss = UserFactory(is_superuser=True, is_staff=True)
    base = change_url(boss).removesuffix("change/")
    new = {"password1": "taken over 123", "password2": "taken over 123"}
    assert client.post(f"{base}password/", new).status_code == 403
    assert client.post(change_url(boss), {"username": "pwned"}).status_code == 403
    assert client.post(f"{base}delete/", {"post": "yes"}).status_code == 403
