"""What the demo provider refuses, over real HTTP: keys, unknown models and paths, malformed bodies of both wires."""

import json
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import anthropic
import openai
import pytest

from tests.providers.demo_client import ANTHROPIC_HEADERS, HEADERS, Demo, demo_server


@pytest.fixture
async def demo() -> AsyncIterator[Demo]:
    async with demo_server() as server:
        yield server


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer "}, {"authorization": "Basic abc"}, {"x-api-key": " "}]
)
async def test_without_a_key_both_wires_answer_401(demo: Demo, headers: dict[str, str]) -> None:
    async with demo.session.post(f"{demo.url}/v1/chat/completions", data=b"{}", headers=headers) as response:
        assert response.status == 401
        assert (await response.json())["error"]["type"] == "invalid_request_error"
    async with demo.session.post(f"{demo.url}/v1/messages", data=b"{}", headers=headers) as response:
        assert response.status == 401
        body = await response.json()
    assert body["error"] == {"type": "authentication_error", "message": "x-api-key header is required"}
    assert body["request_id"] == response.headers["request-id"]


async def test_the_invalid_key_raises_the_sdks_authentication_errors(demo: Demo) -> None:
    async with openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key="demo-invalid", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as openai_error:
            await client.models.list()
    assert openai_error.value.code == "invalid_api_key"
    assert "demo****alid" in str(openai_error.value)
    async with anthropic.AsyncAnthropic(base_url=demo.url, api_key="demo-invalid", max_retries=0) as other:
        with pytest.raises(anthropic.AuthenticationError, match="invalid x-api-key"):
            await other.models.list()


async def test_either_header_opens_either_wire(demo: Demo) -> None:
    body = json.dumps({"model": "demo-swift", "messages": [{"role": "user", "content": "hi"}]})
    async with demo.session.post(f"{demo.url}/v1/chat/completions", data=body, headers={"x-api-key": "k"}) as response:
        assert response.status == 200
    body = json.dumps({"model": "demo-sage", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]})
    headers = {"authorization": "Bearer k", "anthropic-version": "2023-06-01"}
    async with demo.session.post(f"{demo.url}/v1/messages", data=body, headers=headers) as response:
        assert response.status == 200


async def test_an_unknown_model_and_one_for_embeddings_are_the_sdks_not_found(demo: Demo) -> None:
    async with openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key="any-key", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError) as error:
            await client.chat.completions.create(model="gpt-none", messages=[{"role": "user", "content": "hi"}])
    assert error.value.code == "model_not_found"
    async with anthropic.AsyncAnthropic(base_url=demo.url, api_key="any-key", max_retries=0) as other:
        with pytest.raises(anthropic.NotFoundError, match="model: demo-embed"):
            await other.messages.create(model="demo-embed", max_tokens=5, messages=[{"role": "user", "content": "hi"}])


