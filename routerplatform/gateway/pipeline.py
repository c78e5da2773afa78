"""The one path that every request takes, whichever door it came through. Read `serve` from top to bottom."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from analytics.domain.usage import UsageEntry
from providers.domain.answer import FinishReason, Frame
from providers.domain.types import ChatRequest
from routerplatform.gateway.admission import Admission
from routerplatform.gateway.errors import GatewayError, InternalError, ModelNotFound, NoEligibleModel, Unavailable
from routerplatform.gateway.ladder import cache_only, step_refused
from routerplatform.gateway.prompt_templates import with_templates
from routerplatform.gateway.rate_limits import Permit
from routerplatform.gateway.recordings import Recording, recording_of
from routerplatform.gateway.response_cache import Turn
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.shadows import Served
from routerplatform.gateway.steps import Closed, Opened, Step
from routerplatform.gateway.tally import ANSWERED, CANCELLED, Ending, Tally, failed, final_entry
from routerplatform.gateway.validity import with_validity
from routerplatform.logs import about_request
from routing.config_store import ConfigUnavailable
from routing.domain.config import Caller, ConfigSnapshot, Scope
from routing.domain.decision import LadderRefusal, NoRoute, RoutePlan, UnknownModel, decide, policy_named
from routing.domain.recording import observed
from routing.domain.situation import NO_SITUATION, Situation

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One request at a door. `began` is `time.perf_counter()`.

    `read` gives the request once the caller is known; `settled` is told the record, however the request ended.
    `cache_wish` is what the caller wants of the response cache: on, off, refresh, or nothing; `traceparent` is the
    trace that the request is part of (W3C Trace Context). `hints` are the headers that routing may look at (`x-…`, no
    credentials), by their lower-case names.
    """

    request_id: str
    door: str
    credential: str = field(repr=False)
    began: float
    read: Callable[[], Awaitable[ChatRequest]]
    settled: Callable[[UsageEntry], None] = lambda entry: None
    cache_wish: str = ""
    traceparent: str = ""
    hints: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Progress:
    """How far a request has come; what it has not reached is None."""

    snapshot: ConfigSnapshot | None = None
    request: ChatRequest | None = None
    situation: Situation = NO_SITUATION
    plan: RoutePlan | None = None
    permit: Permit | None = None
    turn: Turn | None = None
    tally: Tally | None = None
    admission: Admission | None = None
    recording: Recording | None = None


async def serve(runtime: Runtime, call: Call) -> AsyncGenerator[Step, None]:
    """Answer one request: `Opened`, groups of frames, `Closed`.

    Consume it inside `aclosing`: leaving early cancels the call upstream and settles what it cost so far.

    :raises GatewayError: before `Opened`, nothing has been sent and the error may set the HTTP status; after it, the
        answer is incomplete and the caller must be told inside the stream.
    """
    about_request(call.request_id)
    ending, at, tail = CANCELLED, _Progress(), []
    try:
        at.snapshot = snapshot = current_config(runtime)
        now = runtime.now()
        caller = runtime.authenticator.caller(snapshot, call.credential, now=now, scope=Scope.CHAT)
        at.request = request = with_templates(snapshot, await call.read())
        situation = observed(await runtime.situations.of(snapshot, caller, request, call.hints, call.request_id))
        at.situation = situation
        at.plan = plan = _routed(runtime, snapshot, caller, request, situation)
        at.permit = permit = await runtime.rate_limits.enter(
            caller, plan, request, aliases=snapshot.aliases, member=call.request_id
        )
        at.turn = turn = await runtime.cache.turn(caller, plan, request, call.cache_wish, call.request_id)
        at.tally = tally = Tally.of(request, plan.defaults, call.began, plan.step)
        at.admission = admission = runtime.admissions.admit(
            caller, plan, request_id=call.request_id, door=call.door, is_stream=request.stream, now=now,
            config_revision=snapshot.revision, tag=situation.tag,
        )  # fmt: skip
        at.recording = recording_of(snapshot, caller, request, situation, plan)
        _check_step(plan, turn, admission, situation.budget_used)
        with runtime.serving():
            source = turn.replay(tally) if turn.kept else runtime.dispatcher.frames(admission, permit, plan, tally)
            async with aclosing(source) as answer:
                opened = False
                async for frames in answer:
                    turn.take_down(frames)
                    if not opened:
                        opened = True
                        yield _opened(snapshot, plan, permit, turn, admission, tally, situation.budget_used)
                    if tally.finish is None:
                        yield frames
                    else:  # the last bytes wait until the request is on record
                        tail += frames
        ending = ANSWERED
    except GatewayError as error:
        ending = failed(error, at.tally)
        raise
    except Exception as error:
        logger.exception("request %s failed inside the gateway", call.request_id)
        fault = InternalError()
        ending = failed(fault, at.tally)
        raise fault from error
    finally:
        entry = await _settle(runtime, call, at, ending)
    if entry is not None:
        yield Closed(tail, entry)


