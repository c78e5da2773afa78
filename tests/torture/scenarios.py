"""What is done to two gateways, and what must hold afterwards. Every scenario returns its row of the table."""

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Final

from tests.e2e.processes import Database
from tests.torture.books import WindowRow, faults, leases_left, recorded, rows_of, total_nano, until, windows_of
from tests.torture.doors import DOORS, leave_at_random, volley
from tests.torture.load import Question, Told
from tests.torture.stage import Audit, Running, Stage, crashed, frozen
from tests.torture.vendor import Bill

RECOVERY_S: Final = 30.0
USABLE: Final = 0.995
QUIET_S: Final = 1.2  # without an answer until a budget counts as used up
LEFT_WITHIN_MS: Final = 500


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; `kill_every_s` is the range of the pauses between kills."""

    answers: int
    kills: int
    restarts: int
    callers: int
    kill_every_s: tuple[float, float]
    rounds: int
    round_kills: int
    limit_usd: str
    outages_s: tuple[float, ...]
    calm_s: float  # before, between and after outages
    volley: int
    leavers: int
    audit_every_s: float
    at_most_s: float  # for each load


FULL_SPEED: Final = 1500  # answers a second, of all gateways together on a fast machine
LEASED_WITHIN_S: Final = 15.0

QUICK: Final = Size(
    answers=1000, kills=1, restarts=0, callers=100, kill_every_s=(0.3, 1.0), rounds=1, round_kills=1,
    limit_usd="0.30", outages_s=(1.0,), calm_s=0.5, volley=200, leavers=30, audit_every_s=0.5, at_most_s=30,
)  # fmt: skip
SHORT: Final = Size(
    answers=4000, kills=3, restarts=1, callers=500, kill_every_s=(0.5, 2.0), rounds=3, round_kills=1,
    limit_usd="0.80", outages_s=(2.0, 2.0), calm_s=1.0, volley=200, leavers=60, audit_every_s=1.0, at_most_s=60,
)  # fmt: skip
LONG: Final = Size(
    answers=30_000, kills=35, restarts=5, callers=500, kill_every_s=(0.3, 4.0), rounds=6, round_kills=4,
    limit_usd="5.00", outages_s=(12.0, 12.0, 60.0), calm_s=5.0, volley=200, leavers=400, audit_every_s=5.0,
    at_most_s=400,
)  # fmt: skip


@dataclass(slots=True)
class Outcome:
    """A row of the table."""

    what: str
    answers: int = 0
    kills: int = 0
    seconds: float = 0.0
    misses: list[str] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)

    def must(self, holds: bool, what: str) -> None:
        if not holds:
            self.misses.append(what)


class Course:
    """One scenario under way: it remembers where the vendor's bills began, and fills in the outcome."""

    def __init__(self, what: str, stage: Stage, teams: Collection[str], rng: random.Random) -> None:
        self.outcome = Outcome(what)
        self.stage = stage
        self.rng = rng
        self._teams = teams
        self._billed_before = len(stage.bills())
        self._kills_before = stage.kills
        self._began = time.monotonic()
        self._told: list[Told] = []

    def question(self, team: str, model: str, max_tokens: int) -> Question:
        return Question(self.stage.keys[team], model, max_tokens)

    def bills(self) -> list[Bill]:
        return self.stage.bills(self._billed_before)

    def tell(self, told: Sequence[Told]) -> None:
        self._told += told
        self.outcome.must(all(one.seconds < RECOVERY_S for one in told), "an answer took longer than 30 s")

    def close_the_books(self) -> Outcome:
        """Wait until everything is on record, then compare."""
        self.stage.wait_ready()
        seconds = until(self._is_on_record, within_s=RECOVERY_S, every_s=0.25)
        self.outcome.must(seconds is not None, f"not all is on record, or journals are left, after {RECOVERY_S:.0f} s")
        self.outcome.figures["on record after"] = f"{seconds or RECOVERY_S:.1f} s"
        self.outcome.misses += faults(rows_of(self.stage.database, self._teams), self.bills(), self._told)
        self.outcome.misses += self.stage.complaints()
        self.outcome.answers += sum(one.is_whole for one in self._told)
        self.outcome.kills = self.stage.kills - self._kills_before
        self.outcome.seconds = time.monotonic() - self._began
        return self.outcome

    def _is_on_record(self) -> bool:
        alive = {str(gateway.pid) for gateway in self.stage.gateways}
        if {path.name.partition("-")[0] for path in self.stage.journal.glob("*.journal")} - alive:
            return False
        due = {one.request_id for one in self._told if one.is_whole and one.status != 503} | {
            bill.request_id for bill in self.bills() if bill.input_tokens
        }
        return due <= recorded(self.stage.database, self._teams)

    def kill_while(self, load: Running, *, kills: int, size: Size, enough: Callable[[], bool]) -> None:
        """Kill at random until there were `kills` and `enough` holds."""
        until_at = time.monotonic() + size.at_most_s
        left = kills
        while (left or not enough()) and time.monotonic() < until_at:
            time.sleep(self.rng.uniform(*size.kill_every_s) if left else 0.05)
            if left:
                self.stage.kill()
                left -= 1
        self.outcome.must(not left and enough(), f"not within {size.at_most_s} s: {load.progress().counts}")

    def judge(self, audit: Audit) -> None:
        found = audit.end()
        self.outcome.figures["audits"] = str(found["looked"])
        self.outcome.must(found["looked"] > 0, "the ledger could not be audited")
        self.outcome.misses += [f"audit: {difference}" for difference in found["differences"]]


