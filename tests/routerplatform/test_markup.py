"""Text that people, callers and vendors give us is text on every page: none of it becomes markup or script."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from analytics.models import UsageRecord, UsageState
from providers.admin.pages import change_url, list_url
from providers.models import Health, Provider
from routing.models import Team, VirtualKey
from tests import factories as make
from tests.admin_pages import page_of, submit
from tests.admin_rows import LISTED

pytestmark = pytest.mark.django_db

NASTY = "\"><img src=x onerror=alert(1)>'{{7*7}}</script><b>"
# As markup it would stand on a page like this, whatever is in front of it.
SIGNS = (b"<img src=x", b"</script><b>", b"{{7*7}}</script>")


def unharmed(page: Any) -> bool:
    assert page.status_code == 200, page.status_code
    return not any(sign in page.content for sign in SIGNS)


@pytest.fixture
def record(db: None) -> UsageRecord:
    """A platform where everything that can have a name has a nasty one, and a request that met all of it."""
    now = timezone.now()
    team = make.TeamFactory(name=NASTY, slug="nasty")
    person = make.UserFactory(username="nasty", first_name=NASTY, email="nasty@example.com")
    make.MembershipFactory(team=team, user=person)
    Group.objects.create(name=NASTY)
    key = make.VirtualKeyFactory(team=team, name=NASTY, created_by=person)
    make.VirtualKeyFactory(team=team, name=NASTY, revoked_at=now, revoked_by=person)
    provider = make.ProviderFactory(name="nasty", label=NASTY, health=Health.DOWN, health_note=NASTY, checked_at=now)
    make.ProviderKeyFactory(provider=provider, label=NASTY)
    make.ProviderCheckFactory(provider=provider, health=Health.DOWN, note=NASTY, checked_at=now)
    model = make.CatalogueModelFactory(name=NASTY, label=NASTY, vendor=NASTY, strengths=NASTY, status="retired")
    model.replaced_by = make.CatalogueModelFactory(name=f"new {NASTY}")
    model.save()
    deployment = make.DeploymentFactory(provider=provider, model=model, upstream_model=NASTY)
    price = make.PriceFactory(model=model)
    alias = make.ModelAliasFactory(name=NASTY, description=NASTY, deployments=[deployment])
    key.allowed_models.add(alias)
    policy = make.RoutingPolicyFactory(name=NASTY, description=NASTY, preferred=[alias], is_default=True)
    make.PersonaFactory(slug=NASTY[:60], name=NASTY, description=NASTY, system_prompt=NASTY, policy=policy)
    budget = make.BudgetFactory(team=team)
    make.AlertFactory(budget=budget, title=NASTY, text=NASTY)
    make.mark_day(now.date())
    made: UsageRecord = make.UsageRecordFactory(
        key=key,
        at=now,
        state=UsageState.RELEASED,
        door=NASTY[:20],
        error_code=NASTY[:60],
        http_status=502,
        persona=NASTY[:60],
        policy=NASTY,
        requested_model=NASTY,
        provider="nasty",
        deployment=NASTY,
        model=NASTY,
        price={"id": price.pk, "input": 1, "output": 1, "cache_read": None, "cache_write": None, "per_request": 0},
        attempts=[
            {"deployment": NASTY, "provider": NASTY, "key_last4": "<b>x", "started_ms": 1, "latency_ms": 2,
             "failure": NASTY, "http_status": 500, "message": NASTY},
        ],
        decision={
            "requested": NASTY, "how": NASTY, "persona": NASTY, "policy": NASTY, "strategy": NASTY,
            "candidates": [{"deployment": NASTY, "alias": NASTY, "verdict": NASTY, "reason": NASTY,
                            "estimated_cost_nano": 5}],
        },
    )  # fmt: skip
    return made


PAGES = [
    "/dashboards/",
    "/dashboards/?range=today",
    "/dashboards/?team=nasty",
    *(f"/dashboards/?by={by}" for by in ("model", "persona", "key", "provider", "policy")),
    "/dashboards/providers/",
    "/dashboards/requests/",
    "/dashboards/requests/?team=nasty&errors=1&range=7d",
    "/playground/",
    "/admin/",
    "/admin/search/?s=img&extended=1",
]


def test_no_page_takes_a_name_for_markup(admin_client: Client, record: UsageRecord) -> None:
    pages = [*PAGES, f"/dashboards/requests/{record.pk}/"]
    assert [page for page in pages if not unharmed(admin_client.get(page))] == []


def test_no_list_and_no_form_of_the_admin_takes_a_name_for_markup(admin_client: Client, record: UsageRecord) -> None:
    harmed = []
    for model in LISTED.values():
        harmed += [list_url(model)] if not unharmed(admin_client.get(list_url(model), {"q": "img"})) else []
        urls = [list_url(model), *(change_url(row) for row in model._default_manager.order_by("-pk")[:2])]
        harmed += [url for url in urls if not unharmed(admin_client.get(url))]
    assert harmed == []


def test_no_history_takes_a_name_for_markup(admin_client: Client, record: UsageRecord) -> None:
    rows: list[Any] = [record.team, record.key, Provider.objects.get()]
    for row in rows:
        field = "label" if isinstance(row, Provider) else "name"
        submit(admin_client, change_url(row), **{field: f"now {NASTY[:60]}"})
        assert unharmed(admin_client.get(page_of(row, "history")))
        assert unharmed(admin_client.get(page_of(row, f"history/{row.history.first().history_id}")))


def test_questions_and_refusals_of_the_admin_name_rows_as_text(admin_client: Client, record: UsageRecord) -> None:
    key, team = record.key, record.team
    answers = [
        admin_client.get(page_of(key, "revoke")),
        admin_client.post(page_of(team, "delete"), {"post": "yes"}, follow=True),
        admin_client.post(page_of(key, "revoke"), follow=True),
        admin_client.post(page_of(key.allowed_models.get(), "delete"), {"post": "yes"}, follow=True),
        admin_client.get(list_url(UsageRecord), {"q": NASTY}),
        submit(admin_client, change_url(team), name=f"now {NASTY[:70]}", slug=NASTY),
        submit(admin_client, change_url(Provider.objects.get()), allowed_networks=NASTY),
    ]
    for number, answer in enumerate(answers):
        assert unharmed(answer), number


def test_a_new_key_is_shown_with_its_names_as_text(admin_client: Client, record: UsageRecord) -> None:
    page = submit(admin_client, f"{list_url(VirtualKey)}add/", team=record.team.pk, name=NASTY)
    assert b"rp_" in page.content
    assert unharmed(page)


def test_a_saved_row_is_announced_with_its_name_as_text(admin_client: Client) -> None:
    fields = {"name": NASTY, "slug": "nasty"}
    answer = submit(admin_client, f"{list_url(Team)}add/", **fields)
    assert answer.status_code == 302
    assert unharmed(admin_client.get(answer.headers["Location"]))


def test_what_an_address_says_is_repeated_as_text(admin_client: Client, record: UsageRecord) -> None:
    for parameter in ("range", "by", "sort", "team", "persona", "model", "provider", "policy", "before", "from"):
        for path in ("/dashboards/", "/dashboards/requests/"):
            answer = admin_client.get(path, {"range": "custom", parameter: NASTY})
            assert not any(sign in answer.content for sign in SIGNS), (path, parameter)


def test_a_failed_sign_in_repeats_the_name_as_text(client: Client) -> None:
    for path in ("/login/", "/admin/login/"):
        assert unharmed(client.post(path, {"username": NASTY, "password": "x", "next": NASTY}))
        assert unharmed(client.get(path, {"next": NASTY}))


def test_the_data_of_the_playground_cannot_end_its_script(admin_client: Client, record: UsageRecord) -> None:
    page = admin_client.get("/playground/").content.decode()
    data = page.partition('<script id="personas" type="application/json">')[2].partition("</script>")[0]
    [persona] = json.loads(data)
    assert persona["system_prompt"] == NASTY


def test_a_suggestion_of_the_admin_is_plain_data(admin_client: Client, record: UsageRecord) -> None:
    question = {"app_label": "routing", "model_name": "virtualkey", "field_name": "team", "term": "img"}
    answer = admin_client.get("/admin/autocomplete/", question)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["results"][0]["text"] == NASTY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
