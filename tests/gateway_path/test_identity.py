"""Request ids, page tokens, and who is let in: the small parts that every door relies on."""

import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.conf import settings

from routerplatform.gateway.authentication import Authenticator
from routerplatform.gateway.errors import Forbidden, Unauthenticated
from routerplatform.gateway.ids import new_request_id
from routerplatform.gateway.page_tokens import LIFETIME_S, PageTokens
from routing.domain.config import ConfigSnapshot, Scope
from routing.domain.keys import key_digest
from tests.factories import key_text_of
from tests.routing.domain.build import NOW, caller, snapshot

PEPPER = "p" * 32
KEY = key_text_of(3)


# --- ids ----------------------------------------------------------------------------------------------------------


def test_an_id_is_a_uuid_of_version_7_and_tells_when_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(new_request_id())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_ids_are_written_as_the_database_reads_them_and_never_twice() -> None:
    made = [new_request_id() for _ in range(10_000)]
    assert len(set(made)) == len(made)
    assert all(str(uuid.UUID(one)) == one for one in made[:100])


def test_ids_of_later_milliseconds_sort_later() -> None:
    first = new_request_id()
    time.sleep(0.002)
    assert first < new_request_id()


# --- who is let in ------------------------------------------------------------------------------------------------


def authenticator() -> Authenticator:
    return Authenticator(pepper=PEPPER, page_tokens=PageTokens())


def configured(**options: Any) -> ConfigSnapshot:
    return snapshot(callers={key_digest(PEPPER.encode(), KEY): caller(key_id=7, **options)})


def test_a_key_is_known_by_its_digest() -> None:
    found = authenticator().caller(configured(), KEY, now=NOW, scope=Scope.CHAT)
    assert found.key_id == 7


@pytest.mark.parametrize("presented", ["", "rp_", KEY[:-1], KEY + "x", KEY.upper(), "Bearer " + KEY, "\ud800", "ü" * 9])
def test_anything_else_is_nobody(presented: str) -> None:
    with pytest.raises(Unauthenticated):
        authenticator().caller(configured(), presented, now=NOW, scope=Scope.CHAT)


@pytest.mark.parametrize(
    ("options", "is_let_in"),
    [
        ({"expires_at": NOW + timedelta(seconds=1)}, True),
        ({"expires_at": NOW}, False),
        ({"expires_at": NOW - timedelta(days=1)}, False),
        ({"revoked_at": NOW - timedelta(days=1)}, False),
        ({"revoked_at": NOW + timedelta(days=1)}, False),  # revoked is revoked, whatever the clock says
        ({"team_active": False}, False),
    ],
)
def test_a_key_counts_only_while_it_is_in_force(options: dict[str, Any], is_let_in: bool) -> None:
    if is_let_in:
        assert authenticator().caller(configured(**options), KEY, now=NOW, scope=Scope.CHAT)
        return
    with pytest.raises(Unauthenticated):
        authenticator().caller(configured(**options), KEY, now=NOW, scope=Scope.CHAT)


def test_a_good_key_without_the_scope_is_told_so() -> None:
    limited = configured(scopes=frozenset({Scope.MODELS}))
    assert authenticator().caller(limited, KEY, now=NOW, scope=Scope.MODELS)
    with pytest.raises(Forbidden, match="lacks the scope “chat”"):
        authenticator().caller(limited, KEY, now=NOW, scope=Scope.CHAT)


# --- page tokens --------------------------------------------------------------------------------------------------


def test_a_page_token_stands_for_its_key_for_an_hour() -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        token = PageTokens().issue(key_id=7, user_id=1)
        assert authenticator().caller(configured(), token, now=NOW, scope=Scope.CHAT).key_id == 7
        clock.shift(LIFETIME_S - 1)
        assert PageTokens().key_id(token) == 7
        clock.shift(2)
        assert PageTokens().key_id(token) is None


def test_a_page_token_of_another_installation_or_a_changed_one_is_nobodys() -> None:
    token = PageTokens().issue(key_id=7, user_id=1)
    head, _, signature = token.rpartition(":")
    forged = [head + ":" + signature[::-1], "x" + token, token + "x", "a:b:c", ":::"]
    assert [PageTokens().key_id(one) for one in forged] == [None] * len(forged)
    assert settings.SECRET_KEY not in token


@pytest.mark.parametrize("options", [{"revoked_at": NOW}, {"team_active": False}, {"expires_at": NOW}])
def test_a_page_token_is_worth_no_more_than_its_key(options: dict[str, Any]) -> None:
    token = PageTokens().issue(key_id=7, user_id=1)
    with pytest.raises(Unauthenticated):
        authenticator().caller(configured(**options), token, now=NOW, scope=Scope.CHAT)


def test_a_page_token_for_a_key_that_is_gone_is_nobodys() -> None:
    token = PageTokens().issue(key_id=8, user_id=1)
    with pytest.raises(Unauthenticated):
        authenticator().caller(configured(), token, now=NOW, scope=Scope.CHAT)
