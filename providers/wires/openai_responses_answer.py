"""Reads responses, whole and streamed, as OpenAI and the servers that copy it write them.

Source: developers.openai.com/api/reference/resources/responses/streaming-events, and openai 3.52 `Response`,
`ResponseStreamEvent`, `ResponseUsage` (2026-11); a server's own way is named where it is handled. Items of tools that
run at the vendor (web search, code interpreter, MCP …) and events nobody knows pass by without a meaning.

A stream tells everything twice: in pieces, and once more when an item is done. Some copies leave out one of the two, so
an item's end tells what no piece had told.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from providers.domain.answer import (
    Finished,
    FinishReason,
    Frame,
    ReasoningDelta,
    ReasoningProof,
    RefusalDelta,
    Started,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReported,
)
from providers.domain.errors import ProviderError
from providers.wires.failure_reading import error_in_answer, malformed, read_error, stream_broken
from providers.wires.half_pairs import mended
from providers.wires.openai_responses_request import VENDOR
from providers.wires.sse import SseFrame
from providers.wires.usage_counts import Count, tokens

# Anything else that cuts an answer short is a limit too.
_INCOMPLETE = {"content_filter": FinishReason.CONTENT_FILTER, "steered": FinishReason.STOP}
_STATUS_OF = {
    "response.completed": "completed",
    "response.done": "completed",  # copies of the Realtime API's name for it
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
}
_ENDS = ("completed", "incomplete", "failed", "cancelled")
_BAD_ENDS = ("failed", "cancelled")
# Codes of a failed response that are the request's own fault; there the type may be missing.
_REQUESTS_FAULT = frozenset(
    {
        "invalid_prompt", "data_residency_mismatch", "bio_policy", "misalignment_policy_violation", "invalid_image",
        "invalid_image_format", "invalid_base64_image", "invalid_image_url", "image_too_large", "image_too_small",
        "image_parse_error", "image_content_policy_violation", "invalid_image_mode", "image_file_too_large",
        "unsupported_image_media_type", "empty_image_file", "failed_to_download_image", "image_file_not_found",
    }
)  # fmt: skip
_BETWEEN_PARTS = "\n\n"  # the parts of a summary are paragraphs
_NOTHING = (b"", b"null")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Kind(Struct, gc=False):
    type: str = ""
    error: Raw = Raw()


class _Piece(Struct, gc=False):
    """More of an item; or, with `arguments`, all of a call's."""

    delta: str | None = None
    arguments: str | None = None
    output_index: int | None = None
    item_id: str | None = None
    summary_index: int | None = None
    content_index: int | None = None


class _ItemEvent(Struct, gc=False):
    item: Raw = Raw()
    output_index: int | None = None


class _Part(Struct, gc=False):
    type: str = ""
    text: str | None = None
    refusal: str | None = None


class _Item(Struct, gc=False):
    """A message, a thought or a call of a function."""

    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    encrypted_content: str | None = None
    summary: list[_Part] | None = None
    content: list[_Part] | str | None = None


class _InputDetails(Struct, gc=False):
    cached_tokens: Count = None
    cache_write_tokens: Count = None


class _OutputDetails(Struct, gc=False):
    reasoning_tokens: Count = None


class _Usage(Struct, gc=False):
    input_tokens: Count = None
    output_tokens: Count = None
    total_tokens: Count = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Incomplete(Struct, gc=False):
    reason: str | None = None


class _Response(Struct, gc=False):
    """`output` is missing from what is no response."""

    id: str | None = None
    status: str | None = None
    output: list[Raw] | None = None
    error: Raw = Raw()
    incomplete_details: _Incomplete | None = None
    usage: _Usage | None = None


class _ResponseEvent(Struct, gc=False):
    response: _Response = msgspec.field(default_factory=_Response)


class _Named(Struct, gc=False):
    id: str | None = None


class _Beginning(Struct, gc=False):
    response: _Named = msgspec.field(default_factory=_Named)


