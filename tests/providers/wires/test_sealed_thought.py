"""Proofs of other vendors' thought survive an Anthropic client, and never reach Anthropic."""

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from providers.wires.sealed_thought import PREFIX, SealedThought, seal, unseal, without_sealed

SEALED = seal(SealedThought("openai", id="rs_1", encrypted="gAAA"))


@pytest.mark.parametrize(
    "thought",
    [
        SealedThought(),
        SealedThought("gemini", signature="a/b+c=="),
        SealedThought("openai", id="rs_1", encrypted="gAAA" * 1000),
        SealedThought(signature="x", call="call_ä"),
    ],
)
def test_what_was_sealed_can_be_read_again(thought: SealedThought) -> None:
    text = seal(thought)
    assert text.startswith(PREFIX)
    assert text.isascii()
    assert unseal(text) == thought


def test_a_signature_of_anthropics_is_no_sealed_thought() -> None:
    assert unseal("EqQBCkYIBxgCKkA=") is None
    assert unseal("") is None


@pytest.mark.parametrize("broken", [PREFIX, PREFIX + "###", PREFIX + "bm8", SEALED[:-3], PREFIX + "ä"])
def test_a_sealed_thought_that_somebody_changed_proves_nothing(broken: str) -> None:
    assert unseal(broken) == SealedThought()


def cleaned(*messages: dict[str, Any]) -> Any:
    left = without_sealed(Raw(msgspec.json.encode(messages)))
    return None if left is None else msgspec.json.decode(left)


def test_messages_without_sealed_thoughts_are_not_touched() -> None:
    own = {"type": "thinking", "thinking": "hm", "signature": "EqQB"}
    assert cleaned({"role": "assistant", "content": [own, {"type": "text", "text": "Hi"}]}) is None


def test_only_blocks_with_a_sealed_thought_are_taken_out() -> None:
    own = {"type": "thinking", "thinking": "hm", "signature": "EqQB"}
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {"signature": SEALED, "n": 1.50}}
    text = {"type": "text", "text": f"The word {SEALED}"}
    foreign = {"type": "thinking", "thinking": "hm", "signature": SEALED}
    hidden = {"type": "redacted_thinking", "data": SEALED}
    question = {"role": "user", "content": f"What is {SEALED}?"}
    messages = [question, {"role": "assistant", "content": [foreign, own, hidden, text, call], "extra": 1}]
    assert cleaned(*messages) == [question, {"role": "assistant", "content": [own, text, call], "extra": 1}]


def test_a_message_of_nothing_else_goes() -> None:
    foreign = {"type": "thinking", "thinking": "hm", "signature": SEALED}
    question = {"role": "user", "content": "Hi"}
    assert cleaned(question, {"role": "assistant", "content": [foreign]}, question) == [question, question]


@pytest.mark.parametrize(
    "messages",
    [
        b'"%b"',
        b'{"a":"%b"}',
        b'["%b"]',
        b'[{"content":["%b"]}]',
        b'[{"content":[{"type":7,"data":"%b"}]}]',
    ],
)
def test_shapes_that_are_no_messages_are_left_to_the_vendor(messages: bytes) -> None:
    raw = Raw(messages % SEALED.encode())
    assert without_sealed(raw) is None
