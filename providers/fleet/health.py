"""Whom a request may be sent to now: circuit breakers of deployments and rests of keys, for the whole fleet.

The rules are `domain/breaker.py` and `domain/key_rest.py`; here they meet a clock, traffic, and the other processes. As
long as nothing is wrong, an attempt costs two lookups in empty tables, and nothing is said to anybody.
"""

import asyncio
import logging
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from math import floor
from types import TracebackType
from typing import Final, Self
from zlib import crc32

from providers.domain.breaker import (
    PRISTINE,
    USUAL_RULES,
    WINDOW_S,
    Advice,
    Breaker,
    BreakerRules,
    BreakerState,
    Second,
    advice,
    claimed,
    failed,
    probed,
    released,
    renewed,
    since,
    succeeded,
    tidied,
)
from providers.domain.errors import Failure, FailureKind
from providers.domain.failures import REACTIONS
from providers.domain.key_rest import OF_ONE_DEPLOYMENT, RESTS_S, KeyRest, answered, chosen, remembered, rested
from providers.domain.out_of_service import BreakerOpen, KeysResting
from providers.domain.types import Credential, Deployment
from providers.fleet.board import BREAKER, KEY, Entry, HealthBoard
from providers.fleet.shared import SharedHealth
from providers.fleet.states import DeploymentStanding, FleetStates, KeyStanding

CLAIM_WITHIN_S: Final = 0.1  # what a request waits to hear that it may probe
KEEP_UP_S: Final = 1.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Successes:
    """Of one second, that nobody needed to know of so far."""

    second: int
    number: int
    last_at: float


