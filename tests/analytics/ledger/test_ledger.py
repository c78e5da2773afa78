import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from analytics.domain.budgets import BudgetTerms, window_id
from analytics.ledger.delivery import Shipment, deliver_rejected
from analytics.ledger.journal import Journal
from analytics.ledger.leases import Hold
from analytics.ledger.ledger import Durability, Ledger, encode
from tests.analytics.ledger.samples import (
    BAD,
    MemoryBank,
    MemoryStore,
    dispatch,
    journal_lines,
    opened,
    request_id,
    room_on_disk,
    settled,
)
from tests.stalls import PATIENCE_S, Stalls

ALL: tuple[Durability, ...] = ("disk", "process", "database")


@contextlib.asynccontextmanager
async def running(
    folder: Path, store: MemoryStore, durability: Durability = "process", **options: Any
) -> AsyncIterator[Ledger]:
    options.setdefault("bank", store.bank)
    ledger = Ledger(journal_dir=folder, durability=durability, store=store, **options)
    await ledger.start()
    try:
        yield ledger
    finally:
        async with asyncio.timeout(PATIENCE_S):
            await ledger.close()


async def answer(ledger: Ledger, number: int) -> None:
    ledger.reserve(opened(number))
    ledger.dispatched(dispatch(number))
    await ledger.settle(settled(number))


async def until(is_true: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(within_s):
        while not is_true():  # noqa: ASYNC110 - seen from outside, as an operator would
            await asyncio.sleep(0.01)


async def shipped(ledger: Ledger) -> None:
    await until(lambda: ledger.status().unshipped == 0)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("durability", ALL)
async def test_answers_of_500_callers_at_once_become_one_row_each(tmp_path: Path, durability: Durability) -> None:
    store = MemoryStore()
    async with running(tmp_path, store, durability) as ledger:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(answer(ledger, number) for number in range(500)))
        if durability == "database":
            assert len(store.rows) == 500, "settle waits for the rows"
        await shipped(ledger)
    assert store.costs() == {request_id(number): 1000 + number for number in range(500)}
    assert names(tmp_path) == [], "nothing is left for an adopter"
    assert store.closed


async def test_a_record_is_in_the_journal_before_settle_returns(tmp_path: Path) -> None:
    store = MemoryStore()
    store.error = ConnectionError("away")
    async with running(tmp_path, store, "disk") as ledger:
        await answer(ledger, 1)
        assert journal_lines(tmp_path) == [(kind, request_id(1)) for kind in "ODS"]
        store.error = None


async def test_only_the_first_settlement_of_a_request_counts(tmp_path: Path) -> None:
    store = MemoryStore()
    async with running(tmp_path, store) as ledger:
        ledger.reserve(opened(1))
        await ledger.settle(settled(1))
        await ledger.settle(settled(1, cost_nano=5))
        await shipped(ledger)
        await ledger.settle(settled(1, cost_nano=6))  # long after, when nobody remembers it
        await shipped(ledger)
    assert store.costs() == {request_id(1): 1001}


async def test_nothing_is_lost_while_the_database_is_away_and_the_outage_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="analytics.ledger")
    store = MemoryStore()
    store.error = ConnectionError("connection refused\nDETAIL: something private")
    async with running(tmp_path, store) as ledger:
        for number in range(1500):
            await answer(ledger, number)
        await until(lambda: store.calls > 3)
        status = ledger.status()
        assert status.unshipped == 1500
        assert status.oldest_unshipped_s > 0
        assert status.last_shipped_at is None
        assert status.last_error == "shipping: ConnectionError: connection refused"
        store.error = None
        await shipped(ledger)
        await until(lambda: ledger.status().last_error == "")
        assert ledger.status().last_shipped_at is not None
    assert len(store.rows) == 1500
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "usage waits in the journal: shipping: ConnectionError: connection refused",
        "shipping works again",
    ]


async def test_with_durability_database_the_disk_stands_in_while_the_database_is_away(tmp_path: Path) -> None:
    store = MemoryStore()
    store.error = ConnectionError("away")
    async with running(tmp_path, store, "database") as ledger:
        async with asyncio.timeout(PATIENCE_S):
            for number in range(20):  # only the first has to wait until it is known that the database is away
                await answer(ledger, number)
        assert ledger.status().unshipped == 20
        store.error = None
        await shipped(ledger)
    assert len(store.rows) == 20


async def test_a_long_outage_keeps_records_in_the_files_instead_of_memory(tmp_path: Path) -> None:
    store = MemoryStore()
    store.error = ConnectionError("away")
    async with running(tmp_path, store, max_in_memory=50) as ledger:
        ledger.reserve(opened(9000))
        for number in range(220):
            await answer(ledger, number)
        assert ledger.status().unshipped == 220
        assert len(ledger._unshipped) <= 50
        store.error = None
        await shipped(ledger)
        assert store.costs() == {request_id(number): 1000 + number for number in range(220)}
        await ledger.settle(settled(9000))
        await shipped(ledger)
    assert len(store.rows) == 221
    assert names(tmp_path) == []


