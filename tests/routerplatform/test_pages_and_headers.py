"""Headers of every kind of page, error pages for people and for programs, and signing in against a guesser."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.conf import settings as live
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path
from django.utils import timezone
from pytest_django import Settings

from routerplatform.gateway.page_tokens import LIFETIME_S, SALT, PageTokens
from routing.models import VirtualKey
from routing.services import key_revoke
from tests import factories as make

PASSWORD = "a long test password"


def broken_page(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("secret detail of the failure")


urlpatterns = [path("broken/", broken_page), path("", include("routerplatform.urls"))]


def policy_of(response: Any) -> dict[str, list[str]]:
    """The Content-Security-Policy by directive."""
    parts = response.headers["Content-Security-Policy"].split("; ")
    return {name: values for name, *values in (part.split() for part in parts)}


# --- headers ------------------------------------------------------------------------------------------------------

OWN_PAGES = ["/login/", "/dashboards/", "/dashboards/providers/", "/dashboards/requests/", "/playground/"]
ADMIN_PAGES = ["/admin/", "/admin/routing/team/", "/admin/routing/team/add/", "/admin/password_change/"]


@pytest.mark.django_db
@pytest.mark.parametrize("url", [*OWN_PAGES[1:], "/nowhere/", "/dashboards/requests/0/"])
def test_a_page_of_our_own_runs_only_our_files(admin_client: Client, url: str) -> None:
    policy = policy_of(admin_client.get(url))
    assert policy["default-src"] == ["'self'"]
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "https:", "data:"} & set(policy["script-src"])
    assert "'unsafe-inline'" not in policy["style-src"]
    assert policy["object-src"] == policy["base-uri"] == policy["frame-ancestors"] == ["'none'"]
    assert policy["form-action"] == ["'self'"]


@pytest.mark.django_db
@pytest.mark.parametrize("url", [*ADMIN_PAGES, "/admin/nowhere/"])
def test_the_admins_policy_is_wider_only_where_its_theme_needs_it(admin_client: Client, url: str) -> None:
    policy = policy_of(admin_client.get(url))
    assert "'unsafe-eval'" in policy["script-src"]
    assert "'unsafe-inline'" not in policy["script-src"]
    assert policy["object-src"] == policy["frame-ancestors"] == ["'none'"]


@pytest.mark.django_db
def test_a_path_that_only_looks_like_the_admin_has_the_strict_policy(client: Client) -> None:
    for url in ("/administrator/", "/admin.html", "/dashboards/admin/"):
        assert "'unsafe-eval'" not in policy_of(client.get(url))["script-src"]


@pytest.mark.django_db
def test_the_api_reference_may_write_styles_and_run_nothing_inline(client: Client) -> None:
    policy = policy_of(client.get("/api/v1/docs/"))
    assert "'unsafe-inline'" in policy["style-src"]
    assert "'unsafe-inline'" not in policy["script-src"]


@pytest.mark.django_db
@pytest.mark.parametrize("url", [*OWN_PAGES, "/admin/", "/nowhere/"])
def test_every_page_refuses_frames_and_guessed_types(admin_client: Client, url: str) -> None:
    headers = admin_client.get(url).headers
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"


@pytest.mark.django_db
@pytest.mark.parametrize("url", ["/dashboards/", "/dashboards/providers/", "/dashboards/requests/", "/playground/"])
def test_what_a_team_spent_stays_in_no_cache(admin_client: Client, url: str) -> None:
    assert {"no-store", "private"} <= set(admin_client.get(url).headers["Cache-Control"].split(", "))


# --- error pages --------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_failure_of_ours_is_a_page_that_tells_no_details(admin_client: Client, settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    settings.DEBUG = False
    admin_client.raise_request_exception = False
    answer = admin_client.get("/broken/")
    text = answer.content.decode()
    assert answer.status_code == 500
    assert "Something broke on our side" in text
    assert "secret detail" not in text
    assert "Traceback" not in text
    assert "'unsafe" not in answer.headers["Content-Security-Policy"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("url", "status", "said"),
    [
        ("/nowhere/", 404, "There is nothing at this address"),
        ("/dashboards/?team=nobody", 404, "There is nothing at this address"),
        ("/admin/nowhere/", 404, "There is nothing at this address"),
    ],
)
def test_what_is_not_there_is_told_in_the_platforms_own_words(
    admin_client: Client, url: str, status: int, said: str
) -> None:
    answer = admin_client.get(url)
    assert (answer.status_code, said in answer.content.decode()) == (status, True)


@pytest.mark.django_db
def test_what_one_may_not_do_is_told_with_what_helps(client: Client) -> None:
    client.force_login(make.UserFactory())
    answer = client.post("/dashboards/providers/check/")
    assert answer.status_code == 403
    assert "This page is not open to you" in answer.content.decode()


@pytest.mark.django_db
def test_a_form_without_its_secret_changes_nothing_and_says_why(admin_user: Any) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin_user)
    for url in ("/login/", "/logout/", "/dashboards/providers/check/", "/admin/routing/team/add/"):
        answer = strict.post(url, {"name": "x"})
        assert answer.status_code == 403, url
        assert "The form had expired" in answer.content.decode()


def test_a_host_that_is_not_ours_is_refused_with_a_page(client: Client) -> None:
    answer = client.get("/login/", headers={"host": "evil.example"})
    assert answer.status_code == 400
    assert "That request could not be read" in answer.content.decode()


# --- signing in ---------------------------------------------------------------------------------------------------


def guess(client: Client, *, times: int, username: str = "maria", address: str = "192.0.2.1") -> list[int]:
    wrong = {"username": username, "password": "not it"}
    return [client.post("/login/", wrong, REMOTE_ADDR=address).status_code for _ in range(times)]


def sign_in(client: Client, *, address: str = "192.0.2.1", username: str = "maria") -> int:
    right = {"username": username, "password": PASSWORD}
    return client.post("/login/", right, REMOTE_ADDR=address).status_code


@pytest.fixture
def maria(db: None) -> Any:
    return make.UserFactory(username="maria", password=PASSWORD)


def test_the_tenth_wrong_password_locks_and_the_right_one_does_not_help(client: Client, maria: Any) -> None:
    assert guess(client, times=live.AXES_FAILURE_LIMIT) == [200] * 9 + [429]
    assert sign_in(client) == 429
    assert "_auth_user_id" not in client.session


def test_a_lock_is_for_one_name_from_one_address(client: Client, maria: Any) -> None:
    """Else anybody could lock everybody out."""
    make.UserFactory(username="bruno", password=PASSWORD)
    guess(client, times=10)
    assert sign_in(client, address="192.0.2.2") == 302
    client.logout()
    assert sign_in(client, username="bruno") == 302


def test_a_lock_ends_by_itself(client: Client, maria: Any) -> None:
    guess(client, times=10)
    earlier = timezone.now() - timedelta(hours=live.AXES_COOLOFF_TIME, seconds=1)
    AccessAttempt.objects.update(attempt_time=earlier)
    assert sign_in(client) == 302


def test_signing_in_forgets_the_slips_before_it(client: Client, maria: Any) -> None:
    assert guess(client, times=9) == [200] * 9
    assert sign_in(client) == 302
    client.logout()
    assert guess(client, times=9) == [200] * 9


def test_both_doors_count_together(client: Client, maria: Any) -> None:
    guess(client, times=9)
    wrong = {"username": "maria", "password": "not it"}
    assert client.post("/admin/login/", wrong, REMOTE_ADDR="192.0.2.1").status_code == 429


def test_a_name_that_does_not_exist_is_locked_like_one_that_does(client: Client, db: None) -> None:
    assert guess(client, times=10, username="nobody") == [200] * 9 + [429]


def test_a_session_is_a_new_one_after_signing_in(client: Client, maria: Any) -> None:
    client.get("/login/")
    session = client.session
    session["before"] = "1"
    session.save()
    before = session.session_key
    assert sign_in(client) == 302
    assert client.session.session_key != before


@pytest.mark.parametrize(
    "target",
    ["//evil.example/", "https:///evil.example", "javascript:alert(1)", "/\\evil.example", "\thttps://e.example"],
)
def test_signing_in_leads_nowhere_else(client: Client, maria: Any, target: str) -> None:
    form = {"username": "maria", "password": PASSWORD, "next": target}
    assert client.post("/login/", form).headers["Location"] == "/dashboards/"


def test_who_is_signed_in_does_not_sign_in_again(client: Client, maria: Any) -> None:
    client.force_login(maria)
    assert client.get("/login/").headers["Location"] == "/dashboards/"


def test_a_password_is_asked_to_be_hard_to_guess(admin_client: Client) -> None:
    for weak in ("short", "password123", "admin@example.com"):
        form = {"old_password": "password", "new_password1": weak, "new_password2": weak}
        assert admin_client.post("/admin/password_change/", form).status_code == 200


# --- the playground's token ---------------------------------------------------------------------------------------


def ask(client: Client, team: object) -> Any:
    return client.post("/playground/token/", json.dumps({"team": team}), content_type="application/json")


def test_a_token_names_the_key_and_nothing_that_opens_another_door(client: Client, maria: Any) -> None:
    team = make.MembershipFactory(user=maria, team__slug="search").team
    client.force_login(maria)
    answer = ask(client, "search")
    token = answer.json()["token"]
    key = VirtualKey.objects.get(team=team)
    assert signing.loads(token, salt=SALT) == {"key_id": key.pk, "user_id": maria.pk}
    assert key.digest not in token
    assert PageTokens().looks_like_one(token)


def test_a_token_ends_within_the_hour(client: Client, maria: Any) -> None:
    make.MembershipFactory(user=maria, team__slug="search")
    client.force_login(maria)
    told = datetime.fromisoformat(ask(client, "search").json()["expires_at"])
    assert timedelta(seconds=LIFETIME_S - 60) < told - timezone.now() <= timedelta(seconds=LIFETIME_S)


@pytest.mark.parametrize(
    "spoil", [str.upper, lambda token: token[:-1], lambda token: f"x{token}", lambda _: "a:b:c", lambda _: ""]
)
def test_a_token_that_was_touched_stands_for_nobody(spoil: Any) -> None:
    token = PageTokens().issue(key_id=7, user_id=1)
    assert PageTokens().key_id(token) == 7
    assert PageTokens().key_id(spoil(token)) is None


def test_another_signed_text_of_ours_is_no_token() -> None:
    assert PageTokens().key_id(signing.dumps({"key_id": 7, "user_id": 1}, salt="password reset")) is None


def test_a_token_of_another_installation_stands_for_nobody(settings: Settings) -> None:
    token = PageTokens().issue(key_id=7, user_id=1)
    settings.SECRET_KEY = "another " * 8
    assert PageTokens().key_id(token) is None


@pytest.mark.parametrize("team", [None, 5, ["search"], {"slug": "search"}, True])
def test_a_team_is_named_by_text(client: Client, maria: Any, team: object) -> None:
    client.force_login(maria)
    assert ask(client, team).status_code == 400


def test_a_revoked_playground_key_is_replaced_by_another(client: Client, maria: Any) -> None:
    make.MembershipFactory(user=maria, team__slug="search")
    client.force_login(maria)
    first = PageTokens().key_id(ask(client, "search").json()["token"])
    key_revoke(key=VirtualKey.objects.get(pk=first), by=None)
    second = PageTokens().key_id(ask(client, "search").json()["token"])
    assert second != first
    assert VirtualKey.objects.get(pk=second).created_by == maria


def test_the_playground_of_a_member_offers_only_teams_that_are_on(client: Client, maria: Any) -> None:
    for slug, is_active in (("open", True), ("closed", False)):
        make.MembershipFactory(user=maria, team__slug=slug, team__is_active=is_active)
    make.TeamFactory(slug="foreign")
    client.force_login(maria)
    response: Any = client.get("/playground/")
    assert [team.slug for team in response.context["teams"]] == ["open"]
