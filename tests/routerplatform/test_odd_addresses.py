"""Addresses that nobody means to type: they are refused or read as something sensible, and never end in a 500."""

import json
import uuid
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client

from providers.admin.pages import list_url
from tests import factories as make

pytestmark = pytest.mark.django_db
LISTED = {model._meta.label_lower: model for model in admin.site._registry}
NUL = "\x00"
ODD_QUERIES = [
    {"p": "999999", "o": "99.-99.x", "all": "yes"},
    {"q": "'; DROP TABLE routing_team; --", "p": "-1", "_facets": "True"},
    {"q": NUL, "e": "1"},
    {"no_such_filter": "1", "pk__in": "1,x"},
]


@pytest.mark.parametrize("name", sorted(LISTED))
def test_a_list_survives_what_nobody_means_to_ask(admin_client: Client, name: str) -> None:
    url = list_url(LISTED[name])
    answers = [admin_client.get(url, query).status_code for query in ODD_QUERIES]
    assert set(answers) <= {200, 302, 400}, dict(zip(map(str, ODD_QUERIES), answers, strict=True))


@pytest.mark.parametrize("query", [{"p": "none"}, {"q": "%" * 300}, {"q": " "}, {"o": ""}, {"o": "1.1.-1"}, {"p": "0"}])
def test_the_longest_list_survives_all_of_it(admin_client: Client, query: dict[str, str]) -> None:
    make.UsageRecordFactory()
    assert admin_client.get(list_url(LISTED["analytics.usagerecord"]), query).status_code in {200, 302, 400}


FILTERS = [
    ("analytics.usagerecord", {"provider": NUL}),
    ("analytics.usagerecord", {"persona": NUL}),
    ("analytics.usagerecord", {"persona": "no such persona"}),
    ("analytics.usagerecord", {"state__in": "no such state"}),
    ("analytics.usagerecord", {"team__id__exact": "x"}),
    ("analytics.usagerecord", {"started_at_from": "yesterday"}),
    ("analytics.usagerecord", {"started_at_from": "2026-02-30", "started_at_to": "2026-13-01"}),
    ("analytics.usagerecord", {"started_at_from": "0001-01-01", "started_at_to": "9999-12-31"}),
    ("analytics.usagerecord", {"started_at_to": NUL}),
    ("analytics.alert", {"state__in": "perhaps"}),
    ("analytics.alert", {"team__id__exact": "x", "severity__in": "very"}),
    ("analytics.alertdelivery", {"channel__id__exact": "x"}),
    ("analytics.budget", {"budget_duration__in": "fortnight"}),
    ("routing.virtualkey", {"state": "lost"}),
    ("routing.virtualkey", {"team__id__exact": "1 OR 1=1"}),
    ("routing.virtualkey", {"is_playground__exact": "perhaps"}),
    ("routing.persona", {"policy__id__exact": "x"}),
    ("routing.modelalias", {"targets__deployment__provider__id__exact": "x"}),
    ("routing.routingpolicy", {"task_type__in": "GARDENING"}),
    ("providers.provider", {"health": "feverish", "kind__exact": "x"}),
    ("providers.providercheck", {"provider__id__exact": "999999999"}),
    ("providers.price", {"model__id__exact": "x", "deployment__id__exact": "y"}),
    ("providers.cataloguemodel", {"vendor": "<b>"}),
    ("auth.user", {"groups__id__exact": "x"}),
    ("django_celery_beat.periodictask", {"enabled__exact": "2"}),
]


@pytest.mark.parametrize(("name", "query"), FILTERS)
def test_a_filter_takes_no_nonsense_for_an_error(admin_client: Client, name: str, query: dict[str, str]) -> None:
    """The page comes, or the admin sends back to the list without the filter."""
    assert admin_client.get(list_url(LISTED[name]), query).status_code in {200, 302}


@pytest.mark.parametrize("name", sorted(LISTED))
def test_a_row_that_does_not_exist_is_an_answer(admin_client: Client, name: str) -> None:
    tails = ("abc/change/", "0/change/", f"{'9' * 40}/change/", "%00/change/", "abc/history/", "0/history/")
    statuses = {tail: admin_client.get(list_url(LISTED[name]) + tail).status_code for tail in tails}
    assert set(statuses.values()) <= {302, 404}, statuses


@pytest.mark.parametrize("tail", ["abc/delete/", "0/delete/", f"{'9' * 40}/delete/"])
def test_what_does_not_exist_is_not_deleted(admin_client: Client, tail: str) -> None:
    for name in ("providers.provider", "routing.team", "routing.routingpolicy", "analytics.budget"):
        assert admin_client.post(list_url(LISTED[name]) + tail, {"post": "yes"}).status_code in {302, 404}


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("routing.virtualkey", "revoke"),
        ("routing.team", "issue-key"),
        ("providers.deployment", "add-price"),
        ("providers.cataloguemodel", "add-price"),
    ],
)
def test_a_button_of_a_row_that_does_not_exist_leads_nowhere(admin_client: Client, name: str, action: str) -> None:
    urls = [f"{list_url(LISTED[name])}{pk}/{action}/" for pk in ("abc", "0", "9" * 40)]
    assert {url: admin_client.get(url).status_code for url in urls} == dict.fromkeys(urls, 404)


