"""The turns of a conversation in Gemini's words: `contents`, and `systemInstruction`.

Source: ai.google.dev/api/caching#Content and #Part, /gemini-api/docs/function-calling, /thought-signatures,
/image-understanding, /document-processing and /file-input-methods (2026-11).
"""

import re
from collections.abc import Iterable

import msgspec
from msgspec import Raw

from providers.domain.conversation import (
    DocumentPart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from providers.wires.gemini_models import GEMINI_2_5, GEMINI_3, Generation
from providers.wires.message_parts import inline
from providers.wires.protocol import UnsupportedFeature
from providers.wires.request_fields import NAMES, Body
from providers.wires.tool_json import object_arguments

VENDOR = "gemini"  # whose proofs of thought these are

# From Gemini 3 on the first call of a step must carry a proof. A call that another vendor's model made has none: this
# word skips the check. Source: ai.google.dev/gemini-api/docs/thought-signatures, FAQs (2026-11).
NO_PROOF = "skip_thought_signature_validator"

_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"})
_DOCUMENT_TYPES = frozenset({"application/pdf", "application/json"})  # and all of text/*
# What may stand inside a function's response, from Gemini 3 on.
_RESULT_TYPES = frozenset({"image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"})
_BY_ENDING = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "bmp": "image/bmp",
    "pdf": "application/pdf",
    "json": "application/json",
    "txt": "text/plain",
    "csv": "text/csv",
    "html": "text/html",
    "md": "text/markdown",
}
_ENDING = re.compile(r"\.(\w+)(?:[?#].*)?$", re.DOTALL)


def system_text(messages: Iterable[Message], prompt: str) -> str:
    """All instructions, wherever they stood, one per line: turns have the roles “user” and “model” only."""
    lines = [prompt] if prompt else []
    for message in messages:
        if message.role is not Role.SYSTEM:
            continue
        for part in message.parts:
            if not isinstance(part, TextPart):
                raise UnsupportedFeature(f"{NAMES[type(part)]} in a system message")
            if part.text.strip():
                lines.append(part.text)
    return "\n".join(lines)


def turns(messages: Iterable[Message], version: Generation) -> list[Body]:
    """Turns alternate: neighbours of one role become one, so that all results of parallel calls stand together, as
    they have to. A turn without content is left out, for an empty one is refused.

    :raises UnsupportedFeature: content that this generation of models does not take.
    """
    merged: list[tuple[str, list[Body]]] = []
    names: dict[str, str] = {}  # of the functions, by the ids of their calls
    for message in messages:
        if message.role is Role.SYSTEM:
            continue
        is_model = message.role is Role.ASSISTANT
        role = "model" if is_model else "user"
        parts = _model_parts(message.parts, names) if is_model else _user_parts(message.parts, names, version)
        if not parts:
            continue
        if merged and merged[-1][0] == role:
            merged[-1][1].extend(parts)
        else:
            merged.append((role, parts))
    return [
        {"role": role, "parts": _with_proof(parts, version) if role == "model" else _results_first(parts)}
        for role, parts in merged
    ]


def _results_first(parts: list[Body]) -> list[Body]:
    return sorted(parts, key=lambda part: "functionResponse" not in part)


def _with_proof(parts: list[Body], version: Generation) -> list[Body]:
    """Of parallel calls only the first has a proof."""
    first = next((part for part in parts if "functionCall" in part), None)
    if version >= GEMINI_3 and first is not None:
        first.setdefault("thoughtSignature", NO_PROOF)
    return parts


# --- what the model said ------------------------------------------------------------------------------------------


def _model_parts(parts: Iterable[Part], names: dict[str, str]) -> list[Body]:
    """A proof belongs to what came after the thought; a proof that nothing follows had come with an empty text.
    Other vendors' thoughts, and those without a proof, mean nothing to this model and would only be paid for."""
    said: list[Body] = []
    proof = ""
    for part in parts:
        if isinstance(part, ReasoningPart):
            if part.vendor == VENDOR and (part.signature or part.encrypted):
                said.extend(_proof_alone(proof))
                if part.text:
                    said.append({"text": part.text, "thought": True})
                proof = part.signature or part.encrypted
            continue
        body = _model_part(part, names)
        if body is not None:
            if proof:
                body.setdefault("thoughtSignature", proof)
                proof = ""
            said.append(body)
    return [*said, *_proof_alone(proof)]


