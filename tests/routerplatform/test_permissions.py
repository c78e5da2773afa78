"""Who may open and do what: every page and every list of the admin, for everybody who may come along."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Model
from django.test import Client
from django_celery_beat.models import PeriodicTask

from analytics.models import Alert, AlertState
from providers.admin.pages import change_url, list_url
from providers.models import Provider
from routing.models import Team, TeamRole, VirtualKey
from tests import factories as make
from tests.admin_pages import page_of, submit
from tests.admin_rows import LISTED, ROWS

pytestmark = pytest.mark.django_db

READ_ONLY = {
    "analytics.usagerecord",
    "analytics.usageadjustment",
    "analytics.alert",
    "analytics.alertdelivery",
    "analytics.webhookdelivery",
    "analytics.ledgercheck",
    "providers.providercheck",
    "analytics.decisionrecord",
    "analytics.replay",
    "analytics.budgetraise",
    "routing.routerartefact",
    "routing.accesstoken",
    "routing.policydraft",  # but for its author; it begins on the page of its policy
    "axes.accessattempt",
    "routerplatform.batchjob",
}
NEVER_ADDED = READ_ONLY | {"analytics.alertrule", "django_celery_beat.periodictask"}
NEVER_DELETED = NEVER_ADDED | {"routing.virtualkey"}
SEEN_WITH = {"analytics.replay": "routing.view_routingpolicy"}  # else with the permission to view it
SUPERUSERS_ONLY = {"auth.group"}  # whoever edits a role could give it to themselves


def staff_with(*permissions: str) -> User:
    """A person of the admin with these permissions (“app.codename”) and no other."""
    user: User = make.UserFactory(is_staff=True)
    for permission in permissions:
        app, _, codename = permission.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return user


def permission(name: str, what: str) -> str:
    app, _, model = name.partition(".")
    return f"{app}.{what}_{model}"


def row_of(name: str) -> Model:
    ROWS[name](1)
    row = LISTED[name]._default_manager.order_by("-pk").first()
    assert row is not None
    return row


def add_url(name: str) -> str:
    return f"{list_url(LISTED[name])}add/"


# --- pages --------------------------------------------------------------------------------------------------------

ACTORS: dict[str, Callable[[Team], User]] = {
    "member": lambda team: make.MembershipFactory(team=team).user,
    "lead": lambda team: make.MembershipFactory(team=team, role=TeamRole.LEAD).user,
    "staff": lambda team: staff_with(),
    "superuser": lambda team: make.UserFactory(is_staff=True, is_superuser=True),
    "in no team": lambda team: make.UserFactory(),
}
PAGES = {
    "/dashboards/": set(ACTORS),
    "/dashboards/?format=csv": set(ACTORS),
    "/dashboards/providers/": set(ACTORS),
    "/dashboards/requests/": set(ACTORS),
    "/dashboards/requests/?format=csv": set(ACTORS),
    "/playground/": set(ACTORS),
    "/dashboards/?team=search": {"member", "lead", "superuser"},
    "/dashboards/requests/?team=search": {"member", "lead", "superuser"},
    "/dashboards/requests/{record}/": {"member", "lead", "superuser"},
    "/admin/": {"staff", "superuser"},
}


@pytest.mark.parametrize("actor", ACTORS)
def test_a_page_is_open_to_those_it_is_made_for(client: Client, actor: str) -> None:
    team = make.TeamFactory(slug="search")
    record = make.UsageRecordFactory(key=make.VirtualKeyFactory(team=team))
    client.force_login(ACTORS[actor](team))
    opened = {page for page in PAGES if client.get(page.format(record=record.pk)).status_code == 200}
    assert opened == {page for page, actors in PAGES.items() if actor in actors}


def test_a_stranger_is_sent_to_sign_in_from_every_page_and_back_afterwards(client: Client) -> None:
    record = make.UsageRecordFactory()
    make.TeamFactory(slug="search")
    for page in (page.format(record=record.pk) for page in PAGES):
        answer = client.get(page)
        assert answer.status_code == 302, page
        assert "login/?next=/" in answer.headers["Location"]


@pytest.mark.parametrize("actor", ["member", "lead", "in no team"])
def test_who_is_not_staff_opens_nothing_of_the_admin(client: Client, actor: str) -> None:
    client.force_login(ACTORS[actor](make.TeamFactory()))
    for model in LISTED.values():
        assert client.get(list_url(model)).status_code == 302


def test_a_deactivated_person_is_signed_out_at_once(client: Client) -> None:
    user = make.UserFactory(is_staff=True, is_superuser=True)
    client.force_login(user)
    assert client.get("/admin/").status_code == 200
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert client.get("/admin/").status_code == 302
    assert client.get("/dashboards/").status_code == 302


def test_who_leaves_a_team_stops_seeing_it_at_once(client: Client) -> None:
    membership = make.MembershipFactory(team__slug="search")
    client.force_login(membership.user)
    assert client.get("/dashboards/?team=search").status_code == 200
    membership.delete()
    assert client.get("/dashboards/?team=search").status_code == 404
    assert client.post("/playground/token/", {"team": "search"}, content_type="application/json").status_code == 404


# --- the admin, with one permission at a time ---------------------------------------------------------------------


def test_staff_without_a_permission_open_no_list(client: Client) -> None:
    client.force_login(staff_with())
    statuses = {name: client.get(list_url(model)).status_code for name, model in LISTED.items()}
    assert set(statuses.values()) == {403}, statuses


@pytest.mark.parametrize("name", sorted(LISTED))
def test_who_may_view_looks_at_it_and_changes_nothing(client: Client, name: str) -> None:
    row = row_of(name)
    client.force_login(staff_with(SEEN_WITH.get(name, permission(name, "view"))))
    assert client.get(list_url(LISTED[name])).status_code == 200
    assert client.get(change_url(row)).status_code == 200
    refused = [
        client.get(add_url(name)),
        client.post(add_url(name), {}),
        client.post(change_url(row), {}),
        client.post(page_of(row, "delete"), {"post": "yes"}),
    ]
    assert [answer.status_code for answer in refused] == [403] * 4
    neighbours = [other for other in LISTED if other != name][:3]
    assert {client.get(list_url(LISTED[other])).status_code for other in neighbours} == {403}


@pytest.mark.parametrize("name", sorted(set(LISTED) - NEVER_ADDED))
def test_who_may_add_adds_and_neither_changes_nor_deletes(client: Client, name: str) -> None:
    row = row_of(name)
    client.force_login(staff_with(permission(name, "add")))
    expected = 403 if name in SUPERUSERS_ONLY | {"auth.user"} else 200  # Django: a new user needs “change” too
    assert client.get(add_url(name)).status_code == expected
    assert client.post(change_url(row), {}).status_code == 403
    assert client.post(page_of(row, "delete"), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("name", sorted(set(LISTED) - READ_ONLY))
def test_who_may_change_changes_and_neither_adds_nor_deletes(client: Client, name: str) -> None:
    row = row_of(name)
    client.force_login(staff_with(permission(name, "change"), permission(name, "view")))
    page = client.get(change_url(row))
    assert page.status_code == 200
    assert page.context["has_change_permission"] is (name not in SUPERUSERS_ONLY | {"providers.price"})
    assert client.get(add_url(name)).status_code == 403
    assert client.post(page_of(row, "delete"), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("name", sorted(set(LISTED) - NEVER_DELETED))
def test_who_may_delete_is_asked_first_and_changes_nothing_else(client: Client, name: str) -> None:
    row = row_of(name)
    client.force_login(staff_with(permission(name, "delete"), permission(name, "view")))
    asked = client.get(page_of(row, "delete"))
    # Another answer leads back: something hangs on the row, or a price that has begun stays.
    assert asked.status_code in ({403} if name in SUPERUSERS_ONLY | {"providers.price"} else {200, 302})
    assert client.post(change_url(row), {}).status_code == 403
    assert client.get(add_url(name)).status_code == 403


@pytest.mark.parametrize("name", sorted(NEVER_DELETED))
def test_what_the_platform_writes_itself_is_not_even_deleted_by_a_superuser(admin_client: Client, name: str) -> None:
    row = row_of(name)
    assert admin_client.post(page_of(row, "delete"), {"post": "yes"}).status_code == 403
    assert admin_client.get(add_url(name)).status_code == (403 if name in NEVER_ADDED else 200)
    assert type(row)._default_manager.filter(pk=row.pk).exists()


# --- actions ------------------------------------------------------------------------------------------------------


def job() -> PeriodicTask:
    ROWS["django_celery_beat.periodictask"](1)
    found: PeriodicTask = PeriodicTask.objects.get(name="Job 1")
    return found


def act(client: Client, row: Model, action: str) -> None:
    client.post(list_url(type(row)), {"action": action, "_selected_action": [row.pk]}, follow=True)


@pytest.mark.parametrize("action", ["disable_tasks", "enable_tasks", "run_tasks"])
def test_who_may_only_look_at_jobs_neither_starts_nor_stops_them(client: Client, action: str) -> None:
    row = job()
    client.force_login(staff_with("django_celery_beat.view_periodictask"))
    page = client.get(list_url(PeriodicTask))
    assert action not in str(page.context.get("action_form"))
    act(client, row, action)
    row.refresh_from_db()
    assert row.enabled
    assert not page.context.get("action_form")


def test_who_may_change_jobs_switches_them_off_and_on(client: Client) -> None:
    row = job()
    client.force_login(staff_with("django_celery_beat.view_periodictask", "django_celery_beat.change_periodictask"))
    states = []
    for action in ("disable_tasks", "enable_tasks"):
        act(client, row, action)
        row.refresh_from_db()
        states.append(row.enabled)
    assert states == [False, True]


@pytest.mark.parametrize("name", ["providers.provider", "routing.team", "routing.routingpolicy", "analytics.budget"])
def test_switching_off_needs_the_right_to_change(client: Client, name: str) -> None:
    row: Any = row_of(name)
    client.force_login(staff_with(permission(name, "view")))
    act(client, row, "switch_off")
    row.refresh_from_db()
    assert row.is_active
    client.force_login(staff_with(permission(name, "view"), permission(name, "change")))
    act(client, row, "switch_off")
    row.refresh_from_db()
    assert row.is_active is (name == "routing.routingpolicy")  # a persona uses it


def test_revoking_needs_the_right_to_change_keys(client: Client) -> None:
    key = make.VirtualKeyFactory()
    client.force_login(staff_with("routing.view_virtualkey", "routing.add_virtualkey", "routing.view_team"))
    assert client.get(page_of(key, "revoke")).status_code == 403
    assert client.post(page_of(key, "revoke")).status_code == 403
    assert not VirtualKey.objects.exclude(revoked_at=None).exists()


def test_a_schedule_that_jobs_run_by_is_not_deleted_with_them(admin_client: Client) -> None:
    row = job()
    answer = admin_client.post(page_of(row.interval, "delete"), {"post": "yes"}, follow=True)
    assert "1 scheduled job depends on it." in answer.content.decode()
    assert PeriodicTask.objects.filter(pk=row.pk).exists()


def test_buttons_that_lead_to_a_new_row_need_the_right_to_add_it(client: Client) -> None:
    team, deployment = make.TeamFactory(), make.DeploymentFactory()
    client.force_login(staff_with("routing.change_team", "providers.change_deployment"))
    assert client.get(page_of(team, "issue-key")).status_code == 403
    assert client.get(page_of(deployment, "add-price")).status_code == 403
    client.force_login(staff_with("routing.change_team", "routing.add_virtualkey"))
    assert client.get(page_of(team, "issue-key")).status_code == 302


def test_acknowledging_and_unlocking_need_their_rights(client: Client) -> None:
    alert = make.AlertFactory()
    client.force_login(staff_with("analytics.view_alert"))
    act(client, alert, "acknowledge")
    attempt = row_of("axes.accessattempt")
    client.force_login(staff_with("axes.view_accessattempt"))
    act(client, attempt, "unlock")
    assert Alert.objects.filter(state=AlertState.OPEN).exists()
    assert type(attempt)._default_manager.filter(pk=attempt.pk).exists()


def test_a_check_of_the_providers_is_started_by_staff_only(client: Client) -> None:
    team = make.TeamFactory()
    for actor in ("member", "lead", "in no team"):
        client.force_login(ACTORS[actor](team))
        assert client.post("/dashboards/providers/check/").status_code == 403


# --- handing out rights -------------------------------------------------------------------------------------------


def test_staff_cannot_give_a_role_more_rights_nor_make_one(client: Client) -> None:
    role = Group.objects.create(name="Ops")
    user = staff_with("auth.view_group", "auth.change_group", "auth.add_group", "auth.delete_group")
    user.groups.add(role)
    client.force_login(user)
    everything = list(Permission.objects.values_list("pk", flat=True))
    assert client.post(change_url(role), {"name": "Ops", "permissions": everything}).status_code == 403
    assert client.post(f"{list_url(Group)}add/", {"name": "Mine", "permissions": everything}).status_code == 403
    assert client.post(page_of(role, "delete"), {"post": "yes"}).status_code == 403
    assert role.permissions.count() == 0
    assert list(Group.objects.values_list("name", flat=True)) == ["Ops"]


def test_a_superuser_makes_a_role(admin_client: Client) -> None:
    wanted = Permission.objects.get(codename="view_team")
    submit(admin_client, f"{list_url(Group)}add/", name="Readers", permissions=[wanted.pk])
    assert [row.codename for row in Group.objects.get(name="Readers").permissions.all()] == ["view_team"]


def test_staff_cannot_set_the_password_of_someone_with_more_rights(client: Client) -> None:
    """Else the right to edit people would be every right that any of them has."""
    client.force_login(staff_with("auth.view_user", "auth.change_user"))
    stronger, weaker = staff_with("routing.change_virtualkey"), make.UserFactory()
    new = {"usable_password": "true", "password1": "taken over 123", "password2": "taken over 123"}
    assert client.post(page_of(stronger, "password"), new).status_code == 403
    assert client.post(change_url(stronger), {"username": "pwned"}).status_code == 403
    assert client.post(page_of(weaker, "password"), new).status_code == 302
    weaker.refresh_from_db()
    assert weaker.check_password("taken over 123")


def test_staff_may_still_edit_themselves(client: Client) -> None:
    user = staff_with("auth.view_user", "auth.change_user")
    client.force_login(user)
    submit(client, change_url(user), first_name="Ann")
    user.refresh_from_db()
    assert user.first_name == "Ann"


def test_the_search_of_a_related_row_needs_the_right_to_see_it(client: Client) -> None:
    make.TeamFactory(name="Secret team")
    question = {"app_label": "routing", "model_name": "virtualkey", "field_name": "team", "term": "Secret"}
    client.force_login(staff_with("routing.view_virtualkey"))
    assert client.get("/admin/autocomplete/", question).status_code == 403
    client.force_login(staff_with("routing.view_team"))
    assert "Secret team" in client.get("/admin/autocomplete/", question).content.decode()


def test_the_command_search_finds_only_what_one_may_see(client: Client) -> None:
    make.ProviderFactory(label="Hidden vendor")
    client.force_login(staff_with("routing.view_team"))
    found = client.get("/admin/search/", {"s": "Hidden", "extended": "1"}).content.decode()
    assert "Hidden vendor" not in found
    client.force_login(staff_with("providers.view_provider"))
    assert "Hidden vendor" in client.get("/admin/search/", {"s": "Hidden", "extended": "1"}).content.decode()
    assert admin.site.is_registered(Provider)