# --- 1: every answer and every bill has its record ----------------------------------------------------------------


def records(stage: Stage, size: Size, rng: random.Random) -> Outcome:
    course = Course("records", stage, ["free"], rng)
    question = course.question("free", "mixed", 60)
    with stage.audit(every_s=size.audit_every_s) as audit:
        with stage.load(question, callers=size.callers, seed=rng.randrange(10**6)) as load:
            enough = lambda: load.progress().counts.get("answers", 0) >= size.answers  # noqa: E731
            course.kill_while(load, kills=size.kills, size=size, enough=enough)
            for _ in range(size.restarts):
                stage.restart()
            course.tell(load.stop())
        outcome = course.close_the_books()
        course.judge(audit)
    states = Counter(row.state for row in rows_of(stage.database, ["free"]))
    outcome.figures["under way when killed"] = str(states["expired"])
    return outcome


# --- 2: budgets that are used up, and never passed ------------------------------------------------------------------


def budget(stage: Stage, size: Size, rng: random.Random) -> Outcome:
    teams = [team for team in stage.keys if team.startswith("tight-")][: size.rounds]
    course = Course("budget", stage, teams, rng)
    least, spent = 1.0, 0
    with stage.audit(every_s=size.audit_every_s) as audit:
        for number, team in enumerate(teams):
            question = course.question(team, team, 1000)
            with stage.load(question, callers=min(size.callers, 200), seed=rng.randrange(10**6)) as load:
                if number % 3 == 0:
                    _move_the_limit(course, audit, load, team, size)
                elif number % 3 == 1:
                    _lose_the_database(course, size)
                course.kill_while(load, kills=size.round_kills, size=size, enough=lambda: True)
                stage.wait_ready()
                course.outcome.must(_used_up(load, size.at_most_s), f"{team} is not used up: {load.progress().counts}")
                course.tell(load.stop())
            share, billed = _judge_windows(course, team)
            least, spent = min(least, share), spent + billed
        outcome = course.close_the_books()
        course.judge(audit)
    outcome.figures["used of the limit"] = f"{least:.2%} or more"
    outcome.figures["billed"] = f"${spent / 1e9:.2f}"
    return outcome


def _move_the_limit(course: Course, audit: Audit, load: Running, team: str, size: Size) -> None:
    """Lower it to a half under load, see that it holds, and raise it again."""
    database = course.stage.database
    until(lambda: load.progress().counts.get("good", 0) > 0, within_s=RECOVERY_S)
    limit = Decimal(size.limit_usd)
    audit.set_limit(team, str(limit / 2))
    half = int(limit / 2 * 10**9)
    until(lambda: _tight(database, team).limit_nano == half, within_s=RECOVERY_S)
    committed = _tight(database, team)
    at_most = max(half, committed.spent_nano + committed.leased_nano)
    course.outcome.must(_used_up(load, size.at_most_s), f"half of {team} is not used up: {load.progress().counts}")
    lowered = _tight(database, team)
    course.outcome.must(lowered.spent_nano <= at_most, f"lowered to {half}, at most {at_most}: {lowered}")
    audit.set_limit(team, size.limit_usd)
    until(lambda: _tight(database, team).limit_nano > half, within_s=RECOVERY_S)


def _lose_the_database(course: Course, size: Size) -> None:
    """And a gateway, while it is away."""
    time.sleep(course.rng.uniform(0.1, 0.5))
    with _without_database(course.stage, course.rng.randrange(3)):
        time.sleep(course.rng.uniform(0, 1))
        course.stage.kill()
        time.sleep(course.rng.uniform(0, size.outages_s[0]))


def _tight(database: Database, team: str) -> WindowRow:
    return min(windows_of(database, team), key=lambda window: window.limit_nano)


