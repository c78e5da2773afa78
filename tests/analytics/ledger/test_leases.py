"""Leases in memory, against a bank that checks at every step that no more is leased than there is."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from analytics.domain.budgets import BudgetTerms, Mode, window_id
from analytics.ledger.leases import IDLE_S, RECALL_S, BudgetsUnavailable, Hold, Leases, Window
from analytics.ledger.leasing import BankUnavailable
from tests.analytics.ledger.samples import MemoryBank

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def terms(budget_id: int = 1, *, limit: int = 1000, mode: Mode = "strict", subject: int = 7) -> BudgetTerms:
    return BudgetTerms(budget_id, f"budget {budget_id}", "team", subject, limit, "total", "UTC", mode, CREATED)


class Office:
    """A bank with one shared total per budget, and the processes that lease from it; `passed_s` moves the clock."""

    def __init__(self, *budgets: BudgetTerms) -> None:
        self.bank = MemoryBank(budgets=budgets)
        self.passed_s = 0.0
        self.delay_s = 0.0
        for one in budgets:
            self.bank.limits[self.window_id(one)] = one.limit_nano

    @staticmethod
    def window_id(one: BudgetTerms) -> int:
        return one.id << 34 | int(one.span_at(NOW).starts_at.timestamp())

    async def process(self, owner: str) -> Leases:
        loop = asyncio.get_running_loop()

        async def run(function: Callable[..., Any], *args: Any) -> Any:
            await asyncio.sleep(self.delay_s)
            return function(*args)

        leases = Leases(
            owner=owner,
            bank=self.bank,
            run=lambda function, *args: asyncio.ensure_future(run(function, *args)),
            clock=lambda: loop.time() + self.passed_s,
        )
        await leases.load()
        return leases


def windows(leases: Leases, subject: int = 7) -> tuple[Window, ...]:
    return leases.applying([("team", subject)], NOW)


def spend(leases: Leases, bank: MemoryBank, hold: Hold, cost: int, owner: str = "a") -> None:
    """A request ends, and is shipped at once."""
    charges = {window.id: cost for window in hold.amounts}
    leases.settle(hold, charges)
    leases.charged(charges, bank.charge(owner, charges))


@contextlib.asynccontextmanager
async def looked_after(*processes: Leases) -> AsyncIterator[None]:
    """As the ledger does it: every process looks after its leases all the time."""

    async def look(leases: Leases) -> None:
        while True:
            await leases.look_after()
            await asyncio.sleep(0.02)

    tasks = [asyncio.create_task(look(leases)) for leases in processes]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_request_is_held_settled_and_the_rest_is_free_again() -> None:
    office = Office(terms(limit=1000))
    leases = await office.process("a")
    [window] = windows(leases)
    hold = Hold()
    assert await leases.fetch(hold, {window: 300})
    assert (window.held, hold.peak) == (300, 300)
    spend(leases, office.bank, hold, 40)
    assert (window.held, window.pending, office.bank.spent[window.id]) == (0, 0, 40)
    assert window.amount + 40 + window.room == 1000


async def test_without_budgets_nothing_applies_and_before_they_are_read_nothing_is_known() -> None:
    assert windows(await Office().process("a")) == ()
    with pytest.raises(BudgetsUnavailable):
        windows(Leases(owner="a", bank=MemoryBank(), run=lambda *_: asyncio.get_running_loop().create_future()))


async def test_a_hold_that_fits_no_more_is_refused_and_one_that_just_fits_is_not() -> None:
    office = Office(terms(limit=1000))
    leases = await office.process("a")
    [window] = windows(leases)
    assert await leases.fetch(Hold(), {window: 600})
    assert not await leases.fetch(Hold(), {window: 401})
    assert await leases.fetch(Hold(), {window: 400})
    assert not await leases.fetch(Hold(), {window: 1})


async def test_of_a_budget_of_nothing_nothing_is_given() -> None:
    leases = await Office(terms(limit=0)).process("a")
    [window] = windows(leases)
    assert not await leases.fetch(Hold(), {window: 1})
    assert (window.amount, window.held) == (0, 0)


async def test_all_windows_give_or_none_does() -> None:
    office = Office(terms(1, limit=1000), terms(2, limit=100))
    leases = await office.process("a")
    large, small = windows(leases)
    assert not await leases.fetch(Hold(), {large: 500, small: 500})
    assert (large.held, small.held) == (0, 0)
    assert await leases.fetch(Hold(), {large: 500, small: 100})
    assert (large.held, small.held) == (500, 100)


@pytest.mark.parametrize("mode", ["soft", "shadow"])
async def test_a_budget_that_does_not_refuse_takes_no_lease(mode: Mode) -> None:
    office = Office(terms(limit=10, mode=mode))
    leases = await office.process("a")
    [window] = windows(leases)
    hold = Hold()
    assert leases.take(hold, {window: 500})
    assert window.held == 500
    spend(leases, office.bank, hold, 400)
    assert (office.bank.leases[window.id, "a"][0], office.bank.overrun[window.id], window.room) == (0, 400, -390)


async def test_a_hold_grows_and_shrinks_in_place() -> None:
    leases = await Office(terms(limit=1000)).process("a")
    [window] = windows(leases)
    hold = Hold()
    for need in (100, 700, 50):
        assert await leases.fetch(hold, {window: need})
        assert window.held == need
    assert hold.peak == 700


async def test_what_another_process_does_not_use_comes_back_within_the_time_a_request_waits() -> None:
    office = Office(terms(limit=1000))
    idle, busy = await office.process("a"), await office.process("b")
    [window] = windows(idle)
    hold = Hold()
    assert await idle.fetch(hold, {window: 40})
    spend(idle, office.bank, hold, 10)
    assert window.free > 200
    [other] = windows(busy)
    async with looked_after(idle, busy):
        began = asyncio.get_running_loop().time()
        assert await busy.fetch(Hold(), {other: 990})
        assert asyncio.get_running_loop().time() - began < RECALL_S
    assert office.bank.leased(window.id) == 990


async def test_money_that_others_hold_is_waited_for_only_so_long() -> None:
    office = Office(terms(limit=1000))
    first, second = await office.process("a"), await office.process("b")
    [window], [other] = windows(first), windows(second)
    assert await first.fetch(Hold(), {window: 990})
    async with looked_after(first, second):
        began = asyncio.get_running_loop().time()
        assert not await second.fetch(Hold(), {other: 500})
        assert RECALL_S <= asyncio.get_running_loop().time() - began < RECALL_S + 0.3


async def test_a_budget_that_is_used_up_is_refused_without_asking_again() -> None:
    office = Office(terms(limit=100))
    leases = await office.process("a")
    [window] = windows(leases)
    hold = Hold()
    assert await leases.fetch(hold, {window: 100})
    spend(leases, office.bank, hold, 100)
    office.bank.error = BankUnavailable("not now")
    assert not await leases.fetch(Hold(), {window: 1})  # a moment ago there was nothing left


async def test_an_idle_lease_goes_back_and_a_busy_one_is_fetched_ahead() -> None:
    office = Office(terms(limit=1_000_000))
    leases = await office.process("a")
    [window] = windows(leases)
    hold = Hold()
    assert await leases.fetch(hold, {window: 100})
    spend(leases, office.bank, hold, 90)
    await leases.look_after()
    assert window.free >= window.target // 2 > 0
    office.passed_s += 30 * IDLE_S + 1
    await leases.look_after()
    assert (window.free, window.amount, office.bank.leased(window.id)) == (0, 0, 0)


async def test_a_busy_process_leases_a_minute_ahead_and_goes_on_while_the_database_is_away() -> None:
    office = Office(terms(limit=10**9))
    leases = await office.process("a")
    [window] = windows(leases)
    for _ in range(100):  # ten a second, for ten seconds
        hold = Hold()
        assert await leases.fetch(hold, {window: 1000})
        spend(leases, office.bank, hold, 500)
        office.passed_s += 0.1
        await leases.look_after()
    office.bank.error = BankUnavailable("gone")
    for _ in range(600):  # and for a minute more
        hold = Hold()
        assert await leases.fetch(hold, {window: 1000})
        leases.settle(hold, {window.id: 500})
        office.passed_s += 0.1


async def test_a_database_that_is_away_is_said_to_be() -> None:
    office = Office(terms(limit=1000))
    leases = await office.process("a")
    [window] = windows(leases)
    office.bank.error = BankUnavailable("gone")
    with pytest.raises(BudgetsUnavailable):
        await leases.fetch(Hold(), {window: 10})
    office.bank.error = None
    assert await leases.fetch(Hold(), {window: 10})


async def test_a_return_of_unknown_outcome_counts_as_gone_until_the_lease_is_read_again() -> None:
    office = Office(terms(limit=10_000))
    leases = await office.process("a")
    [window] = windows(leases)
    hold = Hold()
    assert await leases.fetch(hold, {window: 100})
    spend(leases, office.bank, hold, 10)
    before = window.free
    office.passed_s += 100
    done = office.bank.give_back

    def half_done(*args: Any) -> Any:
        done(*args)  # it is in the database, and the answer is lost
        raise BankUnavailable("broken pipe")

    office.bank.give_back = half_done  # type: ignore[method-assign]  # the bank is the test's own
    with pytest.raises(BankUnavailable):
        await leases.look_after()
    assert before > 0
    assert window.free == 0
    office.bank.give_back = done  # type: ignore[method-assign]
    await leases.look_after()
    assert (window.returning, window.amount, window.free) == (0, 0, 0)


async def test_what_sql_said_earlier_does_not_replace_what_it_said_later() -> None:
    office = Office(terms(limit=1000))
    leases = await office.process("a")
    [window] = windows(leases)
    assert await leases.fetch(Hold(), {window: 100})
    old = office.bank.watch("a", [window.id])
    new = office.bank.charge("a", {window.id: 60})
    leases.charged({}, new)
    leases.charged({}, old)
    assert window.amount == new[window.id].amount


async def test_closing_returns_all_but_what_is_still_to_be_charged() -> None:
    office = Office(terms(limit=1000))
    leases = await office.process("a")
    [window] = windows(leases)
    hold = Hold()
    assert await leases.fetch(hold, {window: 100})
    leases.settle(hold, {window.id: 30})
    await leases.close()
    assert office.bank.leased(window.id) == 30


@pytest.mark.parametrize("turns", range(12))
async def test_a_request_that_is_cancelled_while_the_bank_answers_never_goes_on(turns: int) -> None:
    """In whichever turn of the event loop that is, between the bank's answer and the request's going on."""
    office = Office(terms(limit=1000))
    leases = await office.process("a")
    [window] = windows(leases)
    answered = asyncio.Event()
    grant = office.bank.grant

    def told(*args: Any) -> Any:
        answered.set()
        return grant(*args)

    office.bank.grant = told  # type: ignore[method-assign]  # the bank is the test's own
    asking = asyncio.create_task(leases.fetch(Hold(), {window: 10}))
    await answered.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    if asking.cancel():  # it was not over
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert window.held == 0


async def test_what_was_asked_for_before_the_end_is_not_granted_after_it() -> None:
    office = Office(terms(limit=1000))
    leases = await office.process("a")
    [window] = windows(leases)
    office.delay_s = 0.05
    first = asyncio.create_task(leases.fetch(Hold(), {window: 10}))
    await asyncio.sleep(0.01)  # its round is on the way to the bank
    second = asyncio.create_task(leases.fetch(Hold(), {window: 400}))
    await asyncio.sleep(0.01)  # and this one waits for the next
    for asking in (first, second):
        asking.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    await leases.close()
    await asyncio.sleep(0.2)
    assert office.bank.leased(window.id) == 0


async def test_a_request_that_came_before_midnight_may_still_ask_for_that_days_money() -> None:
    """Its window is over, and nothing was leased or held of it when the process looked after its windows."""
    now = datetime.now(UTC)
    begun = now.replace(minute=0, second=0, microsecond=0)
    zone = f"Etc/GMT{begun.hour if begun.hour <= 12 else begun.hour - 24:+d}"  # where it is past midnight by minutes
    just_before = begun - timedelta(microseconds=1)
    one = replace(terms(limit=1000), duration="1d", time_zone=zone)
    assert one.span_at(just_before).ends_before == begun
    office = Office()
    office.bank.terms = [one]
    number = window_id(one.id, one.span_at(just_before).starts_at)
    office.bank.limits[number] = 1000
    leases = await office.process("a")
    [window] = leases.applying([("team", 7)], just_before)
    await leases.look_after()
    hold = Hold()
    assert await leases.fetch(hold, {window: 300})
    leases.settle(hold, {window.id: 100})
    leases.charged({number: 100}, office.bank.charge("a", {number: 100}))
    await leases.look_after()
    assert (window.pending, window.amount, office.bank.leased(number)) == (0, 0, 0)


async def test_a_budget_that_was_raised_gives_more_and_one_switched_off_no_longer_applies() -> None:
    office = Office(terms(limit=100))
    leases = await office.process("a")
    [window] = windows(leases)
    assert not await leases.fetch(Hold(), {window: 150})
    office.bank.terms, office.bank.revision = [terms(limit=200)], 2
    office.bank.limits[window.id] = 200
    office.passed_s += 1
    await leases.look_after()
    assert window.terms.limit_nano == 200
    assert await leases.fetch(Hold(), {window: 150})
    office.bank.terms, office.bank.revision = [], 3
    office.passed_s += 1
    await leases.look_after()
    assert windows(leases) == ()


@pytest.mark.parametrize("seed", range(8))
async def test_many_requests_in_several_processes_never_pass_a_limit_and_use_it_up(seed: int) -> None:
    """Random costs below random holds, over two shared budgets, with a database that sometimes fails either way."""
    rng = random.Random(seed)
    office = Office(terms(1, limit=20_000), terms(2, limit=30_000))
    office.delay_s = 0.001
    processes = {name: await office.process(name) for name in ("a", "b", "c")}
    spent = 0
    refused = 0

    async def caller(owner: str) -> None:
        nonlocal spent, refused
        leases = processes[owner]
        while refused < 60:
            need = rng.randrange(1, 60)
            hold = Hold()
            if not await leases.fetch(hold, dict.fromkeys(windows(leases), need)):
                refused += 1
                await asyncio.sleep(0.01)
                continue
            await asyncio.sleep(rng.random() * 0.003)
            cost = rng.randrange(0, need + 1)
            spent += cost
            spend(leases, office.bank, hold, cost, owner)

    async with looked_after(*processes.values()):
        await asyncio.wait_for(asyncio.gather(*(caller(name) for name in processes for _ in range(12))), 60)
    assert 20_000 * 0.995 <= spent <= 20_000
    assert all(overrun == 0 for overrun in office.bank.overrun.values())
    for leases in processes.values():
        await leases.close()
    assert not any(lease[0] for lease in office.bank.leases.values())