_decode_kind = msgspec.json.Decoder(_Kind).decode
_decode_piece = msgspec.json.Decoder(_Piece).decode
_decode_item_event = msgspec.json.Decoder(_ItemEvent).decode
_decode_item = msgspec.json.Decoder(_Item).decode
_decode_beginning = msgspec.json.Decoder(_Beginning).decode
_decode_response = msgspec.json.Decoder(_Response).decode
_decode_response_event = msgspec.json.Decoder(_ResponseEvent).decode


class _Telling:
    """What was told of one text in pieces."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._part: object = None

    def more(self, piece: str, part: object = None) -> str:
        """What to tell now: `piece`, set off when it begins another part."""
        if self._pieces and part != self._part:
            piece = _BETWEEN_PARTS + piece
        self._part = part
        self._pieces.append(piece)
        return piece

    def rest(self, whole: str) -> str:
        """What of it is still to be told; nothing, if it was told otherwise."""
        told = "".join(self._pieces)
        if not whole.startswith(told) or whole == told:
            return ""
        self._pieces = [whole]
        return whole[len(told) :]

    def last(self, whole: str) -> str:
        """The same; then another text begins."""
        rest = self.rest(whole)
        self._pieces.clear()
        return rest


class _Call:
    """A call under way."""

    def __init__(self, position: int, call_id: str) -> None:
        self.position = position
        self.id = call_id
        self.is_done = False
        self.arguments = _Telling()


class AnswerEvents:
    """Turns items and their pieces into events: the state of one answer."""

    def __init__(self) -> None:
        self.finished = False
        self._has_content = False
        self._has_said = False
        self._text = _Telling()
        self._refusal = _Telling()
        self._thought = _Telling()
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}

    def text(self, piece: str) -> Iterator[StreamEvent]:
        self._has_content = self._has_said = True
        yield TextDelta(self._text.more(piece))

    def refusal(self, piece: str) -> Iterator[StreamEvent]:
        self._has_content = self._has_said = True
        yield RefusalDelta(self._refusal.more(piece))

    def thought(self, piece: str, part: object) -> Iterator[StreamEvent]:
        self._has_content = True
        yield ReasoningDelta(self._thought.more(piece, part))

    def arguments(self, piece: _Piece) -> Iterator[StreamEvent]:
        """More of a call's arguments, or all of them. A call that has no name yet waits for its item's end."""
        call = self._by_id.get(piece.item_id or "")
        if call is None and piece.output_index is not None:
            call = self._by_index.get(piece.output_index)
        if call is None:
            return
        more = call.arguments.more(piece.delta) if piece.delta else call.arguments.rest(piece.arguments or "")
        if more:
            yield ToolCallDelta(call.position, more)

    def item_added(self, raw: Raw, index: int | None) -> Iterator[StreamEvent]:
        if _decode_kind(raw).type == "function_call":
            item = _decode_item(raw)
            if item.name and self._begun(item) is None:
                yield self._begin(item, index)

    def item_done(self, raw: Raw, index: int | None) -> Iterator[StreamEvent]:
        match _decode_kind(raw).type:
            case "message":
                yield from self._message_done(_decode_item(raw))
            case "reasoning":
                yield from self._thought_done(_decode_item(raw))
            case "function_call":
                yield from self._call_done(_decode_item(raw), index)

    def response_done(self, response: _Response, status: str) -> Iterator[StreamEvent]:
        """Its output is read again only for what no event had told at all: vLLM gives calls other ids here
        (Source: github.com/vllm-project/vllm/pull/47916, 2026-07).

        :raises ProviderError: it failed.
        """
        # vLLM's event says "completed" of every end (Source: github.com/vllm-project/vllm/pull/45386, 2026-06).
        if response.status in _ENDS:
            status = response.status
        if status == "failed" or bytes(response.error) not in _NOTHING:
            raise _error(b'{"error":%b}' % (bytes(response.error) or b"null"))
        if status == "cancelled":
            raise stream_broken("the provider cancelled the answer")
        told = {"message": self._has_said, "function_call": bool(self._calls), "reasoning": self._has_content}
        for index, raw in enumerate(response.output or ()):
            if not told.get(_decode_kind(raw).type):
                yield from self.item_done(raw, index)
        self.finished = True
        yield Finished(self._reason(response, status))
        if response.usage is not None:
            yield UsageReported(_disjoint(response.usage))

    def _reason(self, response: _Response, status: str) -> FinishReason:
        if status == "incomplete":
            details = response.incomplete_details
            return _INCOMPLETE.get((details.reason if details else None) or "", FinishReason.LENGTH)
        return FinishReason.TOOL_CALLS if self._calls else FinishReason.STOP

    def _message_done(self, item: _Item) -> Iterator[StreamEvent]:
        parts = [_Part("output_text", item.content)] if isinstance(item.content, str) else item.content or ()
        text = self._text.last("".join(part.text or "" for part in parts if part.type == "output_text"))
        if text:
            yield TextDelta(text)
        refusal = self._refusal.last("".join(part.refusal or "" for part in parts if part.type == "refusal"))
        if refusal:
            yield RefusalDelta(refusal)
        self._has_said = self._has_said or bool(text or refusal)
        self._has_content = self._has_content or self._has_said

    def _thought_done(self, item: _Item) -> Iterator[StreamEvent]:
        """A summary (OpenAI, Ollama), or the thought itself (vLLM, LM Studio); and its proof."""
        content = [_Part("reasoning_text", item.content)] if isinstance(item.content, str) else item.content or []
        texts = [part.text for part in (*(item.summary or ()), *content) if part.text]
        rest = self._thought.last(_BETWEEN_PARTS.join(texts))
        if rest:
            yield ReasoningDelta(rest)
        if item.encrypted_content:
            yield ReasoningProof(encrypted=item.encrypted_content, vendor=VENDOR, id=item.id or "")
        self._has_content = self._has_content or bool(rest or item.encrypted_content)

    def _call_done(self, item: _Item, index: int | None) -> Iterator[StreamEvent]:
        call = self._begun(item)
        # Copilot makes up ids anew for every event (Source: github.com/BerriAI/litellm/pull/30072, 2026-06).
        if call is None and index is not None:
            at_place = self._by_index.get(index)
            call = at_place if at_place is not None and not at_place.is_done else None
        if call is None:
            yield self._begin(item, index)
            call = self._calls[-1]
        call.is_done = True
        rest = call.arguments.rest(item.arguments or "")
        if rest:
            yield ToolCallDelta(call.position, rest)

    def _begun(self, item: _Item) -> _Call | None:
        """The call that this item is: by the id that joins it to its result, else by the item's own."""
        for call in self._calls:
            if item.call_id and call.id == item.call_id:
                return call
        return self._by_id.get(item.id or "")

    def _begin(self, item: _Item, index: int | None) -> ToolCallStart:
        position = len(self._calls)
        call = _Call(position, item.call_id or item.id or f"call_{position}")
        self._calls.append(call)
        if item.id:
            self._by_id[item.id] = call
        if index is not None:
            self._by_index[index] = call
        self._has_content = True
        return ToolCallStart(position, call.id, item.name or "")