def _used_up(load: Running, at_most_s: float) -> bool:
    """Whether, after a while, only refusals come."""
    seen, since, until_at = -1, 0.0, time.monotonic() + at_most_s
    while time.monotonic() < until_at:
        good = load.progress().counts.get("good", 0)
        if good != seen:
            seen, since = good, time.monotonic()
        elif time.monotonic() - since > QUIET_S:
            return load.progress().counts.get("insufficient_quota", 0) > 0
        time.sleep(0.05)
    return False


def _judge_windows(course: Course, team: str) -> tuple[float, int]:
    """How much of the tight one was used, and what the vendor bills for that team."""
    database = course.stage.database
    back = until(lambda: all(window.leased_nano == 0 for window in windows_of(database, team)), within_s=RECOVERY_S)
    windows = windows_of(database, team)
    course.outcome.must(back is not None, f"leases are left: {windows}")
    billed = total_nano(bill for bill in course.bills() if bill.model == f"fixed-{team}")
    tight = _tight(database, team)
    for window in windows:
        course.outcome.must(_is_kept(window, billed), f"billed {billed}: {window}")
    share = tight.spent_nano / tight.limit_nano
    course.outcome.must(share >= USABLE, f"only {share:.2%} of {tight} could be used")
    return share, billed


def _is_kept(window: WindowRow, billed: int) -> bool:
    is_within = billed <= window.spent_nano <= window.limit_nano
    return is_within and window.overrun_nano == 0 and window.leased_nano == window.leases_nano


def _lease_lasts(course: Course, load: Running, outage_s: float) -> bool:
    """Whether what is leased is enough for so long at full speed. It is sized by the pace of the last seconds, and a
    machine that was busy with something else may be about to go faster."""
    good = load.progress().counts.get("good", 0)
    windows = windows_of(course.stage.database, "leased")
    return all(0 < window.spent_nano * FULL_SPEED * outage_s <= window.leased_nano * good for window in windows)


# --- 3: the database is gone for a while -----------------------------------------------------------------------------


def database(stage: Stage, size: Size, rng: random.Random) -> Outcome:
    stage.prepare_for_an_outage()
    course = Course("database", stage, ["leased"], rng)
    question = course.question("leased", "fixed", 100)
    callers = min(size.callers, 200)
    longest = 0.0
    with stage.load(question, callers=callers, seed=rng.randrange(10**6)) as load:
        until(lambda: load.progress().counts.get("good", 0) > callers, within_s=RECOVERY_S)
        time.sleep(size.calm_s)
        for number, outage_s in enumerate(size.outages_s):
            until(partial(_lease_lasts, course, load, outage_s), within_s=LEASED_WITHIN_S)
            with _without_database(stage, number):
                good, failed = _good_and_failed(load)
                _look_at_readiness(course, outage_s)
                later, failures = _good_and_failed(load)
                course.outcome.must(later - good > callers, f"the lease does not last: {later - good} answers")
                course.outcome.must(failures == failed, f"requests failed meanwhile: {load.progress().counts}")
            mark = time.monotonic()
            drained = until(partial(_is_drained, course, mark), within_s=RECOVERY_S, every_s=0.25)
            course.outcome.must(drained is not None, f"not drained in {RECOVERY_S:.0f} s")
            longest = max(longest, drained or RECOVERY_S)
            time.sleep(size.calm_s)
        course.tell(load.stop())
    outcome = course.close_the_books()
    outcome.figures |= {"drained after": f"{longest:.1f} s", "outages": _seconds(size.outages_s)}
    return outcome


def _look_at_readiness(course: Course, seconds: float) -> None:
    until_at = time.monotonic() + seconds
    while time.monotonic() < until_at:
        statuses = [gateway.probe() for gateway in course.stage.gateways]
        course.outcome.must(set(statuses) == {200}, f"/health/ready says {statuses} without the database")
        time.sleep(0.2)


def _good_and_failed(load: Running) -> tuple[int, int]:
    counts = load.progress().counts
    return counts.get("good", 0), counts.get("answers", 0) + counts.get("lost", 0) - counts.get("good", 0)


def _is_drained(course: Course, since: float) -> bool:
    """Whether all that was answered before `since` is on record."""
    due = {bill.request_id for bill in course.bills() if bill.is_whole and bill.asked_at < since - 1}
    return due <= recorded(course.stage.database, ["leased"])


