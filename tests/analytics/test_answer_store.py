"""Claims and kept answers in SQL: one run has a key, until it ends or its gateway falls silent."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from django.db import IntegrityError, connection
from pytest_django import Settings

from analytics.answer_store import SqlAnswerStore
from analytics.domain.idempotency import KEPT_FOR, LEASE, AnswerState, Claim, KeptAnswer, Standing, claim_of, is_key
from analytics.models import IdempotentAnswer
from analytics.services.idempotency import BATCH, idempotent_answers_expire

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ANSWER = KeptAnswer(200, [(b"content-type", b"application/json")], b'{"a": "\xff"}')
pytestmark = pytest.mark.django_db


def run(number: int, name: str = "order-1", *, key_id: int = 1, body: bytes = b"{}") -> Claim:
    return claim_of(
        name, key_id=key_id, method="POST", path="/v1/x", body=body, request_id=str(UUID(int=number))
    )  # fmt: skip


def take(claim: Claim, *, now: datetime = NOW) -> Standing | None:
    return SqlAnswerStore().claim(claim, now=now, until=now + LEASE)


# --- what a claim is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "good"),
    [("a", True), ("x" * 255, True), ("two words", True), ("", False), ("x" * 256, False), ("\u00e9", False),
     ("tab\t", False), ("\x7f", False)],
)  # fmt: skip
def test_a_key_is_printable_ascii_of_bounded_length(value: str, good: bool) -> None:
    assert is_key(value) is good


def test_digests_tell_apart_what_must_not_meet() -> None:
    ours = run(1)
    assert run(2) == Claim(ours.key_digest, ours.body_digest, str(UUID(int=2)))
    assert run(1, key_id=2).key_digest != ours.key_digest
    assert run(1, "1:order-1", key_id=1).key_digest != run(1, "order-1", key_id=11).key_digest
    assert run(1, body=b"{ }").body_digest != ours.body_digest


# --- one run at a time --------------------------------------------------------------------------------------------


def test_the_first_run_has_the_key_and_the_second_sees_it() -> None:
    assert take(run(1)) is None
    assert take(run(2)) == Standing(run(1), AnswerState.RUNNING)


def test_a_kept_answer_is_told_as_it_was() -> None:
    take(run(1))
    assert SqlAnswerStore().keep(run(1), ANSWER)
    assert take(run(2, body=b"other")) == Standing(run(1), AnswerState.KEPT, ANSWER)


def test_an_answer_that_was_too_large_leaves_its_mark() -> None:
    take(run(1))
    assert SqlAnswerStore().keep(run(1), None)
    assert take(run(2)) == Standing(run(1), AnswerState.TOO_LARGE)


def test_a_released_key_is_free_for_another_body() -> None:
    take(run(1))
    SqlAnswerStore().release(run(1))
    assert take(run(2, body=b"other")) is None


def test_a_run_cannot_release_or_keep_what_is_not_its_own() -> None:
    take(run(1))
    SqlAnswerStore().release(run(2))
    assert SqlAnswerStore().keep(run(2), ANSWER) is False
    assert take(run(3)) == Standing(run(1), AnswerState.RUNNING)


def test_what_is_kept_is_final() -> None:
    take(run(1))
    SqlAnswerStore().keep(run(1), ANSWER)
    assert SqlAnswerStore().keep(run(1), None) is False
    SqlAnswerStore().release(run(1))
    assert take(run(2)) == Standing(run(1), AnswerState.KEPT, ANSWER)


# --- gateways that fall silent ------------------------------------------------------------------------------------


def test_a_claim_that_nobody_renews_blocks_for_its_lease_and_no_longer() -> None:
    take(run(1))
    assert take(run(2), now=NOW + LEASE - timedelta(seconds=1)) == Standing(run(1), AnswerState.RUNNING)
    assert take(run(2, body=b"other"), now=NOW + LEASE) is None
    assert SqlAnswerStore().keep(run(1), ANSWER) is False, "the late one has lost the key"
    assert SqlAnswerStore().keep(run(2, body=b"other"), ANSWER)


def test_renewing_keeps_exactly_the_claims_that_run() -> None:
    take(run(1, "a"))
    take(run(2, "b"))
    take(run(3, "c"))
    SqlAnswerStore().renew([run(1, "a"), run(9, "b")], until=NOW + 3 * LEASE)
    later = NOW + 2 * LEASE
    assert take(run(4, "a"), now=later) == Standing(run(1, "a"), AnswerState.RUNNING)
    assert take(run(5, "b"), now=later) is None, "another run's renewal is not its own"
    assert take(run(6, "c"), now=later) is None


@pytest.mark.django_db(transaction=True)
def test_of_many_that_want_a_key_at_once_one_gets_it() -> None:
    take(run(1, "lapsed"))

    def many(name: str, now: datetime) -> list[Standing | None]:
        gate = threading.Barrier(8)

        def one(number: int) -> Standing | None:
            gate.wait()
            try:
                return take(run(number, name), now=now)
            finally:
                connection.close()

        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(one, range(10, 18)))

    for name, now in (("fresh", NOW), ("lapsed", NOW + LEASE), ("lapsed", NOW + KEPT_FOR)):
        found = many(name, now)
        assert found.count(None) == 1
        assert {standing.state for standing in found if standing} == {AnswerState.RUNNING}


# --- the day is over ----------------------------------------------------------------------------------------------


def test_after_a_day_the_key_is_free_again() -> None:
    take(run(1))
    SqlAnswerStore().keep(run(1), ANSWER)
    assert take(run(2), now=NOW + KEPT_FOR - timedelta(seconds=1)) == Standing(run(1), AnswerState.KEPT, ANSWER)
    assert take(run(2, body=b"other"), now=NOW + KEPT_FOR) is None
    assert IdempotentAnswer.objects.get().sealed == ""


@pytest.mark.parametrize("count", [0, 3, BATCH + 1])
def test_expired_rows_go_and_the_others_stay(count: int) -> None:
    take(run(1, "fresh"))
    old = NOW - timedelta(seconds=1)
    IdempotentAnswer.objects.bulk_create(
        IdempotentAnswer(
            key_digest=f"{number}", body_digest="", request_id=UUID(int=number), state="too_large", claimed_until=old,
            expires_at=old,
        )
        for number in range(count)
    )  # fmt: skip
    assert idempotent_answers_expire(now=NOW) == count
    assert idempotent_answers_expire(now=NOW) == 0
    assert IdempotentAnswer.objects.get().key_digest == run(1, "fresh").key_digest


# --- what is in the table -----------------------------------------------------------------------------------------


def test_an_answer_sealed_with_a_field_key_that_is_gone_counts_as_not_kept(settings: Settings) -> None:
    take(run(1))
    SqlAnswerStore().keep(run(1), ANSWER)
    settings.FIELD_KEYS = [Fernet.generate_key().decode()]
    assert take(run(2)) == Standing(run(1), AnswerState.KEPT)


def test_a_streamed_answer_takes_little_room() -> None:
    chunk = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"delta":{"content":"word"}}]}\n\n'
    take(run(1))
    SqlAnswerStore().keep(run(1), KeptAnswer(200, [], chunk * 1000))
    assert len(IdempotentAnswer.objects.get().sealed) < len(chunk) * 1000 / 20


@pytest.mark.parametrize(
    "spoil", [lambda row: setattr(row, "state", "kept"), lambda row: setattr(row, "sealed", "00000000:gAAAAx")]
)
@pytest.mark.django_db(transaction=True)
def test_the_database_takes_no_kept_row_without_an_answer_and_no_other_with_one(
    spoil: Callable[[IdempotentAnswer], None],
) -> None:
    take(run(1))
    row = IdempotentAnswer.objects.get()
    spoil(row)
    with pytest.raises(IntegrityError):
        row.save()