class ResponseInterpreter:
    """A `FrameInterpreter` for the events of a response. After its end they mean nothing more."""

    def __init__(self) -> None:
        self._answer = AnswerEvents()
        self._started = False

    @property
    def finished(self) -> bool:
        return self._answer.finished

    def read(self, frame: SseFrame) -> Frame:
        raw, data = frame
        if not data:
            return Frame(raw, ())
        if data == b"[DONE]":  # of copies
            if not self.finished:
                raise stream_broken("the stream ended without its final response")
            return Frame(raw, ())
        kind = _decode_kind(data)
        if kind.type == "error" or bytes(kind.error) not in _NOTHING:
            raise _error(data)
        if self.finished:
            return Frame(raw, ())
        events = tuple(self._events(kind.type, data))
        if events and not self._started:
            self._started = True
            if not isinstance(events[0], Started):
                events = (Started(""), *events)
        return Frame(raw, events)

    def _events(self, kind: str, data: bytes) -> Iterator[StreamEvent]:
        match kind:
            case "response.function_call_arguments.delta" | "response.function_call_arguments.done":
                yield from self._answer.arguments(_decode_piece(data))
            case _ if kind.endswith(".delta"):
                yield from self._delta(kind, data)
            case "response.output_item.added":
                added = _decode_item_event(data)
                yield from self._answer.item_added(added.item, added.output_index)
            case "response.output_item.done":
                done = _decode_item_event(data)
                yield from self._answer.item_done(done.item, done.output_index)
            case "response.created" | "response.in_progress" if not self._started:
                yield Started(_decode_beginning(data).response.id or "")
            case _ if kind in _STATUS_OF:
                response = _decode_response_event(data).response
                if not self._started:
                    yield Started(response.id or "")
                yield from self._answer.response_done(response, _STATUS_OF[kind])

    def _delta(self, kind: str, data: bytes) -> Iterator[StreamEvent]:
        match kind:
            case "response.output_text.delta":
                if text := _decode_piece(data).delta:
                    yield from self._answer.text(text)
            case "response.refusal.delta":
                if refusal := _decode_piece(data).delta:
                    yield from self._answer.refusal(refusal)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                piece = _decode_piece(data)
                if piece.delta:
                    yield from self._answer.thought(piece.delta, (kind, piece.summary_index, piece.content_index))


