"""What this process may spend without asking: leases of budget windows, held in memory.

A request is admitted when every hard window that applies to it has enough that is free, all or none, within one step
of the event loop. Leases are fetched ahead, sized by the pace of spending, and go back when they are idle or when
somebody else is short.

    free = amount (what SQL says of our lease) - held (for requests under way) - pending (settled, not yet charged in
           SQL) - returning (on its way back)

Every operation in SQL answers with the lease as it is then. Amounts that leave are subtracted here before they are
sent, and count as gone until SQL has answered; so at no moment does the memory believe in more than SQL has granted.
"""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, ParamSpec, Protocol, TypeVar

from analytics.domain.budgets import BudgetBook, BudgetTerms, Scope, Span, window_id
from analytics.ledger.leasing import Ask, BankUnavailable, LeaseBank, LeaseState

P = ParamSpec("P")
T = TypeVar("T")

LOOK_EVERY_S: Final = 0.1  # at windows of which something is leased
READ_EVERY_S: Final = 5.0  # and at all of a lease, noting what is held of it
BUDGETS_EVERY_S: Final = 0.5
IDLE_S: Final = 1.0  # until an unused lease goes back
IDLE_WHEN_PLENTY_S: Final = 30.0
PLENTY: Final = 8  # times the target left in the window
RECALL_S: Final = 0.3  # how long a request waits for what others give back
RETRY_S: Final = 0.05
ANSWER_S: Final = 2.0  # how long a request waits for the database
PACE_S: Final = 10.0  # over which the pace of spending is averaged
FORGET_AFTER: Final = timedelta(hours=1)  # has a window ended, and with it every request that came in before
AHEAD_S: Final = 120.0  # spending of this time is leased ahead
AHEAD_HOLDS: Final = 16  # and no less than so many holds
FRESH_S: Final = 0.5  # how old the figures of a window may be that routing goes by, as long as requests look at it
LOOKED_AT_FOR_S: Final = 60.0  # after the last of them


class StoreThread(Protocol):
    """Calls a function in the one thread that talks to the database; what it is called with first is done first."""

    def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]: ...


class BudgetsUnavailable(Exception):
    """Whether the budgets allow it cannot be known now: the database is away and what was leased is used up."""


@dataclass(slots=True, eq=False)
class Window:
    """A budget's window as this process sees it: nano-USD, `room` and `others` as SQL said last; monotonic times."""

    id: int
    terms: BudgetTerms
    span: Span
    room: int
    amount: int = 0
    version: int = 0
    sequence: int = -1  # of what SQL said last
    held: int = 0
    pending: int = 0
    returning: int = 0
    others: int = 0
    is_wanted: bool = False
    pace: float = 0.0  # nano-USD per second
    spent: int = 0  # since the pace was last computed
    last_hold: int = 0
    used_at: float = 0.0
    learned_at: float = 0.0
    read_at: float = 0.0
    looked_at: float | None = None  # by a request whose route depends on how full it is

    @property
    def used(self) -> int:
        """What is spent, and held for requests of this process that are under way; what other processes lease and what
        is free here counts as not used."""
        return self.terms.limit_nano - self.room - self.others - (self.amount - self.held - self.pending)

    @property
    def share_used(self) -> float:
        """`used` as a share of the limit: 0 to 1 and above; 1 where nothing may be spent at all."""
        return max(0.0, self.used / self.terms.limit_nano) if self.terms.limit_nano else 1.0

    @property
    def free(self) -> int:
        return self.amount - self.held - self.pending - self.returning

    @property
    def target(self) -> int:
        """How much should be free: what goes in the time ahead, and at least some holds."""
        return max(int(self.pace * AHEAD_S), self.last_hold * AHEAD_HOLDS)

    def lacks(self, more: int) -> bool:
        """Whether a hard budget cannot give `more` out of what is free."""
        return self.terms.is_hard and more > 0 and more > self.free

    def is_spent(self, now: float) -> bool:
        """Nobody has anything left of it; so SQL said a moment ago."""
        return self.room <= 0 and self.others <= 0 and now - self.learned_at < LOOK_EVERY_S

    def learn(self, state: LeaseState, now: float) -> None:
        if state.sequence < self.sequence:
            return
        self.sequence = state.sequence
        self.amount, self.version = state.amount, state.version
        self.room, self.others, self.is_wanted = state.room, state.others, state.is_wanted
        self.learned_at = now


@dataclass(slots=True)
class Hold:
    """What is set aside for one request, by window; `peak` is the most that it was at once."""

    amounts: dict[Window, int] = field(default_factory=dict)
    peak: int = 0

    def missing(self, needs: Mapping[Window, int]) -> dict[Window, int]:
        """How much more each window has to give for this hold to be `needs`."""
        return {window: need - self.amounts.get(window, 0) for window, need in needs.items()}


