"""A decision survives what its usage record survives: it is part of the same line of the journal."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from analytics.domain.decisions import KeptDecision
from analytics.domain.usage import UsageEntry
from analytics.ledger.adoption import adopt_once
from analytics.ledger.leasing import SqlLeaseBank
from analytics.ledger.ledger import encode
from analytics.ledger.segments import OPEN, SETTLED, frame
from analytics.ledger.shipping import SqlUsageStore
from analytics.models import DecisionRecord, UsageRecord
from tests.analytics.ledger.samples import opened, settled


def journal_of_a_dead_gateway(folder: Path, *entries: UsageEntry) -> None:
    """As a gateway leaves it that was killed before it could ship."""
    folder.mkdir(parents=True)
    lines = b"".join(
        frame(OPEN, encode(opened(number))) + frame(SETTLED, encode(entry)) for number, entry in enumerate(entries, 1)
    )
    (folder / "12345-0123456789ab.000001.journal").write_bytes(lines)


def decided(number: int, **changes: Any) -> UsageEntry:
    return settled(number, policy="default", kept=KeptDecision(b"inputs", 0.5), **changes)


@pytest.mark.django_db(transaction=True)
def test_what_a_killed_gateway_decided_is_adopted_with_its_records(tmp_path: Path) -> None:
    journal_of_a_dead_gateway(tmp_path / "journal", decided(1), decided(2), settled(3))
    adoption = adopt_once(tmp_path / "journal", SqlUsageStore(), SqlLeaseBank())
    assert adoption.settled == UsageRecord.objects.count() == 3
    assert DecisionRecord.objects.count() == 2
    assert {bytes(row.inputs) for row in DecisionRecord.objects.all()} == {b"inputs"}


@pytest.mark.django_db(transaction=True)
def test_a_journal_that_is_adopted_after_it_was_shipped_changes_nothing(tmp_path: Path) -> None:
    SqlUsageStore().ship([encode(decided(1))])
    journal_of_a_dead_gateway(tmp_path / "journal", decided(1))
    adopt_once(tmp_path / "journal", SqlUsageStore(), SqlLeaseBank())
    assert UsageRecord.objects.count() == DecisionRecord.objects.count() == 1


def test_a_line_of_the_journal_reads_back_with_its_decision() -> None:
    entry = decided(1)
    assert msgspec.json.decode(encode(entry), type=UsageEntry) == entry
    assert msgspec.json.decode(encode(settled(1)), type=UsageEntry) == settled(1)
