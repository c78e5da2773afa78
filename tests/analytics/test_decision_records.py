"""From a journaled entry to a row of what its decision was made from."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from analytics.domain.decisions import KeptDecision
from analytics.domain.usage import UsageEntry
from analytics.ledger.delivery import BadRecordError
from analytics.ledger.ledger import encode
from analytics.ledger.shipping import SqlUsageStore
from analytics.models import DecisionRecord, UsageRecord
from providers.fields import seal, unseal
from tests.analytics.ledger.samples import STARTED_AT, encoded, request_id, settled

INPUTS = bytes(range(256))  # whatever it is: the ledger does not read it


@pytest.fixture
def store(db: None) -> SqlUsageStore:
    return SqlUsageStore()


def decided(number: int = 1, **changes: Any) -> UsageEntry:
    """A settled request that a policy routed, with what its decision was made from."""
    values: dict[str, Any] = {
        "policy": "default",
        "policy_version": 3,
        "task_type": "CODING",
        "kept": KeptDecision(INPUTS, 0.75),
    }
    return settled(number, **(values | changes))


def kept(number: int = 1) -> DecisionRecord:
    return DecisionRecord.objects.get(pk=request_id(number))


def test_a_decision_is_stored_beside_its_usage_record(store: SqlUsageStore) -> None:
    assert store.ship(encoded(decided())).new == 1
    row = kept()
    assert UsageRecord.objects.get().pk == row.pk == UUID(request_id(1))
    assert row.at == datetime.fromtimestamp(STARTED_AT, UTC) == UsageRecord.objects.get().started_at
    assert (row.policy, row.policy_version, row.team_id) == ("default", 3, 3)
    assert (row.task_type, row.confidence, row.prompt, row.label) == ("CODING", 0.75, "", "")
    assert bytes(row.inputs) == INPUTS


def test_an_entry_without_a_decision_makes_no_row_and_no_longer_line(store: SqlUsageStore) -> None:
    assert b"kept" not in encode(settled(1))
    store.ship(encoded(settled(1), decided(2), settled(3)))
    assert [str(pk) for pk in DecisionRecord.objects.values_list("pk", flat=True)] == [request_id(2)]
    assert UsageRecord.objects.count() == 3


def test_of_a_decision_that_comes_twice_the_first_stays(store: SqlUsageStore) -> None:
    store.ship(encoded(decided(1), decided(2)))
    store.ship(encoded(decided(2, kept=KeptDecision(b"later")), decided(3)))
    assert DecisionRecord.objects.count() == 3
    assert bytes(kept(2).inputs) == INPUTS


def test_more_decisions_than_a_statement_holds_are_all_stored(store: SqlUsageStore) -> None:
    store.ship(encoded(*(decided(number) for number in range(1, 131))))
    assert DecisionRecord.objects.count() == 130


def test_a_row_is_what_the_orm_finds_by_its_time(store: SqlUsageStore) -> None:
    store.ship(
        encoded(decided(1), decided(2, started_at=STARTED_AT + 10), decided(3, started_at=float(int(STARTED_AT))))
    )
    begins = datetime.fromtimestamp(int(STARTED_AT), UTC)
    ends = datetime.fromtimestamp(STARTED_AT + 10, UTC)
    found = DecisionRecord.objects.filter(policy="default", at__gte=begins, at__lt=ends).order_by("at")
    assert [str(row.pk) for row in found] == [request_id(3), request_id(1)]


def test_a_prompt_is_stored_sealed_and_nothing_else_is(store: SqlUsageStore) -> None:
    store.ship(encoded(decided(kept=KeptDecision(INPUTS, None, seal("what is 6 x 7?")))))
    row = kept()
    assert "6 x 7" not in row.prompt
    assert unseal(row.prompt) == "what is 6 x 7?"
    assert row.confidence is None


def test_names_longer_than_their_column_are_cut_as_those_of_the_usage_record_are(store: SqlUsageStore) -> None:
    store.ship(encoded(decided(policy="p" * 90, task_type="T" * 30)))
    assert (kept().policy, kept().task_type) == ("p" * 80, "T" * 20)
    assert UsageRecord.objects.get().policy == "p" * 80


def test_a_team_that_is_called_like_the_mark_is_no_decision(store: SqlUsageStore) -> None:
    store.ship(encoded(settled(1, decision={"kept": {"inputs": "AAAA"}})))
    assert UsageRecord.objects.count() == 1
    assert DecisionRecord.objects.count() == 0


def test_usage_record_and_decision_are_stored_together_or_not_at_all(store: SqlUsageStore) -> None:
    damaged = msgspec.json.encode(decided(2)).replace(b'"inputs":"', b'"inputs":"!')
    with pytest.raises(BadRecordError):
        store.ship([*encoded(decided(1)), damaged])
    assert UsageRecord.objects.count() == DecisionRecord.objects.count() == 0
    assert store.ship(encoded(decided(1))).new == 1
    assert DecisionRecord.objects.count() == 1