class StalledStore(MemoryStore):
    """It takes a batch, and answers only when it may: a database that stands still."""

    def __init__(self, bank: MemoryBank) -> None:
        super().__init__(bank)
        self.is_asked, self.may_answer = threading.Event(), threading.Event()

    def ship(self, entries: Sequence[bytes], owner: str = "") -> Shipment:
        self.is_asked.set()
        assert self.may_answer.wait(PATIENCE_S)
        return super().ship(entries, owner)


async def test_what_goes_to_the_files_while_it_is_on_its_way_to_the_database_is_charged_once(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    terms = BudgetTerms(1, "team", "team", 3, 1_000_000, "total", "UTC", "strict", now)
    bank = MemoryBank({window_id(1, terms.span_at(now).starts_at): 1_000_000}, [terms])
    store = StalledStore(bank)
    async with running(tmp_path, store, max_in_memory=50) as ledger:
        [window] = ledger.leases.applying([("team", 3)], now)
        enough = Hold()
        assert await ledger.leases.fetch(enough, {window: 100_000})
        ledger.leases.settle(enough, {})
        for number in range(80):
            hold = Hold()
            assert await ledger.leases.fetch(hold, {window: 1000})
            await ledger.settle(settled(number, charges={window.id: 1000}), hold)
            if number == 40:
                assert await asyncio.to_thread(store.is_asked.wait, PATIENCE_S)
        store.may_answer.set()
        await shipped(ledger)
        assert (window.held, window.pending, bank.spent[window.id]) == (0, 0, 80_000)


async def test_a_record_that_no_database_takes_is_set_aside_and_blocks_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    async with running(tmp_path, store, "database") as ledger:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(
                *(answer(ledger, number) for number in range(100)),
                ledger.settle(settled(500, **BAD)),
                ledger.settle(settled(501, **BAD)),
            )
    assert len(store.rows) == 100
    files = sorted((tmp_path / "rejected").iterdir())
    kept = [msgspec.json.decode(file.read_bytes()) for file in files]
    assert {item["entry"]["request_id"] for item in kept} == {request_id(500), request_id(501)}
    assert {item["error"] for item in kept} == {"a status below zero"}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert caplog.text.count("set aside") == 2


async def test_what_was_set_aside_can_be_tried_again(tmp_path: Path) -> None:
    store = MemoryStore()
    async with running(tmp_path, store) as ledger:
        await ledger.settle(settled(1, **BAD))
    (file,) = (tmp_path / "rejected").iterdir()
    assert deliver_rejected(store, tmp_path / "rejected") == 0
    file.write_bytes(file.read_bytes().replace(b'"http_status":-1', b'"http_status":200'))
    assert deliver_rejected(store, tmp_path / "rejected") == 1
    assert store.costs() == {request_id(1): 1001}
    assert not file.exists()


async def test_closing_without_a_database_leaves_all_to_an_adopter(tmp_path: Path, stalls: Stalls) -> None:
    store = MemoryStore()
    store.error = ConnectionError("away")
    ledger = Ledger(journal_dir=tmp_path, durability="process", store=store, bank=MemoryBank())
    await ledger.start()
    await answer(ledger, 1)
    ledger.reserve(opened(2))
    ledger.dispatched(dispatch(2))
    watch = stalls.watch()
    await ledger.close(within_s=0.3)
    assert watch.seconds < 2
    heir = MemoryStore()
    async with running(tmp_path, heir):
        await until(lambda: len(heir.rows) == 2)
    assert heir.costs() == {request_id(1): 1001, request_id(2): 5000}


async def test_a_dead_neighbours_journal_is_adopted_by_those_who_live(tmp_path: Path) -> None:
    store = MemoryStore()
    async with running(tmp_path, store):
        await asyncio.sleep(0.05)
        neighbour = Journal(tmp_path)
        neighbour.start()
        neighbour.append(b"S", request_id(1), encode(settled(1)))
        await neighbour.close()
        await until(lambda: bool(store.rows))
    assert store.costs() == {request_id(1): 1001}


@pytest.mark.parametrize("durability", ALL)
async def test_a_full_disk_stops_no_request_and_loses_no_record(tmp_path: Path, durability: Durability) -> None:
    store = MemoryStore()
    async with running(tmp_path, store, durability) as ledger:
        with room_on_disk(1500):
            async with asyncio.timeout(PATIENCE_S):
                for number in range(20):
                    await answer(ledger, number)
                ledger.reserve(opened(100))
                ledger.dispatched(dispatch(100))
            assert ledger.status().disk_full
            assert "No space left" in ledger.status().last_error
            await shipped(ledger)
        await until(lambda: not ledger.status().disk_full)
        assert {("O", request_id(100)), ("D", request_id(100))} <= set(journal_lines(tmp_path))
        await ledger.settle(settled(100))
    assert len(store.rows) == 21


async def test_a_settlement_without_a_reservation_is_kept_all_the_same(tmp_path: Path) -> None:
    store = MemoryStore()
    async with running(tmp_path, store) as ledger:
        await ledger.settle(settled(1))
    assert len(store.rows) == 1


def test_nul_characters_do_not_reach_the_database() -> None:
    text = msgspec.json.decode(encode(settled(1, requested_model="a\0b")))["requested_model"]
    assert text == "a\ufffdb"