def _opened(
    snapshot: ConfigSnapshot, plan: RoutePlan, permit: Permit, turn: Turn, admission: Admission, tally: Tally,
    budget_used: float,
) -> Opened:  # fmt: skip
    return Opened(
        deployment=tally.target,
        wire=tally.wire,
        plan=plan,
        attempts=tally.attempts_made,
        config_revision=snapshot.revision,
        max_tokens=admission.max_tokens,
        standing=permit.standing,
        dropped=tally.dropped,
        vendor_request_id=tally.vendor_request_id,
        cache=turn.state,
        budget_used=budget_used,
    )


async def _settle(runtime: Runtime, call: Call, at: _Progress, ending: Ending) -> UsageEntry | None:
    """Put what became of a request on record, and learn from it; None for one that was never let in."""
    tokens, now = 0, runtime.now().timestamp()
    admission, tally = at.admission, at.tally
    try:
        if at.plan is not None and tally is not None:
            runtime.situations.ended(at.plan, at.situation, tally)
        if admission is None or tally is None:
            runtime.metrics.refused(ending.http_status)
            return None
        tally.interrupt(ending.error_code)
        draft = admission.with_budgets(tally)
        if at.turn is not None:
            draft = at.turn.noted(draft)
        entry = with_validity(final_entry(draft, tally, ending, finished_at=now), tally)
        if at.recording is not None:
            entry = at.recording.noted(entry)
        tokens = tally.tokens_used
    finally:
        if at.permit is not None:
            at.permit.settle(tokens)
        if at.turn is not None:
            at.turn.end(tally, now, is_answered=ending is ANSWERED and not _is_makeshift(admission, tally))
    # In the journal before it first waits: a second cancellation loses nothing.
    try:
        await runtime.ledger.settle(entry, admission.hold)
    finally:
        call.settled(entry)
        runtime.metrics.observe(entry)
        runtime.request_log.note(entry)
        runtime.traces.note(entry, call.traceparent)
    if at.snapshot is not None and at.request is not None and at.plan is not None and at.plan.arm:
        runtime.shadows.mirror(Served(at.snapshot, at.request, at.plan, at.situation, entry))
    return entry


def _check_step(plan: RoutePlan, turn: Turn, admission: Admission, budget_used: float) -> None:
    """:raises BudgetStepReached: only kept answers are given, and there is none."""
    if plan.step.is_cache_only and not turn.kept:
        raise step_refused(cache_only(plan.policy, budget_used), plan.step.name, budget_used, admission.fullest())


def _is_makeshift(admission: Admission | None, tally: Tally | None) -> bool:
    """Whether nobody else shall be given this answer: a budget or a ladder has cut it short, or it was not good enough
    and is given for want of a better one."""
    if admission is None or tally is None:
        return False
    return tally.is_taken_back or (admission.max_tokens is not None and tally.finish is FinishReason.LENGTH)


def _routed(
    runtime: Runtime, snapshot: ConfigSnapshot, caller: Caller, request: ChatRequest, situation: Situation
) -> RoutePlan:
    """`decided`, of a request that is to be served.

    :raises BudgetStepReached: the policy refuses, because a budget is so full.
    """
    try:
        return decided(snapshot, caller, request, situation)
    except LadderRefusal as error:
        _, persona = policy_named(snapshot, request)
        window = runtime.admissions.fullest(caller, persona.slug if persona else "", runtime.now())
        raise step_refused(str(error), "refuse", situation.budget_used, window) from error


def current_config(runtime: Runtime) -> ConfigSnapshot:
    try:
        return runtime.config.current()
    except ConfigUnavailable as error:
        raise Unavailable("The gateway has no configuration yet. Try again in a moment.", retry_after_s=1) from error


def decided(
    snapshot: ConfigSnapshot, caller: Caller, request: ChatRequest, situation: Situation = NO_SITUATION
) -> RoutePlan:
    """Where a request goes.

    :raises ModelNotFound, NoEligibleModel:
    :raises LadderRefusal: by its budgets; not in a situation that knows of none.
    """
    try:
        return decide(snapshot, caller, request, situation)
    except UnknownModel as error:
        raise ModelNotFound(str(error), param=error.param) from error
    except LadderRefusal:
        raise
    except NoRoute as error:
        raise NoEligibleModel(str(error), param="model") from error


async def answered(runtime: Runtime, call: Call) -> tuple[Opened, list[Frame], UsageEntry]:
    """Answer one request and wait until it is whole and on record.

    :raises GatewayError: as `serve`, before the answer or in the middle of it.
    """
    async with aclosing(serve(runtime, call)) as steps:
        opened = await anext(steps)
        assert isinstance(opened, Opened)
        frames, closed = await collect(steps)
    return opened, frames, closed.entry


async def collect(steps: AsyncGenerator[Step, None]) -> tuple[list[Frame], Closed]:
    """The rest of an answer, for a caller who wants it whole."""
    frames: list[Frame] = []
    async for step in steps:
        match step:
            case Closed():
                return frames + step.frames, step
            case list():
                frames += step
    raise AssertionError("serve ends with Closed or raises")
