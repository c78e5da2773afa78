"""The one path that every request takes, whichever door it came through. Read `serve` from top to bottom."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from analytics.domain.usage import UsageEntry
from providers.domain.answer import Frame
from providers.domain.types import ChatRequest
from routerplatform.gateway.admission import Admission
from routerplatform.gateway.errors import GatewayError, InternalError, ModelNotFound, NoEligibleModel, Unavailable
from routerplatform.gateway.rate_limits import Permit
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.steps import Closed, Opened, Step
from routerplatform.gateway.tally import ANSWERED, CANCELLED, Ending, Tally, failed, final_entry
from routing.config_store import ConfigUnavailable
from routing.domain.config import Caller, ConfigSnapshot, Scope
from routing.domain.decision import NoRoute, RoutePlan, UnknownModel, decide

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One request at a door. `began` is `time.perf_counter()`.

    `read` gives the request once the caller is known; `settled` is told the record, however the request ended.
    """

    request_id: str
    door: str
    credential: str = field(repr=False)
    began: float
    read: Callable[[], Awaitable[ChatRequest]]
    settled: Callable[[UsageEntry], None] = lambda entry: None


async def serve(runtime: Runtime, call: Call) -> AsyncGenerator[Step, None]:
    """Answer one request: `Opened`, groups of frames, `Closed`.

    Consume it inside `aclosing`: leaving early cancels the call upstream and settles what it cost so far.

    :raises GatewayError: before `Opened`, nothing has been sent and the error may set the HTTP status; after it, the
        answer is incomplete and the caller must be told inside the stream.
    """
    ending, permit, admission, tally, tail = CANCELLED, None, None, None, []
    try:
        snapshot, now = current_config(runtime), runtime.now()
        caller = runtime.authenticator.caller(snapshot, call.credential, now=now, scope=Scope.CHAT)
        request = await call.read()
        plan = _decide(snapshot, caller, request)
        permit = await runtime.rate_limits.enter(
            caller, plan, request, aliases=snapshot.aliases, member=call.request_id
        )
        tally = Tally.of(request, plan.defaults, call.began)
        admission = runtime.admissions.admit(
            caller, plan, request_id=call.request_id, door=call.door, is_stream=request.stream, now=now,
            config_revision=snapshot.revision,
        )  # fmt: skip
        with runtime.serving():
            async with aclosing(runtime.dispatcher.frames(admission, permit, plan, tally)) as answer:
                opened = False
                async for frames in answer:
                    if not opened:
                        opened = True
                        yield Opened(
                            tally.target, tally.wire, plan, len(tally.attempts) + 1, snapshot.revision,
                            admission.max_tokens, permit.standing, tally.dropped, tally.vendor_request_id,
                        )  # fmt: skip
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
        entry = await _settle(runtime, call, permit, admission, tally, ending)
    if entry is not None:
        yield Closed(tail, entry)


async def _settle(
    runtime: Runtime, call: Call, permit: Permit | None, admission: Admission | None, tally: Tally | None,
    ending: Ending,
) -> UsageEntry | None:  # fmt: skip
    """Put what became of a request on record; None for one that was never let in."""
    tokens = 0
    try:
        if admission is None or tally is None:
            return None
        tally.interrupt(ending.error_code)
        draft = admission.with_budgets(tally)
        entry = final_entry(draft, tally, ending, finished_at=runtime.now().timestamp())
        tokens = tally.charge.usage.all_input_tokens + tally.charge.usage.output_tokens
    finally:
        if permit is not None:
            permit.settle(tokens)
    # In the journal before it first waits: a second cancellation loses nothing.
    await runtime.ledger.settle(entry, admission.hold)
    call.settled(entry)
    return entry


def current_config(runtime: Runtime) -> ConfigSnapshot:
    try:
        return runtime.config.current()
    except ConfigUnavailable as error:
        raise Unavailable("The gateway has no configuration yet. Try again in a moment.", retry_after_s=1) from error


def _decide(snapshot: ConfigSnapshot, caller: Caller, request: ChatRequest) -> RoutePlan:
    try:
        return decide(snapshot, caller, request)
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
