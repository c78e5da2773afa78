"""Ask the targets of a plan, one after the other, until one answers; hand its frames on as they come."""

import asyncio
import dataclasses
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from itertools import count

import msgspec

from analytics.ledger.ledger import Ledger
from providers.domain.answer import Frame
from providers.domain.errors import Failure, FailureKind, ProviderError
from providers.domain.failures import REACTIONS
from providers.domain.types import ChatRequest, Credential, Deployment, PromptDefaults, UpstreamRequest, Wire
from providers.transport import Transport, UpstreamReply
from providers.wires import WIRES, UnsupportedFeature, WireCodec
from providers.wires.failure_reading import vendor_request_id
from routerplatform.gateway.admission import Admission, Cover
from routerplatform.gateway.errors import (
    BudgetExceeded,
    BudgetUnavailable,
    GatewayError,
    NoEligibleModel,
    PriceUnknown,
    RateLimited,
    Unavailable,
    upstream_error,
)
from routerplatform.gateway.rate_limits import Permit
from routerplatform.gateway.tally import Tally
from routing.domain.decision import RoutePlan

Frames = list[Frame]
UNNAMED = ("", "text/plain", "application/octet-stream")  # what small servers say of any stream
RETRY_PAUSE_S = 0.2  # before a deployment that has just failed is asked again


class Dispatcher:
    """Sends attempts. Keys of a provider take turns; `max_attempts` and one deadline bound a request."""

    def __init__(self, *, transport: Transport, ledger: Ledger, max_attempts: int, timeout_s: float) -> None:
        self._transport = transport
        self._ledger = ledger
        self._max_attempts = max_attempts
        self._timeout_s = timeout_s
        self._turns: defaultdict[int, Iterator[int]] = defaultdict(count)  # by provider

    async def frames(
        self, admission: Admission, permit: Permit, plan: RoutePlan, tally: Tally
    ) -> AsyncGenerator[Frames, None]:
        """Frames of the answer, grouped as they arrived; the first group already holds content (or the end).

        Until then a failure only costs time: the next target is asked. From then on it is final.

        :raises UpstreamFailed: no target answered, or the one that did broke off.
        :raises NoEligibleModel: the request has a feature that no target's wire can say.
        :raises BudgetExceeded, PriceUnknown, BudgetUnavailable: the budgets cover no attempt.
        :raises RateLimited: every target is at its rate limit.
        """
        request_id = admission.draft.request_id
        deadline = time.perf_counter() + self._timeout_s
        problem: GatewayError | None = None
        queue = deque((target, alias, True) for target, alias in zip(plan.targets, plan.aliases, strict=True))
        while queue and len(tally.attempts) < self._max_attempts and time.perf_counter() < deadline:
            deployment, alias, is_first = queue.popleft()
            try:
                cover = await admission.cover(deployment, alias, tally)
                wire, call = _call(tally.request, deployment, plan.defaults, cover, request_id)
                await permit.attempt(deployment, alias)
            except UnsupportedFeature as error:
                problem = problem or NoEligibleModel(f"{deployment.name} cannot take {error}.", param=error.feature)
                continue
            except (BudgetExceeded, PriceUnknown, BudgetUnavailable, RateLimited) as error:
                admission.skipped[deployment.name] = error.message
                problem = problem or error
                continue
            tally.begin(deployment, alias, self._credential(deployment), wire, call)
            self._announce(admission, cover, tally)
            try:
                async with aclosing(self._attempt(call, admission, tally, deadline)) as answer:
                    async for frames in answer:
                        yield frames
                tally.end()
                return
            except ProviderError as error:
                tally.end(error.failure)
                problem = upstream_error(error.failure)
                reaction = REACTIONS[error.failure.kind]
                if tally.has_content or not reaction.try_next:
                    break
                if is_first and reaction.retry_same:
                    queue.append((deployment, alias, False))  # once more, after the others
            if queue and not queue[0][2]:
                await asyncio.sleep(RETRY_PAUSE_S)
        raise problem or Unavailable("No attempt could be made in the time that a request may take.")

    def _credential(self, deployment: Deployment) -> Credential | None:
        keys = deployment.credentials
        return keys[next(self._turns[deployment.endpoint.id]) % len(keys)] if keys else None

    def _announce(self, admission: Admission, cover: Cover, tally: Tally) -> None:
        """Journal what the attempt can come to, before its first byte leaves."""
        output = cover.max_tokens or tally.longest_answer(tally.target)
        dispatch = tally.dispatch(admission.draft.request_id, output)
        charges = admission.charges_at_most(dispatch.bound_nano, tally.alias, tally)
        self._ledger.dispatched(msgspec.structs.replace(dispatch, charges=charges) if charges else dispatch)

    async def _attempt(
        self, call: UpstreamRequest, admission: Admission, tally: Tally, deadline: float
    ) -> AsyncGenerator[Frames, None]:
        """One target's answer, or a ProviderError."""
        endpoint = tally.target.endpoint
        codec = WIRES[tally.wire]
        asked = time.perf_counter()
        left_s = max(0.001, deadline - asked)
        try:
            async with self._transport.post(endpoint, tally.credential, call, timeout_s=left_s) as reply:
                tally.vendor_request_id = vendor_request_id(reply.headers)
                if reply.status >= 300:
                    raise ProviderError(codec.read_failure(reply.status, reply.headers, await reply.read_error()))
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
