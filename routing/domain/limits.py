"""Rate limits: what has been taken of each, and whether one more request fits. Pure; times are milliseconds.

A limit per minute is counted in buckets of a second. What counts at a moment are the bucket of this second and the 60
before it, so that no 60 seconds ever see more than the limit; the price is that a request may count for 61 seconds. The
usual two counters (this minute and a share of the last) would let through nearly twice the limit after a burst.

The gateway's Lua script (`routerplatform/gateway/rate_limits.lua`) follows the same rules; tests run the two side by
side.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from msgspec import Struct

from providers.domain.types import RateLimit

WINDOW_S: Final = 60
SLOT_TTL_MS: Final = 45_000  # how long a request counts as under way without a sign of life from its gateway
SLOT_WAIT_MS: Final = 1_000  # what to say when nobody can know when a running request ends
NEVER: Final = -1


class Measure(StrEnum):
    """What a limit counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    PARALLEL = "parallel"


class Cell(Struct, frozen=True):
    """One limit, and what a request takes of it. `of` says in words whose limit it is: key “search api”."""

    key: str
    measure: Measure
    limit: int
    amount: int
    of: str = ""

    @property
    def is_slot(self) -> bool:
        """Whether what is taken is given back when the request ends, rather than after a minute."""
        return self.measure is Measure.PARALLEL


def cells_of(limit: RateLimit, *, key: str, of: str, tokens: int, assumed: int = 0) -> list[Cell]:
    """The cells of one limit. `assumed` is the part of `tokens` that nobody asked for.

    An assumption alone never makes a request too large for a limit.
    """
    cells = []
    if limit.rpm is not None:
        cells.append(Cell(f"{key}:r", Measure.REQUESTS, limit.rpm, 1, of))
    if limit.tpm is not None:
        amount = min(tokens, max(tokens - assumed, limit.tpm))
        cells.append(Cell(f"{key}:t", Measure.TOKENS, limit.tpm, amount, of))
    if limit.max_parallel is not None:
        cells.append(Cell(f"{key}:p", Measure.PARALLEL, limit.max_parallel, 1, of))
    return cells


class Act(IntEnum):
    """`TAKE` from all cells or from none; `CORRECT` what was taken, and free the slots; `RENEW` slots still in use."""

    TAKE = 0
    CORRECT = 1
    RENEW = 2


class Operation(Struct, frozen=True):
    """One step of a request. `member` names it among those that hold slots; `second` is when it took its tokens.

    The amounts of a correction are what was really used less what was taken.
    """

    act: Act
    member: str
    cells: tuple[Cell, ...]
    second: int = 0


class Level(Struct, frozen=True, array_like=True):
    """Where a cell stands after an operation.

    `wait_ms` is 0 when the request fitted, else how long until it will, `NEVER` when it is larger than the limit.
    `reset_ms`: until nothing counts any more; 0 for slots.
    """

    limit: int
    used: int
    wait_ms: int
    reset_ms: int


