"""Leases in SQL: what is granted, charged, given back and returned, and that a window never gives more than it has."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from analytics.domain.budgets import window_id, window_of_id
from analytics.domain.usage import BudgetUse, UsageEntry
from analytics.ledger.adoption import adopt_once
from analytics.ledger.leasing import Ask, BankUnavailable, SqlLeaseBank
from analytics.ledger.segments import frame
from analytics.ledger.shipping import SqlUsageStore
from analytics.models import Budget, BudgetLease, BudgetWindow, UsageRecord
from routing.models import ConfigRevision
from tests.analytics.ledger.samples import dispatch, encoded, opened, request_id, settled
from tests.factories import (
    BudgetFactory,
    ModelAliasFactory,
    PersonaFactory,
    TeamFactory,
    VirtualKeyFactory,
)

pytestmark = pytest.mark.django_db
CREATED = datetime(2026, 3, 1, tzinfo=UTC)
DOLLAR = 10**9


@pytest.fixture
def bank() -> SqlLeaseBank:
    return SqlLeaseBank()


def budget(usd: str = "1.00", **options: Any) -> Budget:
    made: Budget = BudgetFactory(
        max_budget=Decimal(usd), **{"mode": "strict", "budget_duration": "total", "created_at": CREATED, **options}
    )
    return made


def number_of(one: Budget) -> int:
    return window_id(one.pk, CREATED)


def window(one: Budget) -> BudgetWindow:
    return BudgetWindow.objects.get(budget=one)


def figures(one: Budget) -> tuple[int, int, int]:
    """Spent, overrun, leased."""
    found = window(one)
    return found.spent_nano, found.overrun_nano, found.leased_nano


def ship(*entries: UsageEntry, owner: str = "a") -> int:
    return SqlUsageStore().ship(encoded(*entries), owner).new


def charged(number: int, one: Budget, cost: int, **changes: Any) -> UsageEntry:
    return settled(number, cost_nano=cost, charges={number_of(one): cost}, **changes)


def test_a_windows_id_says_which_window_it_is() -> None:
    moment = datetime(2026, 3, 29, 22, tzinfo=UTC)
    assert window_of_id(window_id(123_456, moment)) == (123_456, moment)


def test_the_first_grant_opens_the_window_and_a_later_one_adds_to_the_lease(bank: SqlLeaseBank) -> None:
    one = budget("1.00")
    first = bank.grant("a", [Ask(number_of(one), 100, 0)])[number_of(one)]
    assert (first.amount, first.room, first.others, first.is_wanted) == (100, DOLLAR - 100, 0, False)
    second = bank.grant("a", [Ask(number_of(one), 50, 0)])[number_of(one)]
    assert (second.amount, second.sequence > first.sequence) == (150, True)
    assert figures(one) == (0, 0, 150)


def test_what_is_spare_is_a_quarter_of_the_rest_at_most(bank: SqlLeaseBank) -> None:
    one = budget("1.00")
    assert bank.grant("a", [Ask(number_of(one), 100, 10**12)])[number_of(one)].amount == 100 + (DOLLAR - 100) // 4


def test_who_asks_for_more_than_there_is_gets_the_rest_and_the_others_hear_of_it(bank: SqlLeaseBank) -> None:
    one = budget("1.00")
    bank.grant("a", [Ask(number_of(one), DOLLAR - 10, 0)])
    state = bank.grant("b", [Ask(number_of(one), 100, 0)])[number_of(one)]
    assert (state.amount, state.room, state.others, state.is_wanted) == (10, 0, DOLLAR - 10, True)
    assert bank.watch("a", [number_of(one)])[number_of(one)].is_wanted
    BudgetWindow.objects.update(wanted_at=timezone.now() - timedelta(seconds=3))
    assert not bank.watch("a", [number_of(one)])[number_of(one)].is_wanted


def test_nothing_is_granted_of_a_budget_that_is_off_lowered_or_gone(bank: SqlLeaseBank) -> None:
    one = budget("1.00")
    bank.grant("a", [Ask(number_of(one), 600, 0)])
    Budget.objects.update(max_budget=0)
    assert bank.grant("a", [Ask(number_of(one), 1, 0)])[number_of(one)].amount == 600
    Budget.objects.update(max_budget=1, is_active=False)
    assert bank.grant("a", [Ask(number_of(one), 1, 0)])[number_of(one)].amount == 600
    assert bank.grant("a", [Ask(window_id(987, CREATED), 1, 0)]) == {}


def test_a_raised_budget_gives_more(bank: SqlLeaseBank) -> None:
    one = budget("1.00")
    bank.grant("a", [Ask(number_of(one), DOLLAR, 0)])
    Budget.objects.update(max_budget=3)
    assert bank.grant("a", [Ask(number_of(one), DOLLAR, 0)])[number_of(one)].amount == 2 * DOLLAR


def test_the_table_itself_refuses_a_grant_above_the_ceiling(bank: SqlLeaseBank) -> None:
    one = budget("1.00")
    bank.grant("a", [Ask(number_of(one), 100, 0)])
    with pytest.raises(IntegrityError), transaction.atomic():
        BudgetWindow.objects.update(leased_nano=DOLLAR + 1)


def test_what_was_spent_before_the_budget_existed_is_not_there_to_lease(bank: SqlLeaseBank) -> None:
    team = TeamFactory()
    ship(settled(1, team_id=team.pk, cost_nano=DOLLAR - 30))
    one = budget("1.00", team=team)
    state = bank.grant("a", [Ask(number_of(one), 100, 0)])[number_of(one)]
    assert (state.amount, window(one).opening_nano) == (30, DOLLAR - 30)


def test_a_shipped_record_moves_its_cost_from_the_lease_to_what_is_spent(bank: SqlLeaseBank) -> None:
    one = budget("1.00")
    bank.grant("a", [Ask(number_of(one), 500, 0)])
    shipment = SqlUsageStore().ship(encoded(charged(1, one, 70), charged(2, one, 30)), "a")
    assert figures(one) == (100, 0, 400)
    assert (shipment.new, shipment.leases[number_of(one)].amount) == (2, 400)
    assert UsageRecord.objects.get(pk=request_id(1)).charges == {str(number_of(one)): 70}


def test_a_record_that_comes_twice_is_charged_once(bank: SqlLeaseBank) -> None:
    one = budget("1.00")
    bank.grant("a", [Ask(number_of(one), 500, 0)])
    ship(charged(1, one, 70))
    assert ship(charged(1, one, 70), charged(2, one, 5)) == 1
    assert ship(charged(1, one, 70)) == 0
    assert figures(one) == (75, 0, 425)


def test_what_no_lease_covers_is_spent_all_the_same_and_counted_as_overrun(bank: SqlLeaseBank) -> None:
    one = budget("1.00")
    bank.grant("a", [Ask(number_of(one), 50, 0)])
    ship(charged(1, one, 70))
    assert figures(one) == (70, 20, 0)
    ship(charged(2, one, 2 * DOLLAR), owner="")
    assert figures(one) == (70 + 2 * DOLLAR, 20 + 2 * DOLLAR, 0)
    assert bank.grant("a", [Ask(number_of(one), 1, 0)])[number_of(one)].amount == 0


def test_a_soft_budgets_window_is_opened_by_the_first_record_that_names_it() -> None:
    one = budget("0.00", mode="soft", team=TeamFactory())
    ship(charged(1, one, 70, team_id=one.team_id, budget=BudgetUse(70, None, (number_of(one),))))
    assert figures(one) == (70, 70, 0)
    assert (window(one).opening_nano, window(one).would_refuse) == (0, 1)


def test_a_charge_of_a_budget_that_is_gone_does_not_keep_the_record_out() -> None:
    one = budget()
    number = number_of(one)
    one.delete()
    assert ship(settled(1, charges={number: 70})) == 1


def test_a_part_is_given_back_once_however_often_it_is_sent(bank: SqlLeaseBank) -> None:
    one = budget("1.00")
    version = bank.grant("a", [Ask(number_of(one), 500, 0)])[number_of(one)].version
    for _ in range(2):
        state = bank.give_back("a", {number_of(one): (200, version)})[number_of(one)]
        assert (state.amount, figures(one)) == (300, (0, 0, 300))
    assert state.version > version


def test_after_a_read_an_older_return_comes_to_nothing(bank: SqlLeaseBank) -> None:
    one = budget("1.00")
    version = bank.grant("a", [Ask(number_of(one), 500, 0)])[number_of(one)].version
    assert bank.read("a", {number_of(one): 120})[number_of(one)].amount == 500
    assert BudgetLease.objects.get().held_nano == 120
    assert bank.give_back("a", {number_of(one): (200, version)})[number_of(one)].amount == 500


def test_an_owner_that_is_done_returns_everything_but_what_is_still_to_be_charged(bank: SqlLeaseBank) -> None:
    one, other = budget("1.00"), budget("2.00")
    bank.grant("a", [Ask(number_of(one), 500, 0), Ask(number_of(other), 300, 0)])
    bank.grant("b", [Ask(number_of(one), 40, 0)])
    bank.return_all("a", {number_of(other): 10})
    assert (figures(one), figures(other)) == ((0, 0, 40), (0, 0, 10))
    assert list(BudgetLease.objects.values_list("owner", "amount_nano").order_by("owner")) == [("a", 10), ("b", 40)]
    bank.return_all("a", {})
    bank.return_all("nobody", {})
    assert figures(other) == (0, 0, 0)


def test_an_adopter_charges_what_was_under_way_out_of_the_dead_owners_lease_and_returns_the_rest(
    bank: SqlLeaseBank, tmp_path: Any
) -> None:
    from_journal = budget("1.00")
    number = number_of(from_journal)
    bank.grant("dead-1", [Ask(number, 10_000, 0)])
    lines = [
        (b"O", opened(1)),
        (b"D", msgspec.structs.replace(dispatch(1), charges={number: 5000})),
        (b"O", opened(2)),
        (b"O", opened(3)),
        (b"D", msgspec.structs.replace(dispatch(3), charges={number: 5000})),
        (b"S", charged(3, from_journal, 40)),
    ]
    path = tmp_path / "dead-1.000001.journal"
    path.write_bytes(b"".join(frame(kind, encoded(value)[0]) for kind, value in lines))
    adopt_once(tmp_path, SqlUsageStore(), bank)
    assert figures(from_journal) == (5040, 0, 0)
    assert BudgetLease.objects.count() == 0
    assert UsageRecord.objects.get(pk=request_id(1)).state == "expired"


def test_every_scope_and_only_active_budgets_are_read(bank: SqlLeaseBank) -> None:
    team, key = TeamFactory(), VirtualKeyFactory()
    persona, alias = PersonaFactory(slug="analyst"), ModelAliasFactory(name="fast")
    for scope, subject in (("team", team), ("key", key), ("persona", persona), ("alias", alias)):
        budget(scope=scope, **{"team": None, scope: subject})
    budget(team=TeamFactory(), is_active=False)
    read = bank.budgets(None)
    assert read is not None
    revision, terms = read
    assert revision == ConfigRevision.objects.get(pk=1).revision
    assert {(one.scope, one.subject) for one in terms} == {
        ("team", team.pk), ("key", key.pk), ("persona", "analyst"), ("alias", "fast"),
    }  # fmt: skip
    assert bank.budgets(revision) is None


def test_an_answer_of_the_database_that_is_an_error_means_that_nothing_is_known(bank: SqlLeaseBank) -> None:
    one = budget()
    version = bank.grant("a", [Ask(number_of(one), 5, 0)])[number_of(one)].version
    with pytest.raises(BankUnavailable, match="IntegrityError"), transaction.atomic():
        bank.give_back("a", {number_of(one): (50, version)})


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time anyway")
def test_processes_that_ask_ship_and_return_at_once_keep_to_the_limit() -> None:
    one, other = budget("0.01"), budget("0.01")
    limit = 10_000_000
    problems: list[Exception] = []

    def work(owner: str, first: int) -> None:
        bank = SqlLeaseBank()
        try:
            for step in range(25):
                numbers = [number_of(one), number_of(other)]
                states = bank.grant(owner, [Ask(number, 250_000, 100_000) for number in sorted(numbers)])
                cost = min(state.amount for state in states.values())
                entry = settled(first + step, cost_nano=cost, charges=dict.fromkeys(numbers, cost))
                states = SqlUsageStore().ship(encoded(entry), owner).leases
                bank.give_back(owner, {number: (state.amount, state.version) for number, state in states.items()})
        except Exception as error:
            problems.append(error)
        finally:
            connection.close()

    run_at_once([lambda n=n: work(f"p{n}", n * 1000) for n in range(6)])  # type: ignore[misc]
    assert problems == []
    for spent, overrun, leased in (figures(one), figures(other)):
        assert (spent <= limit, overrun, leased) == (True, 0, 0)
    assert figures(one)[0] > limit * 0.9


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time anyway")
def test_who_waited_for_a_window_sees_its_limit_and_its_leases_as_they_are_then(bank: SqlLeaseBank) -> None:
    """The last grant of a gateway that died just now may be committed while its adopter already waits."""
    one = budget("1.00")
    bank.grant("a", [Ask(number_of(one), 100, 0)])
    granted: list[int] = []

    def ask_and_adopt() -> None:
        granted.append(SqlLeaseBank().grant("b", [Ask(number_of(one), DOLLAR // 2, 0)])[number_of(one)].amount)
        SqlLeaseBank().return_all("a", {})
        connection.close()

    waiting = threading.Thread(target=ask_and_adopt)
    with transaction.atomic():
        one.max_budget = Decimal("0.10")
        one.save()
        bank.grant("a", [Ask(number_of(one), 200, 0)])
        waiting.start()
        waiting.join(0.5)
        assert granted == []
    waiting.join(10)
    assert granted == [DOLLAR // 10 - 300]
    assert figures(one) == (0, 0, DOLLAR // 10 - 300)


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time anyway")
def test_an_adopter_waits_for_the_dead_owners_last_grant(bank: SqlLeaseBank) -> None:
    """It was sent to be committed when the owner died: its first lease of a window, which nobody can see yet."""
    one = budget("1.00")

    def adopt() -> None:
        SqlLeaseBank().return_all("a", {})
        connection.close()

    adopting = threading.Thread(target=adopt)
    with transaction.atomic():
        bank.grant("a", [Ask(number_of(one), 100, 0)])
        adopting.start()
        adopting.join(0.5)
    adopting.join(10)
    assert figures(one) == (0, 0, 0)
    assert not BudgetLease.objects.exists()


def run_at_once(jobs: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
