"""The SQL end of budget leases: grant, charge, give back, return. Each is one short transaction.

A window is always locked before its leases, and windows in the order of their ids, so two processes never wait for
each other in a circle. What a lease says here is the truth; the process that holds it works with what it was told last.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Final, NamedTuple, Protocol

from django.db import Error, connection, transaction
from django.db.models import F
from django.utils import timezone

from analytics.domain.budgets import BudgetTerms, window_of_id
from analytics.models import Budget, BudgetLease, BudgetScope, BudgetWindow
from analytics.services.budgets import budget_window_open
from routing.models import ConfigRevision

WANTED_FOR: Final = timedelta(seconds=2)  # how long a window counts as wanted after somebody asked in vain
_sequence: Final = count()


class BankUnavailable(Exception):
    """The bank did not do it, or it is not known whether it did."""


@dataclass(frozen=True, slots=True)
class Ask:
    """How much of a window a process needs now, and how much more it would like to have at hand (nano-USD)."""

    window_id: int
    need: int
    spare: int


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A process's lease of a window (`amount`, 0 when it has none), and the window around it (nano-USD).

    `sequence` counts up with every look at SQL: of two states the later is true. `room` is what nobody has spent or
    leased, below 0 when too much was; `others` is what other processes lease.
    """

    sequence: int
    amount: int
    version: int
    room: int
    others: int
    is_wanted: bool


States = dict[int, LeaseState]


class LeaseBank(Protocol):
    """Where leases come from. Every method blocks, and is called from the one thread that talks to the store.

    :raises BankUnavailable: the outcome is not known; `read` before relying on a lease.
    """

    def budgets(self, known_revision: int | None) -> tuple[int, list[BudgetTerms]] | None:
        """The budgets in force and the configuration's revision; None when it is still `known_revision`."""

    def grant(self, owner: str, asks: Sequence[Ask]) -> States:
        """Lease as much of each window as is needed and wanted, as far as there is room."""

    def give_back(self, owner: str, amounts: Mapping[int, tuple[int, int]]) -> States:
        """Return part of leases: (nano-USD, version of the lease) by window. An outdated version returns nothing."""

    def read(self, owner: str, held: Mapping[int, int]) -> States:
        """The leases as they are, noting what is held of them. A `give_back` still under way comes to nothing."""

    def watch(self, owner: str, window_ids: Iterable[int]) -> States:
        """The leases as they are."""

    def return_all(self, owner: str, keep: Mapping[int, int]) -> None:
        """End all leases of an owner that is done or dead, but for amounts that are still to be charged."""


