"""Reads what `generateContent` answers, whole and streamed: a stream's chunks have the same shape as a whole answer.

Source: ai.google.dev/api/generate-content (`GenerateContentResponse`, `Candidate`, `FinishReason`, `UsageMetadata`),
/gemini-api/docs/thought-signatures and /function-calling (2026-11).
"""

import re

import msgspec
from msgspec import Raw, Struct

from providers.domain.answer import (
    Finished,
    FinishReason,
    Frame,
    ReasoningDelta,
    ReasoningProof,
    Started,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReported,
)
from providers.domain.errors import Failure, FailureKind, ProviderError
from providers.wires.failure_reading import clean, error_in_answer, malformed
from providers.wires.gemini_contents import VENDOR
from providers.wires.sse import SseFrame
from providers.wires.usage_counts import Count, tokens

_FINISH_REASONS = {"STOP": FinishReason.STOP, "MAX_TOKENS": FinishReason.LENGTH}
_NOT_FINISHED = ("", "FINISH_REASON_UNSPECIFIED")

# The model wrote something that is no answer: not the request's fault, and the next try may well be one.
_SPOILT = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
    }
)
_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")  # Anthropic's rule, to whom the conversation may go next
_LONGEST_IN_ID = 24  # OpenAI takes ids of 40 characters


class _FunctionCall(Struct, gc=False):
    id: str | None = None
    name: str | None = None
    args: Raw = Raw()


class _Part(Struct, rename="camel", gc=False):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _FunctionCall | None = None


class _Content(Struct, gc=False):
    parts: list[_Part] | None = None


class _Candidate(Struct, rename="camel", gc=False):
    index: int | None = None
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None


class _PromptFeedback(Struct, rename="camel", gc=False):
    block_reason: str | None = None
    block_reason_message: str | None = None


class _Usage(Struct, rename="camel", gc=False):
    prompt_token_count: Count = None
    cached_content_token_count: Count = None
    tool_use_prompt_token_count: Count = None
    candidates_token_count: Count = None
    thoughts_token_count: Count = None
    total_token_count: Count = None


class _Answer(Struct, rename="camel", gc=False):
    """A chunk or a whole answer."""

    candidates: list[_Candidate] | None = None
    prompt_feedback: _PromptFeedback | None = None
    usage_metadata: _Usage | None = None
    response_id: str | None = None
    error: Raw = Raw()


_decode = msgspec.json.Decoder(_Answer).decode
_NOTHING = (b"", b"null")
_NO_ARGUMENTS = (b"", b"null", b"{}")


class AnswerEvents:
    """Turns answers into events: the state of one answer."""

    def __init__(self) -> None:
        self.finished = False
        self._id: str | None = None  # None: not started
        self._calls = 0
        self._is_thinking = False

    def read(self, answer: _Answer, *, is_whole: bool = False) -> list[StreamEvent]:
        """The prompt's count comes with the first chunk, so that a broken stream is billed right; then only with the
        end. A whole answer has ended, whether it says so or not."""
        _raise_if_blocked(answer.prompt_feedback)
        candidate = next((c for c in answer.candidates or () if not c.index), None)
        reason = (candidate.finish_reason if candidate else None) or ""
        if is_whole and reason in _NOT_FINISHED:
            reason = "STOP"
        events: list[StreamEvent] = []
        is_first = self._id is None and (candidate is not None or answer.response_id is not None)
        if is_first:
            self._id = answer.response_id or ""
            events.append(Started(self._id))
        ends = reason not in _NOT_FINISHED and not self.finished
        if answer.usage_metadata is not None and is_first and not ends:
            events.append(UsageReported(_disjoint(answer.usage_metadata)))
        if candidate is not None:
            if reason in _SPOILT:
                raise _spoilt(reason, candidate.finish_message)
            for part in (candidate.content.parts if candidate.content else None) or ():
                self._read_part(part, events)
        if ends:
            self._finish(reason, events)
        if answer.usage_metadata is not None and self.finished:
            events.append(UsageReported(_disjoint(answer.usage_metadata)))
        return events

    def _read_part(self, part: _Part, events: list[StreamEvent]) -> None:
        """A proof stands with what follows the thought. It closes a thought that was shown; with none shown it is left
        out, but for a call's: nobody checks it, and callers who did not ask for thoughts do not expect any."""
        if part.thought and part.text:
            self._is_thinking = True
            events.append(ReasoningDelta(part.text))
        if part.thought_signature and self._is_thinking:
            self._is_thinking = False
            events.append(ReasoningProof(part.thought_signature, vendor=VENDOR))
        if part.function_call is not None:
            self._is_thinking = False
            self._read_call(part.function_call, part.thought_signature or "", events)
        elif part.text and not part.thought:
            self._is_thinking = False
            events.append(TextDelta(part.text))

    def _read_call(self, call: _FunctionCall, proof: str, events: list[StreamEvent]) -> None:
        """Calls come whole. White space goes, which only unstreamed answers have."""
        place, name = self._calls, call.name or ""
        self._calls += 1
        events.append(ToolCallStart(place, call.id or self._call_id(place, name), name, proof))
        arguments = bytes(call.args)
        if arguments not in _NO_ARGUMENTS:
            arguments = msgspec.json.format(arguments, indent=-1)
        if arguments not in _NO_ARGUMENTS:
            events.append(ToolCallDelta(place, arguments.decode()))

    def _call_id(self, place: int, name: str) -> str:
        """Models before Gemini 3 give calls no id. This one is the same each time the answer is read, and another one
        in the next answer: a conversation must not hold the same id twice."""
        own = _NOT_IN_IDS.sub("", self._id or "")[-_LONGEST_IN_ID:]
        return f"call_{own}_{place}" if own else f"call_{place}_{_NOT_IN_IDS.sub('_', name)[:_LONGEST_IN_ID]}"

    def _finish(self, reason: str, events: list[StreamEvent]) -> None:
        """Calls end in STOP here. All other reasons, and all that were added over the years, say that a filter cut the
        answer off (SAFETY, RECITATION, LANGUAGE, BLOCKLIST, PROHIBITED_CONTENT, SPII, …) or do not say why (OTHER): it
        is never a clean stop."""
        self.finished = True
        known = _FINISH_REASONS.get(reason, FinishReason.CONTENT_FILTER)
        events.append(Finished(FinishReason.TOOL_CALLS if known is FinishReason.STOP and self._calls else known))