def _proof_alone(proof: str) -> list[Body]:
    return [{"text": "", "thoughtSignature": proof}] if proof else []


def _model_part(part: Part, names: dict[str, str]) -> Body | None:
    match part:
        case TextPart(text=text):
            return {"text": text} if text else None
        case ToolCallPart():
            names[part.id] = part.name
            return _function_call(part)
        case ImagePart() | DocumentPart() if (given := inline(part)) is not None:
            return _inline_data(part, *given)
    raise UnsupportedFeature(f"{NAMES[type(part)]} in an assistant message")


def _function_call(call: ToolCallPart) -> Body:
    function: Body = {"name": call.name, "args": object_arguments(call)}
    if call.id:
        function["id"] = call.id
    body: Body = {"functionCall": function}
    if call.signature:
        body["thoughtSignature"] = call.signature
    return body


# --- what the user said -------------------------------------------------------------------------------------------


def _user_parts(parts: Iterable[Part], names: dict[str, str], version: Generation) -> list[Body]:
    said: list[Body] = []
    for part in parts:
        match part:
            case TextPart(text=text):
                if text:
                    said.append({"text": text})
            case ImagePart() | DocumentPart():
                said.append(_file(part, version))
            case ToolResultPart():
                said.extend(_function_response(part, names, version))
            case _:
                raise UnsupportedFeature(f"{NAMES[type(part)]} in a user message")
    return said


def _function_response(result: ToolResultPart, names: dict[str, str], version: Generation) -> list[Body]:
    """The response, and after it the files that cannot be part of it."""
    name = names.get(result.call_id) or result.name
    if not name:
        raise UnsupportedFeature(f"a tool result whose call “{result.call_id}” is not in the conversation")
    response: Body = {"name": name, "response": _response(result)}
    if result.call_id:
        response["id"] = result.call_id
    inside: list[Body] = []
    beside: list[Body] = []
    for part in result.media:
        body = _file(part, version)
        inline = body.get("inlineData")
        fits = version >= GEMINI_3 and isinstance(inline, dict) and inline["mimeType"] in _RESULT_TYPES
        (inside if fits else beside).append(body)
    if inside:
        response["parts"] = inside
    return [{"functionResponse": response}, *beside]


def _response(result: ToolResultPart) -> object:
    """A response is an object: “output” and “error” are the keys that the model knows.
    Source: google-genai `FunctionResponse.response` (2026-11)."""
    text = result.text.strip().encode("utf-8", "replace")
    is_json = text[:1] in (b"{", b"[") and _is_json(text)
    value: object = Raw(text) if is_json else result.text
    if result.is_error:
        return {"error": value}
    return value if is_json and text.startswith(b"{") else {"output": value}


# --- files --------------------------------------------------------------------------------------------------------


def _file(part: ImagePart | DocumentPart, version: Generation) -> Body:
    """Google fetches public https addresses itself, but not for Gemini 2.0 and earlier."""
    given = inline(part)
    if given is not None:
        return _inline_data(part, *given)
    what = NAMES[type(part)]
    if version < GEMINI_2_5:
        raise UnsupportedFeature(f"{what} by address")
    if not part.url.startswith("https://"):
        raise UnsupportedFeature(f"{what} by an address that is not https")
    ending = _ENDING.search(part.url)
    usual = "image/jpeg" if isinstance(part, ImagePart) else "application/pdf"
    media_type = part.media_type or _BY_ENDING.get(ending[1].lower() if ending else "", usual)
    return {"fileData": {"mimeType": media_type, "fileUri": part.url}}


def _inline_data(part: ImagePart | DocumentPart, media_type: str, data: str) -> Body:
    media_type = "image/jpeg" if media_type == "image/jpg" else media_type
    if isinstance(part, ImagePart):
        fits = media_type in _IMAGE_TYPES
    else:
        fits = media_type in _DOCUMENT_TYPES or media_type.startswith("text/")
    if not fits:
        raise UnsupportedFeature(f"{NAMES[type(part)]} of type {media_type or 'unknown'}")
    return {"inlineData": {"mimeType": media_type, "data": data}}


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