@contextmanager
def _asking() -> Iterator[None]:
    """A connection that failed may be dead; the next operation opens a new one.

    :raises BankUnavailable: instead of what the database raises.
    """
    try:
        yield
    except Error as error:
        connection.close()
        raise BankUnavailable(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error
    finally:
        connection.queries_log.clear()  # DEBUG keeps every statement


class SqlLeaseBank:
    """A `LeaseBank` on the calling thread's connection to the default database."""

    def budgets(self, known_revision: int | None) -> tuple[int, list[BudgetTerms]] | None:
        with _asking():
            revision = ConfigRevision.objects.filter(pk=1).values_list("revision", flat=True).first() or 0
            if revision == known_revision:
                return None
            rows = Budget.objects.filter(is_active=True).select_related("team", "key", "persona", "alias")
            return revision, [_terms(budget) for budget in rows]

    def grant(self, owner: str, asks: Sequence[Ask]) -> States:
        with _asking(), transaction.atomic():
            _alone(owner)
            open_windows(ask.window_id for ask in asks)
            windows = _look(owner, (ask.window_id for ask in asks), lock=True)
            return _states(_granted(windows[ask.window_id], owner, ask) for ask in asks if ask.window_id in windows)

    def give_back(self, owner: str, amounts: Mapping[int, tuple[int, int]]) -> States:
        with _asking(), transaction.atomic():
            return _states(
                _given_back(window, owner, *amounts[window.id]) for window in _look(owner, amounts, lock=True).values()
            )

    def read(self, owner: str, held: Mapping[int, int]) -> States:
        with _asking(), transaction.atomic():
            _look(owner, held, lock=True)
            for number in sorted(held):
                BudgetLease.objects.filter(window=number, owner=owner).update(
                    held_nano=held[number], renewed_at=timezone.now(), version=F("version") + 1
                )
            return _states(_look(owner, held).values())

    def watch(self, owner: str, window_ids: Iterable[int]) -> States:
        with _asking():
            return _states(_look(owner, window_ids).values())

    def return_all(self, owner: str, keep: Mapping[int, int]) -> None:
        with _asking(), transaction.atomic():
            _alone(owner)
            leased = BudgetLease.objects.filter(owner=owner).values_list("window", flat=True)
            for window in _look(owner, leased, lock=True).values():
                kept = min(keep.get(window.id, 0), window.amount)
                BudgetWindow.objects.filter(pk=window.id).update(leased_nano=F("leased_nano") - (window.amount - kept))
                lease = BudgetLease.objects.filter(window=window.id, owner=owner)
                if kept:
                    lease.update(amount_nano=kept, held_nano=kept)
                else:
                    lease.delete()


def _alone(owner: str) -> None:
    """Nobody else grants to this owner or ends its leases until the transaction is over. An owner that died may have
    its last grant on the way to being committed, and a first lease of a window cannot be seen before that."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [owner])


def open_windows(window_ids: Iterable[int]) -> None:
    """Create the windows that are not there yet; those of a budget that is gone stay away."""
    wanted = set(window_ids)
    if not wanted:
        return
    missing = wanted - set(BudgetWindow.objects.filter(pk__in=wanted).values_list("pk", flat=True))
    starts = dict(map(window_of_id, missing))
    for budget in Budget.objects.filter(pk__in=starts).order_by("pk"):
        budget_window_open(budget=budget, now=starts[budget.pk])


def charge_windows(owner: str, charges: Mapping[int, int], would_refuse: Mapping[int, int]) -> States:
    """Move what was spent from the owner's leases to the windows (nano-USD by window); inside the transaction that
    stores the records. What no lease covers is spent all the same, as overrun."""
    windows = _look(owner, {*charges, *would_refuse}, lock=True)
    return _states(
        _charged(window, owner, charges.get(number, 0), would_refuse.get(number, 0))
        for number, window in windows.items()
    )


# --- one window, locked ----------------------------------------------------------------------------------------------


class _Window(NamedTuple):
    """A window as it stands in SQL, and the lease of one owner. Nano-USD."""

    id: int
    limit: int
    opening: int
    spent: int
    overrun: int
    leased: int
    amount: int
    version: int
    is_wanted: bool

    @property
    def room(self) -> int:
        return self.limit - self.opening - self.spent - self.leased


def _look(owner: str, window_ids: Iterable[int], *, lock: bool = False) -> dict[int, _Window]:
    """The windows in the order of their ids, in plain statements: this is asked some ten times a second.

    They are locked before they are read: PostgreSQL gives who waited for a lock the new version of that row, but the
    budget and the lease beside it as they were before the wait.
    """
    numbers = sorted(set(window_ids))
    if not numbers:
        return {}
    places = ", ".join(["%s"] * len(numbers))
    wanted_since = connection.ops.adapt_datetimefield_value(timezone.now() - WANTED_FOR)
    with connection.cursor() as cursor:
        if lock and connection.vendor == "postgresql":
            cursor.execute(
                f"SELECT FROM {BudgetWindow._meta.db_table} WHERE id IN ({places}) ORDER BY id FOR UPDATE",
                numbers,
            )
        cursor.execute(
            "SELECT w.id, CASE WHEN b.is_active THEN CAST(ROUND(b.max_budget * 100) AS BIGINT) * 10000000 ELSE 0 END, "  # noqa: S608 - names of models, and places
            "w.opening_nano, w.spent_nano, w.overrun_nano, w.leased_nano, COALESCE(l.amount_nano, 0), "
            "COALESCE(l.version, 0), COALESCE(w.wanted_at > %s, false) "
            f"FROM {BudgetWindow._meta.db_table} w JOIN {Budget._meta.db_table} b ON b.id = w.budget_id "
            f"LEFT JOIN {BudgetLease._meta.db_table} l ON l.window_id = w.id AND l.owner = %s "
            f"WHERE w.id IN ({places}) ORDER BY w.id",
            [wanted_since, owner, *numbers],
        )
        return {row[0]: _Window(*row) for row in cursor.fetchall()}


def _states(windows: Iterable[_Window]) -> States:
    sequence = next(_sequence)
    return {
        w.id: LeaseState(sequence, w.amount, w.version, w.room, w.leased - w.amount, bool(w.is_wanted)) for w in windows
    }


def _granted(window: _Window, owner: str, ask: Ask) -> _Window:
    """The spare part is a quarter of what is left at most: others want some too."""
    rows = BudgetWindow.objects.filter(pk=window.id)
    room = window.room
    amount = max(0, min(room, ask.need + max(0, min(ask.spare, (room - ask.need) // 4))))
    if room < ask.need:
        rows.update(wanted_at=timezone.now())
        window = window._replace(is_wanted=True)
    if not amount:
        return window
    # The ceiling is set before the amount is added: a grant that is wrong breaks the table's constraint.
    committed = window.opening + window.spent - window.overrun + window.leased
    rows.update(ceiling_nano=max(window.limit, committed), leased_nano=F("leased_nano") + amount)
    lease = BudgetLease.objects.filter(window=window.id, owner=owner)
    if not lease.update(amount_nano=F("amount_nano") + amount, renewed_at=timezone.now()):
        BudgetLease.objects.create(window_id=window.id, owner=owner, amount_nano=amount)
    return window._replace(amount=window.amount + amount, leased=window.leased + amount)


def _given_back(window: _Window, owner: str, amount: int, version: int) -> _Window:
    lease = BudgetLease.objects.filter(window=window.id, owner=owner, version=version)
    if not lease.update(amount_nano=F("amount_nano") - amount, version=F("version") + 1):
        return window
    BudgetWindow.objects.filter(pk=window.id).update(leased_nano=F("leased_nano") - amount)
    return window._replace(amount=window.amount - amount, version=version + 1, leased=window.leased - amount)


def _charged(window: _Window, owner: str, spent: int, refused: int) -> _Window:
    covered = min(spent, window.amount)
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    with connection.cursor() as cursor:
        if covered:
            cursor.execute(
                f"UPDATE {BudgetLease._meta.db_table} SET amount_nano = amount_nano - %s, renewed_at = %s "  # noqa: S608 - a model's table name
                "WHERE window_id = %s AND owner = %s",
                [covered, now, window.id, owner],
            )
        cursor.execute(
            f"UPDATE {BudgetWindow._meta.db_table} SET spent_nano = spent_nano + %s, "  # noqa: S608
            "overrun_nano = overrun_nano + %s, leased_nano = leased_nano - %s, would_refuse = would_refuse + %s "
            "WHERE id = %s",
            [spent, spent - covered, covered, refused, window.id],
        )
    return window._replace(
        spent=window.spent + spent,
        overrun=window.overrun + spent - covered,
        leased=window.leased - covered,
        amount=window.amount - covered,
    )


def _terms(budget: Budget) -> BudgetTerms:
    subject = budget.subject
    names = {BudgetScope.PERSONA: "slug", BudgetScope.ALIAS: "name"}  # the others are known by their ids
    return BudgetTerms(
        id=budget.pk,
        name=str(budget),
        scope=budget.scope,  # type: ignore[arg-type]  # TextChoices and Literal name the same values
        subject=getattr(subject, names.get(BudgetScope(budget.scope), "pk")),
        limit_nano=budget.limit_nano,
        duration=budget.budget_duration,
        time_zone=budget.time_zone,
        mode=budget.mode,  # type: ignore[arg-type]
        created_at=budget.created_at,
    )
