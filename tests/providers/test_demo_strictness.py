"""The demo provider is as strict as the vendors: what they refuse it refuses, in their own shape.

So a request that was translated badly fails a test. A valid request of each wire is changed in one place.
"""

import copy
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from providers.demo.exchange import proof_of
from providers.demo.gemini_reading import call_proof
from tests.providers.demo_client import Demo, demo_server
from tests.providers.demo_speakers import CITY, SPEAKERS, Question

Json = dict[str, Any]


@pytest.fixture
async def demo() -> AsyncIterator[Demo]:
    async with demo_server() as server:
        yield server


async def refused(demo: Demo, name: str, body: Json | bytes, *, status: int = 400) -> str:
    """What the vendor says to it."""
    speaker = SPEAKERS[name]
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with demo.session.post(demo.url + speaker.path(stream=False), data=data, headers=speaker.headers) as response:
        assert response.status == status, await response.text()
        return speaker.message_of(await response.json())


async def answered(demo: Demo, name: str, body: Json) -> str:
    speaker = SPEAKERS[name]
    async with demo.session.post(demo.url + speaker.path(stream=False), json=body, headers=speaker.headers) as response:
        assert response.status == 200, await response.text()
        return speaker.whole(await response.json()).text


def valid(name: str, **changes: Any) -> Json:
    return SPEAKERS[name].body(Question("Hi"), stream=False) | changes


@pytest.mark.parametrize("name", SPEAKERS)
async def test_what_is_no_json_is_refused(demo: Demo, name: str) -> None:
    for data in (b"", b"{", b"[]", b'{"model": "\xff"}', b"[" * 100_000):
        assert await refused(demo, name, data)


@pytest.mark.parametrize("name", [name for name in SPEAKERS if name != "gemini"])
async def test_an_unknown_model_is_not_found(demo: Demo, name: str) -> None:
    assert "gpt-none" in await refused(demo, name, valid(name, model="gpt-none"), status=404)


async def test_an_unknown_model_of_google_is_not_found(demo: Demo) -> None:
    url = f"{demo.url}/v1beta/models/gemini-none:generateContent"
    async with demo.session.post(url, json=valid("gemini"), headers=SPEAKERS["gemini"].headers) as response:
        assert response.status == 404
        error = (await response.json())["error"]
    assert (error["code"], error["status"]) == (404, "NOT_FOUND")
    assert "models/gemini-none is not found" in error["message"]


# --- OpenAI -------------------------------------------------------------------------------------------------------

CHAT_CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USER = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([USER, {"role": "tool", "tool_call_id": "call_1", "content": "x"}], "must be a response to a preceding"),
        ([USER, {"role": "assistant", "tool_calls": [CHAT_CALL]}, USER], "must be followed by tool messages"),
        ([USER, {"role": "assistant", "tool_calls": [CHAT_CALL]}], "no tool answered the calls call_1"),
        ([USER, {"role": "assistant", "tool_calls": [{**CHAT_CALL, "id": 4}]}], "messages[1].tool_calls[0].id"),
        (
            [USER, {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f"}}]}],
            "messages[1].tool_calls[0].function.arguments",
        ),
    ],
)
async def test_chat_completions_want_each_call_answered(demo: Demo, messages: list[Json], says: str) -> None:
    assert says in await refused(demo, "chat", valid("chat", messages=messages))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompt": ["one", "two"]}, "one prompt at a time"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"messages": [USER]}, "messages"),
        ({"n": 2}, "n"),
        ({"stop": list("abcde")}, "stop"),
    ],
)
async def test_legacy_completions_take_a_prompt(demo: Demo, changes: Json, says: str) -> None:
    assert says in await refused(demo, "completions", valid("completions", **changes))


async def test_legacy_completions_end_early_unless_told_and_repeat_the_prompt_when_told(demo: Demo) -> None:
    body = valid("completions", prompt="[[tokens=40]] Go on", echo=True)
    del body["max_tokens"]
    text = await answered(demo, "completions", body)
    assert text.startswith("[[tokens=40]] Go on")
    assert await answered(demo, "completions", valid("completions", prompt=[1, 2, 3]))


CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "x"}
SAID = {"role": "user", "content": "[[thought=I look.]] And?"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_output_tokens": 15}, "max_output_tokens"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "values are: 'input_text'"),
        ({"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]}, "'output_text'"),
        ({"input": [{"content": "x"}]}, "input[0].role"),
        ({"input": [SAID, {**CALL, "id": "call_1"}, OUTPUT]}, "Expected an ID that begins with 'fc'"),
        ({"input": [SAID, CALL]}, "No tool output found for function call call_1"),
        ({"input": [SAID, OUTPUT]}, "No tool call found for function call output with call_id call_1"),
        ({"input": [SAID, {"type": "function_call", "call_id": "a"}]}, "input[1].name"),
        ({"input": [SAID, {"type": "reasoning", "id": "rs_1"}]}, "input[1].summary"),
        ({"input": [SAID, {"type": "item_reference", "id": "msg_1"}]}, "not found"),
        ({"input": [SAID, {**CALL, "id": "fc_1"}, OUTPUT]}, "without its required 'reasoning' item"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name"),
        ({"tools": [{"type": "cannon"}]}, "tools[0].type"),
        ({"text": {"format": {"type": "json_schema", "schema": CITY}}}, "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"stop": ["x"]}, "Unknown parameter: 'stop'."),
        ({"max_tokens": 20}, "Unknown parameter: 'max_tokens'."),
        ({"response_format": {}}, "Unknown parameter: 'response_format'."),
        ({"background": True}, "background"),
        ({"previous_response_id": "resp_none"}, "Previous response with id 'resp_none' not found."),
    ],
)
async def test_responses_take_their_own_words_only(demo: Demo, changes: Json, says: str) -> None:
    assert says in await refused(demo, "responses", valid("responses", **changes))


async def test_a_thought_that_was_changed_is_refused_by_responses(demo: Demo) -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "I look."}]}
    kept = [SAID, {**thought, "encrypted_content": proof_of("I look.")}, {**CALL, "id": "fc_1"}, OUTPUT]
    assert await answered(demo, "responses", valid("responses", input=kept))
    changed = [SAID, {**thought, "encrypted_content": proof_of("I look away.")}, {**CALL, "id": "fc_1"}, OUTPUT]
    assert "could not be verified" in await refused(demo, "responses", valid("responses", input=changed))


# --- Anthropic ----------------------------------------------------------------------------------------------------

USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
DONE = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}
THOUGHT = {"type": "thinking", "thinking": "I look.", "signature": proof_of("I look.")}
THINKING = {"type": "enabled", "budget_tokens": 1024}
ASKED = {"role": "user", "content": "[[thought=I look.]] And?"}


def turns(*blocks: Json) -> list[Json]:
    return [ASKED, {"role": "assistant", "content": list(blocks)}, {"role": "user", "content": [DONE]}]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"messages": [ASKED, {"role": "assistant", "content": [USE]}, ASKED]}, "without `tool_result` blocks"),
        ({"messages": [ASKED, {"role": "assistant", "content": [USE]}]}, "without `tool_result` blocks"),
        ({"messages": [ASKED, {"role": "user", "content": [DONE]}]}, "unexpected `tool_use_id`"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "must be non-empty"),
        ({"messages": [{"role": "user", "content": ""}]}, "must have non-empty content"),
        ({"messages": turns({**THOUGHT, "signature": "made up"}, USE)}, "Invalid `signature` in `thinking` block"),
        ({"messages": turns({**THOUGHT, "thinking": "I do not."}, USE)}, "Invalid `signature` in `thinking` block"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1000}, "max_tokens": 2000}, "greater than or equal to 1024"),
        ({"thinking": {"type": "enabled"}, "max_tokens": 2000}, "greater than or equal to 1024"),
        ({"thinking": THINKING, "max_tokens": 1024}, "must be greater than `thinking.budget_tokens`"),
        ({"thinking": THINKING, "max_tokens": 2000, "temperature": 0.5}, "may only be set to 1"),
        (
            {"thinking": THINKING, "max_tokens": 2000, "tools": [{"name": "f"}], "tool_choice": {"type": "any"}},
            "Thinking may not be enabled when tool_choice forces tool use",
        ),
        (
            {"thinking": THINKING, "max_tokens": 2000, "messages": turns(USE)},
            "Expected `thinking` or `redacted_thinking`, but found `tool_use`",
        ),
    ],
)
async def test_messages_are_checked_as_anthropic_does(demo: Demo, changes: Json, says: str) -> None:
    assert says in await refused(demo, "messages", valid("messages", **changes))


async def test_a_thought_comes_back_to_anthropic_as_it_was(demo: Demo) -> None:
    body = valid("messages", thinking=THINKING, max_tokens=2000, messages=turns(THOUGHT, USE))
    assert await answered(demo, "messages", body)
    without = valid("messages", messages=turns(USE))
    assert await answered(demo, "messages", without), "nobody thinks, so nothing is missing"