def read_whole(body: bytes) -> Frame:
    """A whole response, with the same events in the same order as its stream would have had."""
    try:
        try:
            return Frame(body, _whole(body))
        except msgspec.DecodeError:  # half a character, perhaps
            return Frame(body, _whole(mended(body)))
    except _UNREADABLE as error:
        raise malformed(f"the answer is not a response: {error}") from None


def _whole(body: bytes) -> tuple[StreamEvent, ...]:
    response = _decode_response(body)
    if response.status in ("queued", "in_progress"):
        raise malformed("the provider has only begun on the answer, as if it had been asked for in the background")
    if response.output is None and bytes(response.error) in _NOTHING and response.status not in _BAD_ENDS:
        raise error_in_answer(body) if read_error(None, body).message else malformed("the answer has no output")
    return (Started(response.id or ""), *AnswerEvents().response_done(response, "completed"))


def _error(body: bytes) -> ProviderError:
    """`{"error": …}` (as OpenAI sends them and failed responses have them), or the error event as it is documented."""
    content: Any = msgspec.json.decode(body)
    inner: Any = content.get("error", content) if isinstance(content, dict) else None
    if isinstance(inner, dict) and inner.get("type") in ("error", None) and str(inner.get("code")) in _REQUESTS_FAULT:
        return error_in_answer(msgspec.json.encode({"error": {**inner, "type": "invalid_request_error"}}))
    return error_in_answer(body)


def _disjoint(usage: _Usage) -> Usage:
    """`input_tokens` counts cached and cache-written tokens too; each is billed at one rate only. Where the total is
    more than both, the rest is reasoning that the vendor bills as output; OpenAI's `output_tokens` holds it already.

    Source: developers.openai.com/api/docs/guides/prompt-caching (2026-11).
    """
    prompt, answer = tokens(usage.input_tokens), tokens(usage.output_tokens)
    details, thinking = usage.input_tokens_details, usage.output_tokens_details
    read = min(tokens(details.cached_tokens), prompt) if details else 0
    written = min(tokens(details.cache_write_tokens), prompt - read) if details else 0
    output = max(answer, tokens(usage.total_tokens) - prompt) if usage.input_tokens is not None else answer
    reasoning = tokens(thinking.reasoning_tokens) if thinking else 0
    return Usage(
        input_tokens=prompt - read - written,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        output_tokens=output,
        reasoning_tokens=min(max(reasoning, output - answer), output),
    )
