"""Ask the targets of a plan, one after the other, until one answers; hand its frames on as they come."""

import asyncio
import dataclasses
import random
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import msgspec

from analytics.ledger.ledger import Ledger
from providers.domain.answer import Frame
from providers.domain.errors import Failure, FailureKind, ProviderError
from providers.domain.failures import REACTIONS
from providers.domain.out_of_service import OutOfService
from providers.domain.retry_budget import RetryBudget
from providers.domain.types import ChatRequest, Deployment, PromptDefaults, UpstreamRequest, Wire
from providers.fleet.health import FleetHealth, Trial
from providers.transport import Transport, UpstreamReply
from providers.wires import WIRES, UnsupportedFeature, WireCodec
from providers.wires.failure_reading import read_failure, vendor_request_id
from routerplatform.gateway.admission import Admission, Cover
from routerplatform.gateway.errors import (
    BudgetExceeded,
    BudgetUnavailable,
    CircuitOpen,
    GatewayError,
    NoEligibleModel,
    PriceUnknown,
    RateLimited,
    Unavailable,
    out_of_service_error,
    upstream_error,
)
from routerplatform.gateway.escalation import Cascade, NotGoodEnough
from routerplatform.gateway.rate_limits import Permit
from routerplatform.gateway.tally import Tally
from routing.domain.decision import RoutePlan