# --- Gemini -------------------------------------------------------------------------------------------------------

FUNCTION = {"functionCall": {"name": "f", "args": {}}}
RETURNED = {"functionResponse": {"name": "f", "response": {"result": "x"}}}
WONDERS = {"role": "user", "parts": [{"text": "And?"}]}


def contents(*turns: Json) -> Json:
    return {"contents": [WONDERS, *turns]}


def model(*parts: Json) -> Json:
    return {"role": "model", "parts": list(parts)}


def results(*parts: Json) -> Json:
    return {"role": "user", "parts": list(parts)}


def declared(**fields: Any) -> Json:
    return {"tools": [{"functionDeclarations": [{"name": "f", **fields}]}]}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"contents": []}, "contents is not specified"),
        ({"contents": [{"role": "user", "parts": []}]}, "parts is not specified"),
        ({"contents": [{"role": "user", "parts": [{}]}]}, "required oneof field 'data'"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "contents[0].role"),
        ({"contents": [{"role": "user", "parts": [{"text": "x", "cache": 1}]}]}, "unknown field"),
        ({"max_tokens": 5}, "unknown field"),
        ({"generationConfig": {"maxTokens": 5}}, "unknown field"),
        ({"generationConfig": {"stopSequences": list("abcdef")}}, "stopSequences"),
        ({"generationConfig": {"responseJsonSchema": CITY}}, "requires response_mime_type"),
        (contents(model(FUNCTION), results({"functionResponse": {"response": {}}})), "name is not specified"),
        (contents(model(FUNCTION), results({"functionResponse": {"name": "", "response": {}}})), "not specified"),
        (contents(model(FUNCTION), results({"functionResponse": {"name": "f", "response": "x"}})), "response"),
        (contents(model(FUNCTION, FUNCTION), results(RETURNED)), "equal to the number of function call parts"),
        (contents(results(RETURNED)), "immediately after a function call turn"),
        (contents(model({"text": "x"}), model(FUNCTION), results(RETURNED)), "immediately after a user turn"),
        (contents(model({"functionCall": {"name": "g"}}), results(RETURNED)), "the calls were of ['g']"),
        (contents(model(FUNCTION)), "have no response"),
        (contents(results({"inlineData": {"mimeType": "image/png", "data": "data:image/png;base64,AAAA"}})), "Base64"),
        (declared(parameters={"type": "object", "$schema": "x"}), 'Unknown name "$schema"'),
        (declared(parameters={"type": "object", "properties": {"a": {"oneOf": []}}}), 'Unknown name "oneOf"'),
        (declared(parameters=CITY, parametersJsonSchema=CITY), "mutually exclusive"),
        ({"tools": [{"functionDeclarations": [{"name": "no spaces"}]}]}, "name"),
        (
            {"toolConfig": {"functionCallingConfig": {"mode": "AUTO", "allowedFunctionNames": ["f"]}}},
            "only allowed with mode ANY",
        ),
    ],
)
async def test_contents_are_checked_as_google_does(demo: Demo, changes: Json, says: str) -> None:
    assert says in await refused(demo, "gemini", valid("gemini") | changes)


async def test_a_property_may_have_a_name_that_no_schema_has(demo: Demo) -> None:
    parameters = {"type": "object", "properties": {"const": {"type": "string"}}}
    assert await answered(demo, "gemini", valid("gemini") | declared(parameters=parameters))


@pytest.mark.parametrize(
    ("signature", "says"),
    [
        (None, "Function call is missing a thought_signature in functionCall parts"),
        ("skip_thought_signature_validator", "Corrupted thought signature"),
        (call_proof("g", {}), "Corrupted thought signature"),
    ],
)
async def test_a_call_of_a_thinking_model_comes_back_with_its_signature(
    demo: Demo, signature: str | None, says: str
) -> None:
    wonders = {"role": "user", "parts": [{"text": "[[thought=I look.]] And?"}]}
    call = copy.deepcopy(FUNCTION) | ({"thoughtSignature": signature} if signature else {})
    body = valid("gemini", contents=[wonders, model(call), results(RETURNED)])
    assert says in await refused(demo, "gemini", body)
    body["contents"][1]["parts"][0]["thoughtSignature"] = call_proof("f", {})
    assert await answered(demo, "gemini", body)


async def test_only_the_current_turn_has_to_be_signed(demo: Demo) -> None:
    wonders = {"role": "user", "parts": [{"text": "[[thought=I look.]] And?"}]}
    earlier = [WONDERS, model(FUNCTION), results(RETURNED), model({"text": "So."}), wonders]
    assert await answered(demo, "gemini", valid("gemini", contents=earlier))


