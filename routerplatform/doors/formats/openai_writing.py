"""Write chat completions from events, whole and streamed, for targets that spoke another wire.

Source: openai 3.52 `ChatCompletion`, `ChatCompletionChunk`, `CompletionUsage` (2026-11). Besides, as their clients know
them: `reasoning_content` (DeepSeek), `reasoning_details` (OpenRouter), `extra_content` (Gemini's OpenAI endpoint).
"""

from collections.abc import Iterable, Sequence

from msgspec import UNSET, Struct, UnsetType

from providers.domain.answer import (
    Finished,
    Frame,
    ReasoningDelta,
    ReasoningProof,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReported,
)
from providers.wires.reasoning_formats import format_of
from routerplatform.doors.formats import sse
from routerplatform.doors.formats.ascii_json import encode
from routerplatform.doors.formats.protocol import Heading

NO_ARGUMENTS = "{}"  # clients parse them as JSON, and some wires leave them out


class FunctionOut(Struct, omit_defaults=True):
    name: str | UnsetType = UNSET
    arguments: str = ""


class GoogleOut(Struct):
    thought_signature: str


class ExtraOut(Struct):
    google: GoogleOut


class ToolCallOut(Struct):
    """A call in an answer (`index` unset) or a piece of one in a chunk."""

    function: FunctionOut
    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    extra_content: ExtraOut | UnsetType = UNSET


class DetailOut(Struct):
    """One piece of thought that is to be given back; pieces of one `index` belong together."""

    type: str
    index: int
    format: str
    text: str | UnsetType = UNSET
    summary: str | UnsetType = UNSET
    data: str | UnsetType = UNSET
    signature: str | UnsetType = UNSET
    id: str | UnsetType = UNSET


class MessageOut(Struct):
    role: str | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning_details: list[DetailOut] | UnsetType = UNSET
    refusal: str | UnsetType = UNSET
    tool_calls: list[ToolCallOut] | UnsetType = UNSET


class ChoiceOut(Struct):
    index: int = 0
    message: MessageOut | UnsetType = UNSET
    delta: MessageOut | UnsetType = UNSET
    logprobs: None = None
    finish_reason: str | None = None


class PromptDetails(Struct):
    cached_tokens: int
    cache_write_tokens: int


class CompletionDetails(Struct):
    reasoning_tokens: int