def test_an_action_on_rows_that_are_gone_changes_nothing(admin_client: Client) -> None:
    for name in ("providers.provider", "routing.team", "routing.routingpolicy", "providers.providerkey"):
        chosen = {"action": "switch_off", "_selected_action": ["999999"]}
        assert b"0 switched off" in admin_client.post(list_url(LISTED[name]), chosen, follow=True).content


DASHBOARD_QUERIES = [
    {"range": "custom"},
    {"range": "custom", "from": "2026-02-30", "to": "2026-03-01"},
    {"range": "custom", "from": "0001-01-01", "to": "9999-12-31"},
    {"range": "custom", "from": "2100-12-31", "to": "2100-12-31"},
    {"range": "custom", "from": "2000-01-01", "to": "2000-01-01"},
    {"range": "custom", "from": NUL, "to": NUL},
    {"range": NUL},
    {"range": "-7d"},
    {"range": "999999999d"},
    {"by": "team_id"},
    {"by": "__class__"},
    {"sort": "--cost"},
    {"sort": ""},
    {"format": "xlsx"},
    {"persona": NUL},
    {"policy": NUL},
    {"provider": NUL},
    {"model": NUL},
    {"state": NUL},
    {"key": "٣"},
    {"key": "9223372036854775807"},
    {"before": f"0001-01-01T00:00:00+14:00_{uuid.UUID(int=0)}"},
    {"before": f"9999-12-31T23:59:59-14:00_{uuid.UUID(int=0)}"},
    {"before": f"2026-01-01T00:00:00+23:59_{uuid.UUID(int=2**128 - 1)}"},
    {"errors": "yes"},
]


@pytest.mark.parametrize("path", ["/dashboards/", "/dashboards/requests/"])
def test_a_dashboard_reads_any_query_as_something(admin_client: Client, path: str) -> None:
    make.UsageRecordFactory()
    for query in DASHBOARD_QUERIES:
        assert admin_client.get(path, query).status_code == 200, query
        exported: Any = admin_client.get(path, query | {"format": "csv"})
        assert (exported.status_code, bool(exported.getvalue())) == (200, True), query


@pytest.mark.parametrize("slug", [NUL, "no-such-team", "../admin", "x" * 5000])
@pytest.mark.parametrize("path", ["/dashboards/", "/dashboards/requests/"])
def test_a_team_that_does_not_exist_is_a_404(admin_client: Client, path: str, slug: str) -> None:
    assert admin_client.get(path, {"team": slug}).status_code == 404


@pytest.mark.parametrize("slug", [NUL, "a\x00b", "\ud800", "no such team", "x" * 5000])
def test_the_playground_knows_no_team_of_an_odd_name(admin_client: Client, slug: str) -> None:
    body = json.dumps({"team": slug})
    assert admin_client.post("/playground/token/", body, content_type="application/json").status_code == 404


@pytest.mark.parametrize("path", ["/api/v1/nowhere", "/api/v1/chat/", "/api/v1/"])
def test_a_program_is_told_in_json_that_an_address_is_wrong(path: str) -> None:
    client = Client(enforce_csrf_checks=True)
    for answer in (client.get(path), client.post(path, {}, content_type="application/json")):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (404, "not_found")
        assert path in error["message"]


def test_an_address_of_the_api_that_lacks_its_last_slash_is_found(client: Client) -> None:
    assert client.get("/api/v1/docs", follow=True).redirect_chain == [("/api/v1/docs/", 301)]


@pytest.mark.parametrize(
    "path",
    [
        "/dashboards/requests/abc/",
        f"/dashboards/requests/{uuid.UUID(int=0)}/",
        "/dashboards/nowhere/",
        "/admin/nowhere/",
        "/admin/routing/nowhere/",
        "/%00/",
        "/%F0%9F/",
    ],
)
def test_what_is_not_there_is_a_404(admin_client: Client, path: str) -> None:
    assert admin_client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/dashboards/"),
        ("post", "/dashboards/requests/"),
        ("delete", "/dashboards/providers/"),
        ("get", "/dashboards/providers/check/"),
        ("put", "/playground/"),
        ("get", "/playground/token/"),
        ("get", "/logout/"),
    ],
)
def test_a_page_takes_the_methods_that_it_is_made_for(admin_client: Client, method: str, path: str) -> None:
    assert getattr(admin_client, method)(path).status_code == 405
