"""Google's Gemini wire: `POST /v1beta/models/{model}:generateContent`, `:streamGenerateContent?alt=sse`.

Source: ai.google.dev/api/generate-content, guides "Function calling", "Thinking" and "Thought signatures"
(ai.google.dev/gemini-api/docs/thought-signatures), and the proto's JSON mapping, by which an unknown name is an error.
Date: 2026-11. The requests are read in gemini_reading.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import msgspec

from providers.demo.exchange import LISTED, Frame, JsonObject, Piece, Refusal, Reply
from providers.demo.gemini_reading import call_proof
from providers.demo.gemini_reading import read_ask as read_ask
from providers.demo.texts import vendor_error

NAME = "gemini"
REQUEST_ID_HEADER = ""  # it gives none
RETRY_HEADER = ""  # the time stands in the body, as `retryDelay`
KEY_HEADERS: tuple[str, ...] = ("x-goog-api-key",)
STREAM_TYPE = "text/event-stream"
OVERLOADED = 503
GARBAGE = b'data: {"candidates": [{"content": {"parts": [{"te\r\n\r\n'
_RPC = "type.googleapis.com/google.rpc"
BLOCKED: JsonObject = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}  # instead of candidates, status 200
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}


def body_of(reply: Reply) -> JsonObject:
    parts = [_part(reply, list(pieces)) for _, pieces in groupby(reply.pieces, key=lambda one: (one.thought, one.call))]
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if reply.show_finish:
        candidate["finishReason"] = _FINISH[reply.finish]
    body = {"candidates": [candidate], **_head(reply)}
    return {**body, "usageMetadata": _usage(reply)} if reply.show_usage else body


def frames_of(reply: Reply) -> Iterator[Frame]:
    """A chunk for each token; a call comes whole. The last chunk has the finish reason, and nothing follows it."""
    groups = [list(pieces) for _, pieces in groupby(reply.pieces, key=lambda piece: (piece.thought, piece.call))]
    produced = 0
    for pieces in groups:
        if pieces[0].call is not None:
            produced += len(pieces)
            yield _chunk(reply, [_part(reply, pieces)], produced), len(pieces)
            continue
        for piece in pieces:
            produced += 1
            yield _chunk(reply, [_part(reply, [piece])], produced), 1
    if reply.show_finish:
        yield _chunk(reply, [{"text": ""}], produced, finish=_FINISH[reply.finish]), 0


def _part(reply: Reply, pieces: list[Piece]) -> JsonObject:
    """Pieces of one kind as one part; the proof of thought stands on the first call."""
    text = "".join(piece.text for piece in pieces)
    if pieces[0].thought:
        return {"text": text, "thought": True}
    if pieces[0].call is None:
        return {"text": text}
    head = pieces[0]
    call = {"name": head.name, "args": _arguments(text)}
    if not reply.is_signed:
        return {"functionCall": call}
    proof = {"thoughtSignature": call_proof(head.name, _arguments(text))} if head.call == 0 else {}
    return {"functionCall": {"id": head.id, **call}, **proof}


def _arguments(text: str) -> Any:
    """An object, also when the limit cut its text short."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}


def _head(reply: Reply) -> JsonObject:
    return {"modelVersion": reply.model.id, "responseId": reply.digest[:22]}


def _chunk(reply: Reply, parts: list[JsonObject], produced: int, *, finish: str | None = None) -> bytes:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    data = {"candidates": [candidate], **_head(reply)}
    if reply.show_usage:
        data["usageMetadata"] = _usage(reply) if finish else _usage_so_far(reply)
    return b"data: " + msgspec.json.encode(data) + b"\r\n\r\n"


def _usage(reply: Reply) -> JsonObject:
    """Cached tokens are inside `promptTokenCount`, thoughts beside `candidatesTokenCount`; a field of 0 is left out."""
    new, read, written, output, reasoning = reply.usage
    prompt = new + read + written
    counts = {
        "promptTokenCount": prompt,
        "cachedContentTokenCount": read,
        "candidatesTokenCount": output - reasoning,
        "thoughtsTokenCount": reasoning,
        "totalTokenCount": prompt + output,
    }
    details = {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}]}
    return {**{name: number for name, number in counts.items() if number}, **details}


def _usage_so_far(reply: Reply) -> JsonObject:
    """Chunks before the last count the prompt; their other figures are not final."""
    prompt = sum(reply.usage[:3])
    return {"promptTokenCount": prompt, "totalTokenCount": prompt}


def error_body(refusal: Refusal, request_id: str) -> JsonObject:
    words = vendor_error(NAME, refusal.status, refusal.code)
    error = {"code": refusal.status, "message": refusal.message or words.message, "status": words.type}
    details: list[JsonObject] = []
    if refusal.status == 400 and words.code:
        details.append({"@type": f"{_RPC}.ErrorInfo", "reason": words.code, "domain": "googleapis.com"})
    if refusal.retry_after_s is not None:
        details.append({"@type": f"{_RPC}.RetryInfo", "retryDelay": f"{refusal.retry_after_s:g}s"})
    return {"error": {**error, "details": details} if details else error}


def error_frame(request_id: str) -> bytes:
    return b"data: " + msgspec.json.encode(error_body(Refusal(503), request_id)) + b"\r\n\r\n"


def key_refusal(key: str) -> Refusal:
    """Google: 403 without a key, 400 with a bad one."""
    if key:
        return Refusal(400, code="API_KEY_INVALID")
    return Refusal(403, "Method doesn't allow unregistered callers. Please use API Key to call this API.")


def model_list(name: str | None) -> JsonObject | None:
    """Every model: here all of them are Google's."""
    rows = [_row(model.id, model.label) for model in LISTED]
    if name is None:
        return {"models": rows}
    return next((row for row in rows if row["name"] == f"models/{name}"), None)


def _row(name: str, label: str) -> dict[str, Any]:
    embeds = name == "demo-embed"
    methods = ["embedContent", "batchEmbedContents"] if embeds else ["generateContent", "countTokens"]
    sizes = {"inputTokenLimit": 128_000, "outputTokenLimit": 16_384}
    head = {"name": f"models/{name}", "baseModelId": name, "version": "001", "displayName": label, **sizes}
    return {**head, "supportedGenerationMethods": methods}