class UsageOut(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class AnswerOut(Struct):
    id: str
    object: str
    created: int
    model: str
    choices: list[ChoiceOut]
    usage: UsageOut | UnsetType | None = UNSET


class Thoughts:
    """Gathers what was thought until its proof comes: only then both can be given back."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._count = 0

    def add(self, text: str) -> None:
        self._texts.append(text)

    def proven(self, proof: ReasoningProof) -> list[DetailOut]:
        text = "".join(self._texts)
        self._texts.clear()
        index, name, own_id = self._count, format_of(proof.vendor), proof.id or UNSET
        self._count += 1
        details: list[DetailOut] = []
        if proof.signature:
            details.append(DetailOut("reasoning.text", index, name, text=text, signature=proof.signature, id=own_id))
        elif text:
            details.append(DetailOut("reasoning.summary", index, name, summary=text, id=own_id))
        if proof.encrypted:
            details.append(DetailOut("reasoning.encrypted", index, name, data=proof.encrypted, id=own_id))
        return details


class _Gathered:
    """One answer's message, as its events come."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.refusals: list[str] = []
        self.details: list[DetailOut] = []
        self.calls: list[ToolCallOut] = []
        self.reason = "stop"
        self.usage = Usage()
        self._proofs = Thoughts()

    def see(self, event: StreamEvent) -> None:
        match event:
            case TextDelta(text):
                self.texts.append(text)
            case ReasoningDelta(text):
                self.thoughts.append(text)
                self._proofs.add(text)
            case ReasoningProof():
                self.details += self._proofs.proven(event)
            case RefusalDelta(text):
                self.refusals.append(text)
            case ToolCallStart():
                self.calls.append(call_out(event))
            case ToolCallDelta(index, arguments):
                self.calls[index].function.arguments += arguments
            case Finished(why):
                self.reason = why.value
            case UsageReported(counted):
                self.usage = counted

    def message(self) -> MessageOut:
        for call in self.calls:
            call.function.arguments = call.function.arguments or NO_ARGUMENTS
        is_silent = not self.texts and bool(self.calls or self.refusals)
        return MessageOut(
            role="assistant",
            content=None if is_silent else "".join(self.texts),
            reasoning_content="".join(self.thoughts) or UNSET,
            reasoning_details=self.details or UNSET,
            refusal="".join(self.refusals) or UNSET,
            tool_calls=self.calls or UNSET,
        )


def whole_answer(frames: Sequence[Frame], heading: Heading) -> bytes:
    """A `chat.completion`."""
    gathered = _Gathered()
    for frame in frames:
        for event in frame.events:
            gathered.see(event)
    choice = ChoiceOut(message=gathered.message(), finish_reason=gathered.reason)
    name = f"chatcmpl-{heading.request_id}"
    usage = usage_out(gathered.usage)
    return encode(AnswerOut(name, "chat.completion", heading.created, heading.model, [choice], usage))


class StreamWriter:
    """Chunks from events: one id, one creation time, a role first."""

    def __init__(self, heading: Heading, *, include_usage: bool) -> None:
        name = f"chatcmpl-{heading.request_id}"
        self._frame = AnswerOut(name, "chat.completion.chunk", heading.created, heading.model, [])
        self._include_usage = include_usage
        self._started = False
        self._silent_calls: set[int] = set()  # those without an argument so far
        self._thoughts = Thoughts()
        self._usage = Usage()

    def write(self, frames: Iterable[Frame]) -> bytes:
        """The bytes to send for these frames; may be empty."""
        return b"".join(self._event(event) for frame in frames for event in frame.events)

    def end(self) -> bytes:
        """What follows the last frame."""
        usage = b""
        if self._include_usage:
            usage = self._chunk([], usage_out(self._usage))
        return usage + sse.DONE

    def _event(self, event: StreamEvent) -> bytes:
        match event:
            case TextDelta(text):
                return self._delta(MessageOut(content=text))
            case ReasoningDelta(text):
                self._thoughts.add(text)
                return self._delta(MessageOut(reasoning_content=text))
            case ReasoningProof():
                details = self._thoughts.proven(event)
                return self._delta(MessageOut(reasoning_details=details)) if details else b""
            case RefusalDelta(text):
                return self._delta(MessageOut(refusal=text))
            case ToolCallStart(index):
                self._silent_calls.add(index)
                call = call_out(event)
                call.index = index
                return self._delta(MessageOut(tool_calls=[call]))
            case ToolCallDelta(index, arguments):
                self._silent_calls.discard(index)
                return self._arguments(index, arguments)
            case Finished(reason):
                silent = b"".join(self._arguments(index, NO_ARGUMENTS) for index in sorted(self._silent_calls))
                return silent + self._delta(MessageOut(), reason.value)
            case UsageReported(usage):
                self._usage = usage
        return b""

    def _arguments(self, index: int, arguments: str) -> bytes:
        return self._delta(MessageOut(tool_calls=[ToolCallOut(FunctionOut(arguments=arguments), index=index)]))

    def _delta(self, delta: MessageOut, finish_reason: str | None = None) -> bytes:
        if not self._started:
            self._started = True
            delta.role = "assistant"
        return self._chunk(
            [ChoiceOut(delta=delta, finish_reason=finish_reason)], None if self._include_usage else UNSET
        )

    def _chunk(self, choices: list[ChoiceOut], usage: UsageOut | UnsetType | None) -> bytes:
        self._frame.choices, self._frame.usage = choices, usage
        return sse.data(encode(self._frame))


def call_out(start: ToolCallStart) -> ToolCallOut:
    call = ToolCallOut(FunctionOut(name=start.name), id=start.id, type="function")
    if start.signature:
        call.extra_content = ExtraOut(GoogleOut(start.signature))
    return call


def usage_out(usage: Usage) -> UsageOut:
    """Disjoint buckets as OpenAI adds them up: what a cache read and wrote is part of the prompt, reasoning of the
    completion."""
    prompt = usage.all_input_tokens
    return UsageOut(
        prompt_tokens=prompt,
        completion_tokens=usage.output_tokens,
        total_tokens=prompt + usage.output_tokens,
        prompt_tokens_details=PromptDetails(usage.cache_read_input_tokens, usage.cache_creation_input_tokens),
        completion_tokens_details=CompletionDetails(usage.reasoning_tokens),
    )
