"""What one request has come to so far: attempts, tokens, times; in the end, its bill."""

import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from analytics.domain.usage import Attempt, Dispatch, UsageEntry
from providers.domain.errors import Failure
from providers.domain.estimate import count_text, estimate_tokens
from providers.domain.failures import REACTIONS
from providers.domain.pricing import bound_nano, cost_nano, price_snapshot
from providers.domain.types import (
    CONTENT_EVENTS,
    ChatRequest,
    Credential,
    Deployment,
    Finished,
    FinishReason,
    Frame,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from routerplatform.gateway.errors import GatewayError
from routing.domain.eligibility import DEFAULT_OUTPUT_TOKENS


@dataclass(slots=True)
class Tally:
    """Filled in by `dispatch`, read by `settle`. One request, one task: no locks.

    Times are `time.perf_counter` seconds; `began` is when the request came in, `waited_s` is time spent on providers.
    """

    request: ChatRequest
    began: float
    attempts: list[Attempt] = field(default_factory=list)
    deployment: Deployment | None = None
    credential: Credential | None = None
    attempt_began: float = 0.0
    first_content_at: float | None = None
    waited_s: float = 0.0
    usage: Usage | None = None
    finish: FinishReason | None = None
    sent: bytes = b""  # the attempt's body: the caller's words, and what the persona put before them
    output: list[str] = field(default_factory=list)

    def begin(self, deployment: Deployment, credential: Credential | None) -> None:
        """A new attempt; what an earlier one had said is forgotten."""
        self.deployment, self.credential = deployment, credential
        self.attempt_began = time.perf_counter()
        self.usage = self.finish = self.first_content_at = None
        self.output.clear()

    def see(self, frames: list[Frame]) -> None:
        """Take note of what an answer says; call it before the frames are handed on."""
        for frame in frames:
            for event in frame.events:
                self._see_event(event)

    @property
    def target(self) -> Deployment:
        """The deployment of the attempt under way; there is one as soon as a frame has come."""
        assert self.deployment is not None
        return self.deployment

    @property
    def has_content(self) -> bool:
        return self.first_content_at is not None

    def end(self, failure: Failure | None = None) -> None:
        """The attempt is over; a broken one that may be on the vendor's bill is priced on its own."""
        if failure is None:
            self._note(http_status=200)
            return
        self._note(
            failure=failure.kind,
            http_status=failure.http_status,
            message=failure.message,
            billed_nano=self._billed_by(failure),
        )

    def cancel(self) -> None:
        """The caller went away; an attempt that was under way ends here."""
        if self.attempt_began:
            self._note(failure="cancelled")

    def forget(self) -> None:
        """The attempt was never made."""
        self.attempt_began = 0.0

    def _note(
        self, *, failure: str = "", http_status: int | None = None, message: str = "", billed_nano: int | None = None
    ) -> None:
        self.attempts.append(
            Attempt(
                deployment=self.target.name,
                provider=self.target.endpoint.name,
                key_last4=self.credential.last4 if self.credential else "",
                started_ms=round((self.attempt_began - self.began) * 1000, 2),
                latency_ms=round((time.perf_counter() - self.attempt_began) * 1000, 2),
                failure=failure,
                http_status=http_status,
                message=message,
                billed_nano=billed_nano,
            )
        )
        self.attempt_began = 0.0

    def bound(self, request_id: str, body: bytes) -> Dispatch:
        """What the attempt that now sends `body` can cost at most: no token is shorter than a byte."""
        self.sent = body
        price = self.target.price
        output = self.request.max_tokens or self.target.max_output_tokens or DEFAULT_OUTPUT_TOKENS
        return Dispatch(
            request_id=request_id,
            deployment=self.target.name,
            provider=self.target.endpoint.name,
            model=self.target.model,
            input_tokens_bound=len(body),
            output_tokens_bound=output,
            bound_nano=bound_nano(len(body), output, price) if price else None,
            price=price_snapshot(price) if price else None,
        )

    def counted(self) -> Usage:
        """The gateway's own count, for an answer that ended without the vendor's; never below what that had reached."""
        known = self.usage or Usage(input_tokens=estimate_tokens(self.sent))
        output = max(known.output_tokens, count_text("".join(self.output)))
        return msgspec.structs.replace(known, output_tokens=output)

    def _see_event(self, event: StreamEvent) -> None:
        if self.first_content_at is None and isinstance(event, CONTENT_EVENTS):
            self.first_content_at = time.perf_counter()
        match event:
            case TextDelta(text) | ReasoningDelta(text):
                self.output.append(text)
            case ToolCallDelta(_, arguments):
                self.output.append(arguments)
            case UsageReported(usage):
                self.usage = usage
            case Finished(reason):
                self.finish = reason

    def _billed_by(self, failure: Failure) -> int | None:
        """What a failed attempt may cost: its count when content had come, its bound when nobody can tell."""
        price = self.deployment.price if self.deployment else None
        if not failure.dispatched or price is None:
            return None
        if self.has_content:
            return cost_nano(self.counted(), price)
        if REACTIONS[failure.kind].billed_in_doubt:
            return bound_nano(estimate_tokens(self.sent), 0, price)
        return None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request ended, for the record. `state` is one of the ledger's final states."""

    state: str
    http_status: int
    error_code: str = ""


ANSWERED = Ending("settled", 200)
CANCELLED = Ending("cancelled", 499, "cancelled")


def failed(error: GatewayError, tally: Tally | None) -> Ending:
    """An answer that had begun is billed for what came; one that had not is released."""
    has_content = tally is not None and tally.has_content
    return Ending("settled" if has_content else "released", error.http_status, error.code)


def final_entry(draft: UsageEntry, tally: Tally, ending: Ending, *, finished_at: float) -> UsageEntry:
    """The record of a request that is over. A draft names who asked; the tally knows what came of it."""
    latency_s = time.perf_counter() - tally.began
    usage, source, cost = _bill(tally, ending)
    deployment = tally.deployment
    extra = sum(attempt.billed_nano or 0 for attempt in tally.attempts)
    state = "settled" if ending.state == "released" and extra else ending.state
    return msgspec.structs.replace(
        draft,
        finished_at=finished_at,
        state=state,
        http_status=ending.http_status,
        error_code=ending.error_code,
        provider=deployment.endpoint.name if deployment else "",
        deployment=deployment.name if deployment else "",
        model=deployment.model if deployment else "",
        input_tokens=usage.input_tokens,
        cache_read_input_tokens=usage.cache_read_input_tokens,
        cache_creation_input_tokens=usage.cache_creation_input_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        usage_source=source,
        cost_nano=None if cost is None else cost + extra,
        price=_price(deployment),
        attempts=tuple(tally.attempts),
        ttft_ms=_since(tally.began, tally.first_content_at),
        latency_ms=round(latency_s * 1000, 2),
        overhead_ms=round(max(0.0, latency_s - tally.waited_s) * 1000, 3),
    )


def _bill(tally: Tally, ending: Ending) -> tuple[Usage, str, int | None]:
    """(usage, who counted it, nano-USD) of the last attempt; failed attempts are billed in `Attempt.billed_nano`."""
    last = tally.attempts[-1] if tally.attempts else None
    if tally.deployment is None or last is None:
        return Usage(), "none", 0
    price = tally.deployment.price
    if ending is ANSWERED and tally.usage is not None:
        return tally.usage, "provider", cost_nano(tally.usage, price) if price else None
    if ending is ANSWERED or last.failure == "cancelled":
        usage = tally.counted()
        return usage, "counted", cost_nano(usage, price) if price else None
    if tally.has_content:
        return tally.counted(), "counted", 0 if price else None  # the money stands beside the broken attempt
    return Usage(), "bound" if last.billed_nano else "none", 0


def _price(deployment: Deployment | None) -> dict[str, Any] | None:
    return price_snapshot(deployment.price) if deployment and deployment.price else None


def _since(began: float, at: float | None) -> float | None:
    return None if at is None else round((at - began) * 1000, 2)
