"""Write a response from events, whole and streamed, for targets that spoke another wire.

Source: developers.openai.com/api/reference/resources/responses (the object, streaming events), and openai 3.52
`Response`, `ResponseStreamEvent` (2026-11).

What is said, thought and called become the items of `output`, in the order in which they began. A whole answer is what
its stream would have added up to: both come from `Output`.
"""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from providers.domain.answer import (
    Finished,
    FinishReason,
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
from providers.wires.sealed_thought import SealedThought, seal
from routerplatform.doors.formats import sse
from routerplatform.doors.formats.ascii_json import encode
from routerplatform.doors.formats.protocol import Heading
from routerplatform.gateway.errors import GatewayError

Json = dict[str, Any]
Told = tuple[str, Json]  # an event of the stream: its type, and its fields

INCOMPLETE: Final = {FinishReason.LENGTH: "max_output_tokens", FinishReason.CONTENT_FILTER: "content_filter"}
NO_ARGUMENTS: Final = "{}"  # clients parse them as JSON, and some wires leave them out
GEMINI: Final = "gemini"  # whose calls carry a signature

# Fields of the request that stand in its response too, and what stands there when nobody said anything.
_ECHOED: Final[Json] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
_NULL: Final = Raw(b"null")
_members = msgspec.json.Decoder(dict[str, Raw]).decode


def heading_of(fields: dict[str, Raw], heading: Heading, *, previous: str | None, store: bool) -> Json:
    """Everything of a response but what the model makes of it."""
    echoed = {name: _said(fields, name) or default for name, default in _ECHOED.items()}
    return {
        "id": f"resp_{heading.request_id}",
        "object": "response",
        "created_at": heading.created,
        "model": heading.model,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "previous_response_id": previous,
        "reasoning": {"effort": None, "summary": None} | _object(fields, "reasoning"),
        "store": store,
        "text": {"format": {"type": "text"}} | _object(fields, "text"),
        **echoed,
    }


def _said(fields: dict[str, Raw], name: str) -> Raw | None:
    value = fields.get(name)
    return None if value is None or value == _NULL else value


def _object(fields: dict[str, Raw], name: str) -> dict[str, Raw]:
    """Its members that are not null. What is no object was refused before an answer came."""
    said = _said(fields, name)
    return {key: value for key, value in _members(said).items() if value != _NULL} if said is not None else {}


def usage_out(usage: Usage) -> Json:
    """Disjoint buckets as OpenAI adds them up: what a cache served or took is part of the input."""
    prompt = usage.all_input_tokens
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_input_tokens,
            "cache_write_tokens": usage.cache_creation_input_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": prompt + usage.output_tokens,
    }


# --- the items of an answer ---------------------------------------------------------------------------------------


class Item(Protocol):
    """One item of `output`. `place` is its index there."""

    id: str
    place: int
    is_open: bool

    def body(self, status: str) -> Json: ...

    def closing(self) -> Iterator[Told]:
        """What is told before `output_item.done`."""


@dataclass(slots=True)
class Part:
    """Text of a message, or a refusal."""

    kind: str  # "output_text" | "refusal"
    pieces: list[str] = field(default_factory=list)

    def body(self) -> Json:
        text = "".join(self.pieces)
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


@dataclass(slots=True)
class MessageItem:
    id: str
    place: int
    is_open: bool = True
    parts: list[Part] = field(default_factory=list)

    def body(self, status: str) -> Json:
        content = [part.body() for part in self.parts]
        return {"type": "message", "id": self.id, "status": status, "role": "assistant", "content": content}

    def say(self, kind: str, text: str) -> Iterator[Told]:
        if not self.parts or self.parts[-1].kind != kind:
            yield from self.closing()
            self.parts.append(Part(kind))
            yield "response.content_part.added", self._where() | {"part": self.parts[-1].body()}
        self.parts[-1].pieces.append(text)
        more: Json = {"logprobs": []} if kind == "output_text" else {}
        yield f"response.{kind}.delta", self._where() | {"delta": text, **more}

    def closing(self) -> Iterator[Told]:
        """Only the last part is still open."""
        if not self.parts:
            return
        part = self.parts[-1].body()
        if part["type"] == "refusal":
            yield "response.refusal.done", self._where() | {"refusal": part["refusal"]}
        else:
            yield "response.output_text.done", self._where() | {"text": part["text"], "logprobs": []}
        yield "response.content_part.done", self._where() | {"part": part}

    def _where(self) -> Json:
        return {"item_id": self.id, "output_index": self.place, "content_index": len(self.parts) - 1}


