"""What one request has come to so far: attempts, tokens, times; in the end, its bill."""

import time
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from analytics.domain.usage import ESCALATED, Attempt, Dispatch, UsageEntry
from providers.domain.answer import (
    CONTENT_EVENTS,
    Finished,
    FinishReason,
    Frame,
    ReasoningDelta,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from providers.domain.errors import Failure
from providers.domain.estimate import count_text, estimate_tokens, hidden_input_tokens
from providers.domain.failures import REACTIONS
from providers.domain.pricing import bound_nano, cost_nano, most_output_tokens, price_snapshot
from providers.domain.types import ChatRequest, Credential, Deployment, Operation, PromptDefaults, UpstreamRequest, Wire
from routerplatform.gateway.errors import GatewayError, Stopping
from routing.domain.decision import NO_STEP
from routing.domain.eligibility import DEFAULT_OUTPUT_TOKENS
from routing.domain.ladder import Step

MOST_TOKENS = 2**31 - 1  # what a record holds


@dataclass(frozen=True, slots=True)
class Charge:
    """What an attempt is charged: tokens, who counted them, nano-USD (None: nobody knows the price)."""

    usage: Usage
    source: str
    cost_nano: int | None


NO_CHARGE = Charge(Usage(), "none", 0)


@dataclass(frozen=True, slots=True)
class SetAside:
    """An attempt whose answer was not given: its place among the attempts, its charge, and the tally as it was."""

    place: int
    charge: Charge
    values: dict[str, Any]


OF_AN_ATTEMPT = (
    "deployment", "alias", "credential", "sent", "wire", "dropped", "vendor_request_id", "usage", "usage_is_final",
    "finish", "first_content_at", "thought",
)  # fmt: skip


@dataclass(slots=True)
class Tally:
    """Filled in by `dispatch`, read by `settle`. One request, one task: no locks.

    Times are `time.perf_counter` seconds; `began` is when the request came in, `waited_s` what its attempts took, each
    from the call to its last byte: the rest is our overhead.
    `input_bound` is the most tokens that any vendor counts for the prompt. `limit` is the longest answer that caller or
    persona allow, in tokens per choice; `is_capped` says that the policy's ladder has shortened it.
    `charge` is that of the last attempt that costs anything, `cost_nano` the sum over all of them. `tokens_aside` are
    those of answers that were not given: they stand in no column, but were used.
    """

    request: ChatRequest
    began: float
    input_bound: int
    limit: int | None = None
    is_capped: bool = False
    attempts: list[Attempt] = field(default_factory=list)
    charge: Charge = NO_CHARGE
    cost_nano: int | None = 0
    tokens_aside: int = 0
    is_taken_back: bool = False  # the answer is one that was not good enough
    deployment: Deployment | None = None
    credential: Credential | None = None
    attempt_began: float = 0.0
    first_content_at: float | None = None
    waited_s: float = 0.0
    usage: Usage | None = None
    usage_is_final: bool = False
    finish: FinishReason | None = None
    sent: bytes = b""  # the attempt's body: the caller's words, and what the persona put before them
    wire: Wire = Wire.OPENAI
    dropped: tuple[str, ...] = ()
    vendor_request_id: str = ""
    alias: str = ""
    cost_by_alias: dict[str, int] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)
    thought: int = 0  # pieces of `output` up to the last one of reasoning
    has_called_tools: bool = False

    @classmethod
    def of(cls, request: ChatRequest, defaults: PromptDefaults, began: float, step: Step = NO_STEP) -> Self:
        """No text has more tokens than bytes, but vendors count more than the text. `step` may shorten the answer."""
        prompt = len(defaults.system_prompt.encode("utf-8", "replace"))
        bound = request.input_tokens_bound + prompt + hidden_input_tokens(request)
        asked = request.max_tokens or defaults.max_tokens
        limit = asked if request.operation is Operation.EMBEDDINGS else step.capped(asked)
        return cls(request, began, bound, limit, is_capped=limit != asked)

    def begin(
        self, deployment: Deployment, alias: str, credential: Credential | None, wire: Wire, call: UpstreamRequest
    ) -> None:
        """A new attempt; what an earlier one had said is forgotten."""
        self.deployment, self.alias, self.credential, self.wire = deployment, alias, credential, wire
        self.sent, self.dropped, self.vendor_request_id = call.body, call.dropped, ""
        self.attempt_began = time.perf_counter()
        self.usage = self.finish = self.first_content_at = None
        self.usage_is_final = False
        self.output.clear()
        self.thought, self.has_called_tools = 0, False

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
    def attempts_made(self) -> int:
        """With the one under way."""
        return len(self.attempts) + bool(self.attempt_began)

    @property
    def tokens_used(self) -> int:
        """Of all answers, also those that were not given."""
        usage = self.charge.usage
        return usage.all_input_tokens + usage.output_tokens + self.tokens_aside

    @property
    def answer_text(self) -> str:
        """What the answer says after its reasoning."""
        return "".join(self.output[self.thought :])

    @property
    def is_embedding(self) -> bool:
        return self.request.operation is Operation.EMBEDDINGS

    @property
    def has_content(self) -> bool:
        return self.first_content_at is not None

    def end(self, failure: Failure | None = None, *, is_aside: bool = False) -> None:
        """The attempt is over. What a failed one said before it broke is billed; where nobody can tell, its bound.

        `is_aside`: the caller has seen nothing of it.
        """
        if failure is None:
            self._close(self._used(), http_status=200)
        elif self.has_content:
            self._close(self._used(), failure=failure, is_aside=is_aside)
        elif _billed_in_doubt(failure):
            self._close(self._in_doubt(), failure=failure)
        else:
            self._close(NO_CHARGE, failure=failure)

    def set_aside(self, reason: str) -> SetAside:
        """The answer is whole and billed, but another one is asked for: `reason` says why."""
        values = {name: getattr(self, name) for name in OF_AN_ATTEMPT} | {"output": self.output.copy()}
        charge = self._used()
        self._close(charge, reason=ESCALATED, message=reason, http_status=200, is_aside=True)
        return SetAside(len(self.attempts) - 1, charge, values)

    def take_back(self, aside: SetAside) -> None:
        """The answer is given after all: nobody had a better one."""
        told = msgspec.structs.replace(self.attempts[aside.place], failure="", billed_nano=None)
        self.attempts[aside.place] = told
        self.charge, self.is_taken_back = aside.charge, True
        self.tokens_aside -= aside.charge.usage.all_input_tokens + aside.charge.usage.output_tokens
        for name, value in aside.values.items():
            setattr(self, name, value)

    def given(self) -> None:
        """An answer that was held back until now goes to the caller, who sees the first of it only here."""
        if self.has_content:
            self.first_content_at = time.perf_counter()

    def interrupt(self, reason: str) -> None:
        """An attempt that is under way ends here: its caller left, and pays; or a fault of ours, which nobody pays
        for unless content had come."""
        if self.attempt_began:
            is_billed = self.has_content or reason == CANCELLED.error_code
            self._close(self._used() if is_billed else NO_CHARGE, reason=reason)

    def _close(
        self, charge: Charge, *, failure: Failure | None = None, reason: str = "", message: str = "",
        http_status: int | None = None, is_aside: bool = False,
    ) -> None:  # fmt: skip
        """Note the attempt. The record has the tokens of one answer: a charge without any, or of an answer that is not
        given, stands beside its attempt."""
        self.attempts.append(
            Attempt(
                deployment=self.target.name,
                provider=self.target.endpoint.name,
                key_last4=self.credential.last4 if self.credential else "",
                started_ms=round((self.attempt_began - self.began) * 1000, 2),
                latency_ms=round((time.perf_counter() - self.attempt_began) * 1000, 2),
                failure=failure.kind if failure else reason,
                http_status=failure.http_status if failure else http_status,
                message=failure.message if failure else message,
                vendor_request_id=self.vendor_request_id,
                billed_nano=charge.cost_nano if is_aside or charge.source == "bound" else None,
            )
        )
        self.attempt_began = 0.0
        if charge is not NO_CHARGE:
            self.charge = charge
            if is_aside:
                self.tokens_aside += charge.usage.all_input_tokens + charge.usage.output_tokens
                self.charge = Charge(Usage(), charge.source, charge.cost_nano)
            unknown = self.cost_nano is None or charge.cost_nano is None
            self.cost_nano = None if unknown else (self.cost_nano or 0) + (charge.cost_nano or 0)
            self.cost_by_alias[self.alias] = self.cost_by_alias.get(self.alias, 0) + (charge.cost_nano or 0)

    def longest_answer(self, target: Deployment) -> int:
        """How many tokens each choice of an answer can have there."""
        if self.is_embedding:
            return 0
        longest = self.limit or target.max_output_tokens or DEFAULT_OUTPUT_TOKENS
        return min(longest, target.max_output_tokens or longest)

    def bound_of(self, target: Deployment, output: int) -> int | None:
        """The most that an attempt there can cost (nano-USD) with so many tokens for each choice of its answer."""
        output = min(output * self.request.choices, MOST_TOKENS)
        return bound_nano(self.prompt_bound(target), output, target.price) if target.price else None

    def prompt_bound(self, target: Deployment) -> int:
        """The most tokens that the prompt can have there: what is longer than the model's context is refused."""
        return min(self.input_bound, target.context_window or self.input_bound)

    def likely_of(self, target: Deployment, output: int) -> int | None:
        """What it probably costs with an answer of that length."""
        tokens = self.request.input_tokens_estimate, output * self.request.choices
        return bound_nano(*tokens, target.price) if target.price else None

    def longest_for(self, target: Deployment, nano: int) -> int:
        """The longest answer there, in tokens per choice, that so much money is enough for; 0 when it is for none."""
        if target.price is None:
            return 0
        tokens = most_output_tokens(nano, self.prompt_bound(target), target.price, most=MOST_TOKENS)
        return tokens // self.request.choices

    def dispatch(self, request_id: str, output: int) -> Dispatch:
        """What the attempt that now begins can come to."""
        price = self.target.price
        return Dispatch(
            request_id=request_id,
            deployment=self.target.name,
            provider=self.target.endpoint.name,
            model=self.target.model,
            input_tokens_bound=self.prompt_bound(self.target),
            output_tokens_bound=min(output * self.request.choices, MOST_TOKENS),
            bound_nano=self.bound_of(self.target, output),
            price=price_snapshot(price) if price else None,
            billed_nano=self.cost_nano,
        )

    def _used(self) -> Charge:
        """The vendor's own count once its answer was whole, else ours."""
        usage, source = (self.usage, "provider") if self.usage and self.usage_is_final else (self._counted(), "counted")
        price = self.target.price
        return Charge(usage, source, cost_nano(usage, price) if price else None)

    def _counted(self) -> Usage:
        """The gateway's own count; never below what the vendor's had reached."""
        known = self.usage or Usage()
        if not known.input_tokens + known.cache_read_input_tokens + known.cache_creation_input_tokens:
            known = msgspec.structs.replace(known, input_tokens=estimate_tokens(self.sent))
        output = max(known.output_tokens, count_text("".join(self.output)))
        return msgspec.structs.replace(known, output_tokens=output)

    def _in_doubt(self) -> Charge:
        """The most that the prompt can have cost, so that no vendor's bill is above the record."""
        return Charge(Usage(), "bound", self.bound_of(self.target, 0))

    def _see_event(self, event: StreamEvent) -> None:
        if self.first_content_at is None and isinstance(event, CONTENT_EVENTS):
            self.first_content_at = time.perf_counter()
        match event:
            case TextDelta(text) | RefusalDelta(text):
                self.output.append(text)
            case ReasoningDelta(text):
                self.output.append(text)
                self.thought = len(self.output)
            case ToolCallDelta(_, arguments):
                self.output.append(arguments)
                self.has_called_tools = True
            case UsageReported(usage):
                self.usage = usage
                # Nothing written, with content before our eyes, is no count: some servers send zeros.
                is_counted = usage.output_tokens > 0 or self.is_embedding or not self.has_content
                self.usage_is_final = self.finish is not None and is_counted
            case Finished(reason):
                self.finish = reason


