import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from providers.admin.pages import change_url, list_url
from routing.domain.keys import key_digest
from routing.models import VirtualKey
from tests.admin_pages import errors_of, page_of, submit
from tests.factories import ModelAliasFactory, TeamFactory, UsageRecordFactory, UserFactory, VirtualKeyFactory

pytestmark = pytest.mark.django_db
ADD = "/admin/routing/virtualkey/add/"


def issue(client: Client, **fields: Any) -> Any:
    return submit(client, ADD, **{"team": TeamFactory().pk, "name": "bot"} | fields)


def shown_key(page: Any) -> str:
    found = re.search(r'id="secret"[^>]*>(rp_[^<]+)<', page.content.decode())
    assert found
    return found[1]


def test_a_new_key_is_shown_in_the_answer_with_snippets_that_use_it(admin_client: Client) -> None:
    alias = ModelAliasFactory()
    page = issue(admin_client, allowed_models=[alias.pk], scopes=["chat", "usage"])
    assert page.status_code == 200
    secret = shown_key(page)
    key = VirtualKey.objects.get(digest=key_digest(settings.KEY_PEPPER.encode(), secret))
    assert (key.scopes, list(key.allowed_models.all())) == (["chat", "usage"], [alias])
    assert key.created_by is not None
    text = page.content.decode()
    assert f"Authorization: Bearer {secret}" in text
    assert f'api_key="{secret}"' in text.replace("&quot;", '"')
    assert "no-store" in page["Cache-Control"]


def test_a_key_is_shown_once_and_kept_nowhere(admin_client: Client) -> None:
    page = issue(admin_client)
    secret = shown_key(page)
    key = VirtualKey.objects.get()
    assert secret not in str([session.get_decoded() for session in Session.objects.all()])
    assert secret not in str(list(LogEntry.objects.values())) + str(page.cookies)
    assert "_auth_user_id" in str([session.get_decoded() for session in Session.objects.all()])
    for url in (change_url(key), list_url(VirtualKey), page_of(key, "history"), change_url(key.team)):
        later = admin_client.get(url).content.decode()
        assert key.prefix in later or "history" in url
        assert secret.rpartition("_")[2] not in later
        assert key.digest not in later


def test_scopes_are_ticked_and_at_least_one_is_needed(admin_client: Client) -> None:
    assert admin_client.get(ADD).content.decode().count('type="checkbox" name="scopes"') == 3
    assert "scopes" in errors_of(issue(admin_client, scopes=[]))
    assert not VirtualKey.objects.exists()


def test_a_key_does_not_begin_expired(admin_client: Client) -> None:
    answer = issue(admin_client, expires_at_0="2020-01-01", expires_at_1="00:00:00")
    assert "This moment has passed" in errors_of(answer)


def test_changing_a_key_keeps_its_team_and_its_fingerprint(admin_client: Client) -> None:
    key = VirtualKeyFactory()
    digest, other = key.digest, TeamFactory()
    answer = submit(admin_client, change_url(key), name="renamed", team=other.pk, scopes=["models"])
    assert answer.status_code == 302, errors_of(answer)
    key.refresh_from_db()
    assert (key.name, key.scopes, key.digest) == ("renamed", ["models"], digest)
    assert key.team != other


def test_revoking_asks_first_and_cannot_be_undone(admin_client: Client) -> None:
    key = VirtualKeyFactory()
    assert "cannot be undone" in admin_client.get(page_of(key, "revoke")).content.decode()
    key.refresh_from_db()
    assert key.revoked_at is None
    answer = admin_client.post(page_of(key, "revoke"), follow=True)
    assert "is revoked" in answer.content.decode()
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert key.revoked_by is not None
    assert admin_client.post(page_of(key, "revoke")).status_code == 403
    assert admin_client.post(change_url(key), {"name": "back"}).status_code == 403
    former = key.history.earliest()
    assert admin_client.post(page_of(key, f"history/{former.history_id}"), {"name": "back"}).status_code == 403


def test_a_key_is_never_deleted(admin_client: Client) -> None:
    key = UsageRecordFactory().key
    assert admin_client.post(page_of(key, "delete"), {"post": "yes"}).status_code == 403
    assert VirtualKey.objects.filter(pk=key.pk).exists()


def test_a_team_with_usage_is_not_deleted_and_the_answer_counts_what_hangs_on_it(admin_client: Client) -> None:
    team = UsageRecordFactory().team
    text = admin_client.post(page_of(team, "delete"), {"post": "yes"}, follow=True).content.decode()
    assert "1 virtual key and 1 usage record depend on it." in text


def test_the_list_and_the_teams_page_tell_the_state_of_each_key(admin_client: Client) -> None:
    team = TeamFactory()
    now = timezone.now()
    VirtualKeyFactory(team=team, name="good")
    VirtualKeyFactory(team=team, name="late", expires_at=now - timedelta(hours=1))
    VirtualKeyFactory(team=team, name="gone", revoked_at=now)
    for url in (list_url(VirtualKey), change_url(team)):
        text = admin_client.get(url).content.decode()
        assert all(state in text for state in ("Active", "Expired", "Revoked"))
    for state, name in (("active", "good"), ("expired", "late"), ("revoked", "gone")):
        found = admin_client.get(list_url(VirtualKey, f"state={state}")).context["cl"].result_list
        assert [key.name for key in found] == [name]


def test_keys_of_a_switched_off_team_say_so(admin_client: Client) -> None:
    VirtualKeyFactory(team=TeamFactory(is_active=False))
    assert "Team off" in admin_client.get(list_url(VirtualKey)).content.decode()


def test_the_teams_page_leads_to_a_new_key_of_that_team(admin_client: Client) -> None:
    team = TeamFactory()
    answer = admin_client.get(page_of(team, "issue-key"))
    assert answer.headers["Location"] == f"{ADD}?team={team.pk}"
    assert admin_client.get(answer.headers["Location"]).context["adminform"].form.initial["team"] == str(team.pk)


def test_staff_who_may_only_look_neither_issue_nor_revoke(client: Client) -> None:
    staff = UserFactory(is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="view_virtualkey"))
    client.force_login(staff)
    key = VirtualKeyFactory()
    assert client.get(change_url(key)).status_code == 200
    assert client.get(ADD).status_code == 403
    assert client.post(page_of(key, "revoke")).status_code == 403
    key.refresh_from_db()
    assert key.revoked_at is None
