"""The ledger with budgets: what is held, charged and returned, whatever becomes of store, bank and process."""

from pathlib import Path
from typing import Any

import msgspec

from analytics.ledger.adoption import adopt_once
from analytics.ledger.leases import Hold, Window
from analytics.ledger.leasing import BankUnavailable
from analytics.ledger.ledger import Ledger
from tests.analytics.ledger.samples import BAD, MemoryBank, MemoryStore, dispatch, opened, request_id, settled
from tests.analytics.ledger.test_leases import NOW, Office, terms
from tests.analytics.ledger.test_ledger import names, running, shipped, until


def shop(limit: int = 100_000) -> tuple[MemoryStore, MemoryBank]:
    """A store and a bank that agree, with one strict budget."""
    bank = Office(terms(limit=limit)).bank
    return MemoryStore(bank), bank


async def answer(ledger: Ledger, number: int, *, hold: int = 1000, cost: int = 300, **changes: Any) -> Window:
    [window] = ledger.leases.applying([("team", 7)], NOW)
    held = Hold()
    ledger.reserve(opened(number))
    assert await ledger.leases.fetch(held, {window: hold})
    ledger.dispatched(msgspec.structs.replace(dispatch(number), charges={window.id: hold}))
    await ledger.settle(settled(number, cost_nano=cost, charges={window.id: cost}, **changes), held)
    return window


async def test_a_settled_request_is_charged_and_nothing_is_leased_after_the_end(tmp_path: Path) -> None:
    store, bank = shop()
    async with running(tmp_path, store, bank=bank) as ledger:
        window = await answer(ledger, 1)
        assert (window.held, window.pending) == (0, 300)
        await shipped(ledger)
        assert (window.pending, bank.spent[window.id]) == (0, 300)
        assert bank.leased(window.id) == window.amount > 0
    assert (bank.leased(window.id), bank.spent[window.id], names(tmp_path)) == (0, 300, [])


async def test_while_the_database_is_away_the_lease_pays_and_afterwards_the_sums_agree(tmp_path: Path) -> None:
    store, bank = shop()
    async with running(tmp_path, store, bank=bank) as ledger:
        window = await answer(ledger, 0)
        store.error = bank.error = BankUnavailable("gone")
        for number in range(1, 10):
            await answer(ledger, number)
        assert ledger.status().unshipped >= 9
        store.error = bank.error = None
        await shipped(ledger)
        assert (window.pending, bank.spent[window.id], bank.overrun[window.id]) == (0, 3000, 0)
    assert bank.leased(window.id) == 0


async def test_money_of_a_long_outage_stays_reserved_while_its_records_are_only_in_files(tmp_path: Path) -> None:
    store, bank = shop(10**8)
    async with running(tmp_path, store, bank=bank, max_in_memory=20) as ledger:
        window = await answer(ledger, 0, hold=100_000)
        store.error = bank.error = BankUnavailable("gone")
        for number in range(1, 60):
            await answer(ledger, number)
        assert window.pending == 60 * 300
        store.error = bank.error = None
        await shipped(ledger)
        assert (window.pending, bank.spent[window.id]) == (0, 60 * 300)


async def test_a_gateway_that_cannot_return_its_leases_leaves_its_journal_to_an_adopter(tmp_path: Path) -> None:
    store, bank = shop()
    async with running(tmp_path, store, bank=bank) as ledger:
        window = await answer(ledger, 1)
        await shipped(ledger)
        bank.error = BankUnavailable("gone")
    assert bank.leased(window.id) > 0
    assert len(names(tmp_path)) == 1
    bank.error = None
    adopt_once(tmp_path, store, bank)
    assert (bank.leased(window.id), bank.spent[window.id], names(tmp_path)) == (0, 300, [])


async def test_the_money_of_a_record_that_was_set_aside_stays_reserved(tmp_path: Path) -> None:
    store, bank = shop()
    async with running(tmp_path, store, bank=bank) as ledger:
        await answer(ledger, 1)
        window = await answer(ledger, 2, **BAD)
        await until((tmp_path / "rejected").exists)
        await shipped(ledger)
        assert (window.pending, bank.spent[window.id]) == (300, 300)
    assert bank.leased(window.id) == 300


async def test_an_adopter_keeps_the_money_of_a_record_that_it_had_to_set_aside(tmp_path: Path) -> None:
    store, bank = shop()
    store.error = BankUnavailable("gone")
    async with running(tmp_path, store, bank=bank) as ledger:
        window = await answer(ledger, 1, **BAD)
        await answer(ledger, 2)
        bank.error = BankUnavailable("gone")
    store.error = bank.error = None
    adopt_once(tmp_path, store, bank)
    assert (bank.leased(window.id), bank.spent[window.id]) == (300, 300)
    assert request_id(2) in store.rows


async def test_without_an_answer_about_the_budgets_the_ledger_starts_all_the_same(tmp_path: Path) -> None:
    store, bank = shop()
    bank.error = BankUnavailable("gone")
    async with running(tmp_path, store, bank=bank) as ledger:
        assert ledger.status().budgets_revision is None
        bank.error = None
        await until(lambda: ledger.status().budgets_revision == 1)
        await answer(ledger, 1)
