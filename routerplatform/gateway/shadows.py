"""Requests asked again by the rules of a shadow experiment's challenger; what comes back is counted and thrown away.

A second asking is an ordinary request of the key that pays for it: its limits and budgets hold, and it has a usage
record of its own (door “shadow”, with the experiment's arm). It begins when the first is on record, in a task of its
own: nobody waits for it, and nothing that happens to it is told to a caller. When too many are under way, or the payer
has no money left, requests are not asked again, which is counted.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

import msgspec
from msgspec import Raw
from prometheus_client import CollectorRegistry, Counter

from analytics.domain.usage import UsageEntry
from analytics.ledger.leases import BudgetsUnavailable
from analytics.ledger.ledger import Ledger
from providers.domain.types import ChatRequest, Wire
from routerplatform.gateway.admission import Admission, Admissions
from routerplatform.gateway.authentication import in_force
from routerplatform.gateway.dispatch import Dispatcher
from routerplatform.gateway.errors import BudgetExceeded, GatewayError, InternalError
from routerplatform.gateway.ids import new_request_id
from routerplatform.gateway.metrics import Metrics
from routerplatform.gateway.rate_limits import Permit, RateLimits
from routerplatform.gateway.request_log import RequestLog
from routerplatform.gateway.tally import ANSWERED, CANCELLED, Ending, Tally, failed, final_entry
from routerplatform.gateway.validity import with_validity
from routerplatform.logs import about_request
from routing.domain.config import Caller, ConfigSnapshot, Policy, Scope, Variant
from routing.domain.decision import NoRoute, RoutePlan, decide_as, followed, policy_named
from routing.domain.situation import Situation

DOOR: Final = "shadow"
MOST_IN_FLIGHT: Final = 32  # of one process
REST_S: Final = 60.0  # a payer whose budget has refused is left alone for so long

Outcome = Literal["asked", "busy", "refused"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """A request that is over and on record, with what it was decided from."""

    snapshot: ConfigSnapshot
    request: ChatRequest
    plan: RoutePlan
    situation: Situation
    entry: UsageEntry


@dataclass(frozen=True, slots=True)
class Path:
    """What a second asking goes through."""

    ledger: Ledger
    rate_limits: RateLimits
    admissions: Admissions
    dispatcher: Dispatcher
    metrics: Metrics
    request_log: RequestLog


@dataclass(slots=True)
class _Asking:
    """One second asking: who pays, where it goes, what it has come to."""

    payer: Caller
    plan: RoutePlan
    tally: Tally
    admission: Admission
    permit: Permit


class Shadows:
    """Belongs to one event loop. `mirror` never waits and never raises."""

    def __init__(self, path: Path, *, now: Callable[[], datetime], most: int = MOST_IN_FLIGHT) -> None:
        self._path = path
        self._now = now
        self._most = most
        self._asking: set[asyncio.Task[None]] = set()
        self._rests_until: dict[int, float] = {}  # by the payer's key; monotonic
        self._counter = Counter(
            "router_shadow_requests", "Requests that a shadow experiment hit: asked again, or not, and why.",
            ["outcome"], registry=CollectorRegistry(),
        )  # fmt: skip

    def mirror(self, served: Served) -> None:
        """Have the request asked again, if a shadow experiment has hit it."""
        variant = _shadow_of(served.plan)
        if variant is None or not _is_telling(served):
            return
        payer = served.snapshot.callers_by_key_id.get(variant.payer_key_id)
        if payer is None or not self._may_pay(payer):
            self._counter.labels("refused").inc()
        elif len(self._asking) >= self._most:
            self._counter.labels("busy").inc()
        else:
            task = asyncio.create_task(self._ask_again(served, variant, payer), name="shadow")
            self._asking.add(task)
            task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Cut what is under way; each is settled with what it has cost."""
        for task in self._asking:
            task.cancel()
        if self._asking:
            await asyncio.wait(self._asking)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a shadow failed inside the gateway", exc_info=error)

    def _may_pay(self, payer: Caller) -> bool:
        if self._rests_until.get(payer.key_id, 0.0) > time.monotonic():
            return False
        return in_force(payer, self._now()) and Scope.CHAT in payer.scopes

    async def _ask_again(self, served: Served, variant: Variant, payer: Caller) -> None:
        request_id = new_request_id()
        about_request(request_id)
        try:
            if await self._is_exhausted(payer, served.plan.persona):
                raise NoRoute("its budget is used up")
            plan = _planned(served, variant, payer)
            asking = await self._let_in(served, request_id, payer, plan)
        except (GatewayError, NoRoute) as error:
            self._counter.labels("refused").inc()
            logger.info("the shadow of request %s is not asked: %s", served.entry.request_id, error)
            return
        self._counter.labels("asked").inc()
        await self._answered(asking)

    async def _is_exhausted(self, payer: Caller, persona: str) -> bool:
        """Whether a hard budget of the payer is known to be used up; its figures are looked up first."""
        now, admissions = self._now(), self._path.admissions
        await admissions.look_up_budgets(payer, persona, now)
        try:
            windows = self._path.ledger.leases.applying([("key", payer.key_id), ("team", payer.team_id)], now)
        except BudgetsUnavailable:
            return True
        return any(window.terms.is_hard and window.share_used >= 1 for window in windows)

    async def _let_in(self, served: Served, request_id: str, payer: Caller, plan: RoutePlan) -> _Asking:
        path, snapshot = self._path, served.snapshot
        request, began = _without_traces(served.request), time.perf_counter()
        permit = await path.rate_limits.enter(payer, plan, request, aliases=snapshot.aliases, member=request_id)
        try:
            admission = path.admissions.admit(
                payer, plan, request_id=request_id, door=DOOR, is_stream=request.stream, now=self._now(),
                config_revision=snapshot.revision, tag=served.situation.tag,
            )  # fmt: skip
        except GatewayError:
            permit.settle(0)
            raise
        told = {**admission.draft.decision, "mirrors": served.entry.request_id}
        admission.draft = msgspec.structs.replace(admission.draft, decision=told)
        return _Asking(payer, plan, Tally.of(request, plan.defaults, began, plan.step), admission, permit)

    async def _answered(self, asking: _Asking) -> None:
        ending = failed(InternalError(), asking.tally)  # of what nobody has thought of
        try:
            source = self._path.dispatcher.frames(asking.admission, asking.permit, asking.plan, asking.tally)
            async with aclosing(source) as answer:
                async for _ in answer:
                    pass
            ending = ANSWERED
        except GatewayError as error:
            ending = failed(error, asking.tally)
            if isinstance(error, BudgetExceeded):
                self._rests_until[asking.payer.key_id] = time.monotonic() + REST_S
        except asyncio.CancelledError:
            ending = CANCELLED
            raise
        finally:
            await self._settle(asking, ending)

    async def _settle(self, asking: _Asking, ending: Ending) -> None:
        tally, path = asking.tally, self._path
        tally.interrupt(ending.error_code)
        finished_at = self._now().timestamp()
        entry = final_entry(asking.admission.with_budgets(tally), tally, ending, finished_at=finished_at)
        entry = with_validity(entry, tally)
        asking.permit.settle(tally.tokens_used)
        try:
            await path.ledger.settle(entry, asking.admission.hold)
        finally:
            path.metrics.observe(entry)
            path.request_log.note(entry)