@dataclass(slots=True)
class ReasoningItem:
    """A thought: its text is told as a summary, its proof as encrypted content."""

    id: str
    place: int
    is_open: bool = True
    pieces: list[str] = field(default_factory=list)
    proof: str = ""

    def body(self, status: str) -> Json:
        summary = [self._part()] if self.pieces else []
        body = {"type": "reasoning", "id": self.id, "summary": summary, "encrypted_content": self.proof or None}
        return body | ({"status": status} if status != "in_progress" else {})

    def think(self, text: str) -> Iterator[Told]:
        if not self.pieces:
            part = {"type": "summary_text", "text": ""}
            yield "response.reasoning_summary_part.added", self._where() | {"part": part}
        self.pieces.append(text)
        yield "response.reasoning_summary_text.delta", self._where() | {"delta": text}

    def closing(self) -> Iterator[Told]:
        if self.pieces:
            part = self._part()
            yield "response.reasoning_summary_text.done", self._where() | {"text": part["text"]}
            yield "response.reasoning_summary_part.done", self._where() | {"part": part}

    def _part(self) -> Json:
        return {"type": "summary_text", "text": "".join(self.pieces)}

    def _where(self) -> Json:
        return {"item_id": self.id, "output_index": self.place, "summary_index": 0}


@dataclass(slots=True)
class CallItem:
    """`call_id` is the vendor's id of the call, with which its result comes back; `id` is only the item's."""

    id: str
    place: int
    call_id: str
    name: str
    is_open: bool = True
    pieces: list[str] = field(default_factory=list)

    def body(self, status: str) -> Json:
        arguments = "".join(self.pieces)
        call = {"call_id": self.call_id, "name": self.name, "arguments": arguments}
        return {"type": "function_call", "id": self.id, "status": status, **call}

    def write(self, arguments: str) -> Iterator[Told]:
        self.pieces.append(arguments)
        yield "response.function_call_arguments.delta", self._where() | {"delta": arguments}

    def closing(self) -> Iterator[Told]:
        if not self.pieces:
            yield from self.write(NO_ARGUMENTS)
        yield "response.function_call_arguments.done", self._where() | {"arguments": "".join(self.pieces)}

    def _where(self) -> Json:
        return {"item_id": self.id, "output_index": self.place}


class Output:
    """The items of one answer, as its events make them.

    A message or a thought ends where something else begins. Calls stay open until the answer ends, because vendors may
    write several at a time.
    """

    def __init__(self, request_id: str) -> None:
        self.usage: Usage | None = None
        self.reason: FinishReason | None = None
        self._request_id = request_id
        self._items: list[Item] = []
        self._calls: dict[int, CallItem] = {}

    def take(self, event: StreamEvent) -> Iterator[Told]:
        match event:
            case TextDelta(text) if text:
                message = yield from self._current_message()
                yield from message.say("output_text", text)
            case RefusalDelta(text) if text:
                message = yield from self._current_message()
                yield from message.say("refusal", text)
            case ReasoningDelta(text) if text:
                thought = yield from self._current_thought()
                yield from thought.think(text)
            case ReasoningProof(signature, encrypted, vendor, vendor_id):
                yield from self._prove(SealedThought(vendor, signature, encrypted, vendor_id))
            case ToolCallStart():
                yield from self._call(event)
            case ToolCallDelta(index, arguments) if arguments:
                yield from self._calls[index].write(arguments)
            case Finished(reason):
                self.reason = reason
            case UsageReported(usage):
                self.usage = usage

    def end(self) -> Iterator[Told]:
        """What was under way at the end of a good answer is done; of one that was cut, its last item is not."""
        unfinished = self._items[-1] if self._items and self.reason in INCOMPLETE else None
        for item in self._items:
            if item.is_open:
                yield from self._close(item, "incomplete" if item is unfinished else "completed")

    def bodies(self, *, cut: bool = False) -> list[Json]:
        """`output`, once the answer has ended; `cut` for one that broke off."""
        last = len(self._items) - 1
        is_cut = cut or self.reason in INCOMPLETE
        return [item.body("incomplete" if is_cut and i == last else "completed") for i, item in enumerate(self._items)]

    def _current_message(self) -> Generator[Told, None, MessageItem]:
        last = self._items[-1] if self._items else None
        if isinstance(last, MessageItem) and last.is_open:
            return last
        message = MessageItem(self._id("msg"), len(self._items))
        yield from self._open(message)
        return message

    def _current_thought(self) -> Generator[Told, None, ReasoningItem]:
        last = self._items[-1] if self._items else None
        if isinstance(last, ReasoningItem) and last.is_open:
            return last
        thought = ReasoningItem(self._id("rs"), len(self._items))
        yield from self._open(thought)
        return thought

    def _prove(self, proof: SealedThought) -> Iterator[Told]:
        thought = yield from self._current_thought()
        thought.proof = seal(proof)
        yield from self._close(thought, "completed")

    def _call(self, start: ToolCallStart) -> Iterator[Told]:
        if start.signature:
            yield from self._prove(SealedThought(GEMINI, start.signature, call=start.id))
        call = CallItem(self._id("fc"), len(self._items), start.id, start.name)
        self._calls[start.index] = call
        yield from self._open(call)

    def _open(self, item: Item) -> Iterator[Told]:
        last = self._items[-1] if self._items else None
        if last is not None and last.is_open and not isinstance(last, CallItem):
            yield from self._close(last, "completed")
        self._items.append(item)
        yield "response.output_item.added", {"output_index": item.place, "item": item.body("in_progress")}

    def _close(self, item: Item, status: str) -> Iterator[Told]:
        item.is_open = False
        yield from item.closing()
        yield "response.output_item.done", {"output_index": item.place, "item": item.body(status)}

    def _id(self, kind: str) -> str:
        return f"{kind}_{self._request_id}_{len(self._items)}"