async def test_googles_stream_is_asked_for_as_events(demo: Demo) -> None:
    url = f"{demo.url}/v1beta/models/demo-swift:streamGenerateContent"
    async with demo.session.post(url, json=valid("gemini"), headers=SPEAKERS["gemini"].headers) as response:
        assert response.status == 400
        assert "alt=sse" in (await response.json())["error"]["message"]


# --- Cohere -------------------------------------------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "f", "parameters": CITY}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"top_p": 0.5}, "unknown field"),
        ({"stop": ["x"]}, "unknown field"),
        ({"parallel_tool_calls": True}, "unknown field"),
        ({"p": 1.0}, "p: "),
        ({"k": 501}, "k: "),
        ({"stop_sequences": list("abcdef")}, "stop_sequences"),
        ({"tools": [TOOL], "tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": "REQUIRED"}, "it needs tools"),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "not supported together with tools"),
        ({"response_format": {"type": "json_schema"}}, "response_format.type"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": ""}]}, "at least 1 token"),
        ({"messages": [USER, {"role": "tool", "tool_call_id": "a", "content": "x"}]}, "no tool call with id a"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id: required"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [CHAT_CALL]}, USER]}, "have no result"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [CHAT_CALL]}]}, "have no result"),
        ({"messages": [{**USER, "content": [{"type": "image_url", "image_url": {"url": "AAAA"}}]}]}, "data URL"),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{**USER, "name": "Ann"}]}, "unknown field"),
    ],
)
async def test_chats_are_checked_as_cohere_does(demo: Demo, changes: Json, says: str) -> None:
    assert says in await refused(demo, "cohere", valid("cohere", **changes))


async def test_a_tool_answers_cohere_with_documents_or_with_text(demo: Demo) -> None:
    called = {"role": "assistant", "tool_plan": "I look.", "tool_calls": [CHAT_CALL]}
    for content in ("12 degrees", [{"type": "document", "document": {"data": {"result": "12 degrees"}}}]):
        told = {"role": "tool", "tool_call_id": "call_1", "content": content}
        assert "12 degrees" in await answered(demo, "cohere", valid("cohere", messages=[USER, called, told]))


# --- Ollama -------------------------------------------------------------------------------------------------------


def ollama_call(arguments: Any) -> Json:
    return {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "messages[0].content"),
        ({"messages": [{**USER, "images": ["data:image/png;base64,AAAA"]}]}, "illegal base64 data"),
        ({"messages": [{**USER, "images": ["https://example.com/cat.png"]}]}, "illegal base64 data"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "invalid role: developer"),
        ({"messages": [USER, ollama_call("{}")]}, "messages[1].tool_calls[0].function.arguments"),
        ({"messages": [USER, ollama_call({}), {"role": "tool", "content": "x"}]}, "no tool '' was called"),
        ({"messages": [USER, {"role": "tool", "tool_name": "f", "content": "x"}]}, "no tool 'f' was called"),
        ({"format": "yaml"}, "format"),
        ({"think": "hard"}, "think"),
        ({"options": {"num_predict": "many"}}, "options.num_predict"),
        ({"options": {"stop": "END"}}, "options.stop"),
    ],
)
async def test_chats_are_checked_as_ollama_does(demo: Demo, changes: Json, says: str) -> None:
    assert says in await refused(demo, "ollama", valid("ollama", **changes))


async def test_ollama_streams_unless_told_not_to(demo: Demo) -> None:
    body = valid("ollama")
    del body["stream"]
    async with demo.session.post(f"{demo.url}/api/chat", json=body) as response:
        assert response.content_type == "application/x-ndjson"
        assert SPEAKERS["ollama"].streamed(await response.read()).is_over


async def test_ollamas_tool_results_are_found_by_name(demo: Demo) -> None:
    told = [USER, ollama_call({}), {"role": "tool", "tool_name": "f", "content": "12 degrees"}]
    assert "12 degrees" in await answered(demo, "ollama", valid("ollama", messages=told, think=False))


async def test_ollamas_limit_of_minus_one_is_none(demo: Demo) -> None:
    body = SPEAKERS["ollama"].body(Question("[[tokens=30]] more", limit=-1), stream=False)
    assert await answered(demo, "ollama", body)
    body["format"] = "json"
    body["messages"][0]["content"] = "As JSON: who are you?"
    assert json.loads(await answered(demo, "ollama", body))["demo"] is True