def _shadow_of(plan: RoutePlan) -> Variant | None:
    """The shadow whose share the request is in: the decision has put it down as that one's control."""
    if plan.followed is None or not plan.arm:
        return None
    variants = plan.followed.variants
    return next((one for one in variants if one.kind == "shadow" and one.control == plan.arm), None)


def _is_telling(served: Served) -> bool:
    """Not what nobody waited for, what the cache answered, or what one deployment alone can answer."""
    entry = served.entry
    return entry.state != CANCELLED.state and entry.cache != "hit" and not served.request.only_at


def _planned(served: Served, variant: Variant, payer: Caller) -> RoutePlan:
    """Where the challenger sends it. What the first answer's model keeps of the conversation is not looked at: the
    challenger would have had its own."""
    situation = replace(served.situation, pinned="", cached_input=0)
    _, persona = policy_named(served.snapshot, served.request)
    policy: Policy = variant.policy
    how = f"shadow of {served.entry.request_id} by other rules of policy “{policy.name}”"
    choice = followed(policy, served.snapshot, payer, situation, persona=persona, how=how)
    plan = decide_as(choice, served.snapshot, payer, served.request, situation)
    return replace(plan, arm=variant.arm)


def _without_traces(request: ChatRequest) -> ChatRequest:
    """A vendor keeps nothing of a second asking."""
    if request.wire is not Wire.OPENAI_RESPONSES and "store" not in request.fields:
        return request
    return replace(request, fields={**request.fields, "store": Raw(b"false")})
