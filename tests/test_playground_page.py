"""The playground's page and its token, signing in and out, the error pages, the vendored files."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.test import Client

from routerplatform.gateway.page_tokens import PageTokens
from routing.domain.templates import VariableDocument
from routing.models import Team, VirtualKey
from tests.admin_pages import queries_of
from tests.factories import MembershipFactory, PersonaFactory, TeamFactory, UserFactory
from tests.routing.prompts import says, template

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "static" / "vendor"
TOKEN = "/playground/token/"


@pytest.fixture
def search(db: None) -> Team:
    team: Team = TeamFactory(name="Search", slug="search")
    return team


@pytest.fixture
def maria(client: Client, search: Team) -> Client:
    client.force_login(MembershipFactory(team=search).user)
    return client


def ask(client: Client, body: object) -> Any:
    return client.post(TOKEN, body if isinstance(body, bytes) else json.dumps(body), content_type="application/json")


# --- the playground -----------------------------------------------------------------------------------------------


def test_the_playground_offers_ones_own_teams_and_the_active_personas(maria: Client) -> None:
    TeamFactory(name="Checkout")
    PersonaFactory(name="Analyst", system_prompt="Prefer </script> tables.")
    PersonaFactory(name="Retired", is_active=False)
    page = maria.get("/playground/").content.decode()
    assert "Search" in page
    assert "Checkout" not in page
    assert "Analyst" in page
    assert "Retired" not in page
    assert "Prefer \\u003C/script" in page


def test_the_playground_knows_what_a_personas_template_wants_filled_in(maria: Client) -> None:
    city = VariableDocument("city", "Where </script> they are", "Rome", 20)
    house = template("house", says("Old {{ a }}.", variables=("a",)), says("{{ a }}{{ city }}", variables=("a", city)))
    PersonaFactory(slug="follows", template=house)
    PersonaFactory(slug="keeps", template=house, template_version=1)
    PersonaFactory(slug="without")
    page = maria.get("/playground/").content.decode()
    told = {one["slug"]: one["variables"] for one in json.loads(_script(page, "personas"))}
    assert told["follows"] == [
        {"name": "a", "description": "", "default": None, "max_length": 2000},
        {"name": "city", "description": "Where </script> they are", "default": "Rome", "max_length": 20},
    ]
    assert [one["name"] for one in told["keeps"]] == ["a"]
    assert told["without"] == []


def test_many_personas_with_templates_take_the_playground_as_many_queries_as_one(maria: Client) -> None:
    PersonaFactory(template=template("t0", says("{{ a }}", variables=("a",))))
    maria.get("/playground/")
    few = queries_of(maria, "/playground/")
    for number in range(1, 5):
        PersonaFactory(template=template(f"t{number}", says("{{ a }}", variables=("a",))))
    assert queries_of(maria, "/playground/") == few


def _script(page: str, name: str) -> str:
    return page.partition(f'<script id="{name}" type="application/json">')[2].partition("</script>")[0]


def test_a_token_stands_for_the_teams_playground_key(maria: Client, search: Team) -> None:
    answer = ask(maria, {"team": "search"}).json()
    key = VirtualKey.objects.get(team=search, is_playground=True)
    assert PageTokens().key_id(answer["token"]) == key.pk
    assert answer["expires_at"] > "2026"


def test_a_second_token_uses_the_same_key(maria: Client, search: Team) -> None:
    first, second = ask(maria, {"team": "search"}), ask(maria, {"team": "search"})
    assert (first.status_code, second.status_code) == (200, 200)
    assert VirtualKey.objects.filter(team=search).count() == 1


def test_another_teams_token_is_not_to_be_had(maria: Client) -> None:
    team = TeamFactory(slug="checkout")
    assert ask(maria, {"team": "checkout"}).status_code == 404
    assert not VirtualKey.objects.filter(team=team).exists()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"team": 5}', b'{"tea": "search"}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_question_for_a_token_is_refused(maria: Client, body: bytes) -> None:
    assert ask(maria, body).status_code == 400


def test_who_is_signed_out_gets_no_token(client: Client, search: Team) -> None:
    assert ask(client, {"team": "search"}).status_code == 401


def test_a_token_needs_the_forms_secret(search: Team) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(MembershipFactory(team=search).user)
    assert ask(strict, {"team": "search"}).status_code == 403


# --- signing in and out -------------------------------------------------------------------------------------------


def test_signing_in_leads_to_the_page_that_was_asked_for(client: Client, db: None) -> None:
    UserFactory(username="maria", password="a long test password")
    form = {"username": "maria", "password": "a long test password", "next": "/dashboards/requests/"}
    assert client.post("/login/", form).headers["Location"] == "/dashboards/requests/"


def test_a_wrong_password_is_told_without_saying_which_half_was_wrong(client: Client, db: None) -> None:
    UserFactory(username="maria")
    known = client.post("/login/", {"username": "maria", "password": "x"})
    unknown = client.post("/login/", {"username": "nobody", "password": "x"})
    assert b"do not belong together" in known.content
    assert b"do not belong together" in unknown.content


def test_signing_in_never_leads_to_another_site(client: Client, db: None) -> None:
    UserFactory(username="maria", password="a long test password")
    form = {"username": "maria", "password": "a long test password", "next": "https://evil.example/"}
    assert client.post("/login/", form).headers["Location"] == "/dashboards/"


def test_too_many_failures_lock_the_account_for_a_while(client: Client, db: None) -> None:
    UserFactory(username="maria")
    for _ in range(10):
        response = client.post("/login/", {"username": "maria", "password": "x"})
    assert response.status_code == 429
    assert b"Too many failed sign-ins" in response.content


def test_signing_out_needs_a_form_and_ends_the_session(maria: Client) -> None:
    assert maria.get("/logout/").status_code == 405
    assert maria.post("/logout/").headers["Location"] == "/login/"
    assert maria.get("/playground/").status_code == 302


def test_the_root_leads_to_the_spend(client: Client) -> None:
    assert client.get("/").headers["Location"] == "/dashboards/"


# --- error pages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["400", "403", "403_csrf", "404", "500", "lockout"])
def test_an_error_page_needs_neither_user_nor_database(name: str) -> None:
    page = render_to_string(f"{name}.html")
    assert "Error " in page
    assert 'href="/' in page


def test_an_unknown_address_gets_the_platforms_own_page(client: Client) -> None:
    response = client.get("/nowhere/")
    assert response.status_code == 404
    assert b"There is nothing at this address" in response.content


# --- vendored files -----------------------------------------------------------------------------------------------


def test_vendored_files_are_the_pinned_ones() -> None:
    done = subprocess.run(
        [sys.executable, "script/vendor", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_vendored_package_comes_with_its_licence() -> None:
    for package in json.loads((VENDOR / "manifest.json").read_text())["packages"]:
        names = [file["to"] for file in package["files"]]
        assert any(name.endswith(".LICENSE") for name in names), package["name"]
        for file in package["files"]:
            assert hashlib.sha256((VENDOR / file["to"]).read_bytes()).hexdigest() == file["sha256"]