USER = [{"role": "user", "content": "hi"}]
BAD_CHATS: list[tuple[Any, str | None]] = [
    (b"", None),
    (b"{", None),
    (b'{"model": "demo-swift", "messages": NaN}', None),
    (b'{"model": "\xff"}', None),
    (b'{"model": "\\ud800"}', None),
    (b'{"tools": [{"function": {"parameters": ' + b'{"a":' * 100_000, None),
    (b'{"unknown": ' + b"[" * 100_000, None),
    (b'{"model": "demo-swift", "response_format": {"type": "json_schema", "json_schema": {"schema": 1e999}}}',
     "response_format.json_schema.schema"),
    (b'{"model": "demo-swift", "messages": [{"role": "user"}], "tools": [{"type": "function", "function": '
     b'{"name": "f", "parameters": {"maximum": ' + b"9" * 5000 + b"}}}]}",
     "tools[0].function.parameters[...]"),
    ([], None),
    ({"messages": USER}, "model"),
    ({"model": 3, "messages": USER}, "model"),
    ({"model": "demo-swift"}, "messages"),
    ({"model": "demo-swift", "messages": []}, "messages"),
    ({"model": "demo-swift", "messages": "hi"}, "messages"),
    ({"model": "demo-swift", "messages": [{"content": "hi"}]}, "messages[0].role"),
    ({"model": "demo-swift", "messages": [{"role": "boss", "content": "hi"}]}, "messages[0].role"),
    ({"model": "demo-swift", "messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"model": "demo-swift", "messages": USER, "max_tokens": 0}, "max_tokens"),
    ({"model": "demo-swift", "messages": USER, "max_tokens": "9"}, "max_tokens"),
    ({"model": "demo-swift", "messages": USER, "max_tokens": 9, "max_completion_tokens": 9}, "max_tokens"),
    ({"model": "demo-swift", "messages": USER, "stream": "yes"}, "stream"),
    ({"model": "demo-swift", "messages": USER, "stream_options": {"include_usage": True}}, "stream_options"),
    ({"model": "demo-swift", "messages": USER, "n": 2}, "n"),
    ({"model": "demo-swift", "messages": USER, "temperature": 3}, "temperature"),
    ({"model": "demo-swift", "messages": USER, "stop": list("abcde")}, "stop"),
    ({"model": "demo-swift", "messages": USER, "tools": [{"type": "f", "function": {}}]}, "tools[0].function.name"),
    ({"model": "demo-swift", "messages": USER, "response_format": {"type": "xml"}}, "response_format.type"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param"), BAD_CHATS)
async def test_a_malformed_chat_is_a_400_that_names_the_field(demo: Demo, body: Any, param: str | None) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with demo.session.post(f"{demo.url}/v1/chat/completions", data=data, headers=HEADERS) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert error["param"] == param
    assert await demo.bills() == []


BAD_MESSAGES: list[tuple[Any, str]] = [
    (b"{", "not valid JSON"),
    (b'{"model": "\xff"}', "not valid JSON"),
    (b"[" * 100_000, "body: "),
    ({"model": "demo-sage", "messages": USER}, "max_tokens: Field required"),
    ({"model": "demo-sage", "max_tokens": 9}, "messages: Field required"),
    ({"model": "demo-sage", "max_tokens": -1, "messages": USER}, "max_tokens: "),
    ({"model": "demo-sage", "max_tokens": 9, "messages": []}, "messages: "),
    ({"model": "demo-sage", "max_tokens": 9, "messages": [{"role": "tool", "content": "x"}]}, "messages.0.role: "),
    ({"model": "demo-sage", "max_tokens": 9, "messages": [{"role": "user"}]}, "messages.0.content: Field required"),
    ({"model": "demo-sage", "max_tokens": 9, "messages": USER, "system": 4}, "system: "),
    ({"model": "demo-sage", "max_tokens": 9, "messages": USER, "temperature": 1.5}, "temperature: "),
    ({"model": "demo-sage", "max_tokens": 9, "messages": USER, "tools": [{"input_schema": {}}]}, "tools.0.name: "),
    ({"model": "demo-sage", "max_tokens": 9, "messages": USER, "tool_choice": {"type": "x"}}, "tool_choice.type: "),
]


@pytest.mark.parametrize(("body", "message"), BAD_MESSAGES)
async def test_a_malformed_message_is_a_400_that_names_the_field(demo: Demo, body: Any, message: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with demo.session.post(f"{demo.url}/v1/messages", data=data, headers=ANTHROPIC_HEADERS) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert error["type"] == "invalid_request_error"
    assert message in error["message"]


async def test_messages_need_the_version_header(demo: Demo) -> None:
    async with demo.session.post(f"{demo.url}/v1/messages", data=b"{}", headers={"x-api-key": "k"}) as response:
        assert response.status == 400
        assert (await response.json())["error"]["message"] == "anthropic-version: header is required"


async def test_unknown_paths_and_methods_keep_the_wires_shape(demo: Demo) -> None:
    status, body = await demo.get("/v1/files")
    assert (status, body["error"]["type"]) == (404, "invalid_request_error")
    status, body = await demo.get("/v1/files", **ANTHROPIC_HEADERS)
    assert (status, body["error"]["type"]) == (404, "not_found_error")
    status, body = await demo.get("/v1/chat/completions")
    assert (status, body["error"]["message"]) == (405, "Not allowed: GET on /v1/chat/completions.")


async def test_a_body_over_the_cap_is_refused(demo: Demo) -> None:
    data = BytesIO(b" " * (32 * 1024 * 1024 + 1))
    async with demo.session.post(f"{demo.url}/v1/chat/completions", data=data, headers=HEADERS) as response:
        assert response.status == 413
        assert (await response.json())["error"]["message"] == "Request body too large."
