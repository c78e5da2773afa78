"""Kept responses in SQL: who finds them, what stands in the table, when they go."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from pytest_django import Settings

from analytics.domain.idempotency import StoreAwayError
from analytics.domain.responses import MAX_ID_LENGTH, KeptConversation, KeptResponse, may_be_an_id
from analytics.models import StoredResponse
from analytics.response_store import SqlResponseStore
from analytics.services.responses import BATCH, stored_responses_expire
from providers.fields import seal
from routing.models import Team
from tests.factories import TeamFactory

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=30)
SAID = KeptConversation(b'{"id":"resp_1","output":[]}', b'[{"role":"user","content":"the secret plan"}]')
store = SqlResponseStore()


@pytest.fixture
def team() -> Team:
    made: Team = TeamFactory()
    return made


def here(team: Team, name: str = "resp_1") -> KeptResponse:
    return KeptResponse(team.pk, name, conversation=SAID)


def there(team: Team, name: str = "resp_2") -> KeptResponse:
    return KeptResponse(team.pk, name, deployment="openai/gpt")


def keep(response: KeptResponse, *, until: datetime = LATER) -> bool:
    return store.keep(response, now=NOW, until=until)


# --- keeping and finding ------------------------------------------------------------------------------------------


def test_what_is_kept_here_is_found_as_it_was(team: Team) -> None:
    assert keep(here(team))
    assert store.find(team.pk, "resp_1", now=NOW) == here(team)


def test_what_a_vendor_keeps_is_known_by_its_deployment(team: Team) -> None:
    assert keep(there(team))
    assert store.find(team.pk, "resp_2", now=NOW) == there(team)


@pytest.mark.django_db(transaction=True)
def test_keeping_and_finding_take_one_statement_each(team: Team) -> None:
    statements: list[str] = []

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        statements.append(sql.partition(" ")[0])
        return execute(sql, *rest)

    with connection.execute_wrapper(note):
        keep(here(team))
        store.find(team.pk, "resp_1", now=NOW)
    assert statements == ["INSERT", "SELECT"]


def test_nobody_finds_what_was_never_kept(team: Team) -> None:
    assert store.find(team.pk, "resp_1", now=NOW) is None


def test_another_team_does_not_find_it(team: Team) -> None:
    keep(here(team))
    other: Team = TeamFactory()
    assert store.find(other.pk, "resp_1", now=NOW) is None


def test_two_teams_may_have_the_same_id(team: Team) -> None:
    other: Team = TeamFactory()
    assert keep(here(team))
    assert keep(there(other, "resp_1"))
    assert store.find(other.pk, "resp_1", now=NOW) == there(other, "resp_1")
    assert store.find(team.pk, "resp_1", now=NOW) == here(team)


@pytest.mark.django_db(transaction=True)
def test_keeping_it_twice_leaves_the_first_one(team: Team) -> None:
    keep(here(team))
    assert not keep(there(team, "resp_1"))
    assert store.find(team.pk, "resp_1", now=NOW) == here(team)


@pytest.mark.django_db(transaction=True)
def test_nothing_is_kept_for_a_team_that_is_gone(team: Team) -> None:
    pk = team.pk
    team.delete()
    assert not keep(KeptResponse(pk, "resp_1", conversation=SAID))
    assert StoredResponse.objects.count() == 0


def test_it_goes_with_its_team(team: Team) -> None:
    keep(here(team))
    team.delete()
    assert StoredResponse.objects.count() == 0


@pytest.mark.parametrize(("name", "may"), [("resp_1", True), ("", False), ("r" * 200, True), ("r" * 201, False)])
def test_an_id_is_short_enough_for_the_table(name: str, may: bool) -> None:
    assert may_be_an_id(name) is may
    assert StoredResponse._meta.get_field("response_id").max_length == MAX_ID_LENGTH
    assert not may_be_an_id("resp\x00")


# --- what stands in the table -------------------------------------------------------------------------------------


def test_a_conversation_is_encrypted(team: Team) -> None:
    keep(here(team))
    row = StoredResponse.objects.get()
    assert "secret" not in row.sealed
    assert (row.deployment, row.created_at, row.expires_at, str(row)) == ("", NOW, LATER, "resp_1")


def test_a_long_conversation_is_packed(team: Team) -> None:
    items = b'[{"role":"user","content":"' + b"again and again " * 50_000 + b'"}]'
    keep(KeptResponse(team.pk, "resp_1", conversation=KeptConversation(b"{}", items)))
    assert len(StoredResponse.objects.get().sealed) < len(items) / 20


def test_what_was_sealed_with_a_lost_key_is_as_good_as_gone(team: Team, settings: Settings) -> None:
    keep(here(team))
    settings.FIELD_KEYS = ["B" * 43 + "="]
    assert store.find(team.pk, "resp_1", now=NOW) is None


@pytest.mark.parametrize("row", [{}, {"deployment": "openai/gpt", "sealed": True}], ids=["nowhere", "here and there"])
def test_a_response_is_kept_here_or_there(team: Team, row: dict[str, Any]) -> None:
    if row.get("sealed"):
        row["sealed"] = seal("x")
    with pytest.raises(IntegrityError), transaction.atomic():
        StoredResponse.objects.create(team=team, response_id="resp_1", expires_at=LATER, **row)


# --- forgetting ---------------------------------------------------------------------------------------------------


def test_forgetting_deletes_it(team: Team) -> None:
    keep(here(team))
    assert store.forget(team.pk, "resp_1")
    assert StoredResponse.objects.count() == 0
    assert not store.forget(team.pk, "resp_1")


def test_another_team_cannot_have_it_forgotten(team: Team) -> None:
    keep(here(team))
    other: Team = TeamFactory()
    assert not store.forget(other.pk, "resp_1")
    assert store.find(team.pk, "resp_1", now=NOW)


def test_what_a_vendor_keeps_is_not_forgotten(team: Team) -> None:
    keep(there(team))
    assert not store.forget(team.pk, "resp_2")
    assert store.find(team.pk, "resp_2", now=NOW)


def test_after_its_time_it_is_not_found_and_then_it_goes(team: Team) -> None:
    keep(here(team), until=NOW)
    keep(there(team), until=NOW + timedelta(seconds=1))
    assert store.find(team.pk, "resp_1", now=NOW) is None
    assert store.find(team.pk, "resp_2", now=NOW) is not None
    assert stored_responses_expire(now=NOW) == 1
    assert StoredResponse.objects.get().response_id == "resp_2"
    assert stored_responses_expire(now=NOW) == 0


def test_many_go_in_some_rounds(team: Team) -> None:
    StoredResponse.objects.bulk_create(
        StoredResponse(team=team, response_id=f"resp_{number}", deployment="openai/gpt", expires_at=NOW)
        for number in range(BATCH + 3)
    )
    assert stored_responses_expire(now=NOW) == BATCH + 3
    assert StoredResponse.objects.count() == 0


# --- without the database -----------------------------------------------------------------------------------------


@pytest.fixture
def no_table(team: Team) -> Iterator[None]:
    """The table is away, as if the database were: every statement fails."""

    def refuse(*_: Any) -> None:
        raise OperationalError("the connection is lost\nin detail")

    with connection.execute_wrapper(refuse):
        yield


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("no_table")
def test_every_question_says_that_the_store_is_away(team: Team) -> None:
    for question in (
        lambda: keep(here(team)),
        lambda: store.find(team.pk, "resp_1", now=NOW),
        lambda: store.forget(team.pk, "resp_1"),
    ):
        with pytest.raises(StoreAwayError) as away:
            question()
        assert str(away.value) == "the connection is lost"


def test_nothing_that_was_said_stays_in_the_log_of_statements(team: Team, settings: Settings) -> None:
    settings.DEBUG = True
    keep(here(team))
    store.find(team.pk, "resp_1", now=NOW)
    assert len(connection.queries_log) == 0
