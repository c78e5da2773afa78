"""Virtual keys: what they look like, that only a fingerprint stays, and that issuing and revoking hold under a race."""

import json
import re
import threading
from datetime import timedelta
from io import StringIO

import pytest
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from routing.domain.keys import key_digest, key_parts, key_text
from routing.models import ConfigRevision, ModelAlias, VirtualKey
from routing.services import key_issue, key_revoke, playground_key_for
from tests.factories import ModelAliasFactory, TeamFactory, UserFactory, VirtualKeyFactory, key_text_of

PEPPER = settings.KEY_PEPPER.encode()


def test_a_key_is_taken_apart_and_put_together_again() -> None:
    text = key_text_of(12)
    parts = key_parts(text)
    assert parts is not None
    assert key_text(parts) == text
    assert parts.secret not in repr(parts)


@pytest.mark.parametrize(
    "text",
    [
        *("", "rp_", "sk-proj-0123456789", "rp_abcdefgh_short", f"rp_ABCDEFGH_{'x' * 40}", f"rp_abcdefg1_{'x' * 40}"),
        *(
            f"rp_abcdefgh_{'x' * 40}\n",
            f"rp_abcdefgh_{'x' * 40} ",
            f"rp_abcdefgh_{'ü' * 40}",
            f"rp_abcdefgh_{'x' * 500}",
        ),
    ],
)
def test_what_is_no_key_is_known_by_its_form(text: str) -> None:
    assert key_parts(text) is None


def test_the_fingerprint_depends_on_the_pepper_and_on_every_character() -> None:
    text = key_text_of(12)
    prints = {key_digest(b"pepper", text), key_digest(b"other", text), key_digest(b"pepper", text[:-1])}
    assert len(prints) == 3
    assert all(re.fullmatch(r"[0-9a-f]{64}", one) for one in prints)


def test_any_text_at_all_has_a_fingerprint() -> None:
    assert len(key_digest(b"pepper", "\ud800 é \x00")) == 64


@pytest.mark.django_db
def test_an_issued_key_has_its_form_and_only_its_fingerprint_is_stored() -> None:
    person, alias = UserFactory(), ModelAliasFactory()
    issued = key_issue(team=TeamFactory(), name="bot", by=person, scopes=["chat"], allowed_models=[alias])
    parts = key_parts(issued.secret)
    assert parts is not None
    assert len(parts.secret) >= 32
    stored = VirtualKey.objects.get(digest=key_digest(PEPPER, issued.secret))
    assert (stored.prefix, stored.created_by, stored.scopes) == (parts.prefix, person, ["chat"])
    assert list(stored.allowed_models.all()) == [alias]
    assert parts.secret not in str(VirtualKey.objects.values().get()) + str(list(VirtualKey.history.values()))
    assert issued.secret not in repr(issued)


@pytest.mark.django_db
def test_a_key_may_be_chosen_but_neither_twice_nor_in_another_form() -> None:
    team = TeamFactory()
    chosen = key_text_of(99)
    assert key_issue(team=team, name="bench", by=None, scopes=["chat"], secret=chosen).secret == chosen
    with pytest.raises(ValidationError):
        key_issue(team=team, name="again", by=None, scopes=["chat"], secret=chosen)
    with pytest.raises(ValidationError, match="looks like"):
        key_issue(team=team, name="weak", by=None, scopes=["chat"], secret="rp_aaaaaaaa_hunter2")


@pytest.mark.django_db
@pytest.mark.parametrize("scopes", [[], ["everything"], ["chat", "root"]])
def test_a_key_has_known_scopes(scopes: list[str]) -> None:
    with pytest.raises(ValidationError):
        key_issue(team=TeamFactory(), name="bot", by=None, scopes=scopes)
    assert not VirtualKey.objects.exists()