class Trial:
    """One attempt at a deployment. Use it as a context; without a word on how it went, nobody is blamed or praised."""

    __slots__ = ("_health", "credential", "deployment", "prober")

    def __init__(
        self, health: "FleetHealth", deployment: Deployment, credential: Credential | None, prober: str
    ) -> None:
        self._health = health
        self.deployment = deployment
        self.credential = credential
        self.prober = prober

    def __enter__(self) -> Self:
        self._health.under_way(self, 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._health.under_way(self, -1)
        self._health.released(self)

    def answering(self) -> None:
        """The first content is there: whoever only wanted to know whether it answers knows."""
        if self.prober:
            self._health.probed(self, is_well=True)

    def succeeded(self) -> None:
        self._health.succeeded(self)

    def failed(self, failure: Failure) -> None:
        self._health.failed(self, failure)


class FleetHealth:
    """Belongs to one event loop. Without `shared` it knows what this process has seen."""

    def __init__(
        self,
        shared: SharedHealth | None,
        *,
        rules: BreakerRules = USUAL_RULES,
        clock: Callable[[], float] = time.time,
        keep_up_s: float = KEEP_UP_S,
    ) -> None:
        self._board = HealthBoard(shared, clock=clock)
        self._rules = rules
        self._keep_up_s = keep_up_s
        self._unsaid: defaultdict[int, deque[Successes]] = defaultdict(lambda: deque(maxlen=WINDOW_S + 1))
        self._turns: defaultdict[int, Iterator[int]] = defaultdict(count)  # by provider
        self._under_way: defaultdict[int, int] = defaultdict(int)  # by key
        self._in_flight: defaultdict[int, int] = defaultdict(int)  # by deployment
        self._probing: dict[str, Deployment] = {}  # by prober
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._board.start()
        self._keeper = asyncio.create_task(self._keep_up_for_ever(), name="health-keep-up")

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        await self._board.close()

    # --- before an attempt ---

    def look(self, deployment: Deployment, *, tried: Collection[int] = (), is_last: bool = False) -> Advice:
        """What is known against an attempt now; claims nothing. `tried` are ids of keys that are not to be used.

        `is_last`: there is nobody else to ask, so a breaker that only a share of failures has opened lets it through,
        and so do keys that rest because of a guess of ours.

        :raises OutOfService: it should not be made.
        """
        if not self._board.entries and not deployment.breaker and not tried:
            return Advice.ASK
        found = advice(self._breaker(deployment), deployment.breaker, now=self._board.now(), rules=self._rules)
        if found is Advice.REFUSE or (found is Advice.AVOID and not is_last):
            raise self._refusal(deployment, may_be_last=found is Advice.AVOID)
        self._usable(deployment, tried, is_last)
        return found

    async def enter(self, deployment: Deployment, *, tried: Collection[int] = (), is_last: bool = False) -> Trial:
        """An attempt that may be made at once, with the key to use. Ask last: it may come with a claim.

        :raises OutOfService: as `look`; also when another request probes already.
        """
        prober = ""
        if self.look(deployment, tried=tried, is_last=is_last) is Advice.PROBE:
            prober = await self._claim(deployment)
            if not prober and not (is_last and self._breaker(deployment).by_share):
                raise self._refusal(deployment, may_be_last=self._breaker(deployment).by_share)
        return Trial(self, deployment, self._credential(deployment, tried, is_last), prober)

    def has_key(self, deployment: Deployment, *, tried: Collection[int]) -> bool:
        """Whether there is a key that is awake and has not been tried."""
        return bool(self._awake(deployment, tried))

    # --- after it, for `Trial` ---

    def under_way(self, trial: Trial, change: int) -> None:
        self._in_flight[trial.deployment.id] += change
        if trial.credential is not None:
            self._under_way[trial.credential.id] += change

    def succeeded(self, trial: Trial) -> None:
        """Say so only where somebody knows of failures; else count it, should it be asked for soon."""
        deployment, entries = trial.deployment, self._board.entries
        if trial.prober:
            self.probed(trial, is_well=True)
        now = self._board.now()
        if not deployment.breaker:
            counts, second = self._unsaid[deployment.id], floor(now)
            if counts and counts[-1].second == second:
                counts[-1].number += 1
                counts[-1].last_at = now
            else:
                counts.append(Successes(second, 1, now))
            if entries and _breaker_name(deployment) in entries:
                self._change_breaker(deployment, self._successes(deployment), is_urgent=False)
        if entries and trial.credential is not None:
            for name in _key_names(trial.credential, deployment):
                if name in entries:
                    self._board.change(name, partial(_answered, now=now), is_urgent=False)

    def failed(self, trial: Trial, failure: Failure) -> None:
        """Let the deployment, or the key, answer for it; most failures are the fault of neither."""
        reaction, deployment, now = REACTIONS[failure.kind], trial.deployment, self._board.now()
        if reaction.counts_for_breaker and trial.prober:
            self.probed(trial, is_well=False, kind=failure.kind)
        elif reaction.counts_for_breaker and not deployment.breaker:
            before = self._successes(deployment)

            def fail(breaker: Breaker) -> Breaker:
                return failed(before(breaker), at=now, kind=failure.kind, rules=self._rules)

            self._change_breaker(deployment, fail)
        if reaction.cools_key and trial.credential is not None and failure.dispatched:
            self._rest(trial.credential, deployment, failure, now)

    def probed(self, trial: Trial, *, is_well: bool, kind: str = "") -> None:
        prober, trial.prober = trial.prober, ""
        self._probing.pop(prober, None)
        self._change_breaker(
            trial.deployment, partial(probed, prober=prober, is_well=is_well, at=self._board.now(), kind=kind)
        )

    def released(self, trial: Trial) -> None:
        """Give back a claim that nothing came of."""
        if trial.prober:
            prober, trial.prober = trial.prober, ""
            self._release(trial.deployment, prober)

    def in_flight(self, deployment: Deployment) -> int:
        """How many attempts this process has under way there."""
        return self._in_flight.get(deployment.id, 0)

    # --- for people and figures ---

    def states(self, deployments: Iterable[Deployment]) -> FleetStates:
        """How these deployments and their keys stand now."""
        listed = tuple(deployments)
        now = self._board.now()
        resting: dict[str, KeyStanding] = {}
        for deployment in listed if self._board.entries else ():
            for credential in deployment.credentials:
                for name in _key_names(credential, deployment):
                    rest = self._board.entries.get(name)
                    if isinstance(rest, KeyRest) and rest.left_s(now) > 0:
                        resting[name] = _key_standing(credential, deployment, rest, now)
        return FleetStates(tuple(self._standing(one, now) for one in listed), tuple(resting.values()))

    def due(self, deployments: Iterable[Deployment], *, for_s: float) -> list[Deployment]:
        """Those that anybody might have tried for so long, and nobody has."""
        now = self._board.now()
        return [
            one
            for one in deployments
            if not one.breaker and self._breaker(one).is_due(now - for_s, self._rules) and not self._is_claimed(one)
        ]

    @property
    def is_shared(self) -> bool:
        """Whether this is what all processes know, and not this one alone."""
        return self._board.is_shared

    @property
    def open_deployments(self) -> frozenset[int]:
        """Ids of deployments whose breaker is not closed."""
        return frozenset(
            int(name[len(BREAKER) :])
            for name, entry in self._board.entries.items()
            if isinstance(entry, Breaker) and entry.opened_at
        )

    def _standing(self, deployment: Deployment, now: float) -> DeploymentStanding:
        breaker, forced = self._breaker(deployment), deployment.breaker
        state = BreakerState(forced) if forced else breaker.state(now)
        return DeploymentStanding(
            deployment=deployment,
            state=state,
            is_forced=bool(forced),
            by_share=breaker.by_share,
            probe_in_s=breaker.probe_in_s(now, self._rules) if state is BreakerState.OPEN and not forced else None,
            failures_in_a_row=len(breaker.row),
            last_failure=breaker.last_failure,
        )

    # --- breakers ---

    def _breaker(self, deployment: Deployment) -> Breaker:
        entry = self._board.entries.get(_breaker_name(deployment)) if self._board.entries else None
        return since(entry, deployment.breaker_reset_at) if isinstance(entry, Breaker) else PRISTINE

    def _is_claimed(self, deployment: Deployment) -> bool:
        return self._breaker(deployment).is_claimed(self._board.now())

    def _change_breaker(
        self, deployment: Deployment, change: Callable[[Breaker], Breaker], *, is_urgent: bool = True
    ) -> None:
        now, reset_at = self._board.now(), deployment.breaker_reset_at

        def change_entry(entry: Entry | None) -> Entry | None:
            breaker = since(entry, reset_at) if isinstance(entry, Breaker) else PRISTINE
            changed = tidied(change(breaker), now=now)
            return None if changed == PRISTINE else changed

        was = self._breaker(deployment).opened_at
        self._board.change(_breaker_name(deployment), change_entry, is_urgent=is_urgent)
        _log_turn(deployment, was, self._breaker(deployment))

    def _successes(self, deployment: Deployment) -> Callable[[Breaker], Breaker]:
        """The change that tells of all successes that nobody has been told of."""
        counts = self._unsaid.pop(deployment.id, None)
        if not counts:
            return lambda breaker: breaker
        seconds = tuple(Second(count.second, count.number) for count in counts)
        return partial(succeeded, seconds=seconds, at=counts[-1].last_at)

    async def _claim(self, deployment: Deployment) -> str:
        """The prober's name if the claim was to be had, else empty."""
        prober = secrets.token_hex(6)
        self._change_breaker(deployment, partial(claimed, prober=prober, now=self._board.now(), rules=self._rules))
        is_ours = False
        try:
            is_settled = await self._board.settled(within_s=CLAIM_WITHIN_S)
            is_ours = is_settled and self._breaker(deployment).prober == prober
        finally:  # also for a caller who leaves just now
            if not is_ours:
                self._release(deployment, prober)
        if not is_ours:
            return ""
        self._probing[prober] = deployment
        return prober

    def _release(self, deployment: Deployment, prober: str) -> None:
        self._probing.pop(prober, None)
        self._change_breaker(deployment, partial(released, prober=prober))

    def _refusal(self, deployment: Deployment, *, may_be_last: bool) -> BreakerOpen:
        now, breaker = self._board.now(), self._breaker(deployment)
        if deployment.breaker == "open":
            return BreakerOpen("an operator holds its circuit breaker open", None, may_be_last=False)
        wait_s = breaker.probe_in_s(now, self._rules)
        if not wait_s:
            return BreakerOpen(
                "its circuit breaker is open, and another request is trying it now", 1.0, may_be_last=may_be_last
            )
        why = "after too many failures" if breaker.by_share else f"after {self._rules.row} failures in a row"
        text = f"its circuit breaker is open {why} ({_in_words(breaker.last_failure)})"
        return BreakerOpen(text, wait_s, may_be_last=may_be_last)

    # --- keys ---

    def _awake(self, deployment: Deployment, tried: Collection[int]) -> Sequence[Credential]:
        keys = deployment.credentials
        if tried:
            keys = tuple(key for key in keys if key.id not in tried)
        if not self._board.entries:
            return keys
        now = self._board.now()
        return [key for key in keys if self._rest_of(key, deployment, now) is None]

    def _rest_of(self, key: Credential, deployment: Deployment, now: float) -> KeyRest | None:
        """The longest of the rests that the key has here; None when it is awake."""
        found = (self._board.entries.get(name) for name in _key_names(key, deployment))
        rests = [rest for rest in found if isinstance(rest, KeyRest) and now < rest.until]
        return max(rests, key=lambda rest: rest.until, default=None)

    def _usable(self, deployment: Deployment, tried: Collection[int], is_last: bool) -> Sequence[Credential]:
        """The keys to choose from; as a last resort the one that wakes first. Empty where none is needed.

        :raises KeysResting: there is none.
        """
        if not deployment.credentials:
            return ()
        if awake := self._awake(deployment, tried):
            return awake
        now = self._board.now()
        rests = [(self._rest_of(key, deployment, now), key) for key in deployment.credentials if key.id not in tried]
        resting = [(rest, key) for rest, key in rests if rest is not None]
        if not resting:
            raise KeysResting(Failure(FailureKind.AUTHENTICATION, "no other key is left"), may_be_last=False)
        first, key = min(resting, key=lambda one: one[0].until)
        if is_last and not first.is_named:
            return (key,)
        raise KeysResting(_resting_failure(deployment, first, now), may_be_last=not first.is_named)

    def _credential(self, deployment: Deployment, tried: Collection[int], is_last: bool) -> Credential | None:
        keys = self._usable(deployment, tried, is_last)
        if len(keys) <= 1:
            return keys[0] if keys else None
        turn = next(self._turns[deployment.endpoint.id])
        return chosen(keys, deployment.endpoint.key_strategy, turn=turn, under_way=self._under_way)

    def _rest(self, key: Credential, deployment: Deployment, failure: Failure, now: float) -> None:
        everywhere, here = _key_names(key, deployment)
        name = here if failure.kind in OF_ONE_DEPLOYMENT else everywhere
        was_awake = self._rest_of(key, deployment, now) is None
        self._board.change(name, partial(_rested, kind=failure.kind, retry_after_s=failure.retry_after_s, now=now))
        if was_awake:
            reason = _in_words(failure.kind)
            logger.warning("key %s of provider %s rests: %s", key.label, deployment.endpoint.name, reason)

    # --- from time to time ---

    async def _keep_up_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._keep_up_s)
            await self.keep_up()

    async def keep_up(self) -> None:
        """Say that probes are still under way, forget what no longer counts, look at what the others know."""
        now = self._board.now()
        for prober, deployment in self._probing.items():
            self._change_breaker(deployment, partial(renewed, prober=prober, now=now), is_urgent=False)
        for name, entry in list(self._board.entries.items()):
            if _kept(entry, now=now) != entry:
                self._board.change(name, partial(_kept, now=now), is_urgent=False)
        await self._board.refresh()


