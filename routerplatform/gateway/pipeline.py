"""The one path that every request takes, whichever door it came through. Read `serve` from top to bottom."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from analytics.domain.usage import UsageEntry
from providers.domain.answer import Frame
from providers.domain.types import ChatRequest
from routerplatform.gateway.admission import Admission
from routerplatform.gateway.errors import GatewayError, InternalError, ModelNotFound, NoEligibleModel, Unavailable
from routerplatform.gateway.rate_limits import Permit
from routerplatform.gateway.response_cache import Turn
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.steps import Closed, Opened, Step
from routerplatform.gateway.tally import ANSWERED, CANCELLED, Ending, Tally, failed, final_entry
from routerplatform.logs import about_request
from routing.config_store import ConfigUnavailable
from routing.domain.config import Caller, ConfigSnapshot, Scope
from routing.domain.decision import NoRoute, RoutePlan, UnknownModel, decide
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


async def serve(runtime: Runtime, call: Call) -> AsyncGenerator[Step, None]:
    """Answer one request: `Opened`, groups of frames, `Closed`.

    Consume it inside `aclosing`: leaving early cancels the call upstream and settles what it cost so far.

    :raises GatewayError: before `Opened`, nothing has been sent and the error may set the HTTP status; after it, the
        answer is incomplete and the caller must be told inside the stream.
    """
    about_request(call.request_id)
    ending, permit, turn, admission, tally, tail = CANCELLED, None, None, None, None, []
    plan, situation = None, NO_SITUATION
    try:
        snapshot, now = current_config(runtime), runtime.now()
        caller = runtime.authenticator.caller(snapshot, call.credential, now=now, scope=Scope.CHAT)
        request = await call.read()
        situation = await runtime.situations.of(snapshot, caller, request, call.hints, call.request_id)
        plan = decided(snapshot, caller, request, situation)
        permit = await runtime.rate_limits.enter(
            caller, plan, request, aliases=snapshot.aliases, member=call.request_id
        )
        turn = await runtime.cache.turn(caller, plan, request, call.cache_wish, call.request_id)
        tally = Tally.of(request, plan.defaults, call.began)
        admission = runtime.admissions.admit(
            caller, plan, request_id=call.request_id, door=call.door, is_stream=request.stream, now=now,
            config_revision=snapshot.revision, tag=situation.tag,
        )  # fmt: skip
        with runtime.serving():
            source = turn.replay(tally) if turn.kept else runtime.dispatcher.frames(admission, permit, plan, tally)
            async with aclosing(source) as answer:
                opened = False
                async for frames in answer:
                    turn.take_down(frames)
                    if not opened:
                        opened = True
                        yield _opened(snapshot, plan, permit, turn, admission, tally)
                    if tally.finish is None:
                        yield frames
                    else:  # the last bytes wait until the request is on record
                        tail += frames
        ending = ANSWERED
    except GatewayError as error:
        ending = failed(error, tally)
        raise
    except Exception as error:
        logger.exception("request %s failed inside the gateway", call.request_id)
        fault = InternalError()
        ending = failed(fault, tally)
        raise fault from error
    finally:
        if plan is not None and tally is not None:
            runtime.situations.ended(plan, situation, tally)
        entry = await _settle(runtime, call, permit, turn, admission, tally, ending)
    if entry is not None:
        yield Closed(tail, entry)


def _opened(
    snapshot: ConfigSnapshot, plan: RoutePlan, permit: Permit, turn: Turn, admission: Admission, tally: Tally
) -> Opened:
    return Opened(
        deployment=tally.target,
        wire=tally.wire,
        plan=plan,
        attempts=len(tally.attempts) + (turn.kept is None),
        config_revision=snapshot.revision,
        max_tokens=admission.max_tokens,
        standing=permit.standing,
        dropped=tally.dropped,
        vendor_request_id=tally.vendor_request_id,
        cache=turn.state,
    )


async def _settle(
    runtime: Runtime, call: Call, permit: Permit | None, turn: Turn | None, admission: Admission | None,
    tally: Tally | None, ending: Ending,
) -> UsageEntry | None:  # fmt: skip
    """Put what became of a request on record; None for one that was never let in."""
    tokens, now = 0, runtime.now().timestamp()
    try:
        if admission is None or tally is None:
            runtime.metrics.refused(ending.http_status)
            return None
        tally.interrupt(ending.error_code)
        draft = admission.with_budgets(tally)
        if turn is not None:
            draft = turn.noted(draft)
        entry = final_entry(draft, tally, ending, finished_at=now)
        tokens = tally.charge.usage.all_input_tokens + tally.charge.usage.output_tokens
    finally:
        if permit is not None:
            permit.settle(tokens)
        if turn is not None:
            turn.end(tally, now, is_answered=ending is ANSWERED)
    # In the journal before it first waits: a second cancellation loses nothing.
    try:
        await runtime.ledger.settle(entry, admission.hold)
    finally:
        runtime.metrics.observe(entry)
        runtime.request_log.note(entry)
        runtime.traces.note(entry, call.traceparent)
    call.settled(entry)
    return entry


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
    """
    try:
        return decide(snapshot, caller, request, situation)
    except UnknownModel as error:
        raise ModelNotFound(str(error), param=error.param) from error
    except NoRoute as error:
        raise NoEligibleModel(str(error), param="model") from error


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