@pytest.mark.django_db
def test_a_key_is_revoked_once_with_who_did_it_in_its_history() -> None:
    key, first, second = VirtualKeyFactory(), UserFactory(), UserFactory()
    before = ConfigRevision.objects.get().revision
    assert key_revoke(key=key, by=first)
    assert not key_revoke(key=VirtualKey.objects.get(pk=key.pk), by=second)
    assert key.revoked_by == first
    assert key.revoked_at is not None
    assert ConfigRevision.objects.get().revision == before + 1
    latest = key.history.first()
    assert (latest.history_user, latest.revoked_at) == (first, key.revoked_at)


@pytest.mark.django_db
def test_a_team_has_one_playground_key_until_it_is_revoked() -> None:
    team, person = TeamFactory(), UserFactory()
    key = playground_key_for(team=team, by=person)
    assert key.is_playground
    assert playground_key_for(team=team, by=UserFactory()) == key
    key_revoke(key=key, by=person)
    assert playground_key_for(team=team, by=person) != key


@pytest.mark.django_db(transaction=True)
def test_a_team_has_one_playground_key_when_many_ask_at_once() -> None:
    team, person = TeamFactory(), UserFactory()
    found: list[int] = []

    def ask() -> None:
        try:
            found.append(playground_key_for(team=team, by=person).pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


@pytest.mark.django_db
def test_the_command_prints_a_key_that_works_and_says_nothing_else_on_stdout() -> None:
    TeamFactory(slug="search")
    ModelAliasFactory(name="fast")
    out = StringIO()
    options = ["--team", "search", "--name", "bot", "--scopes", "chat", "--models", "fast", "--days", "30"]
    call_command("create_key", *options, stdout=out, stderr=StringIO())
    key = VirtualKey.objects.get(digest=key_digest(PEPPER, out.getvalue().strip()))
    assert (key.team.slug, key.scopes, [alias.name for alias in key.allowed_models.all()]) == (
        "search",
        ["chat"],
        ["fast"],
    )
    assert key.expires_at is not None
    assert timedelta(days=29) < key.expires_at - timezone.now() < timedelta(days=31)


@pytest.mark.django_db
def test_the_command_speaks_json() -> None:
    TeamFactory(slug="search")
    out = StringIO()
    call_command("create_key", "--team", "search", "--name", "bot", "--json", stdout=out)
    told = json.loads(out.getvalue())
    assert VirtualKey.objects.get(prefix=told["prefix"]).digest == key_digest(PEPPER, told["key"])


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--team", "nobody"], "Teams: search"),
        (["--team", "search", "--models", "ghost"], "No model alias ghost"),
    ],
)
def test_the_command_says_what_there_is_instead(options: list[str], said: str) -> None:
    TeamFactory(slug="search")
    with pytest.raises(CommandError, match=said):
        call_command("create_key", "--name", "bot", *options)
    assert not VirtualKey.objects.exists()


@pytest.mark.django_db
def test_an_alias_that_limits_a_key_cannot_be_deleted_from_under_it() -> None:
    alias = ModelAliasFactory.create()
    key = VirtualKeyFactory.create()
    key.allowed_models.add(alias)
    with pytest.raises(ProtectedError, match="take it off their lists first"), transaction.atomic():
        alias.delete()
    with pytest.raises(ProtectedError), transaction.atomic():
        ModelAlias.objects.filter(pk=alias.pk).delete()
    assert list(key.allowed_models.all()) == [alias]
    key.allowed_models.clear()
    alias.delete()
    assert not ModelAlias.objects.filter(pk=alias.pk).exists()


@pytest.mark.django_db
def test_history_tells_which_models_a_key_was_limited_to() -> None:
    narrow, wide = ModelAliasFactory.create(), ModelAliasFactory.create()
    key = VirtualKeyFactory.create()
    key.allowed_models.set([narrow])
    key.allowed_models.add(wide)
    told = [[row.modelalias for row in entry.allowed_models.all()] for entry in key.history.all()[:2]]
    assert told == [[narrow, wide], [narrow]]