class Leases:
    """The leases of one process. Every method belongs to its event loop."""

    def __init__(
        self,
        *,
        owner: str,
        bank: LeaseBank,
        run: StoreThread,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._owner = owner
        self._bank = bank
        self._run = run
        self._clock = clock
        self._book: BudgetBook | None = None
        self.revision: int | None = None  # of the configuration that the budgets were read at
        self._budgets_at = 0.0
        self._paced_at = clock()
        self._windows: dict[int, Window] = {}
        self._current: dict[int, Window] = {}  # by budget
        self._asked: dict[Window, int] = {}  # by requests, for the round that has not begun yet
        self._next_round: asyncio.Task[str] | None = None
        self._asking = asyncio.Lock()
        self._asking_since: float | None = None

    def applying(self, subjects: Iterable[tuple[Scope, int | str]], now: datetime) -> tuple[Window, ...]:
        """The windows that a request of these subjects belongs to when it comes in at `now`.

        :raises BudgetsUnavailable: the budgets could not be read yet.
        """
        if self._book is None:
            raise BudgetsUnavailable
        if not self._book:
            return ()
        return tuple(self._window(terms, now) for subject in subjects for terms in self._book.applying_to(*subject))

    def _window(self, terms: BudgetTerms, now: datetime) -> Window:
        window = self._current.get(terms.id)
        if window is None or not window.span.contains(now):
            span = terms.span_at(now)
            number = window_id(terms.id, span.starts_at)
            window = self._windows.setdefault(number, Window(number, terms, span, room=terms.limit_nano))
            self._current[terms.id] = window
        return window

    # --- for one request -----------------------------------------------------------------------------------------

    def take(self, hold: Hold, needs: Mapping[Window, int]) -> bool:
        """Let `hold` be exactly `needs` if every hard window can give what is missing: all of it, or nothing."""
        missing = hold.missing(needs)
        if any(window.lacks(more) for window, more in missing.items()):
            return False
        now = self._clock()
        for window, more in missing.items():
            window.held += more
            window.last_hold = hold.amounts[window] = needs[window]
            window.used_at = now
        hold.peak = max(hold.peak, *needs.values())
        return True

    async def fetch(self, hold: Hold, needs: Mapping[Window, int]) -> bool:
        """`take`, asking the database for what is missing; False when the budgets do not allow it.

        While others have leases of a window that is short, they are given a moment to return what they do not use.

        :raises BudgetsUnavailable: the database does not answer.
        """
        refused_at: float | None = None
        while not self.take(hold, needs):
            short = {window: more for window, more in hold.missing(needs).items() if window.lacks(more)}
            if any(window.is_spent(self._clock()) for window in short):
                return False
            await self._ask(short)
            if self.take(hold, needs):
                return True
            now = self._clock()
            refused_at = refused_at or now
            if now - refused_at >= RECALL_S or not all(window.room > 0 or window.others > 0 for window in short):
                return False
            await asyncio.sleep(RETRY_S)
        return True

    def affordable(self, hold: Hold, window: Window) -> int:
        """The most that `hold` could be in a hard window now."""
        return hold.amounts.get(window, 0) + max(0, window.free)

    async def look_up(self, windows: Iterable[Window], *, within_s: float) -> None:
        """Ask the database what is spent of windows of which nobody knows, or has not asked for a while. From then on
        they are looked at in the background. What is not answered in that time stays as it was known last."""
        now = self._clock()
        stale = {}
        for window in windows:
            if window.sequence < 0 or now - window.learned_at > 2 * FRESH_S:
                stale[window] = 0
            window.looked_at = now
        if stale:
            with suppress(BudgetsUnavailable, TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._ask(stale)

    def settle(self, hold: Hold, charges: Mapping[int, int]) -> None:
        """The request is over: what its windows are charged waits for SQL, the rest is free again."""
        for window, amount in hold.amounts.items():
            window.held -= amount
        hold.amounts.clear()
        now = self._clock()
        for number, cost in charges.items():
            window = self._windows[number]
            window.pending += cost
            window.spent += cost
            window.used_at = now

    def charged(self, charges: Mapping[int, int], states: Mapping[int, LeaseState]) -> None:
        """SQL has these charges now (sums by window), and the leases are as it says."""
        self._learn(states)
        for number, cost in charges.items():
            if number in self._windows:
                self._windows[number].pending -= cost

    def _learn(self, states: Mapping[int, LeaseState]) -> None:
        now = self._clock()
        for number, state in states.items():
            if number in self._windows:
                self._windows[number].learn(state, now)

    # --- asking for more -----------------------------------------------------------------------------------------

    async def _ask(self, short: Mapping[Window, int]) -> None:
        """Have these amounts asked for in the next round, and wait until it has been answered."""
        if self._asking_since is not None and self._clock() - self._asking_since > ANSWER_S:
            raise BudgetsUnavailable
        for window, more in short.items():
            self._asked[window] = self._asked.get(window, 0) + more
        if self._next_round is None:
            self._next_round = asyncio.create_task(self._ask_round())
        try:
            async with asyncio.timeout(ANSWER_S):  # `wait_for` may swallow a cancellation that comes with the answer
                problem = await asyncio.shield(self._next_round)
        except TimeoutError:
            raise BudgetsUnavailable from None
        if problem:
            raise BudgetsUnavailable(problem)

    async def _ask_round(self) -> str:
        """One transaction for all who have asked by the time the one before is over; returns what went wrong."""
        async with self._asking:
            asked, self._asked, self._next_round = self._asked, {}, None
            asks = [
                Ask(
                    window.id,
                    max(0, more - window.free),
                    0 if window.is_wanted or not more else window.target or more * AHEAD_HOLDS,
                )
                for window, more in sorted(asked.items(), key=lambda item: item[0].id)
            ]
            self._asking_since = self._clock()
            try:
                self._learn(await self._run(self._bank.grant, self._owner, asks))
            except BankUnavailable as error:
                return str(error)
            finally:
                self._asking_since = None
        return ""

    # --- from time to time ---------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read the budgets in force, if they have changed. Raises BankUnavailable."""
        found = await self._run(self._bank.budgets, self.revision)
        self._budgets_at = self._clock()
        if found is None:
            return
        self.revision, budgets = found
        self._book = BudgetBook(budgets)
        in_force = {terms.id: terms for terms in budgets}
        for window in self._windows.values():
            terms = in_force.get(window.terms.id, window.terms)
            if terms.limit_nano != window.terms.limit_nano:  # the room that is known is of either limit: ask again
                window.learned_at = -math.inf
            window.terms = terms

    async def look_after(self) -> None:
        """Fetch ahead, give back what is not needed, forget what is over. Raises BankUnavailable."""
        now = self._clock()
        if now - self._budgets_at >= BUDGETS_EVERY_S:
            await self.load()
        if not self._windows:
            return
        self._measure_pace(now)
        unsure = [w for w in self._windows.values() if w.returning or (w.amount and now - w.read_at > READ_EVERY_S)]
        if unsure:
            await self._read(unsure)
        stale = [
            w.id for w in self._windows.values() if now - w.learned_at >= (LOOK_EVERY_S if w.free > 0 else FRESH_S)
            if w.free > 0 or (w.looked_at is not None and now - w.looked_at < LOOKED_AT_FOR_S)
        ]  # fmt: skip
        if stale:
            self._learn(await self._run(self._bank.watch, self._owner, stale))
        await self._give_back()
        await self._fetch_ahead()
        self._forget_past()

    async def close(self) -> None:
        """Return everything but what is still to be charged. Raises BankUnavailable."""
        if self._next_round is not None:
            self._next_round.cancel()  # who asked is gone; what it was granted would be nobody's
        async with self._asking:  # the round on its way to the bank is over
            keep = {window.id: window.held + window.pending for window in self._windows.values()}
            await self._run(self._bank.return_all, self._owner, keep)

    def _measure_pace(self, now: float) -> None:
        elapsed = max(now - self._paced_at, 1e-3)
        self._paced_at = now
        for window in self._windows.values():
            window.pace += (window.spent / elapsed - window.pace) * min(1.0, elapsed / PACE_S)
            window.spent = 0

    async def _read(self, windows: Collection[Window]) -> None:
        """Whatever was on its way back has arrived by now, or never will."""
        now = self._clock()
        self._learn(await self._run(self._bank.read, self._owner, {w.id: w.held + w.pending for w in windows}))
        for window in windows:
            window.returning, window.read_at = 0, now

    async def _give_back(self) -> None:
        amounts: dict[int, tuple[int, int]] = {}
        now, today = self._clock(), datetime.now(UTC)
        for window in self._windows.values():
            surplus = self._surplus(window, now, today)
            if surplus > 0:
                window.returning += surplus
                amounts[window.id] = surplus, window.version
        if amounts:
            self._learn(await self._run(self._bank.give_back, self._owner, amounts))
            for number, (surplus, _) in amounts.items():
                self._windows[number].returning -= surplus

    def _surplus(self, window: Window, now: float, today: datetime) -> int:
        """How much of what is free should go back."""
        idle_s = IDLE_WHEN_PLENTY_S if window.room > PLENTY * window.target else IDLE_S
        is_over = not window.terms.is_hard or not window.span.contains(today)
        if is_over or window.is_wanted or now - window.used_at > idle_s:
            return window.free
        return window.free - window.target if window.free > 4 * window.target else 0

    async def _fetch_ahead(self) -> None:
        now, today = self._clock(), datetime.now(UTC)
        asks = [
            Ask(window.id, 0, window.target - window.free)
            for window in self._windows.values()
            if window.terms.is_hard and window.span.contains(today) and window.room > 0 and not window.is_wanted
            if window.free < window.target // 2 and now - window.used_at < IDLE_S
        ]
        if asks:
            self._learn(await self._run(self._bank.grant, self._owner, sorted(asks, key=lambda ask: ask.window_id)))

    def _forget_past(self) -> None:
        """Not at once: a request that came in before the end may ask for more, and is charged there."""
        a_while_ago = datetime.now(UTC) - FORGET_AFTER
        for number, window in list(self._windows.items()):
            is_over = window.span.ends_before is not None and window.span.ends_before < a_while_ago
            if is_over and not (window.amount or window.held or window.pending):
                del self._windows[number]
                if self._current.get(window.terms.id) is window:
                    del self._current[window.terms.id]
