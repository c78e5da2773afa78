"""Who gets into the management API, as whom, and what is written down about it."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from providers.models import Provider
from routing.domain.keys import KeyKind, key_digest, key_parts
from routing.models import AccessToken, ConfigRevision, TeamRole
from routing.services.tokens import token_issue, token_revoke
from tests.factories import ProviderFactory, UserFactory, VirtualKeyFactory, key_text_of
from tests.routerplatform.api.manager import BASE, Manager, in_team, of, staff, superuser

pytestmark = pytest.mark.django_db
NOUNS_OF_STAFF = [
    "providers", "provider-keys", "models", "deployments", "prices", "aliases", "personas", "rules", "policies",
    "policy-versions", "policy-drafts", "budget-raises",
]  # fmt: skip
NOUNS_OF_TEAMS = ["teams", "memberships", "keys", "budgets", "usage", "access-tokens"]
PROVIDER = {"name": "acme", "label": "Acme", "kind": "openai"}


# --- tokens ---------------------------------------------------------------------------------------------------------


def test_a_token_is_kept_as_a_digest_and_told_once() -> None:
    issued = token_issue(user=UserFactory(), name="pipeline")
    parts = key_parts(issued.secret, KeyKind.PERSON)
    assert parts is not None
    assert key_parts(issued.secret) is None  # no virtual key
    assert issued.token.prefix == parts.prefix
    assert issued.token.digest == key_digest(settings.KEY_PEPPER.encode(), issued.secret)
    assert (issued.token.is_read_only, issued.secret in repr(issued)) == (True, False)


def test_nobody_is_told_how_to_come_in(client: Client) -> None:
    for noun in (*NOUNS_OF_STAFF, *NOUNS_OF_TEAMS):
        reply = client.get(f"{BASE}/{noun}")
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, "not_signed_in"), noun
    assert "/account/tokens/" in reply.json()["error"]["message"]


def refused_tokens() -> dict[str, str]:
    """Tokens that are none, or none any more."""
    now = timezone.now()
    ended = token_issue(user=UserFactory(), name="ended", expires_at=now - timedelta(seconds=1))
    revoked = token_issue(user=UserFactory(), name="revoked")
    token_revoke(token=revoked.token, by=None)
    gone = token_issue(user=UserFactory(is_active=False), name="gone")
    return {"ended": ended.secret, "revoked": revoked.secret, "gone": gone.secret, "made up": "rt_x", "odd": "\u00e4"}


def test_a_token_that_is_not_in_force_is_refused() -> None:
    for why, text in refused_tokens().items():
        assert Manager(text).get("keys").refusal == (401, "invalid_access_token", None), why


def test_a_virtual_key_is_told_that_it_is_the_wrong_thing() -> None:
    VirtualKeyFactory(text=key_text_of(3))
    answer = Manager(key_text_of(3)).get("keys")
    assert answer.refusal == (401, "invalid_access_token", None)
    assert "virtual key" in answer.error["message"]
    assert "access token (rt_…)" in answer.error["message"]


def test_who_is_switched_off_is_out_with_the_next_request() -> None:
    person = UserFactory(is_staff=True, is_superuser=True)
    manager = of(person)
    assert manager.get("providers").status == 200
    person.is_active = False
    person.save(update_fields=["is_active"])
    assert manager.get("providers").status == 401


def test_a_read_only_token_changes_nothing() -> None:
    manager = of(UserFactory(is_staff=True, is_superuser=True), is_read_only=True)
    assert manager.get("providers").status == 200
    answer = manager.post("providers", **PROVIDER)
    assert answer.refusal == (403, "permission_denied", None)
    assert "read only" in answer.error["message"]
    assert not Provider.objects.exists()


def test_the_use_of_a_token_is_noted_to_the_hour() -> None:
    manager = superuser()
    manager.get("providers")
    token = AccessToken.objects.get()
    assert token.last_used_at is not None
    assert (token.last_used_at.minute, token.last_used_at.second) == (0, 0)
    assert token.last_used_at <= timezone.now()
    manager.get("providers")
    assert AccessToken.history.filter(id=token.pk).count() == 1  # made; use is no change


def test_a_signed_in_browser_needs_its_csrf_token_to_write() -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(UserFactory(is_staff=True, is_superuser=True))
    assert browser.get(f"{BASE}/providers").status_code == 200
    refused = browser.post(f"{BASE}/providers", PROVIDER, content_type="application/json")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
    browser.get("/account/tokens/new/")  # gives the cookie
    token = {"x-csrftoken": browser.cookies["csrftoken"].value}
    made = browser.post(f"{BASE}/providers", PROVIDER, content_type="application/json", headers=token)
    assert made.status_code == 201


def test_ones_own_tokens_are_listed_and_revoked_and_nobody_elses() -> None:
    person = UserFactory()
    manager, other = of(person), token_issue(user=UserFactory(), name="other").token
    spare = token_issue(user=person, name="spare").token
    listed = manager.get("access-tokens")
    assert spare.pk in listed.ids
    assert other.pk not in listed.ids
    assert manager.get(f"access-tokens/{other.pk}").status == 404
    assert manager.post(f"access-tokens/{other.pk}/revoke").status == 404
    revoked = manager.post(f"access-tokens/{spare.pk}/revoke")
    assert revoked.json["revoked_at"] is not None
    assert revoked.json["hint"] == f"rt_{spare.prefix}_…"
    assert AccessToken.history.filter(id=spare.pk).latest().history_user == person
    assert manager.post("access-tokens", name="more").status == 405


# --- permissions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noun", NOUNS_OF_STAFF)
def test_staff_without_a_permission_and_teams_people_see_nothing_of_the_configuration(noun: str) -> None:
    for manager in (staff(), in_team(TeamRole.LEAD)):
        answer = manager.get(noun)
        assert answer.refusal == (403, "permission_denied", None)
        assert "that takes" in answer.error["message"]


def test_who_has_the_permission_but_no_account_for_the_admin_is_refused() -> None:
    person = UserFactory(is_staff=True, is_superuser=True)
    person.is_staff = False
    person.save(update_fields=["is_staff"])
    assert of(person).get("providers").status == 403


def test_viewing_adding_changing_and_deleting_are_permissions_of_their_own() -> None:
    row = ProviderFactory(name="row")
    asked = {
        "view": lambda one: one.get(f"providers/{row.pk}"),
        "add": lambda one: one.post("providers", **PROVIDER),
        "change": lambda one: one.patch(f"providers/{row.pk}", label="Other"),
        "delete": lambda one: one.delete(f"providers/{row.pk}"),
    }
    managers = {verb: staff(f"providers.{verb}_provider", username=verb) for verb in asked}
    for verb, manager in managers.items():
        done = {name for name, ask in asked.items() if name not in {"delete", "view"} and ask(manager).status < 300}
        assert done == {verb} & {"add", "change"}, verb
    assert managers["view"].get(f"providers/{row.pk}").status == 200
    assert managers["add"].delete(f"providers/{row.pk}").status == 403
    assert managers["delete"].delete(f"providers/{row.pk}").status == 204


def test_a_change_is_in_the_history_with_its_person_and_counts_the_configuration_up() -> None:
    manager = superuser()
    row = manager.post("providers", **PROVIDER).json
    before = ConfigRevision.objects.get().revision
    manager.patch(f"providers/{row['id']}", region="eu")
    made, changed = Provider.history.filter(id=row["id"]).order_by("history_id")
    assert (made.history_type, made.history_user.username) == ("+", "root")
    assert (changed.history_type, changed.history_user.username, changed.region) == ("~", "root", "eu")
    assert ConfigRevision.objects.get().revision > before


# --- odd requests ---------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_told_in_the_apis_own_shape() -> None:
    manager = superuser()
    for path in ("providers/999", f"providers/{2**70}", "providers/x", "nothing", "usage/7"):
        assert manager.get(path).refusal == (404, "not_found", None), path
    assert manager.delete("keys/1").status == 405
    assert manager.post("usage").status == 405


@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b"null", b"\xff", b'{"name": NaN}'])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    headers: Any = {"authorization": f"Bearer {superuser().token}"}
    reply = Client(headers=headers).post(f"{BASE}/providers", body, content_type="application/json")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_request")


def test_only_json_is_taken() -> None:
    headers: Any = {"authorization": f"Bearer {superuser().token}"}
    assert Client(headers=headers).post(f"{BASE}/providers", PROVIDER).status_code == 415


def test_answers_are_kept_by_nobody_and_have_an_id_to_quote() -> None:
    answer = superuser().get("providers")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]