def _without_database(stage: Stage, number: int) -> AbstractContextManager[None]:
    """PostgreSQL by turns stopped and frozen; SQLite has no server, but somebody may lock it."""
    if stage.postgres is None:
        return _locked(stage.database.name)
    return frozen(stage.postgres) if number % 3 == 1 else crashed(stage.postgres)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=20)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def _seconds(outages_s: Sequence[float]) -> str:
    return " + ".join(f"{outage_s:g}" for outage_s in outages_s) + " s"


# --- 4: Redis is gone for a while ------------------------------------------------------------------------------------


def redis(stage: Stage, size: Size, rng: random.Random) -> Outcome:
    course = Course("redis", stage, ["leased"], rng)
    question = course.question("leased", "fixed", 100)
    callers = min(size.callers, 200)
    with stage.load(question, callers=callers, seed=rng.randrange(10**6)) as load:
        until(lambda: load.progress().counts.get("good", 0) > callers, within_s=RECOVERY_S)
        for outage in (frozen, crashed):
            time.sleep(size.calm_s)
            with outage(stage.valkey):
                before, _ = _good_and_failed(load)
                time.sleep(size.outages_s[0])
                course.outcome.must(_good_and_failed(load)[0] - before > callers, "requests do not go on without Redis")
        time.sleep(size.calm_s)
        _, failed = _good_and_failed(load)
        course.outcome.must(failed == 0, f"requests failed: {load.progress().counts}")
        course.tell(load.stop())
    return course.close_the_books()


# --- 5: a dollar ----------------------------------------------------------------------------------------------------


def dollar(stage: Stage, size: Size, rng: random.Random) -> Outcome:
    teams = [f"{door}-{usd}" for door in DOORS for usd in ("1.00", "0.00")]
    course = Course("dollar", stage, teams, rng)
    spent = {}
    for door in DOORS:
        for usd in ("1.00", "0.00"):
            before = len(course.bills())
            statuses = volley(stage, door, stage.keys[f"{door}-{usd}"], count=size.volley)
            billed = total_nano(course.bills()[before:])
            answered = statuses.count(200)
            course.outcome.answers += len(statuses)
            course.outcome.must(len(statuses) == size.volley, f"{door}: {len(statuses)} answers")
            course.outcome.must(billed <= float(usd) * 1e9, f"{door}: billed {billed} of ${usd}")
            course.outcome.must(set(statuses) <= {200, 429}, f"{door}: {sorted(set(statuses))}")
            if usd == "0.00":
                course.outcome.must(len(course.bills()) == before, f"{door}: a request was dispatched")
            else:
                spent[door] = billed
                course.outcome.must(0 < answered < size.volley, f"{door}: {answered} answered")
    outcome = course.close_the_books()
    outcome.figures["billed"] = ", ".join(f"{door} ${nano / 1e9:.4f}" for door, nano in spent.items())
    return outcome


# --- 6: callers who leave -------------------------------------------------------------------------------------------


def disconnect(stage: Stage, size: Size, rng: random.Random) -> Outcome:
    course = Course("disconnect", stage, ["leaver"], rng)
    left = leave_at_random(stage, stage.keys["leaver"], count=size.leavers, rng=rng)
    outcome = course.close_the_books()
    slowest = 0.0
    for bill in course.bills():
        took_ms = ((bill.left_at or float("inf")) - left[bill.limit]) * 1000
        slowest = max(slowest, took_ms)
        outcome.must(took_ms <= LEFT_WITHIN_MS, f"the vendor works {took_ms:.0f} ms longer: {bill}")
    rows = rows_of(stage.database, ["leaver"])
    outcome.must({row.state for row in rows} == {"cancelled"}, f"{by_state(row.state for row in rows)}")
    outcome.must(len(rows) <= size.leavers, f"{len(rows)} records of {size.leavers} requests")
    outcome.answers = len(rows)
    outcome.figures["vendor left after"] = f"{slowest:.0f} ms at most"
    return outcome


def by_state(found: Iterable[str]) -> dict[str, int]:
    return dict(Counter(found))


# --- the end ----------------------------------------------------------------------------------------------------


def shutdown(on: Stage) -> Outcome:
    """Gateways that are told to stop leave nothing behind: no journal, no lease."""
    outcome, began = Outcome("shutdown"), time.monotonic()
    on.close()
    left = leases_left(on.database)
    outcome.must(left == 0, f"{left} leases are left")
    files = [path.name for path in on.journal.iterdir()]
    outcome.must(files == [], f"files are left: {files}")
    outcome.seconds = time.monotonic() - began
    return outcome


# Those who leave come first: a gateway that has just begun takes longest to come to a view.
Scenario = Callable[[Stage, Size, random.Random], Outcome]
SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.__name__: scenario for scenario in (disconnect, records, budget, database, redis, dollar)
}
