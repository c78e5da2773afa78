"""Answers given again: an equal request of the same team gets the answer that the first one got, at no cost.

Only what was answered whole is kept. Of requests that are equal and under way at once, one asks a provider; the others
wait for its answer, in this process and, where the answers are shared, in all of them.
"""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec
from django.core.exceptions import ImproperlyConfigured
from msgspec import Struct

from analytics.domain.usage import UsageEntry
from providers.domain.answer import FinishReason, Frame
from providers.domain.types import ChatRequest, Deployment, Wire
from providers.fields import seal_bytes, unseal_bytes
from routerplatform.gateway.errors import InvalidRequest
from routerplatform.gateway.shared_answers import AnswersAway, SharedAnswers
from routerplatform.gateway.tally import Tally
from routing.domain.config import Caller
from routing.domain.decision import RoutePlan

HEADER: Final = "x-router-cache"
WISHES: Final = ("", "on", "off", "refresh")
MAX_ANSWER_BYTES: Final = 1024 * 1024
CLAIM_S: Final = 60.0  # one who fetches and dies keeps the others of the fleet waiting for no longer
LOOK_AGAIN_S: Final = 0.05  # for an answer that another process is fetching
WHOLE: Final = frozenset({FinishReason.STOP, FinishReason.TOOL_CALLS, FinishReason.LENGTH})
NOT_CUT: Final = WHOLE - {FinishReason.LENGTH}  # where not the caller has limited the answer, but a filling budget

CacheState = Literal["none", "hit", "miss"]

logger = logging.getLogger(__name__)


class KeptAnswer(Struct, frozen=True):
    """One answer. `cost_nano` is what it cost when it was fetched, None where nobody knew; times are seconds since the
    epoch."""

    wire: Wire
    deployment: str
    frames: tuple[Frame, ...]
    cost_nano: int | None
    kept_at: float


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(KeptAnswer).decode


@dataclass(slots=True)
class Turn:
    """What the cache has to do with one request: nothing (no `key`), an answer (`kept`), or to take one down."""

    cache: "ResponseCache"
    key: str = ""
    ttl_s: int = 0
    kept: KeptAnswer | None = None
    target: Deployment | None = None
    fetching: "asyncio.Future[KeptAnswer | None] | None" = None
    owner: str = ""
    is_shortened: bool = False
    _frames: list[Frame] = field(default_factory=list)
    _size: int = 0

    @property
    def state(self) -> CacheState:
        return "hit" if self.kept else "miss" if self.fetching else "none"

    def noted(self, draft: UsageEntry) -> UsageEntry:
        """The draft of the request's record, with what the cache did."""
        if self.state == "none":
            return draft
        saved = self.kept.cost_nano if self.kept else 0
        return msgspec.structs.replace(draft, cache=self.state, saved_nano=saved)

    async def replay(self, tally: Tally) -> AsyncGenerator[list[Frame], None]:
        """The kept answer as an attempt would have given it; nothing is billed."""
        assert self.kept is not None
        assert self.target is not None
        tally.deployment, tally.wire = self.target, self.kept.wire
        frames = list(self.kept.frames)
        tally.see(frames)
        yield frames

    def take_down(self, frames: list[Frame]) -> None:
        """Note what passes, while there is room for it."""
        if self.fetching is not None and self._size <= MAX_ANSWER_BYTES:
            self._frames += frames
            self._size += sum(len(frame.raw) for frame in frames)

    def end(self, tally: Tally | None, now: float, *, is_answered: bool) -> None:
        """The request is over: let the others have its answer, or let one of them ask. Call it exactly once."""
        if self.fetching is None:
            return
        kept = None
        is_whole = tally is not None and tally.finish in (NOT_CUT if self.is_shortened else WHOLE)
        if is_answered and tally is not None and is_whole and self._size <= MAX_ANSWER_BYTES:
            kept = KeptAnswer(tally.wire, tally.target.name, tuple(self._frames), tally.cost_nano, now)
        self.cache.finish(self, kept)


