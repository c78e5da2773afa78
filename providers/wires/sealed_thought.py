"""Proofs of one vendor's thought, as a client of another can hold them and give them back.

An OpenAI client hands on the `encrypted_content` of a reasoning item as it came. An Anthropic client keeps the
signature of a `thinking` block and the data of a `redacted_thinking` block without reading them, and returns both with
the conversation. So what another vendor wants back travels there, with the vendor's name.
Anthropic itself refuses a signature that is not its own: `without_sealed` takes these blocks out again.
"""

import base64
import binascii

import msgspec
from msgspec import Raw, Struct

PREFIX = "router-thought-1."
_MARK = PREFIX.encode()


class SealedThought(Struct, frozen=True, omit_defaults=True):
    """See `ReasoningProof`. `call` is the id of the tool call that `signature` belongs to, where it belongs to one."""

    vendor: str = ""
    signature: str = ""
    encrypted: str = ""
    id: str = ""
    call: str = ""


class _Block(Struct):
    type: str = ""
    signature: str | None = None
    data: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(SealedThought).decode
_messages = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_blocks = msgspec.json.Decoder(list[Raw]).decode
_block = msgspec.json.Decoder(_Block).decode


def seal(thought: SealedThought) -> str:
    return PREFIX + base64.urlsafe_b64encode(_encode(thought)).decode()


def unseal(text: str) -> SealedThought | None:
    """What `seal` was given; None for any other text, a signature of Anthropic's for one."""
    if not text.startswith(PREFIX):
        return None
    try:
        return _decode(base64.urlsafe_b64decode(text[len(PREFIX) :]))
    except (binascii.Error, msgspec.DecodeError, ValueError):
        return SealedThought()  # somebody changed it: nobody's proof


def without_sealed(messages: Raw) -> Raw | None:
    """The messages of a request without blocks that hold a sealed thought; None when there are none.

    A message that is left without content goes too: it would be refused, and neighbours of one role are one turn.
    """
    if _MARK not in bytes(messages):
        return None
    try:
        kept = [message for each in _messages(messages) if (message := _without(each)) is not None]
    except (msgspec.DecodeError, RecursionError):
        return None  # not a shape that we know: for the vendor to refuse
    return Raw(_encode(kept))


def _without(message: dict[str, Raw]) -> dict[str, Raw] | None:
    content = message.get("content", Raw())
    if _MARK not in bytes(content) or not bytes(content).startswith(b"["):
        return message
    blocks = [block for block in _blocks(content) if not _is_sealed(block)]
    return {**message, "content": Raw(_encode(blocks))} if blocks else None


def _is_sealed(raw: Raw) -> bool:
    if _MARK not in bytes(raw):
        return False
    block = _block(raw)
    text = block.signature if block.type == "thinking" else block.data if block.type == "redacted_thinking" else None
    return text is not None and text.startswith(PREFIX)
