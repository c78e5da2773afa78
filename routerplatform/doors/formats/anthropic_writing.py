"""Writes messages from events, for targets that spoke another wire: whole, and as a stream of blocks.

Source: platform.claude.com/docs/en/build-with-claude/streaming and anthropic 2.11 `Message`, `RawMessageStreamEvent`
(2026-11): blocks come one after the other, counted from 0, each with its start, deltas and stop.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

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
from providers.domain.types import ChatRequest
from providers.wires.anthropic_turns import VENDOR
from providers.wires.sealed_thought import SealedThought, seal
from routerplatform.doors.formats import sse
from routerplatform.doors.formats.ascii_json import encode
from routerplatform.doors.formats.protocol import Heading

CHARACTERS_PER_TOKEN = 4  # for an answer that came uncounted
_STOP_REASONS = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
}
_object = msgspec.json.Decoder(dict[str, Any]).decode

Out = dict[str, Any]


class _Ending:
    """What the end of a message says: why it stopped, and the tokens."""

    def __init__(self, request: ChatRequest) -> None:
        self._estimate = request.input_tokens_estimate
        self._usage: Usage | None = None
        self._finished = Finished(FinishReason.STOP)
        self._refusal: list[str] = []
        self.has_calls = False
        self.characters = 0

    def note(self, event: StreamEvent) -> None:
        match event:
            case UsageReported(usage):
                self._usage = usage
            case Finished():
                self._finished = event
            case RefusalDelta(text):
                self._refusal.append(text)

    def reason(self) -> Out:
        """A call that has to be answered stops the turn, whatever else a vendor calls it."""
        why, sequence = self._finished.reason, self._finished.stop_sequence or None
        reason = "stop_sequence" if sequence and why is FinishReason.STOP else _STOP_REASONS[why]
        if why in {FinishReason.STOP, FinishReason.TOOL_CALLS}:
            reason = "tool_use" if self.has_calls else "end_turn" if reason == "tool_use" else reason
        if self._refusal and not self.has_calls:
            reason = "refusal"
        details = None
        if reason == "refusal":
            details = {"type": "refusal", "category": None, "explanation": "".join(self._refusal) or None}
        return {
            "stop_reason": reason,
            "stop_sequence": sequence if reason == "stop_sequence" else None,
            "stop_details": details,
        }

    def usage(self) -> Out:
        """The vendor's count so far; else what the request probably is, and the length of what was written."""
        counted = self._usage or Usage(
            input_tokens=self._estimate, output_tokens=-(-self.characters // CHARACTERS_PER_TOKEN)
        )
        return {
            "input_tokens": counted.input_tokens,
            "cache_creation_input_tokens": counted.cache_creation_input_tokens,
            "cache_read_input_tokens": counted.cache_read_input_tokens,
            "output_tokens": counted.output_tokens,
            "output_tokens_details": {"thinking_tokens": counted.reasoning_tokens},
        }


def _message(heading: Heading, content: list[Out], ending: Out, usage: Out) -> Out:
    return {
        "id": f"msg_{heading.request_id}",
        "type": "message",
        "role": "assistant",
        "model": heading.model,
        "content": content,
        **ending,
        "usage": usage,
    }


# --- whole --------------------------------------------------------------------------------------------------------


def message_body(request: ChatRequest, frames: Sequence[Frame], heading: Heading) -> bytes:
    ending = _Ending(request)
    content = _Content(ending)
    for event in (event for frame in frames for event in frame.events):
        ending.note(event)
        content.add(event)
    return encode(_message(heading, content.blocks(), ending.reason(), ending.usage()))


class _Content:
    """The blocks of a whole message, and the arguments of its tool calls by their place."""

    def __init__(self, ending: _Ending) -> None:
        self._ending = ending
        self._blocks: list[Out] = []
        self._calls: dict[int, Out] = {}
        self._arguments: dict[int, list[str]] = {}

    def add(self, event: StreamEvent) -> None:
        match event:
            case TextDelta(text) | RefusalDelta(text):
                self._extend("text", text)
            case ReasoningDelta(text):
                self._extend("thinking", text)
            case ReasoningProof():
                self._prove(event)
            case ToolCallStart():
                self._call(event)
            case ToolCallDelta(index, arguments):
                self._arguments.setdefault(index, []).append(arguments)
                self._ending.characters += len(arguments)

    def blocks(self) -> list[Out]:
        for index, call in self._calls.items():
            call["input"] = input_of("".join(self._arguments.get(index, ())))
        for block in self._blocks:
            if block["type"] == "thinking" and not block["signature"]:
                block["signature"] = seal(SealedThought())
        return self._blocks

    def _extend(self, kind: str, text: str) -> None:
        self._ending.characters += len(text)
        last = self._blocks[-1] if self._blocks else {}
        if last.get("type") == kind and not last.get("signature"):
            last[kind] += text
        else:
            self._blocks.append({"type": kind, kind: text, **_BLOCKS[kind]})

    def _prove(self, proof: ReasoningProof) -> None:
        last = self._blocks[-1] if self._blocks else {}
        if last.get("type") == "thinking" and not last["signature"] and proof_text(proof):
            last["signature"] = proof_text(proof)
        else:
            self._blocks.append(block_of_proof(proof))

    def _call(self, start: ToolCallStart) -> None:
        self._ending.has_calls = True
        if start.signature:
            self._blocks.append(proof_of_call(start))
        self._calls[start.index] = {"type": "tool_use", "id": start.id, "name": start.name, "input": {}}
        self._blocks.append(self._calls[start.index])


_BLOCKS: dict[str, Out] = {"text": {"citations": None}, "thinking": {"signature": ""}}


def input_of(arguments: str) -> Out:
    """A call's arguments, which have to be an object. What the model wrote wrongly stands in the one that Anthropic
    advises to wrap it in. Source: platform.claude.com/docs, "Fine-grained tool streaming" (2026-11)."""
    if not arguments.strip():
        return {}
    try:
        return _object(arguments)
    except (msgspec.DecodeError, RecursionError):
        return {"INVALID_JSON": arguments}


def proof_text(proof: ReasoningProof) -> str:
    """What goes where Anthropic's own signature would be."""
    if proof.vendor == VENDOR:
        return proof.signature
    return seal(SealedThought(proof.vendor, proof.signature, proof.encrypted, proof.id))


def block_of_proof(proof: ReasoningProof) -> Out:
    """A proof without a text before it: hidden thought."""
    if proof.vendor == VENDOR and proof.signature:
        return {"type": "thinking", "thinking": "", "signature": proof.signature}
    data = proof.encrypted if proof.vendor == VENDOR else proof_text(proof)
    return {"type": "redacted_thinking", "data": data}


def proof_of_call(start: ToolCallStart) -> Out:
    """Gemini proves single calls and wants that back with them; a `tool_use` block has no place for it."""
    return {"type": "redacted_thinking", "data": seal(SealedThought(signature=start.signature, call=start.id))}


# --- streamed -----------------------------------------------------------------------------------------------------


class _Call:
    """A tool call of a stream, and those of its arguments that were not yet sent."""

    def __init__(self, start: ToolCallStart) -> None:
        self.start = start
        self.arguments = ""
        self.sent = 0

    def is_whole(self) -> bool:
        try:
            _object(self.arguments)
        except (msgspec.DecodeError, RecursionError):
            return False
        return True


class StreamWriter:
    """Message events from events, for a target that spoke another wire.

    Tool calls may come interleaved, blocks may not: a call waits until the one before it is whole.
    """

    def __init__(self, request: ChatRequest, heading: Heading) -> None:
        self._heading = heading
        self._ending = _Ending(request)
        self._started = False
        self._index = -1
        self._open = ""  # the type of the block that is being written
        self._calls: dict[int, _Call] = {}
        self._waiting: list[_Call] = []  # in order; the first is the open block, if that is a call

    def write(self, frames: Iterable[Frame]) -> bytes:
        """The bytes to send for these frames; may be empty."""
        events = [event for frame in frames for event in frame.events]
        for event in events:
            self._ending.note(event)
        return self._start() + b"".join(map(self._event, events))

    def end(self) -> bytes:
        """What follows the last frame."""
        closing = self._start() + self._close()
        delta = {"type": "message_delta", "delta": self._ending.reason(), "usage": self._ending.usage()}
        return closing + _event("message_delta", delta) + _event("message_stop", {"type": "message_stop"})

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        nothing = {"stop_reason": None, "stop_sequence": None, "stop_details": None}
        message = _message(self._heading, [], nothing, self._ending.usage())
        return _event("message_start", {"type": "message_start", "message": message})

    def _event(self, event: StreamEvent) -> bytes:
        match event:
            case TextDelta(text) | RefusalDelta(text):
                return self._text("text", "text_delta", text)
            case ReasoningDelta(text):
                return self._text("thinking", "thinking_delta", text)
            case ReasoningProof():
                return self._proof(event)
            case ToolCallStart():
                call = self._calls[event.index] = _Call(event)
                self._waiting.append(call)
                self._ending.has_calls = True
                return self._written_calls()
            case ToolCallDelta(index, arguments):
                return self._call_arguments(index, arguments)
        return b""

    def _text(self, kind: str, delta: str, text: str) -> bytes:
        self._ending.characters += len(text)
        opening = b""
        if self._open != kind:
            opening = self._close() + self._begin({"type": kind, kind: "", **_BLOCKS[kind]})
        return opening + self._delta({"type": delta, kind: text})

    def _proof(self, proof: ReasoningProof) -> bytes:
        """The thought that is being written ends with it."""
        if self._open != "thinking" or not proof_text(proof):
            return self._close() + self._begin(block_of_proof(proof)) + self._stop()
        return self._delta({"type": "signature_delta", "signature": proof_text(proof)}) + self._stop()

    def _call_arguments(self, index: int, arguments: str) -> bytes:
        call = self._calls.get(index)
        if call not in self._waiting:
            return b""  # its block is over
        call.arguments += arguments
        self._ending.characters += len(arguments)
        return self._written_calls()

    def _written_calls(self) -> bytes:
        """All that can be sent of the waiting calls: the first as far as it goes, the next once that is whole."""
        written = [self._close_block()] if self._open != "tool_use" else []
        while self._waiting:
            call = self._waiting[0]
            if self._open != "tool_use":
                written.append(self._begin_call(call))
            written.append(self._arguments(call))
            if len(self._waiting) == 1 or not call.is_whole():
                break
            written.append(self._stop())
            self._waiting.pop(0)
        return b"".join(written)

    def _begin_call(self, call: _Call) -> bytes:
        start = call.start
        proof = self._begin(proof_of_call(start)) + self._stop() if start.signature else b""
        return proof + self._begin({"type": "tool_use", "id": start.id, "name": start.name, "input": {}})

    def _arguments(self, call: _Call) -> bytes:
        rest = call.arguments[call.sent :]
        call.sent = len(call.arguments)
        return self._delta({"type": "input_json_delta", "partial_json": rest}) if rest else b""

    def _close(self) -> bytes:
        """End the open block, and write the calls that still wait, each whole."""
        written = []
        for call in self._waiting:
            if self._open != "tool_use":
                written.append(self._begin_call(call))
            written += [self._arguments(call), self._stop()]
        self._waiting.clear()
        return b"".join(written) + self._close_block()

    def _close_block(self) -> bytes:
        if not self._open:
            return b""
        if self._open != "thinking":
            return self._stop()
        return self._delta({"type": "signature_delta", "signature": seal(SealedThought())}) + self._stop()

    def _begin(self, block: Out) -> bytes:
        self._index += 1
        self._open = block["type"]
        return _event(
            "content_block_start", {"type": "content_block_start", "index": self._index, "content_block": block}
        )

    def _delta(self, delta: Out) -> bytes:
        return _event("content_block_delta", {"type": "content_block_delta", "index": self._index, "delta": delta})

    def _stop(self) -> bytes:
        self._open = ""
        return _event("content_block_stop", {"type": "content_block_stop", "index": self._index})


def _event(name: str, payload: Out) -> bytes:
    return sse.event(name, encode(payload))
