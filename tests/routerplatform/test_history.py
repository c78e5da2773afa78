"""Every edit leaves a line that says who made it, what changed from what to what, and no secret."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client

from analytics.models import Budget
from providers.admin.pages import SwitchableAdmin, change_url, list_url
from providers.models import CatalogueModel, Deployment, Price, Provider, ProviderKey
from routing.models import ModelAlias, Persona, RoutingPolicy, Team, VirtualKey
from tests import factories as make
from tests.admin_pages import errors_of, page_of, submit
from tests.admin_rows import LISTED, ROWS

pytestmark = pytest.mark.django_db

EDITS: dict[type[Model], dict[str, str]] = {
    Provider: {"label": "Renamed"},
    ProviderKey: {"label": "Renamed"},
    CatalogueModel: {"label": "Renamed"},
    Deployment: {"upstream_model": "renamed"},
    ModelAlias: {"description": "Renamed"},
    RoutingPolicy: {"description": "Renamed"},
    Persona: {"name": "Renamed"},
    Team: {"name": "Renamed"},
    VirtualKey: {"name": "Renamed"},
    Budget: {"max_budget": "77.00"},
}


@pytest.fixture
def maria(client: Client) -> User:
    """Who edits; `client` is signed in as her."""
    user: User = make.UserFactory(username="maria", is_staff=True, is_superuser=True)
    client.force_login(user)
    return user


def row_of(model: type[Model]) -> Any:
    ROWS[model._meta.label_lower](1)
    return model._default_manager.order_by("pk").first()


@pytest.mark.parametrize("model", EDITS, ids=lambda model: model.__name__)
def test_an_edit_is_kept_with_the_person_who_made_it(client: Client, maria: User, model: type[Model]) -> None:
    row = row_of(model)
    [(field, value)] = EDITS[model].items()
    former = getattr(row, field)
    answer = submit(client, change_url(row), **EDITS[model])
    assert answer.status_code == 302, errors_of(answer)
    latest, before = row.history.all()[:2]
    assert (latest.history_user, latest.history_type) == (maria, "~")
    assert (str(getattr(latest, field)), getattr(before, field)) == (value, former)
    page = client.get(page_of(row, "history")).content.decode()
    assert "maria" in page
    assert str(former) in page
    assert value in page


@pytest.mark.parametrize("model", EDITS, ids=lambda model: model.__name__)
def test_a_line_of_the_history_opens_and_takes_nothing_back(client: Client, maria: User, model: type[Model]) -> None:
    row = row_of(model)
    url = page_of(row, f"history/{row.history.first().history_id}")
    assert client.get(url).status_code == 200
    assert client.post(url, EDITS[model]).status_code == 403
    assert client.get(page_of(row, "history/999999")).status_code == 404


@pytest.mark.parametrize("model", EDITS, ids=lambda model: model.__name__)
def test_a_save_that_changes_nothing_leaves_no_line(client: Client, maria: User, model: type[Model]) -> None:
    row = row_of(model)
    lines = row.history.count()
    answer = submit(client, change_url(row))
    assert answer.status_code == 302, errors_of(answer)
    assert row.history.count() == lines


def test_a_new_row_begins_its_history_with_its_maker(client: Client, maria: User) -> None:
    submit(client, f"{list_url(Team)}add/", name="Search", slug="search")
    line = Team.objects.get().history.get()
    assert (line.history_user, line.history_type) == (maria, "+")


def test_a_deleted_row_is_remembered_with_who_deleted_it(client: Client, maria: User) -> None:
    team = make.TeamFactory(name="Short-lived")
    client.post(page_of(team, "delete"), {"post": "yes"})
    line = Team.history.filter(id=team.pk).first()
    assert (line.history_user, line.history_type, line.name) == (maria, "-", "Short-lived")


SWITCHED = sorted(name for name, model in LISTED.items() if isinstance(site._registry[model], SwitchableAdmin))


@pytest.mark.parametrize("name", SWITCHED)
def test_switching_off_and_on_from_the_list_is_kept_with_the_person(client: Client, maria: User, name: str) -> None:
    make.RoutingPolicyFactory()
    row = LISTED[name]._default_manager.first() or row_of(LISTED[name])
    lines = row.history.count()
    for action, expected in (("switch_off", False), ("switch_off", False), ("switch_on", True)):
        client.post(list_url(LISTED[name]), {"action": action, "_selected_action": [row.pk]})
        row.refresh_from_db()
        assert row.is_active is expected
    assert row.history.count() == lines + 2
    assert {line.history_user for line in row.history.all()[:2]} == {maria}


def rows_of_a_page(client: Client, maria: User) -> list[tuple[Any, str]]:
    """Each row that is edited on the page of another one, and what the page calls it."""
    membership = make.MembershipFactory()
    alias = make.ModelAliasFactory(deployments=[make.DeploymentFactory()])
    policy = make.RoutingPolicyFactory(preferred=[alias])
    submit(client, change_url(membership.team), memberships__0__role="lead")
    submit(client, change_url(policy), candidates__0__group="fallback")
    target, candidate = alias.targets.get(), policy.candidates.get()
    submit(client, change_url(alias), targets__0__deployment=make.DeploymentFactory().pk)
    return [(membership, "role"), (candidate, "group"), (target, "deployment_id")]


def test_rows_on_the_page_of_another_row_have_a_history_of_their_own(client: Client, maria: User) -> None:
    for row, field in rows_of_a_page(client, maria):
        latest, before = row.history.all()[:2]
        assert latest.history_user == maria
        assert getattr(latest, field) != getattr(before, field)


def test_a_person_taken_out_of_a_team_is_remembered(client: Client, maria: User) -> None:
    membership = make.MembershipFactory()
    submit(client, change_url(membership.team), memberships__0__DELETE="on")
    line = type(membership).history.filter(id=membership.pk).first()
    assert (line.history_type, line.history_user, line.user_id) == ("-", maria, membership.user_id)


SECRETS: dict[str, Callable[[], tuple[Any, str]]] = {
    "a provider key": lambda: (row := make.ProviderKeyFactory(secret="sk-very-secret-0001"), row.sealed),
    "a virtual key": lambda: (row := make.VirtualKeyFactory(), row.digest),
}


@pytest.mark.parametrize("what", SECRETS)
def test_no_page_of_a_history_holds_a_secret(client: Client, maria: User, what: str) -> None:
    row, secret = SECRETS[what]()
    pages = [page_of(row, "history"), page_of(row, f"history/{row.history.first().history_id}"), change_url(row)]
    texts = [client.get(url).content.decode() for url in pages]
    assert not any(secret in text or "sk-very-secret" in text for text in texts)
    assert secret not in str(list(type(row).history.values()))


def test_a_replaced_secret_is_a_line_without_it(client: Client, maria: User) -> None:
    key = make.ProviderKeyFactory(secret="sk-former-secret-0001")
    submit(client, change_url(key), secret="sk-latter-secret-0002")
    latest = key.history.first()
    assert (latest.history_user, latest.last4) == (maria, "0002")
    page = client.get(page_of(key, "history")).content.decode()
    assert "0002" in page
    assert "secret-0002" not in page


def test_what_the_platform_does_by_itself_says_so(client: Client, maria: User) -> None:
    team = make.TeamFactory()
    assert "The platform" in client.get(page_of(team, "history")).content.decode()


def test_the_history_of_a_price_that_was_edited_shows_both_rates(client: Client, maria: User) -> None:
    price = make.PriceFactory(effective_from="2999-01-01T00:00:00Z")
    submit(client, change_url(price), input_usd="3.5")
    page = client.get(page_of(price, "history")).content.decode()
    assert "1.000000 → 3.5" in page
    assert Price.history.filter(id=price.pk).first().history_user == maria