Frames = list[Frame]
SKIPS = (UnsupportedFeature, BudgetExceeded, PriceUnknown, BudgetUnavailable, RateLimited, OutOfService)
Skip = UnsupportedFeature | BudgetExceeded | PriceUnknown | BudgetUnavailable | RateLimited | OutOfService
UNNAMED = ("", "text/plain", "application/octet-stream")  # what small servers say of any stream
RETRY_PAUSE_S: Final = (0.1, 0.3)  # before a deployment that has just failed is asked again; at random in between
LONGEST_PAUSE_S: Final = 2.0  # a vendor that asks for more time than this is not asked again by the same request


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target that is still to be asked. `tried` are the keys that this request had refused there.

    `is_retry`: it has failed at this request; `not_before` (`time.perf_counter`) is set where it is asked once more.
    `is_last`: it was passed over for its health, and is asked after all when there is nobody else.
    """

    deployment: Deployment
    alias: str
    tried: frozenset[int] = frozenset()
    is_retry: bool = False
    is_last: bool = False
    not_before: float = 0.0


class Dispatcher:
    """Sends attempts. `max_attempts` and one deadline bound a request, `retries` those of the whole process."""

    def __init__(
        self,
        *,
        transport: Transport,
        ledger: Ledger,
        health: FleetHealth,
        retries: RetryBudget,
        max_attempts: int,
        timeout_s: float,
    ) -> None:
        self._transport = transport
        self._ledger = ledger
        self._health = health
        self._retries = retries
        self._max_attempts = max_attempts
        self._timeout_s = timeout_s

    def frames(
        self, admission: Admission, permit: Permit, plan: RoutePlan, tally: Tally
    ) -> AsyncGenerator[Frames, None]:
        """Frames of the answer, grouped as they arrived; the first group already holds content (or the end).

        Until then a failure only costs time: the next target is asked. From then on it is final. A policy may have
        answers held back until they are whole, and others asked for in place of some: see `escalation.py`.

        :raises UpstreamFailed: no target answered, or the one that did broke off.
        :raises CircuitOpen: every target has failed too often lately.
        :raises NoEligibleModel: the request has a feature that no target's wire can say.
        :raises BudgetExceeded, PriceUnknown, BudgetUnavailable: the budgets cover no attempt.
        :raises RateLimited: every target is at its rate limit.
        """
        deadline = time.perf_counter() + self._timeout_s
        cascade = Cascade.of(plan, tally, deadline)
        asking = self._asked(admission, permit, plan, tally, deadline, cascade)
        return asking if cascade is None else cascade.or_kept(asking, admission)

    async def _asked(
        self, admission: Admission, permit: Permit, plan: RoutePlan, tally: Tally, deadline: float,
        cascade: Cascade | None,
    ) -> AsyncGenerator[Frames, None]:  # fmt: skip
        self._retries.earn()
        problem: GatewayError | None = None
        queue = deque(Candidate(target, alias) for target, alias in zip(plan.targets, plan.aliases, strict=True))
        while queue and len(tally.attempts) < self._max_attempts and time.perf_counter() < deadline:
            candidate = queue.popleft()
            if candidate.not_before and not await self._may_retry(candidate, deadline):
                continue
            try:
                call, cover, wire, trial = await self._prepared(candidate, admission, permit, plan, tally)
            except SKIPS as error:
                problem = _passed_over(candidate, error, admission, problem)
                if isinstance(error, OutOfService) and error.may_be_last and not candidate.is_last:
                    queue.append(dataclasses.replace(candidate, is_last=True))
                continue
            with trial:
                tally.begin(candidate.deployment, candidate.alias, trial.credential, wire, call)
                self._announce(admission, cover, tally)
                within_s = (deadline - time.perf_counter()) / 2 if queue else None
                try:
                    source = self._attempt(call, admission, tally, deadline, within_s)
                    if cascade is not None:
                        is_last = not queue or tally.attempts_made >= self._max_attempts
                        source = cascade.held(source, trial, is_last=is_last)
                    async with aclosing(source) as answer:
                        async for frames in answer:
                            trial.answering()
                            yield frames
                    tally.end()
                    trial.succeeded()
                    return
                except NotGoodEnough as error:
                    trial.succeeded()
                    error.cascade.set_aside(error, admission)
                except ProviderError as error:
                    trial.failed(error.failure)
                    tally.end(error.failure, is_aside=cascade is not None)
                    problem = upstream_error(error.failure)
                    if not _goes_on(error.failure, tally, cascade):
                        break
                    self._queue_again(queue, candidate, trial, error.failure)
        raise problem or Unavailable("No attempt could be made in the time that a request may take.")

    async def _prepared(
        self, candidate: Candidate, admission: Admission, permit: Permit, plan: RoutePlan, tally: Tally
    ) -> tuple[UpstreamRequest, Cover, Wire, Trial]:
        """All that an attempt takes, or why it is not made (`Skip`). Its health is looked at first, before anything is
        taken for it, and claimed last, so that no claim gets lost."""
        deployment, tried, is_last = candidate.deployment, candidate.tried, candidate.is_last
        self._health.look(deployment, tried=tried, is_last=is_last)
        cover = await admission.cover(deployment, candidate.alias, tally)
        wire, call = _call(tally.request, deployment, plan.defaults, cover, admission.draft.request_id)
        await permit.attempt(deployment, candidate.alias)
        trial = await self._health.enter(deployment, tried=tried, is_last=is_last)
        admission.skipped.pop(deployment.name, None)
        return call, cover, wire, trial

    async def _may_retry(self, candidate: Candidate, deadline: float) -> bool:
        """Wait for a retry's time; False when it would come too late, or too many are made already."""
        if candidate.not_before >= deadline or not self._retries.spend():
            return False
        await asyncio.sleep(candidate.not_before - time.perf_counter())
        return True

    def _queue_again(self, queue: deque[Candidate], candidate: Candidate, trial: Trial, failure: Failure) -> None:
        """Another key of the same deployment is tried at once; the same one after all others, and once."""
        reaction = REACTIONS[failure.kind]
        if reaction.cools_key and trial.credential is not None:
            tried = candidate.tried | {trial.credential.id}
            if self._health.has_key(candidate.deployment, tried=tried):
                queue.appendleft(dataclasses.replace(candidate, tried=tried, not_before=0.0))
            return
        pause_s = max(random.uniform(*RETRY_PAUSE_S), failure.retry_after_s or 0.0)  # noqa: S311  # no secret
        if reaction.retry_same and not candidate.is_retry and pause_s <= LONGEST_PAUSE_S:
            again = dataclasses.replace(candidate, is_retry=True, not_before=time.perf_counter() + pause_s)
            queue.append(again)

    def _announce(self, admission: Admission, cover: Cover, tally: Tally) -> None:
        """Journal what the attempt can come to, before its first byte leaves."""
        output = cover.max_tokens or tally.longest_answer(tally.target)
        dispatch = tally.dispatch(admission.draft.request_id, output)
        charges = admission.charges_at_most(dispatch.bound_nano, tally.alias, tally)
        self._ledger.dispatched(msgspec.structs.replace(dispatch, charges=charges) if charges else dispatch)

    async def _attempt(
        self, call: UpstreamRequest, admission: Admission, tally: Tally, deadline: float, within_s: float | None
    ) -> AsyncGenerator[Frames, None]:
        """One target's answer, or a ProviderError. It has to begin `within_s`, where others wait to be asked."""
        codec = WIRES[tally.wire]
        asked = time.perf_counter()
        try:
            post = self._transport.post(
                tally.target.endpoint, tally.credential, call, timeout_s=max(0.001, deadline - asked),
                head_within_s=within_s,
            )  # fmt: skip
            async with post as reply:
                tally.vendor_request_id = vendor_request_id(reply.headers)
                if reply.status >= 300:
                    raise ProviderError(read_failure(reply.status, reply.headers, await reply.read_error()))
                if not tally.request.stream:
                    whole = [codec.read_answer(await reply.read())]
                    tally.see(whole)
                    yield whole
                    return
                async with aclosing(_streamed(codec, tally.request, reply, tally, deadline)) as answer:
                    async for frames in answer:
                        admission.grow(tally)
                        yield frames
        finally:  # while a stream flows, our work on one piece goes on beside the provider's on the next
            tally.waited_s += time.perf_counter() - asked