def _breaker_name(deployment: Deployment) -> str:
    return f"{BREAKER}{deployment.id}"


def _key_names(key: Credential, deployment: Deployment) -> tuple[str, str]:
    """Where the rests of a key stand: of the key everywhere, and at this deployment."""
    return _names_of_rests(key.id, key.sealed, deployment.id)


@lru_cache(maxsize=4096)
def _names_of_rests(key_id: int, sealed: str, deployment_id: int) -> tuple[str, str]:
    """Another secret has other names, so it begins anew."""
    everywhere = f"{KEY}{key_id}:{crc32(sealed.encode()):x}"
    return everywhere, f"{everywhere}:{deployment_id}"


def _rested(entry: Entry | None, *, kind: FailureKind, retry_after_s: float | None, now: float) -> Entry | None:
    rest = entry if isinstance(entry, KeyRest) else None
    return rested(rest, kind=kind, retry_after_s=retry_after_s, now=now) if kind in RESTS_S else rest


def _answered(entry: Entry | None, *, now: float) -> Entry | None:
    return answered(entry, now=now) if isinstance(entry, KeyRest) else entry


def _kept(entry: Entry | None, *, now: float) -> Entry | None:
    if isinstance(entry, KeyRest):
        return remembered(entry, now=now)
    if entry is None or (breaker := tidied(entry, now=now)) == PRISTINE:
        return None
    return breaker