def _billed_in_doubt(failure: Failure) -> bool:
    """Whether the vendor may charge for an attempt without content; what it refused with a status below 500 is free."""
    refused = failure.http_status is not None and failure.http_status < 500
    return failure.dispatched and not refused and REACTIONS[failure.kind].billed_in_doubt


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request ended, for the record. `state` is one of the ledger's final states."""

    state: str
    http_status: int
    error_code: str = ""


ANSWERED = Ending("settled", 200)
CANCELLED = Ending("cancelled", 499, "cancelled")
CUT = Ending("cancelled", 503, "cancelled")  # by ourselves: billed as if the caller had left


def failed(error: GatewayError, tally: Tally | None) -> Ending:
    """An answer that had begun is billed for what came; one that had not is released, but where we hung up."""
    if isinstance(error, Stopping):
        return CUT
    has_content = tally is not None and tally.has_content
    return Ending("settled" if has_content else "released", error.http_status, error.code)


def final_entry(draft: UsageEntry, tally: Tally, ending: Ending, *, finished_at: float) -> UsageEntry:
    """The record of a request that is over. A draft names who asked; the tally knows what came of it."""
    latency_s = time.perf_counter() - tally.began
    deployment, charge, usage = tally.deployment, tally.charge, tally.charge.usage
    state = "settled" if ending.state == "released" and charge is not NO_CHARGE else ending.state
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
        cache_creation_1h_input_tokens=usage.cache_creation_1h_input_tokens,
        usage_source=charge.source,
        cost_nano=tally.cost_nano,
        price=_price(deployment),
        attempts=tuple(tally.attempts),
        ttft_ms=_since(tally.began, tally.first_content_at),
        latency_ms=round(latency_s * 1000, 2),
        overhead_ms=round(max(0.0, latency_s - tally.waited_s) * 1000, 3),
    )


def _price(deployment: Deployment | None) -> dict[str, Any] | None:
    return price_snapshot(deployment.price) if deployment and deployment.price else None


def _since(began: float, at: float | None) -> float | None:
    return None if at is None else round((at - began) * 1000, 2)