def _goes_on(failure: Failure, tally: Tally, cascade: Cascade | None) -> bool:
    """Whether another target may be asked: not once the caller has content, or where the request itself is at fault."""
    if cascade is not None:
        return cascade.goes_on(failure)
    return not tally.has_content and REACTIONS[failure.kind].try_next


def _passed_over(candidate: Candidate, error: Skip, admission: Admission, problem: GatewayError | None) -> GatewayError:
    """Note why a target is not asked. The caller is told of a failure, if there was one, else of the first reason; of
    several open breakers the one that is tried again soonest."""
    deployment = candidate.deployment
    if isinstance(error, UnsupportedFeature):
        return problem or NoEligibleModel(f"{deployment.name} cannot take {error}.", param=error.feature)
    told = out_of_service_error(deployment.name, error) if isinstance(error, OutOfService) else error
    if not candidate.is_retry and not candidate.tried:
        admission.skipped[deployment.name] = error.reason if isinstance(error, OutOfService) else told.message
    if isinstance(problem, CircuitOpen) and isinstance(told, CircuitOpen):
        return min(problem, told, key=lambda one: one.retry_after_s or float("inf"))
    return problem or told


def _call(
    request: ChatRequest, deployment: Deployment, defaults: PromptDefaults, cover: Cover, request_id: str
) -> tuple[Wire, UpstreamRequest]:
    """What is sent, and through which API. A budget's limit replaces the caller's. Raises UnsupportedFeature."""
    wire = deployment.wire_for(request)
    if wire is None:
        raise UnsupportedFeature(request.operation.value)
    if cover.max_tokens is not None:
        request = dataclasses.replace(request, max_tokens=cover.max_tokens)
    call = WIRES[wire].build(request, deployment, defaults)
    call.headers["x-request-id"] = request_id
    return wire, call


async def _streamed(
    codec: WireCodec, request: ChatRequest, reply: UpstreamReply, tally: Tally, deadline: float
) -> AsyncGenerator[Frames, None]:
    """Groups of frames; the first is held back until it has content, so that a fallback is still free before it."""
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {codec.stream_type, *UNNAMED}:
        codec.read_answer(await reply.read())  # an error that came with status 200 is raised as what it is
        raise ProviderError(Failure(FailureKind.MALFORMED, "the provider answered whole where a stream was asked for"))
    reader = codec.stream_reader(request)
    held: Frames = []
    while piece := await reply.piece():
        if time.perf_counter() >= deadline:
            raise ProviderError(Failure(FailureKind.TIMEOUT, "the answer took longer than a request may"))
        frames = reader.feed(piece)
        tally.see(frames)
        held += frames
        if held and (tally.has_content or tally.finish):
            yield held
            held = []
    last = reader.close()
    tally.see(last)
    if held or last:
        yield held + last