class ResponseCache:
    """One per event loop. Without `shared` nothing is kept."""

    def __init__(self, shared: SharedAnswers | None, *, ttl_s: int) -> None:
        self._shared = shared if ttl_s else None
        self._ttl_s = ttl_s
        self._fetching: dict[str, asyncio.Future[KeptAnswer | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def turn(self, caller: Caller, plan: RoutePlan, request: ChatRequest, wish: str, owner: str) -> Turn:
        """The answer of an equal request, waiting for one that is under way; else the right to fetch it.

        :raises InvalidRequest: a wish that nobody knows.
        """
        ttl_s = self._ttl_of(plan, request, wish)
        if self._shared is None or not ttl_s:
            return Turn(self)
        key = _key(caller, plan, request)
        while running := self._fetching.get(key):
            await asyncio.wait([running])
            if (kept := running.result()) and (turn := self._hit(kept, plan, caller)):
                return turn
        mine = self._fetching[key] = asyncio.get_running_loop().create_future()
        turn = Turn(self, key, ttl_s, fetching=mine, owner=owner, is_shortened=plan.step.max_tokens is not None)
        is_left = True  # until the fleet has been asked: a caller who leaves meanwhile lets another one fetch
        try:
            kept = None if wish == "refresh" else await self._from_the_fleet(turn, caller)
            is_left = False
        finally:
            if is_left:
                self.finish(turn, None)
        if kept and (hit := self._hit(kept, plan, caller)):
            self._release(turn, kept)
            return hit
        return turn

    def finish(self, turn: Turn, kept: KeptAnswer | None) -> None:
        """Hand an answer to those who wait for it, and keep it for later ones; None: there is none."""
        self._release(turn, kept)
        self._in_background(self._keep(turn, kept))

    async def close(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        if self._shared is not None:
            await self._shared.close()

    def _ttl_of(self, plan: RoutePlan, request: ChatRequest, wish: str) -> int:
        """Seconds that the answer is kept; 0: it has nothing to do with the cache."""
        if wish not in WISHES:
            raise InvalidRequest(f"“{HEADER}” must be on, off or refresh.", param=HEADER)
        temperature = plan.defaults.temperature if request.temperature is None else request.temperature
        applies = wish in {"on", "refresh"} or plan.cache.mode == "always" or temperature == 0
        if plan.cache.mode == "never" or wish == "off" or not applies or request.only_at:
            return 0
        return self._ttl_s if plan.cache.ttl_s is None else plan.cache.ttl_s

    def _hit(self, kept: KeptAnswer, plan: RoutePlan, caller: Caller) -> Turn | None:
        """None for what was purged, or came from a deployment that may no longer serve this."""
        target = next((target for target in plan.targets if target.name == kept.deployment), None)
        if target is None or kept.kept_at <= caller.cache_purged_at:
            return None
        return Turn(self, kept=kept, target=target)

    async def _from_the_fleet(self, turn: Turn, caller: Caller) -> KeptAnswer | None:
        """The shared answer; while another process is fetching it, wait. None: it is for us to fetch."""
        assert self._shared is not None
        try:
            while True:
                kept = _opened(await self._shared.read(turn.key))
                if kept and kept.kept_at > caller.cache_purged_at:
                    return kept
                if await self._shared.claim(turn.key, turn.owner, for_s=CLAIM_S):
                    return None
                await asyncio.sleep(LOOK_AGAIN_S)
        except AnswersAway:
            return None

    def _release(self, turn: Turn, kept: KeptAnswer | None) -> None:
        assert turn.fetching is not None
        del self._fetching[turn.key]
        turn.fetching.set_result(kept)

    async def _keep(self, turn: Turn, kept: KeptAnswer | None) -> None:
        assert self._shared is not None
        with contextlib.suppress(AnswersAway):
            if kept is not None:
                await self._shared.keep(turn.key, seal_bytes(_encode(kept)), ttl_s=turn.ttl_s)
            await self._shared.give_up(turn.key, turn.owner)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _key(caller: Caller, plan: RoutePlan, request: ChatRequest) -> str:
    """SHA-256 over the team, the route and the whole request, as the caller wrote it.

    Of a request that a policy routes, the route is its rules, not the target that its strategy happened to put first:
    who drew another model gets the answer too, as long as the model that gave it may serve here.
    """
    defaults = plan.defaults
    digest = hashlib.sha256()
    rules = (plan.policy, plan.policy_version, plan.arm) if plan.policy else (plan.targets[0].name,)
    route = (
        caller.team_id, request.wire, request.stream, request.include_usage, plan.requested, plan.persona,
        defaults.system_prompt, defaults.temperature, defaults.max_tokens, rules,
        sorted(request.vendor_headers.items()),
    )  # fmt: skip
    digest.update(_encode(route))
    for name in sorted(request.fields):
        digest.update(_encode((name, bytes(request.fields[name]))))
    return digest.hexdigest()


def _opened(sealed: str | None) -> KeptAnswer | None:
    """None for what was sealed with a key that is gone, or written by another version."""
    if sealed is None:
        return None
    try:
        return _decode(unseal_bytes(sealed))
    except (ImproperlyConfigured, msgspec.DecodeError) as error:
        logger.warning("a kept answer cannot be read, it is fetched anew: %s", error)
        return None
