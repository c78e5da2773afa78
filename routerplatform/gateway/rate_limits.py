"""Rate limits of keys, teams, aliases and deployments, exact over all gateways while Redis answers.

Requests that come in the same turn of the event loop share a trip to Redis. When it does not answer at once, this
process counts by itself, each limit divided by the number of gateway processes, until Redis is back: no request waits
for it longer than `TRIP_S`, and none fails for it. Money does not depend on anything here.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from providers.domain.types import ChatRequest, Deployment, RateLimit
from routerplatform.gateway.errors import RateLimited
from routerplatform.gateway.shared_counters import CountersUnreachable, SharedCounters
from routing.domain.config import Alias, Caller
from routing.domain.decision import RoutePlan
from routing.domain.eligibility import DEFAULT_OUTPUT_TOKENS
from routing.domain.limits import (
    NEVER,
    NO_STANDING,
    WINDOW_S,
    Act,
    Cell,
    Counters,
    Level,
    Measure,
    Operation,
    Standing,
    cells_of,
    standing_of,
    tightest_refusal,
)

TRIP_S: Final = 0.1  # longest wait of a request for Redis; on a machine under load 50 ms do pass
FIRST_PROBE_S: Final = 0.1  # after an answer that did not come: most often that was a moment
PROBE_S: Final = 2.0  # at most, between two looks whether it is back
PROBE_TRIP_S: Final = 1.0
RENEW_S: Final = 15.0  # a third of what slots live: two renewals may be lost
SLOTS: Final = ":p"
CELLS: Final = (":r", ":t", SLOTS)  # how the keys of cells end: requests, tokens, slots
BATCH: Final = 128  # operations that may share a trip; Redis serves nobody else meanwhile

logger = logging.getLogger(__name__)


class Demand(NamedTuple):
    """What a request will likely use: `assumed` of its `tokens` are for an answer that nobody limited."""

    tokens: int
    assumed: int


def demand_of(request: ChatRequest, plan: RoutePlan) -> Demand:
    """Prompt by estimate, answer by its limit; without a limit an answer is taken for 1,024 tokens."""
    limit = request.max_tokens or plan.defaults.max_tokens
    answer = (limit or DEFAULT_OUTPUT_TOKENS) * request.choices
    return Demand(request.input_tokens_estimate + answer, 0 if limit else answer)


@dataclass(slots=True, eq=False)
class Ticket:
    """What was taken, once, and is settled once."""

    cells: tuple[Cell, ...]
    member: str
    second: int  # when it was taken, by the clock of the counters
    is_local: bool  # counted in this process, not in Redis


@dataclass(slots=True)
class Permit:
    """A request that is in. Whoever holds it settles it, however the request ends."""

    limits: "RateLimits"
    member: str
    request: ChatRequest
    plan: RoutePlan
    aliases: Mapping[str, Alias]
    standing: Standing = NO_STANDING
    of_request: Ticket | None = None
    of_attempt: Ticket | None = None

    @property
    def named(self) -> Alias | None:
        """The alias that the request asks for by name."""
        return None if self.plan.policy else self.aliases.get(self.plan.requested)

    async def attempt(self, deployment: Deployment, alias: str) -> None:
        """Count an attempt against its deployment, and its alias if a policy chose that. The one before is over.

        :raises RateLimited: there is no room; another target may have some.
        """
        self._end_attempt(0)
        chosen = self.aliases.get(alias) if self.plan.policy else None
        if deployment.rate_limit is None and (chosen is None or chosen.rate_limit is None):
            return
        demand = demand_of(self.request, self.plan)
        cells = _cells(deployment.rate_limit, f"deployment:{deployment.id}", f"deployment “{deployment.name}”", demand)
        if chosen is not None:
            cells += _alias_cells(chosen, demand)
        self.of_attempt, _ = await self.limits.take(tuple(cells), self.member, self.standing)

    def settle(self, tokens: int) -> None:
        """Give slots back, and count the tokens that were really used; the first time counts. Never waits."""
        self._end_attempt(tokens)
        ticket, self.of_request = self.of_request, None
        if ticket is not None:
            self.limits.settle(ticket, tokens)

    def _end_attempt(self, tokens: int) -> None:
        ticket, self.of_attempt = self.of_attempt, None
        if ticket is not None:
            self.limits.settle(ticket, tokens)


class Taken(NamedTuple):
    """An answer of the counters."""

    levels: list[Level]
    now_ms: int
    is_local: bool


class Waiting(NamedTuple):
    """An operation on its way to Redis; a correction has nobody who waits."""

    operation: Operation
    taken: asyncio.Future[Taken] | None


@dataclass(slots=True)
class Seen:
    """What the counters last said of a cell: how much was taken, of what limit, and when."""

    used: int
    limit: int
    at_ms: int

    def used_share(self, now_ms: int, *, is_slot: bool) -> float:
        """As if what was taken in a minute ran out evenly; slots are given back one by one, and lapse."""
        age_s = (now_ms - self.at_ms) / 1000
        left = (1.0 if age_s < WINDOW_S else 0.0) if is_slot else max(0.0, 1.0 - age_s / WINDOW_S)
        return min(1.0, left * self.used / self.limit)


class RateLimits:
    """Belongs to one event loop. `processes`: gateways that share the limits when they cannot count together.

    Without `shared` counters it always counts by itself.
    """

    def __init__(
        self,
        shared: SharedCounters | None,
        *,
        processes: int = 1,
        trip_s: float = TRIP_S,
        renew_s: float = RENEW_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._shared = shared
        self._local = Counters(shares=processes)
        self._clock = clock
        self._trip_s = trip_s
        self._renew_s = renew_s
        self._is_alone = True
        self._waiting: list[Waiting] = []
        self._holders: set[Ticket] = set()  # of slots
        self._seen: dict[str, Seen] = {}  # by cell, of deployments
        self._sender: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._renewer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look for Redis once; without it, count alone until it is found."""
        self._renewer = asyncio.create_task(self._renew_for_ever(), name="rate-limits-renew")
        if self._shared is not None and not await self._is_back():
            logger.warning("rate limits: Redis does not answer. This process counts by itself until it does")
            self._probe = asyncio.create_task(self._probe_for_ever(), name="rate-limits-probe")

    async def close(self) -> None:
        if self._sender is not None:
            await asyncio.wait([self._sender], timeout=1.0)
        for task in (self._sender, self._probe, self._renewer):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        if self._shared is not None:
            await self._shared.close()

    async def enter(
        self, caller: Caller, plan: RoutePlan, request: ChatRequest, *, aliases: Mapping[str, Alias], member: str
    ) -> Permit:
        """Count a request against its key, its team and the alias that it names: all of them or none.

        `member` tells the request from all others.

        :raises RateLimited: one of them has no room.
        """
        permit = Permit(self, member, request, plan, aliases)
        alias = permit.named
        if caller.key_limit is caller.team_limit is None and (alias is None or alias.rate_limit is None):
            return permit
        demand = demand_of(request, plan)
        cells = _cells(caller.key_limit, f"key:{caller.key_id}", f"key “{caller.key_name}”", demand)
        cells += _cells(caller.team_limit, f"team:{caller.team_id}", f"team “{caller.team_name}”", demand)
        if alias is not None:
            cells += _alias_cells(alias, demand)
        permit.of_request, permit.standing = await self.take(tuple(cells), member)
        return permit

    # --- taking and giving back ---

    async def take(
        self, cells: tuple[Cell, ...], member: str, standing: Standing | None = None
    ) -> tuple[Ticket, Standing]:
        """Take of all cells or of none. `standing`: what a refusal tells of instead of these cells.

        :raises RateLimited: one of them has no room.
        """
        levels, now_ms, is_local = await self._take(Operation(Act.TAKE, member, cells))
        self._note(cells, levels)
        found = standing_of(cells, levels)
        if any(level.wait_ms for level in levels):
            raise _refusal(*tightest_refusal(cells, levels), standing or found)
        ticket = Ticket(cells, member, now_ms // 1000, is_local)
        if any(cell.is_slot for cell in cells):
            self._holders.add(ticket)
        return ticket, found

    def settle(self, ticket: Ticket, tokens: int) -> None:
        """Give back what a ticket holds, and count the tokens that were really used."""
        self._holders.discard(ticket)
        for cell in ticket.cells:
            if cell.is_slot and (seen := self._seen.get(cell.key)):
                seen.used = max(0, seen.used - 1)
        corrections = (
            cell if cell.is_slot else _less(cell, cell.amount - tokens)
            for cell in ticket.cells
            if cell.measure is not Measure.REQUESTS
        )
        self._correct(ticket.member, tuple(corrections), ticket.second, is_local=ticket.is_local)

    def headroom(self, deployment: Deployment) -> float:
        """The free share of the tightest of a deployment's limits, 0 to 1; 1 without any.

        It is an estimate that asks nobody: what the counters, shared or not, said when this process last took of them,
        less what has run out since. What other gateways have taken since then is not in it, nor is what nobody has
        taken through this process for a minute.
        """
        now_ms = self._now_ms()
        used = 0.0
        for suffix in CELLS:
            seen = self._seen.get(f"deployment:{deployment.id}{suffix}")
            if seen is not None:
                used = max(used, seen.used_share(now_ms, is_slot=suffix == SLOTS))
        return 1.0 - used

    def _note(self, cells: tuple[Cell, ...], levels: list[Level]) -> None:
        """Remember how deployments stand, for `headroom`. Their number is bounded by the configuration."""
        for cell, level in zip(cells, levels, strict=True):
            if cell.key.startswith("deployment:"):
                self._seen[cell.key] = Seen(level.used, max(1, level.limit), self._now_ms())

    async def _take(self, operation: Operation) -> Taken:
        if self._is_alone:
            return self._take_locally(operation)
        future: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._send(Waiting(operation, future))
        try:
            return await future
        except asyncio.CancelledError:
            if not future.cancelled():  # counted, but the caller left before it heard of it
                self._undo(operation, future.result())
            raise

    def _take_locally(self, operation: Operation) -> Taken:
        now_ms = self._now_ms()
        return Taken(self._local.apply(operation, now_ms), now_ms, True)

    def _undo(self, operation: Operation, taken: Taken) -> None:
        if not any(level.wait_ms for level in taken.levels):
            used = tuple(_less(cell, cell.amount) for cell in operation.cells)
            self._correct(operation.member, used, taken.now_ms // 1000, is_local=taken.is_local)

    def _correct(self, member: str, cells: tuple[Cell, ...], second: int, *, is_local: bool) -> None:
        """Tokens are corrected where they were counted. Slots are freed wherever they may have been renewed."""
        cells = tuple(cell for cell in cells if cell.is_slot or cell.amount)
        slots = tuple(cell for cell in cells if cell.is_slot)
        here, there = (cells, slots) if is_local else (slots, cells)
        if here:
            self._local.apply(Operation(Act.CORRECT, member, here, second), self._now_ms())
        if there and not self._is_alone:
            self._send(Waiting(Operation(Act.CORRECT, member, there, second), None))

    # --- the trip to Redis ---

    def _send(self, waiting: Waiting) -> None:
        self._waiting.append(waiting)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all(), name="rate-limits-send")

    async def _send_all(self) -> None:
        """One trip after the other, each with all that has come meanwhile."""
        assert self._shared is not None
        try:
            while self._waiting and not self._is_alone:
                batch = self._waiting[:BATCH]
                now_ms, levels = await self._shared.apply(
                    [waiting.operation for waiting in batch], timeout_s=self._trip_s
                )
                del self._waiting[: len(batch)]
                for waiting, found in zip(batch, levels, strict=True):
                    self._answer(waiting, Taken(found, now_ms, False))
        except CountersUnreachable as error:
            self._go_alone(str(error))
        finally:
            self._sender = None

    def _answer(self, waiting: Waiting, taken: Taken) -> None:
        if waiting.taken is None:
            return
        if not waiting.taken.cancelled():
            waiting.taken.set_result(taken)
        else:  # the caller left meanwhile
            self._undo(waiting.operation, taken)

    def _go_alone(self, problem: str) -> None:
        """Count in this process from now on, beginning with what is under way."""
        logger.warning("rate limits: Redis is lost (%s). This process counts by itself until it is back", problem)
        self._is_alone = True
        for operation in _renewals(self._holders):
            self._local.apply(operation, self._now_ms())
        waiting, self._waiting = self._waiting, []
        for item in waiting:
            if item.taken is not None and not item.taken.cancelled():
                self._answer(item, self._take_locally(item.operation))
        self._probe = asyncio.create_task(self._probe_for_ever(), name="rate-limits-probe")

    async def _probe_for_ever(self) -> None:
        pause_s = FIRST_PROBE_S
        while True:
            await asyncio.sleep(pause_s)
            if await self._is_back():
                logger.info("rate limits: Redis is back")
                return
            pause_s = min(2 * pause_s, PROBE_S)

    async def _is_back(self) -> bool:
        """Try a trip that tells what is under way here; on success, count together again."""
        assert self._shared is not None
        try:
            await self._shared.apply(_renewals(self._holders), timeout_s=PROBE_TRIP_S)
        except CountersUnreachable:
            return False
        self._is_alone = False
        return True

    async def _renew_for_ever(self) -> None:
        """Say that requests are still under way; what a killed gateway held lapses."""
        while True:
            await asyncio.sleep(self._renew_s)
            for operation in _renewals(self._holders):
                if self._is_alone:
                    self._local.apply(operation, self._now_ms())
                else:
                    self._send(Waiting(operation, None))
            self._local.sweep(self._now_ms())

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _cells(limit: RateLimit | None, key: str, of: str, demand: Demand) -> list[Cell]:
    return [] if limit is None else cells_of(limit, key=key, of=of, tokens=demand.tokens, assumed=demand.assumed)


def _alias_cells(alias: Alias, demand: Demand) -> list[Cell]:
    return _cells(alias.rate_limit, f"alias:{alias.name}", f"model “{alias.name}”", demand)


def limit_headers(standing: Standing) -> dict[str, str]:
    """How the caller stands, by OpenAI's names and in its notation of times.

    Source: OpenAI, guide "Rate limits", section "Rate limits in headers", 2026-06.
    """
    told = {}
    for measure, room in ((Measure.REQUESTS, standing.requests), (Measure.TOKENS, standing.tokens)):
        if room is not None:
            told[f"x-ratelimit-limit-{measure}"] = str(room.limit)
            told[f"x-ratelimit-remaining-{measure}"] = str(room.remaining)
            told[f"x-ratelimit-reset-{measure}"] = duration(room.reset_ms)
    return told


def duration(ms: int) -> str:
    """“120ms”, “1s”, “59.87s”, “6m0s”: as Go writes it."""
    if ms < 1000:
        return f"{max(0, ms)}ms"
    minutes, left = divmod(ms, 60_000)
    seconds = f"{left / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def _less(cell: Cell, amount: int) -> Cell:
    """The correction that takes `amount` back."""
    return Cell(cell.key, cell.measure, cell.limit, -amount)


def _renewals(holders: Iterable[Ticket]) -> list[Operation]:
    return [
        Operation(Act.RENEW, ticket.member, tuple(cell for cell in ticket.cells if cell.is_slot)) for ticket in holders
    ]


def _refusal(cell: Cell, level: Level, standing: Standing) -> RateLimited:
    """What the caller is told: whose limit it is, of what, and when to try again."""
    if level.wait_ms == NEVER:
        return RateLimited(
            f"This request may take {cell.amount:,} tokens, and {cell.of} may use {cell.limit:,} per minute. "
            "Send less, or ask for a shorter answer with max_tokens.",
            headers=limit_headers(standing),
        )
    wait_s = level.wait_ms / 1000
    return RateLimited(
        f"The rate limit of {cell.of} is reached: {_what(cell)}. Try again in {math.ceil(wait_s)} s.",
        headers=limit_headers(standing),
        retry_after_s=wait_s,
    )


def _what(cell: Cell) -> str:
    plural = "s" if cell.limit > 1 else ""
    match cell.measure:
        case Measure.REQUESTS:
            return f"{cell.limit:,} request{plural} per minute"
        case Measure.TOKENS:
            return f"{cell.limit:,} token{plural} per minute, and this request may take {cell.amount:,}"
        case Measure.PARALLEL:
            return f"{cell.limit:,} request{plural} at a time"
