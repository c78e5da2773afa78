"""Every value of a good answer is replaced by values of the wrong type: only a ProviderError may come of it."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from providers.domain.errors import ProviderError
from providers.domain.types import Wire
from providers.wires import WIRES
from providers.wires.failure_reading import read_failure
from tests.providers.wires import test_anthropic_answer as anthropic
from tests.providers.wires import test_openai_answer as openai
from tests.providers.wires.builders import read_all

ODD: list[Any] = [None, True, -1, 1.5, 1e308, 2**63, "x", "", [], {}, [None], [[]], {"a": 1}]

USAGE = {"prompt_tokens": 9, "total_tokens": 9, "prompt_tokens_details": {"cached_tokens": 1}}
TOOL_CALL = {"id": "a", "function": {"name": "f", "arguments": "{}"}}
DETAIL = {"type": "reasoning.text", "text": "x", "signature": "s", "format": "f", "id": "i", "index": 0}
PART = {"type": "thinking", "thinking": [{"type": "text", "text": "x"}]}
GOOD: dict[Wire, list[dict[str, Any]]] = {
    Wire.OPENAI: [
        openai.chunk({"content": "x", "reasoning": "y"}, "stop", usage=USAGE, x_groq={"usage": USAGE}),
        openai.chunk(openai.call(0, "a", "f", "{}")),
        {"id": "c", "choices": [{"message": {"content": "x", "tool_calls": [TOOL_CALL]}, "finish_reason": "stop"}]},
        openai.chunk({"refusal": "x", "reasoning_details": [DETAIL], "content": [PART]}),
        {"error": {"message": "x", "type": "y", "code": 1}},
    ],
    Wire.OPENAI_COMPLETIONS: [
        {"id": "c", "choices": [{"text": "x", "index": 0, "finish_reason": "stop"}], "usage": USAGE, "x_groq": {}},
        {"id": "c", "choices": [{"text": "x", "index": 1, "logprobs": {"tokens": ["x"]}}], "usage": None, "model": "m"},
        {"id": "c", "choices": [{"text": "x"}, {"text": "y", "index": 1, "finish_reason": "stop"}], "usage": USAGE},
        {"error": {"message": "x", "type": "y", "code": 1}},
    ],
    Wire.ANTHROPIC: [
        anthropic.START,
        anthropic.block(0, type="tool_use", id="a", name="f", input={"x": 1}),
        anthropic.delta(0, "input_json_delta", partial_json="{"),
        anthropic.message_delta("end_turn", output_tokens=3, output_tokens_details={"thinking_tokens": 1}),
        {"id": "m", "content": [{"type": "tool_use", "id": "a", "name": "n", "input": {}}], "stop_reason": "x"},
        {"type": "error", "error": {"type": "y", "message": "x", "details": {"error_code": "z"}}},
    ],
}


def spoiled(value: Any) -> Iterator[Any]:
    """`value` with one of its parts replaced, for every part and every odd value."""
    yield from ODD
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ({**value, key: odd} for odd in spoiled(inner))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from ([*value[:i], odd, *value[i + 1 :]] for odd in spoiled(inner))


@pytest.mark.parametrize("wire", list(GOOD))
def test_wrong_types_are_provider_errors_or_passed_by(wire: Wire) -> None:
    tried = 0
    for good in GOOD[wire]:
        for body in map(msgspec.json.encode, spoiled(good)):
            tried += 1
            with suppress(ProviderError):
                read_all(wire, b"data: " + body + b"\n\n")
            with suppress(ProviderError):
                assert WIRES[wire].read_answer(body).raw == body
            assert read_failure(500, {}, body).message
    assert tried > 500