# --- the answer ---------------------------------------------------------------------------------------------------


def whole_response(heading: Json, output: Output) -> Json:
    """The object, once the answer has ended."""
    reason = INCOMPLETE.get(output.reason) if output.reason else None
    return heading | {
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "output": output.bodies(),
        "usage": usage_out(output.usage or Usage()),
    }


class ResponseWriter:
    """Events of a stream; `response` is the whole object once `end` was called."""

    def __init__(self, heading: Json, request_id: str) -> None:
        self.response: Json = {}
        self._heading = heading
        self._output = Output(request_id)
        self._number = 0  # of the next event

    def write(self, frames: Iterable[Frame]) -> bytes:
        told = b"" if self._number else self._begun()
        return told + b"".join(
            self._event(*step) for frame in frames for event in frame.events for step in self._output.take(event)
        )

    def end(self) -> bytes:
        begun = b"" if self._number else self._begun()
        items = b"".join(self._event(*step) for step in self._output.end())
        self.response = whole_response(self._heading, self._output)
        return begun + items + self._event(f"response.{self.response['status']}", {"response": self.response})

    def failed(self, error: GatewayError, request_id: str) -> bytes:
        """What came so far, and why there is no more: once for readers of the object, once as an error."""
        begun = b"" if self._number else self._begun()
        response = self._heading | {
            "status": "failed",
            "error": {"code": failure_code(error), "message": error.message},
            "output": self._output.bodies(cut=True),
            "usage": usage_out(self._output.usage) if self._output.usage else None,
        }
        told = self._event("response.failed", {"response": response})
        return begun + told + self._event("error", error_fields(error, request_id))

    def _begun(self) -> bytes:
        response = self._heading | {"status": "in_progress", "output": [], "usage": None}
        return self._event("response.created", {"response": response}) + self._event(
            "response.in_progress", {"response": response}
        )

    def _event(self, kind: str, fields: Json) -> bytes:
        told = sse.event(kind, encode({"type": kind, "sequence_number": self._number, **fields}))
        self._number += 1
        return told


def answered(heading: Json, request_id: str, frames: Iterable[Frame]) -> Json:
    """A whole answer from all its events."""
    output = Output(request_id)
    for event in (event for frame in frames for event in frame.events):
        for _ in output.take(event):
            pass
    for _ in output.end():
        pass
    return whole_response(heading, output)


# --- errors -------------------------------------------------------------------------------------------------------


def failure_code(error: GatewayError) -> str:
    """The nearest of the few codes that a failed response may have: openai 3.52 `ResponseError`."""
    if error.http_status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if error.http_status < 500 else "server_error"


def error_fields(error: GatewayError, request_id: str) -> Json:
    """Of an `error` event. The documented fields stand beside `error`, which OpenAI sends too and which makes its SDK
    raise (openai 3.52 `Stream.__stream__`)."""
    told = {"code": error.code, "message": error.message, "param": error.param}
    details = {"details": error.details} if error.details else {}
    return told | {"error": {"type": error.kind, **told, **details}, "request_id": request_id}