class Counters:
    """What is taken, kept in memory. One owner: not for several threads.

    `shares`: among how many the limits are divided; each gets at least 1.
    """

    def __init__(self, *, shares: int = 1) -> None:
        self._shares = shares
        self._buckets: dict[str, dict[int, int]] = {}  # by second
        self._slots: dict[str, dict[str, int]] = {}  # by member: when it lapses

    def apply(self, operation: Operation, now_ms: int) -> list[Level]:
        """Carry out one operation; the levels of its cells for `TAKE`, else nothing."""
        match operation.act:
            case Act.TAKE:
                return self._take(operation, now_ms)
            case Act.CORRECT:
                self._correct(operation, now_ms)
            case Act.RENEW:
                for cell in operation.cells:
                    self._slots.setdefault(cell.key, {})[operation.member] = now_ms + SLOT_TTL_MS
        return []

    def sweep(self, now_ms: int) -> None:
        """Forget what no longer counts."""
        for key in list(self._buckets):
            if not self._counting(key, now_ms):
                del self._buckets[key]
        for key in list(self._slots):
            if not self._running(key, now_ms):
                del self._slots[key]

    def _take(self, operation: Operation, now_ms: int) -> list[Level]:
        levels = [self._level(cell, operation.member, now_ms) for cell in operation.cells]
        if any(level.wait_ms for level in levels):
            return levels
        for cell in operation.cells:
            if cell.is_slot:
                self._slots.setdefault(cell.key, {})[operation.member] = now_ms + SLOT_TTL_MS
            else:
                buckets, second = self._buckets.setdefault(cell.key, {}), now_ms // 1000
                buckets[second] = buckets.get(second, 0) + self._amount(cell)
        return [self._taken(cell, now_ms) for cell in operation.cells]

    def _correct(self, operation: Operation, now_ms: int) -> None:
        """What was taken too much goes back to where it was taken; what was used beyond it counts from now on."""
        for cell in operation.cells:
            if cell.is_slot:
                self._slots.get(cell.key, {}).pop(operation.member, None)
            elif cell.amount > 0:
                buckets, second = self._buckets.setdefault(cell.key, {}), now_ms // 1000
                buckets[second] = buckets.get(second, 0) + cell.amount
            elif (taken := self._buckets.get(cell.key, {})) and operation.second in taken:
                taken[operation.second] = max(0, taken[operation.second] + cell.amount)

    def _level(self, cell: Cell, member: str, now_ms: int) -> Level:
        """Before taking."""
        limit = self._limit(cell)
        if cell.is_slot:
            running = self._running(cell.key, now_ms)
            fits = member in running or len(running) < limit
            return Level(limit, len(running), 0 if fits else SLOT_WAIT_MS, 0)
        buckets = self._counting(cell.key, now_ms)
        used = sum(buckets.values())
        wait_ms = _wait_ms(buckets, used + self._amount(cell) - limit, now_ms)
        return Level(limit, used, wait_ms, _leaves_ms(max(buckets), now_ms) if buckets else 0)

    def _taken(self, cell: Cell, now_ms: int) -> Level:
        limit = self._limit(cell)
        if cell.is_slot:
            return Level(limit, len(self._slots[cell.key]), 0, 0)
        buckets = self._buckets[cell.key]
        return Level(limit, sum(buckets.values()), 0, _leaves_ms(max(buckets), now_ms))

    def _limit(self, cell: Cell) -> int:
        return max(1, cell.limit // self._shares)

    def _amount(self, cell: Cell) -> int:
        """A request that the whole limit has room for is not too large for a share of it."""
        return min(cell.amount, self._limit(cell)) if cell.amount <= cell.limit else cell.amount

    def _counting(self, key: str, now_ms: int) -> dict[int, int]:
        buckets = self._buckets.get(key, {})
        oldest = now_ms // 1000 - WINDOW_S
        for second in [second for second in buckets if second < oldest]:
            del buckets[second]
        return buckets

    def _running(self, key: str, now_ms: int) -> dict[str, int]:
        slots = self._slots.get(key, {})
        for member in [member for member, lapses_ms in slots.items() if lapses_ms <= now_ms]:
            del slots[member]
        return slots


def _leaves_ms(second: int, now_ms: int) -> int:
    """How long a bucket still counts."""
    return (second + WINDOW_S + 1) * 1000 - now_ms


def _wait_ms(buckets: dict[int, int], excess: int, now_ms: int) -> int:
    """How long until `excess` has left the buckets; `NEVER` if there is less in them."""
    if excess <= 0:
        return 0
    for second in sorted(buckets):
        excess -= buckets[second]
        if excess <= 0:
            return _leaves_ms(second, now_ms)
    return NEVER


@dataclass(frozen=True, slots=True)
class Headroom:
    """What is left of the tightest limit of one measure."""

    limit: int
    remaining: int
    reset_ms: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How a caller stands with its limits; None where nothing is limited."""

    requests: Headroom | None = None
    tokens: Headroom | None = None


NO_STANDING: Final = Standing()


def standing_of(cells: Iterable[Cell], levels: Iterable[Level]) -> Standing:
    """The tightest limit of each measure: the one with the least left."""
    rooms: dict[Measure, Headroom] = {}
    for cell, level in zip(cells, levels, strict=True):
        room = Headroom(level.limit, max(0, level.limit - level.used), level.reset_ms)
        tightest = rooms.get(cell.measure)
        if tightest is None or room.remaining < tightest.remaining:
            rooms[cell.measure] = room
    return Standing(rooms.get(Measure.REQUESTS), rooms.get(Measure.TOKENS))


def tightest_refusal(cells: Iterable[Cell], levels: Iterable[Level]) -> tuple[Cell, Level]:
    """Of the limits that a request did not fit, the one that lasts longest."""
    refused = [(cell, level) for cell, level in zip(cells, levels, strict=True) if level.wait_ms]
    return max(refused, key=lambda pair: float("inf") if pair[1].wait_ms == NEVER else pair[1].wait_ms)
