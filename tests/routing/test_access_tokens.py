"""Access tokens on pages: a person makes and revokes their own, ops look at everybody's and revoke."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from providers.admin.pages import change_url, list_url
from routing.access import token_in_force
from routing.models import AccessToken
from routing.services.tokens import token_issue, token_revoke
from tests.admin_pages import page_of
from tests.factories import UserFactory
from tests.routerplatform.test_permissions import staff_with

pytestmark = pytest.mark.django_db
PAGE = "/account/tokens/"
SECRET = re.compile(r"rt_[a-z2-7]{8}_[A-Za-z0-9_-]{43}")


@pytest.fixture
def person(client: Client) -> Any:
    made = UserFactory(username="ada")
    client.force_login(made)
    return made


def text_of(answer: Any) -> str:
    return str(answer.content.decode())


def test_a_token_is_made_on_a_page_shown_once_and_works(client: Client, person: Any) -> None:
    assert "No tokens yet" in text_of(client.get(PAGE))
    made = client.post(f"{PAGE}new/", {"name": "pipeline", "expiry": "30", "may_change": "on"})
    [secret] = set(SECRET.findall(text_of(made)))
    assert "no-store" in made.headers["Cache-Control"]
    token = AccessToken.objects.get()
    assert (token.user, token.name, token.is_read_only) == (person, "pipeline", False)
    assert token.expires_at is not None
    assert abs(token.expires_at - timezone.now() - timedelta(days=30)) < timedelta(minutes=5)
    assert token_in_force(secret, now=timezone.now()) == token
    for page in (PAGE, f"{PAGE}new/"):
        assert secret not in text_of(client.get(page))
    assert f"rt_{token.prefix}_…" in text_of(client.get(PAGE))


def test_a_token_only_reads_unless_one_says_so_and_may_have_no_end(client: Client, person: Any) -> None:
    client.post(f"{PAGE}new/", {"name": "report", "expiry": "never"})
    token = AccessToken.objects.get()
    assert (token.is_read_only, token.expires_at) == (True, None)


@pytest.mark.parametrize("wrong", [{"name": ""}, {"name": "x" * 81}, {"expiry": "soon"}, {"expiry": ""}])
def test_a_form_that_makes_no_sense_makes_no_token(client: Client, person: Any, wrong: dict[str, str]) -> None:
    answer = client.post(f"{PAGE}new/", {"name": "x", "expiry": "30", **wrong})
    assert "No token was made" in text_of(answer)
    assert not AccessToken.objects.exists()


def test_ones_own_token_is_revoked_and_nobody_elses(client: Client, person: Any) -> None:
    own, other = token_issue(user=person, name="own"), token_issue(user=UserFactory(), name="other").token
    assert client.post(f"{PAGE}{other.pk}/revoke/").status_code == 404
    assert client.get(f"{PAGE}{own.token.pk}/revoke/").status_code == 405
    done = client.post(f"{PAGE}{own.token.pk}/revoke/", follow=True)
    assert "is revoked" in text_of(done)
    assert token_in_force(own.secret, now=timezone.now()) is None
    assert AccessToken.history.filter(id=own.token.pk).latest().history_user == person
    assert "had been revoked before" in text_of(client.post(f"{PAGE}{own.token.pk}/revoke/", follow=True))
    assert "other" not in text_of(client.get(PAGE))


def test_a_stranger_signs_in_first(client: Client) -> None:
    for path in (PAGE, f"{PAGE}new/"):
        assert client.get(path).headers["Location"].startswith("/login/")


def test_of_two_who_revoke_one_is_told_that_the_other_was_first() -> None:
    token = token_issue(user=UserFactory(), name="x").token
    assert (token_revoke(token=token, by=None), token_revoke(token=token, by=None)) == (True, False)


# --- the admin ------------------------------------------------------------------------------------------------------


def test_ops_see_everybodys_tokens_and_no_secret(client: Client) -> None:
    now = timezone.now()
    issued = token_issue(user=UserFactory(username="ada"), name="pipeline")
    ended = token_issue(user=UserFactory(is_active=False), name="ended", expires_at=now - timedelta(days=1)).token
    token_issue(user=UserFactory(is_active=False), name="gone")
    client.force_login(staff_with("routing.view_accesstoken"))
    page = text_of(client.get(list_url(AccessToken)))
    for shown in ("pipeline", "ada", f"rt_{issued.token.prefix}_…", "Active", "Expired", "Person off"):
        assert shown in page
    one = text_of(client.get(change_url(issued.token)))
    assert issued.secret not in page + one
    assert issued.token.digest not in page + one
    assert client.post(page_of(ended, "revoke")).status_code in {403, 404}
    assert client.get(f"{list_url(AccessToken)}add/").status_code == 403


def test_ops_revoke_a_token_after_a_question(client: Client) -> None:
    token = token_issue(user=UserFactory(username="ada"), name="pipeline").token
    ops = staff_with("routing.view_accesstoken", "routing.change_accesstoken")
    client.force_login(ops)
    asked = client.get(page_of(token, "revoke"))
    assert "Revoke the access token “pipeline”?" in text_of(asked)
    done = client.post(page_of(token, "revoke"), follow=True)
    assert "is revoked" in text_of(done)
    token.refresh_from_db()
    assert token.revoked_at is not None
    assert AccessToken.history.filter(id=token.pk).latest().history_user == ops


def test_the_way_to_ones_tokens_is_on_every_page_and_on_narrow_screens(client: Client, person: Any) -> None:
    """There the name gives way to a picture of its own width, and stays for who hears the page."""
    page = text_of(client.get(PAGE))
    assert f'href="{PAGE}"' in page
    assert 'icons.svg#person"' in page
    style = (Path(__file__).resolve().parents[2] / "static" / "css" / "base.css").read_text()
    assert re.search(r"\.who \{[^}]*display: none", style) is None
    assert 'id="person"' in (Path(__file__).resolve().parents[2] / "static" / "icons.svg").read_text()