def _key_standing(key: Credential, deployment: Deployment, rest: KeyRest, now: float) -> KeyStanding:
    is_here = FailureKind(rest.kind) in OF_ONE_DEPLOYMENT
    name = deployment.name if is_here else ""
    return KeyStanding(key, deployment.endpoint.name, name, rest.until, rest.left_s(now), rest.kind)


def _resting_failure(deployment: Deployment, rest: KeyRest, now: float) -> Failure:
    keys = "its key rests" if len(deployment.credentials) == 1 else "all its keys rest"
    wait_s = rest.left_s(now)
    asked = ", as the provider asked" if rest.is_named else ""
    text = f"{keys} for another {wait_s:.0f} s ({_in_words(rest.kind)}{asked})"
    return Failure(FailureKind(rest.kind), text, retry_after_s=wait_s, dispatched=False)


def _in_words(kind: str) -> str:
    return kind.replace("_", " ") or "unknown"


def _log_turn(deployment: Deployment, was_opened_at: float, breaker: Breaker) -> None:
    if breaker.opened_at and not was_opened_at:
        logger.warning("circuit breaker of %s opens: %s", deployment.name, _in_words(breaker.last_failure))
    elif was_opened_at and not breaker.opened_at:
        logger.info("circuit breaker of %s closes", deployment.name)
