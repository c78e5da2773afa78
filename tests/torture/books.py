"""What callers were told, what the vendor bills, what is on record: three accounts of the same requests, compared."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from tests.e2e.processes import Database
from tests.torture.load import Told
from tests.torture.vendor import Bill

INPUT_NANO, OUTPUT_NANO = 1_000, 2_000  # a token costs
COLUMNS: Final = "request_id, team_name, state, usage_source, cost_nano, http_status, attempts"


@dataclass(frozen=True, slots=True)
class Row:
    """A usage record."""

    request_id: str
    team: str
    state: str
    usage_source: str
    cost_nano: int | None
    http_status: int
    attempts: list[dict[str, Any]]

    @property
    def doubtful_nano(self) -> int:
        """Charged for attempts of which nobody knows what they were billed."""
        return sum(attempt.get("billed_nano") or 0 for attempt in self.attempts)


def rows_of(database: Database, teams: Iterable[str]) -> list[Row]:
    return [
        Row(str(UUID(str(row[0]))), *row[1:6], json.loads(row[6]) if isinstance(row[6], str) else row[6])
        for row in _select(database, COLUMNS, teams)
    ]


def recorded(database: Database, teams: Iterable[str]) -> set[str]:
    """The ids of the requests that are on record."""
    return {str(UUID(str(row[0]))) for row in _select(database, "request_id", teams)}


def _select(database: Database, columns: str, teams: Iterable[str]) -> list[tuple[Any, ...]]:
    names = ", ".join(f"'{team}'" for team in teams)
    return database.rows(f"SELECT {columns} FROM analytics_usagerecord WHERE team_name IN ({names})")  # noqa: S608 - ours


def cost_nano(bill: Bill) -> int:
    return bill.input_tokens * INPUT_NANO + bill.output_tokens * OUTPUT_NANO


def total_nano(bills: Iterable[Bill]) -> int:
    return sum(map(cost_nano, bills))


def faults(rows: Sequence[Row], bills: Iterable[Bill], told: Iterable[Told]) -> list[str]:
    """Where the three accounts do not agree: one text each."""
    by_id = {row.request_id: row for row in rows}
    twice = [request_id for request_id, times in Counter(row.request_id for row in rows).items() if times > 1]
    billed: defaultdict[str, list[Bill]] = defaultdict(list)
    for bill in bills:
        billed[bill.request_id].append(bill)
    found = [f"recorded twice: {request_id}" for request_id in twice]
    for request_id, of_request in billed.items():
        found += _fault_of_bills(of_request, by_id.get(request_id))
    for answer in told:
        if answer.is_whole:
            found += _fault_of_answer(answer, by_id.get(answer.request_id), billed[answer.request_id])
    return found


def _fault_of_bills(bills: Sequence[Bill], row: Row | None) -> list[str]:
    total = total_nano(bills)
    if row is None:
        return [f"billed without a record: {bills[0]}"] if total else []
    if row.cost_nano is None or row.cost_nano < total:
        return [f"charged {row.cost_nano}, billed {total}: {row} {bills}"]
    return []


def _fault_of_answer(answer: Told, row: Row | None, bills: Sequence[Bill]) -> list[str]:
    if row is None:  # 503 says that a gateway has no configuration yet, and lets nobody in
        return [] if answer.status == 503 and not bills else [f"answered without a record: {answer}"]
    if not answer.is_good:
        return []
    due = cost_nano(bills[-1]) + row.doubtful_nano
    if (row.state, row.usage_source, row.cost_nano) != ("settled", "provider", due):
        return [f"answered, due {due}: {row} {bills}"]
    if answer.cost_usd and Decimal(answer.cost_usd) * 10**9 != due:
        return [f"told {answer.cost_usd}, due {due}: {row}"]
    return []


# --- the budgets' own side -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WindowRow:
    """A budget's window; nano-USD. `leases` is the sum of its leases, by their own rows."""

    scope: str
    subject: str  # the name of team, key or alias
    limit_nano: int
    spent_nano: int
    overrun_nano: int
    leased_nano: int
    leases_nano: int


WINDOWS: Final = """
SELECT b.scope, coalesce(t.name, k.name, a.name), b.max_budget, w.spent_nano, w.overrun_nano, w.leased_nano,
       coalesce((SELECT sum(l.amount_nano) FROM analytics_budgetlease l WHERE l.window_id = w.id), 0)
FROM analytics_budgetwindow w JOIN analytics_budget b ON b.id = w.budget_id
LEFT JOIN routing_team t ON t.id = b.team_id LEFT JOIN routing_virtualkey k ON k.id = b.key_id
LEFT JOIN routing_modelalias a ON a.id = b.alias_id
"""


def windows_of(database: Database, *names: str) -> list[WindowRow]:
    """Those of the subjects of these names; of all without any."""
    found = [
        WindowRow(row[0], row[1], int(Decimal(str(row[2])) * 10**9), *map(int, row[3:]))
        for row in database.rows(WINDOWS)
    ]
    return [window for window in found if not names or window.subject in names]


def leases_left(database: Database) -> int:
    return int(database.rows("SELECT count(*) FROM analytics_budgetlease")[0][0])


def until(condition: Callable[[], bool], *, within_s: float, every_s: float = 0.05) -> float | None:
    """Seconds until it held; None if that was too long."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > within_s:
            return None
        time.sleep(every_s)
    return time.monotonic() - began
