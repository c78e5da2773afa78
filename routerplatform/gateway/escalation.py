"""A cascade: the cheap model answers first, and where its answer is not good enough, the next one is asked.

An answer of such a policy is held until it is whole and has been looked at; nothing of one that is not given reaches
the caller. What it cost is billed, and stands beside its attempt. When nobody else answers, the last answer that was
held back is given after all: an answer that is not good enough is better than none.
"""

import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from providers.domain.answer import Finished, FinishReason, Frame, RefusalDelta, TextDelta, ToolCallStart
from providers.domain.errors import Failure, FailureKind
from providers.domain.failures import REACTIONS
from providers.domain.types import Capability, ChatRequest
from providers.fleet.health import Trial
from routerplatform.gateway.admission import Admission
from routerplatform.gateway.errors import GatewayError
from routerplatform.gateway.tally import SetAside, Tally
from routing.domain.config import Escalation
from routing.domain.decision import RoutePlan

UNSURE_BELOW: Final = -1.0  # the mean natural logarithm of a token's probability: 37 % each
LEAST_LOGPROB: Final = -20.0  # vendors write -9999 for what they hold for impossible
ALTERNATIVES: Final = frozenset({"top_logprobs", "topCandidates"})  # tokens that were not chosen
JSON_ASKED: Final = frozenset({Capability.JSON_MODE, Capability.JSON_SCHEMA})

Frames = list[Frame]


class NotGoodEnough(Exception):
    """The answer is whole, and the next target is to be asked."""

    def __init__(self, cascade: "Cascade", frames: Frames, why: Escalation) -> None:
        super().__init__(why.value)
        self.cascade = cascade
        self.frames = frames
        self.why = why


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that was not given. `max_tokens` is the limit that a budget or a ladder had set to it."""

    frames: Frames
    aside: SetAside
    max_tokens: int | None


@dataclass(slots=True)
class Cascade:
    """Of one request. `deadline` is `time.perf_counter`: later no other answer is asked for."""

    wanted: frozenset[Escalation]
    tally: Tally
    deadline: float
    _kept: Kept | None = None

    @classmethod
    def of(cls, plan: RoutePlan, tally: Tally, deadline: float) -> "Cascade | None":
        """None where the first answer is the one that is given."""
        applies = plan.escalate_on and not tally.is_embedding and len(plan.targets) > 1
        return cls(plan.escalate_on, tally, deadline) if applies else None

    async def held(
        self, answer: AsyncGenerator[Frames, None], trial: Trial, *, is_last: bool
    ) -> AsyncGenerator[Frames, None]:
        """The frames of `answer` when it has ended, in one group. That of the last target is given as it is.

        :raises NotGoodEnough: it is to be set aside.
        """
        frames: Frames = []
        async with aclosing(answer):
            async for piece in answer:
                trial.answering()
                frames += piece
        if not is_last and time.perf_counter() < self.deadline:
            why = complaint(frames, self.tally.request, self.wanted)
            if why is not None:
                raise NotGoodEnough(self, frames, why)
        self.tally.given()
        yield frames

    def set_aside(self, error: NotGoodEnough, admission: Admission) -> None:
        """Bill the answer and keep it, for the case that nobody else answers."""
        self._kept = Kept(error.frames, self.tally.set_aside(error.why.value), admission.max_tokens)

    def goes_on(self, failure: Failure) -> bool:
        """Whether another target is asked after this failure: the caller has seen nothing yet."""
        is_refusal = failure.kind is FailureKind.CONTENT_FILTERED and Escalation.REFUSAL in self.wanted
        return is_refusal or REACTIONS[failure.kind].try_next

    async def or_kept(self, asking: AsyncGenerator[Frames, None], admission: Admission) -> AsyncGenerator[Frames, None]:
        """What is asked for; for want of any answer, the one that was held back last.

        :raises GatewayError: no target has answered at all.
        """
        try:
            async with aclosing(asking):
                async for frames in asking:
                    yield frames
            return
        except GatewayError:
            if self._kept is None:
                raise
        admission.max_tokens = self._kept.max_tokens
        self.tally.take_back(self._kept.aside)
        self.tally.given()
        yield self._kept.frames


def complaint(frames: Frames, request: ChatRequest, wanted: frozenset[Escalation]) -> Escalation | None:
    """Why a whole answer is not good enough; None when it is. Only what is `wanted` is looked at."""
    events = [event for frame in frames for event in frame.events]
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    refuses = any(
        isinstance(event, RefusalDelta) or (isinstance(event, Finished) and event.reason is FinishReason.CONTENT_FILTER)
        for event in events
    )
    calls_tools = any(isinstance(event, ToolCallStart) for event in events)
    has_words = bool(text.strip()) or any(isinstance(event, RefusalDelta) for event in events)
    if refuses and Escalation.REFUSAL in wanted:
        return Escalation.REFUSAL
    if not has_words and not calls_tools and Escalation.EMPTY in wanted:
        return Escalation.EMPTY
    is_json_due = Escalation.INVALID_JSON in wanted and bool(request.needs & JSON_ASKED) and not calls_tools
    if is_json_due and not _is_json(text):
        return Escalation.INVALID_JSON
    if Escalation.LOW_LOGPROB in wanted and (mean_logprob(frames) or 0.0) < UNSURE_BELOW:
        return Escalation.LOW_LOGPROB
    return None


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


# --- how sure a model was -----------------------------------------------------------------------------------------


def mean_logprob(frames: Iterable[Frame]) -> float | None:
    """How sure the model was of its tokens: the mean of their logarithms, at most 0; None where the vendor sent none.

    Whatever the vendor: OpenAI and Ollama call them `logprob` (its older API has lists, `token_logprobs`), Gemini
    `logProbability`, Cohere lists `logprobs` of numbers. What a stream says again at its end changes no mean.
    Source: the vendors' API references, read 2026-11.
    """
    found = [max(value, LEAST_LOGPROB) for frame in frames for said in _said(frame.raw) for value in _logprobs_in(said)]
    return sum(found) / len(found) if found else None


def _said(raw: bytes) -> Iterator[Any]:
    """The JSON values of a body, or of the data of server-sent events or lines, if they speak of probabilities."""
    if b"ogprob" not in raw and b"logProb" not in raw:
        return
    pieces = [raw] if raw.lstrip()[:1] == b"{" and b"\ndata:" not in raw else []
    for piece in pieces or (line.removeprefix(b"data:") for line in raw.splitlines() if line.startswith(b"data:")):
        try:
            yield msgspec.json.decode(piece)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue


def _logprobs_in(said: Any) -> Iterator[float]:
    """Walks without recursion: a body may be nested as deep as its vendor likes."""
    left: list[Any] = [said]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            for name, inner in value.items():
                if name in {"logprob", "logProbability"} and isinstance(inner, int | float):
                    yield float(inner)
                elif name in {"token_logprobs", "logprobs"} and _are_numbers(inner):
                    yield from (float(number) for number in inner if number is not None)
                elif name not in ALTERNATIVES:
                    left.append(inner)


def _are_numbers(value: Any) -> bool:
    """Of the first token of a prompt that is told as well, nobody knows it: null."""
    return isinstance(value, list) and all(one is None or isinstance(one, int | float) for one in value)
