"""What vendors count above the bytes of a request: a bound that no trick of the caller gets below."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from providers.domain.conversation import (
    Conversation,
    DocumentPart,
    EmbeddingBatch,
    ImagePart,
    Message,
    ReasoningPart,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from providers.domain.estimate import (
    EMBEDDED_TEXT,
    IMAGE,
    NAMED_TOOL,
    TEMPLATE,
    TOOLS,
    WANTED_FORMAT,
    WHOLE_WINDOW,
    unpriced_extra,
)
from providers.domain.estimate import hidden_input_tokens as hidden
from providers.domain.types import ChatRequest, Wire

HI = [{"role": "user", "content": "hi"}]
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
TINY = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
FUNCTION = {"type": "function", "function": {"name": "now"}}


def request_of(conversation: Conversation | None = None, wire: Wire | None = Wire.OPENAI, **fields: Any) -> ChatRequest:
    """A request with these fields; of no wire when only its conversation is known."""
    return request_from(json.dumps({"messages": HI, **fields}).encode(), wire, conversation)


def request_from(body: bytes, wire: Wire | None = Wire.OPENAI, conversation: Conversation | None = None) -> ChatRequest:
    return ChatRequest(
        model="auto",
        stream=False,
        wire=wire,
        fields=msgspec.json.decode(body, type=dict[str, msgspec.Raw]) if wire else {},
        conversation=lambda: conversation or Conversation(()),
        needs=frozenset(),
        input_tokens_bound=len(body),
        input_tokens_estimate=1,
    )


def says(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 0),
        ({"tools": None, "response_format": None}, 0),
        ({"tools": []}, 0),
        ({"tools": [FUNCTION, FUNCTION]}, TOOLS),
        ({"functions": [{"name": "now"}]}, TOOLS),
        ({"tools": [{"name": "now", "input_schema": {}}]}, TOOLS),  # Anthropic's, without a type
        ({"tools": [{"type": "computer_20250124", "name": "computer"}]}, TOOLS + NAMED_TOOL),
        ({"response_format": {"type": "json_object"}}, WANTED_FORMAT),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, WANTED_FORMAT),
        ({"messages": says({"type": "text", "text": "what is this?"}, PICTURE, TINY)}, 2 * IMAGE),
        ({"messages": says({"type": "image", "source": {"type": "file", "file_id": "f"}})}, IMAGE),
        ({"messages": [{"role": "tool", "tool_call_id": "1", "content": [PICTURE]}, *says(TINY)]}, 2 * IMAGE),
        (
            {"messages": says({"type": "tool_result", "tool_use_id": "1", "content": [{"type": "image"}, TINY]})},
            2 * IMAGE,
        ),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": []}]}, 0),
    ],
)
def test_what_stands_in_the_request_has_its_bound(fields: dict[str, Any], tokens: int) -> None:
    assert hidden(request_of(**fields)) == TEMPLATE + tokens


@pytest.mark.parametrize(
    "fields",
    [
        {"web_search_options": {}},  # an empty object switches it on
        {"search_parameters": {"mode": "on"}},
        {"mcp_servers": [{"url": "https://example.com/sse"}]},
        {"plugins": [{"id": "web"}]},
        {"tools": [{"type": "web_search_20260209", "name": "web_search"}]},
        {"tools": [FUNCTION, {"type": "code_interpreter"}]},
        {"messages": says({"type": "file", "file": {"file_id": "f-1"}})},
        {"messages": says({"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}})},
        {"messages": says({"type": "tool_result", "content": [{"type": "document"}]})},
        {"messages": says({"text": "of no type"})},
        {"messages": [{"role": "user", "content": {"type": "text"}}]},
        {"tools": {"type": "function"}},
        {"extra_body": {"google": {"cached_content": "cachedContents/1"}}},
    ],
)
def test_what_only_the_vendor_knows_may_fill_a_whole_window(fields: dict[str, Any]) -> None:
    assert hidden(request_of(**fields)) >= WHOLE_WINDOW


def test_extras_that_fetch_nothing_hide_nothing() -> None:
    extras = {"google": {"thinking_config": {"thinking_budget": 0}}}
    assert hidden(request_of(extra_body=extras, web_search_options=None, mcp_servers=[])) == TEMPLATE


@pytest.mark.parametrize(
    ("body", "least"),
    [
        (rb'{"messages":[{"role":"user","content":[{"\u0074ype":"im\u0061ge_url"}]}]}', IMAGE),
        (rb'{"messages":[{"role":"user","content":[{ "type" : "image_url" }]}]}', IMAGE),
        (rb'{"messages":[],"web_se\u0061rch_options":{}}', WHOLE_WINDOW),
        (rb'{"messages":[],"extra_body":{"google":{"c\u0061ched_content":"x"}}}', WHOLE_WINDOW),
    ],
)
def test_spelling_it_otherwise_hides_nothing(body: bytes, least: int) -> None:
    assert hidden(request_from(body)) >= least


def test_an_image_is_found_however_deep_it_lies() -> None:
    around, depth = b'{"type":"tool_result","content":[', 300
    body = b'{"messages":[{"content":[' + around * depth + b'{"type":"image"}' + b"]}" * depth + b"]}]}"
    assert hidden(request_from(body)) >= IMAGE


def test_a_request_of_no_wire_is_bounded_by_its_conversation() -> None:
    picture = Message(Role.USER, (TextPart("what is this?"), ImagePart(url="https://example.com/a.png")))
    asked = Conversation(
        (picture, picture),
        tools=(Tool("now", "", msgspec.Raw(b"{}")),),
        response_format=ResponseFormat("json_object"),
    )
    assert hidden(request_of(asked, wire=None)) == TEMPLATE + 2 * IMAGE + TOOLS + WANTED_FORMAT
    assert hidden(request_of(Conversation((Message(Role.USER, (TextPart("hi"),)),)), wire=None)) == TEMPLATE


@pytest.mark.parametrize(
    ("parts", "tokens"),
    [
        ((DocumentPart(media_type="application/pdf", data="AA"),), WHOLE_WINDOW),
        ((ToolResultPart("a", "see", media=(ImagePart(url="x"), ImagePart(url="y"))),), 2 * IMAGE),
        ((ToolResultPart("a", "see", media=(DocumentPart(url="x"),)),), WHOLE_WINDOW),
        ((ReasoningPart("Hm.", "s"), ToolCallPart("a", "f", "{}"), ToolResultPart("a", "ok")), 0),
    ],
)
def test_every_part_of_a_conversation_has_its_bound(parts: Any, tokens: int) -> None:
    assert hidden(request_of(Conversation((Message(Role.USER, parts),)), wire=None)) == TEMPLATE + tokens


# --- responses, completions, embeddings ---------------------------------------------------------------------------


def of_wire(wire: Wire, **fields: Any) -> int:
    return hidden(request_from(json.dumps(fields).encode(), wire))


CALLED = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
SHOWN = {"type": "input_image", "image_url": "https://example.com/a.png"}


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"input": "Hi", "instructions": "Be brief."}, 0),
        ({"input": None, "prompt": None, "previous_response_id": None, "conversation": None}, 0),
        ({"input": [{"role": "user", "content": "Hi"}]}, 0),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}, SHOWN]}]}, IMAGE),
        ({"input": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
                    CALLED, {"type": "function_call_output", "call_id": "a", "output": "ok"}]}, 0),
        ({"input": [{"type": "function_call_output", "call_id": "a", "output": [SHOWN, SHOWN]}]}, 2 * IMAGE),
        ({"input": [{"type": "reasoning", "summary": [], "encrypted_content": "x"}]}, 0),
        ({"input": "Hi", "tools": [{"type": "function", "name": "f"}]}, TOOLS),
        ({"input": "Hi", "text": {"format": {"type": "json_schema", "schema": {}}}}, WANTED_FORMAT),
        ({"input": "Hi", "text": {"verbosity": "low"}}, 0),
    ],
)  # fmt: skip
def test_what_stands_in_a_responses_request_has_its_bound(fields: dict[str, Any], tokens: int) -> None:
    assert of_wire(Wire.OPENAI_RESPONSES, **fields) == TEMPLATE + tokens


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "Hi", "previous_response_id": "resp_1"},
        {"input": "Hi", "conversation": "conv_1"},
        {"input": "Hi", "conversation": {"id": "conv_1"}},
        {"input": "Hi", "prompt": {"id": "pmpt_1", "version": "2"}},
        {"input": "Hi", "tools": [{"type": "web_search"}]},
        {"input": "Hi", "tools": [{"type": "mcp", "server_url": "https://example.com"}]},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"type": "web_search_call", "id": "ws_1"}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
        {"input": [{"type": "function_call_output", "output": [{"type": "input_file", "file_id": "f"}]}]},
        {"input": {"role": "user"}},
        {"input": ["Hi"]},
        {"input": "Hi", "text": "short"},
    ],
)
def test_what_only_the_vendor_knows_of_a_response_may_fill_a_whole_window(fields: dict[str, Any]) -> None:
    assert of_wire(Wire.OPENAI_RESPONSES, **fields) >= WHOLE_WINDOW


def test_tools_that_run_at_the_vendor_cost_more_than_tokens() -> None:
    body = json.dumps({"input": "Hi", "tools": [{"type": "web_search"}]}).encode()
    assert unpriced_extra(request_from(body, Wire.OPENAI_RESPONSES)) == "the tool “web_search”"


@pytest.mark.parametrize("prompt", ["Once", ["a", "b"], [1, 2], [[1], [2]]])
def test_a_text_to_continue_hides_a_template_at_most(prompt: Any) -> None:
    assert of_wire(Wire.OPENAI_COMPLETIONS, prompt=prompt) == TEMPLATE


def test_a_prompt_of_vectors_may_be_of_any_length() -> None:
    assert of_wire(Wire.OPENAI_COMPLETIONS, prompt_embeds="AAAA") == WHOLE_WINDOW


@pytest.mark.parametrize(("given", "texts"), [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), ([], 1)])
def test_each_text_to_embed_has_marks_around_it(given: Any, texts: int) -> None:
    assert of_wire(Wire.OPENAI_EMBEDDINGS, input=given) == TEMPLATE + texts * EMBEDDED_TEXT


def test_texts_to_embed_of_no_wire_are_bounded_too() -> None:
    batch = EmbeddingBatch(("a", "b"))
    assert hidden(replace(request_of(wire=None), embeddings=lambda: batch)) == TEMPLATE + 2 * EMBEDDED_TEXT


def test_the_bound_of_an_image_is_above_every_vendors_rule() -> None:
    openai_patches, anthropic, gemini = 30_000 * 12 // 10, 4_784, 2_240
    assert max(openai_patches, anthropic, gemini) < IMAGE == 48_169
    assert max(804, 735 + 499) < min(TOOLS, NAMED_TOOL)
