"""How full a budget's window is, as one process knows it: what routing goes by."""

import asyncio

import pytest

from analytics.domain.budgets import Mode
from analytics.ledger.leases import FRESH_S, LOOKED_AT_FOR_S, Hold, Leases, Window
from analytics.ledger.leasing import BankUnavailable
from tests.analytics.ledger.test_leases import Office, looked_after, spend, terms, windows

WITHIN_S = 5.0


async def known(leases: Leases) -> Window:
    [window] = windows(leases)
    await leases.look_up([window], within_s=WITHIN_S)
    return window


async def test_a_window_that_nobody_has_used_is_empty_and_one_without_money_is_full() -> None:
    leases = await Office(terms(limit=1000)).process("a")
    assert (await known(leases)).share_used == 0.0
    leases = await Office(terms(limit=0)).process("a")
    assert (await known(leases)).share_used == 1.0


@pytest.mark.parametrize("mode", ["strict", "expected", "soft"])
async def test_what_is_held_and_what_is_spent_is_used_and_what_is_only_leased_is_not(mode: Mode) -> None:
    office = Office(terms(limit=1000, mode=mode))
    leases = await office.process("a")
    window, hold = await known(leases), Hold()
    assert await leases.fetch(hold, {window: 300})
    assert (window.used, window.share_used) == (300, 0.3)
    leases.settle(hold, {window.id: 120})
    assert window.used == 120  # settled, and on its way to SQL
    leases.charged({window.id: 120}, office.bank.charge("a", {window.id: 120}))
    assert window.used == 120


async def test_more_than_all_may_be_used() -> None:
    office = Office(terms(limit=100, mode="soft"))
    leases = await office.process("a")
    window, hold = await known(leases), Hold()
    assert leases.take(hold, {window: 130})
    spend(leases, office.bank, hold, 130)
    assert window.share_used == pytest.approx(1.3)


async def test_the_first_look_tells_what_others_have_spent() -> None:
    office = Office(terms(limit=1000))
    first, second = await office.process("a"), await office.process("b")
    window, hold = await known(first), Hold()
    assert await first.fetch(hold, {window: 400})
    spend(first, office.bank, hold, 400)
    [unseen] = windows(second)
    assert unseen.share_used == 0.0
    await second.look_up([unseen], within_s=WITHIN_S)
    assert unseen.share_used == 0.4


async def test_a_look_leases_nothing() -> None:
    office = Office(terms(limit=1000), terms(2, limit=1000, mode="soft"))
    leases = await office.process("a")
    await leases.look_up(windows(leases), within_s=WITHIN_S)
    assert sum(office.bank.leased(window.id) for window in windows(leases)) == 0


async def test_figures_that_are_young_are_not_asked_for_again() -> None:
    office = Office(terms(limit=1000))
    leases = await office.process("a")
    window = await known(leases)
    office.bank.error = BankUnavailable("away")
    await leases.look_up([window], within_s=WITHIN_S)  # nobody is asked
    office.bank.error = None
    office.bank.spent[window.id] = 500
    await leases.look_up([window], within_s=WITHIN_S)
    assert window.used == 0
    office.passed_s += 2 * FRESH_S + 0.1
    await leases.look_up([window], within_s=WITHIN_S)
    assert window.used == 500


async def test_while_requests_look_the_figures_are_renewed_behind_them_and_later_no_more() -> None:
    office = Office(terms(limit=1000, mode="soft"))
    leases = await office.process("a")
    window = await known(leases)
    office.bank.spent[window.id] = 250
    office.passed_s += FRESH_S + 0.1
    async with looked_after(leases):
        await until(lambda: window.used == 250)
        office.passed_s += LOOKED_AT_FOR_S + 1
        office.bank.spent[window.id] = 600
        await asyncio.sleep(0.1)
        assert window.used == 250
        await leases.look_up([window], within_s=WITHIN_S)
        assert window.used == 600


async def test_a_bank_that_is_away_or_slow_leaves_what_was_known_last() -> None:
    office = Office(terms(limit=1000))
    leases = await office.process("a")
    window = await known(leases)
    office.passed_s += 10
    office.bank.error = BankUnavailable("away")
    await leases.look_up([window], within_s=WITHIN_S)
    assert window.used == 0
    office.bank.error, office.delay_s = None, 3.0
    before = asyncio.get_running_loop().time()
    await leases.look_up([window], within_s=0.05)
    assert asyncio.get_running_loop().time() - before < 2.0


async def test_a_limit_that_has_changed_is_asked_about_anew() -> None:
    """The room that is known belongs to the limit before: taken with the new one it would say anything."""
    office = Office(terms(limit=1000))
    leases = await office.process("a")
    window, hold = await known(leases), Hold()
    assert await leases.fetch(hold, {window: 500})
    spend(leases, office.bank, hold, 500)
    office.bank.terms = [terms(limit=2000)]
    office.bank.limits[window.id] = 2000
    office.bank.revision += 1
    await leases.load()
    await leases.look_up(windows(leases), within_s=WITHIN_S)
    assert window.share_used == 0.25


async def test_many_first_requests_are_one_question() -> None:
    office = Office(terms(limit=1000))
    leases = await office.process("a")
    [window] = windows(leases)
    asked = []
    grant = office.bank.grant
    office.bank.grant = lambda owner, asks: asked.append(len(asks)) or grant(owner, asks)  # type: ignore[method-assign,func-returns-value]
    await asyncio.gather(*(leases.look_up([window], within_s=WITHIN_S) for _ in range(50)))
    assert asked == [1]


async def until(holds: object) -> None:
    for _ in range(500):
        if holds():  # type: ignore[operator]
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")
