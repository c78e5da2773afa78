"""Reasoning items on their way to OpenAI itself, which refuses to read what other vendors thought."""

from typing import Final

import msgspec
from msgspec import Raw, Struct

from providers.wires.sealed_thought import PREFIX, unseal

OPENAI: Final = "openai"
_MARK: Final = PREFIX.encode()


class _Item(Struct):
    type: str = ""
    summary: Raw = Raw(b"[]")
    encrypted_content: str | None = None


_encode = msgspec.json.Encoder().encode
_items = msgspec.json.Decoder(list[Raw]).decode
_item = msgspec.json.Decoder(_Item).decode


def for_openai(items: Raw) -> Raw:
    """Input items as OpenAI itself takes them: it refuses to read what other vendors thought, so that is left out.

    Everything else stays byte for byte.
    """
    if _MARK not in bytes(items):
        return items
    try:
        kept = [item for raw in _items(items) if (item := _as_openai_wants_it(raw)) is not None]
    except msgspec.DecodeError:
        return items  # for the vendor to refuse
    return Raw(_encode(kept))


def _as_openai_wants_it(raw: Raw) -> object | None:
    if _MARK not in bytes(raw):
        return raw
    try:
        item = _item(raw)
    except msgspec.DecodeError:
        return raw
    if item.type != "reasoning" or not (item.encrypted_content or "").startswith(PREFIX):
        return raw  # somebody only talks about it
    proof = unseal(item.encrypted_content or "")
    if proof is None or proof.vendor != OPENAI or not proof.encrypted:
        return None
    own = {"type": "reasoning", "summary": item.summary, "encrypted_content": proof.encrypted}
    return own | ({"id": proof.id} if proof.id else {})