class ChunkInterpreter:
    """A `FrameInterpreter` for the chunks of a stream, which has no last word but the finish reason."""

    def __init__(self) -> None:
        self._events = AnswerEvents()

    @property
    def finished(self) -> bool:
        return self._events.finished

    def read(self, frame: SseFrame) -> Frame:
        raw, data = frame
        if not data and raw.lstrip()[:1] in (b"{", b"["):
            data = raw  # errors have come without `data:` (github.com/vercel/ai/issues/5217, 2025)
        if not data or data == b"[DONE]":  # what gateways that copy this wire have added
            return Frame(raw, ())
        return Frame(raw, tuple(self._events.read(_decoded(data))))


def read_whole(body: bytes) -> Frame:
    """A whole answer, with the same events in the same order as its stream would have had."""
    try:
        answer = _decoded(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"the answer is not what generateContent answers: {error}") from None
    _raise_if_blocked(answer.prompt_feedback)
    if not answer.candidates:
        raise malformed("the answer has no candidates")
    return Frame(body, tuple(AnswerEvents().read(answer, is_whole=True)))


def _decoded(data: bytes) -> _Answer:
    """:raises ProviderError: it is an error; one outside of a stream's events may stand in a list."""
    if data.lstrip()[:1] == b"[":
        inner = msgspec.json.decode(data, type=list[_Answer])
        if any(bytes(item.error) not in _NOTHING for item in inner):
            raise error_in_answer(data)
    answer = _decode(data)
    if bytes(answer.error) not in _NOTHING:
        raise error_in_answer(data)
    return answer


def _raise_if_blocked(feedback: _PromptFeedback | None) -> None:
    """ "If set, the prompt was blocked and no candidates are returned." """
    if feedback is None or feedback.block_reason in (None, "", "BLOCK_REASON_UNSPECIFIED"):
        return
    said = f"the prompt was blocked: {feedback.block_reason} {feedback.block_reason_message or ''}"
    raise ProviderError(
        Failure(FailureKind.CONTENT_FILTERED, clean(said), vendor_code=clean(feedback.block_reason or "")[:100])
    )


def _spoilt(reason: str, message: str | None) -> ProviderError:
    said = f"the model stopped with {reason} {message or ''}"
    return ProviderError(Failure(FailureKind.SERVER_ERROR, clean(said), vendor_code=reason))


def _disjoint(usage: _Usage) -> Usage:
    """The prompt's count holds what the cache served, but not what tools of the vendor's added to the prompt. Thoughts
    are billed as output beside the candidates; some servers count them among the candidates, which the total tells.
    """
    prompt = tokens(usage.prompt_token_count)
    cached = min(tokens(usage.cached_content_token_count), prompt)
    entered = prompt + tokens(usage.tool_use_prompt_token_count)
    candidates, thoughts = tokens(usage.candidates_token_count), tokens(usage.thoughts_token_count)
    left = tokens(usage.total_token_count) - entered
    output = tokens(left if left >= max(candidates, thoughts) else candidates + thoughts)
    return Usage(
        input_tokens=tokens(entered - cached),
        cache_read_input_tokens=cached,
        output_tokens=output,
        reasoning_tokens=min(thoughts, output),
    )
