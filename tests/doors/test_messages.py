"""POST /v1/messages over HTTP: the same wire byte for byte, other wires translated, errors as Anthropic words them."""

import json
from typing import Any

import pytest

from tests.gateway import HELLO, Gateway, Reply, records
from tests.upstreams.scripted import (
    Upstream,
    anthropic_answer,
    anthropic_stream,
    drop,
    frames,
    openai_answer,
    openai_chunk,
    openai_stream,
    sse,
    status,
)

pytestmark = pytest.mark.django_db(transaction=True)


async def ask(gateway: Gateway, *, headers: dict[str, str] | None = None, **body: Any) -> Reply:
    fields = {"model": "sage", "max_tokens": 50, "messages": HELLO, **body}
    return await gateway.post("/v1/messages", fields, extra=headers)


def text_of(reply: Reply) -> str:
    deltas = [event["delta"] for event in reply.events if event["type"] == "content_block_delta"]
    return "".join(delta.get("text", "") for delta in deltas)


# --- Anthropic's own wire -----------------------------------------------------------------------------------------


async def test_an_answer_of_the_same_wire_passes_byte_for_byte(gateway: Gateway, anthropic_upstream: Upstream) -> None:
    body = {
        "id": "msg_up", "type": "message", "role": "assistant", "model": "sage-1", "new": [1.50],
        "content": [{"type": "text", "text": "Bonjour", "citations": None}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 12, "output_tokens": 5},
    }  # fmt: skip
    anthropic_upstream.play(status(200, body))
    reply = await ask(gateway)
    assert reply.status == 200
    assert reply.body == json.dumps(body).encode()
    assert reply.headers["x-router-deployment"] == "beta/sage-1"
    assert reply.headers["request-id"] == reply.headers["x-request-id"]
    [record] = await records()
    assert (record.door, record.input_tokens, record.output_tokens) == ("messages", 12, 5)


async def test_a_stream_of_the_same_wire_passes_byte_for_byte(gateway: Gateway, anthropic_upstream: Upstream) -> None:
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'
    seen: list[bytes] = []

    async def recording(request: Any, body: Any) -> Any:
        return await frames(ping, *seen)(request, body)

    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 12, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}, "new": 1},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    seen += [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    anthropic_upstream.play(recording)
    reply = await ask(gateway, stream=True)
    assert reply.body == ping + b"".join(seen)


async def test_unknown_fields_and_the_callers_headers_reach_the_vendor(
    gateway: Gateway, anthropic_upstream: Upstream
) -> None:
    heard = {"anthropic-version": "2026-10-21", "anthropic-beta": "new-1,new-2", "x-other": "stays here"}
    await ask(gateway, headers=heard, brand_new={"a": 1}, persona="", thinking={"type": "adaptive"})
    [call] = anthropic_upstream.calls
    assert call.body == {
        "model": "sage-1", "max_tokens": 50, "messages": HELLO, "brand_new": {"a": 1}, "thinking": {"type": "adaptive"},
    }  # fmt: skip
    assert call.headers["anthropic-version"] == "2026-10-21"
    assert call.headers["anthropic-beta"] == "new-1,new-2"
    assert "x-other" not in {name.lower() for name in call.headers}


async def test_a_header_that_cannot_be_passed_on_is_refused(gateway: Gateway, anthropic_upstream: Upstream) -> None:
    for value in ("x" * 4_001, "caf\u00e9"):
        reply = await ask(gateway, headers={"anthropic-beta": value})
        assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")
        assert "anthropic-beta" in reply.error["message"]
    assert anthropic_upstream.calls == []


@pytest.mark.parametrize("style", ["authorization", "x-api-key"])
async def test_both_styles_of_key_are_taken(style: str, gateway: Gateway) -> None:
    value = f"Bearer {gateway.key}" if style == "authorization" else gateway.key
    body = json.dumps({"model": "sage", "max_tokens": 50, "messages": HELLO}).encode()
    async with gateway.session.post(f"{gateway.url}/v1/messages", data=body, headers={style: value}) as response:
        assert response.status == 200


# --- other wires --------------------------------------------------------------------------------------------------


async def test_an_answer_of_openais_wire_is_a_message(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_answer("Hello there"))
    reply = await ask(gateway, model="swift", system="Be kind.", stop_sequences=["END"], service_tier="auto")
    message = reply.json
    assert (message["type"], message["role"], message["stop_reason"]) == ("message", "assistant", "end_turn")
    assert message["content"] == [{"type": "text", "text": "Hello there", "citations": None}]
    assert message["usage"]["input_tokens"] == 12
    assert reply.headers["x-router-dropped-params"] == "service_tier"
    sent = openai_upstream.calls[0].body
    assert [part["role"] for part in sent["messages"]] == ["system", "user"]
    assert (sent["stop"], sent["max_tokens"]) == (["END"], 50)
    assert "anthropic-version" not in {name.lower() for name in openai_upstream.calls[0].headers}


async def test_a_stream_of_openais_wire_is_one_of_messages(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_stream("Hel", "lo"))
    reply = await ask(gateway, model="swift", stream=True)
    assert text_of(reply) == "Hello"
    assert [event["type"] for event in reply.events][:2] == ["message_start", "content_block_start"]
    assert [event["type"] for event in reply.events][-2:] == ["message_delta", "message_stop"]
    delta = reply.events[-2]
    assert delta["delta"]["stop_reason"] == "end_turn"
    assert (delta["usage"]["input_tokens"], delta["usage"]["output_tokens"]) == (12, 5)
    [record] = await records()
    assert (record.input_tokens, record.output_tokens, record.is_stream) == (12, 5, True)


async def test_a_feature_of_anthropics_goes_to_a_model_that_has_it(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    search = [{"type": "web_search_20260318", "name": "web_search"}]
    reply = await ask(gateway, model="auto", tools=search)
    assert reply.headers["x-router-deployment"] == "beta/sage-1"
    assert anthropic_upstream.calls[0].body["tools"] == search
    refused = await ask(gateway, model="swift", tools=search)
    assert (refused.status, refused.error["details"]["error_code"]) == (400, "no_eligible_model")
    assert openai_upstream.calls == []


async def test_a_fallback_from_openai_to_anthropic_gets_the_callers_own_bytes(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    openai_upstream.play(drop())
    anthropic_upstream.play(anthropic_answer("Bonjour"))
    reply = await ask(gateway, model="auto", metadata={"user_id": "u1"})
    assert reply.json["content"][0]["text"] == "Bonjour"
    assert anthropic_upstream.calls[0].body["metadata"] == {"user_id": "u1"}


# --- errors -------------------------------------------------------------------------------------------------------


async def test_a_thread_is_refused_as_official_clients_expect(gateway: Gateway, anthropic_upstream: Upstream) -> None:
    reply = await ask(gateway, thread={"type": "create"})
    assert (reply.status, reply.json["type"]) == (400, "error")
    assert reply.error["details"]["error_code"] == "thread_unsupported_request"
    assert anthropic_upstream.calls == []


@pytest.mark.parametrize(
    ("body", "http_status", "kind", "code"),
    [
        ({"max_tokens": None}, 400, "invalid_request_error", "invalid_request"),
        ({"model": "nobody"}, 404, "not_found_error", "model_not_found"),
    ],
)
async def test_what_is_refused_has_anthropics_shape(
    body: dict[str, Any], http_status: int, kind: str, code: str, gateway: Gateway
) -> None:
    reply = await ask(gateway, **body)
    assert (reply.status, reply.error["type"], reply.error["details"]["error_code"]) == (http_status, kind, code)
    assert reply.json["request_id"] == reply.headers["request-id"]


async def test_a_bad_key_is_an_authentication_error(gateway: Gateway) -> None:
    reply = await gateway.post("/v1/messages", {"max_tokens": 5, "messages": HELLO}, key="rp_wrong")
    assert (reply.status, reply.error["type"]) == (401, "authentication_error")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("vendor_status", "http_status", "kind"),
    [(529, 503, "overloaded_error"), (401, 502, "api_error"), (429, 429, "rate_limit_error")],
)
async def test_a_failing_vendor_is_told_with_the_status_before_any_content(
    vendor_status: int, http_status: int, kind: str, stream: bool, gateway: Gateway, anthropic_upstream: Upstream
) -> None:
    error = {"type": "error", "error": {"type": "x", "message": "no"}}
    anthropic_upstream.play(status(vendor_status, error, {"retry-after": "7"}))
    reply = await ask(gateway, stream=stream)
    assert (reply.status, reply.error["type"]) == (http_status, kind)
    assert reply.headers.get("retry-after") == "7"


@pytest.mark.parametrize("model", ["swift", "sage"])
async def test_a_stream_that_breaks_ends_in_an_error_event(
    model: str, gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    openai_upstream.play(frames(*sse(openai_chunk({"content": "Hel"})), end="cut"))
    start = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3, "output_tokens": 1}}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}}
    anthropic_upstream.play(frames(*sse(start, delta), end="cut"))
    reply = await ask(gateway, model=model, stream=True)
    assert text_of(reply) == "Hel"
    assert reply.events[-1]["type"] == "error"
    assert reply.events[-1]["error"]["type"] == "api_error"
    assert b"event: error\n" in reply.body
    assert b"message_stop" not in reply.body


async def test_an_unknown_address_answers_an_anthropic_client_in_its_shape(gateway: Gateway) -> None:
    reply = await gateway.post("/v1/files", {}, extra={"anthropic-version": "2026-10-21"})
    assert (reply.status, reply.json["type"], reply.error["type"]) == (404, "error", "not_found_error")
    plain = await gateway.post("/v1/files", {})
    assert "type" not in plain.json


async def test_another_method_is_refused_in_anthropics_shape(gateway: Gateway) -> None:
    reply = await gateway.get("/v1/messages")
    assert (reply.status, reply.json["type"], reply.headers["allow"]) == (405, "error", "POST")


async def test_a_repetition_gets_the_same_stream(gateway: Gateway, anthropic_upstream: Upstream) -> None:
    anthropic_upstream.play(anthropic_stream("Bon", "jour"))
    named = {"idempotency-key": "once"}
    first = await ask(gateway, headers=named, stream=True)
    again = await ask(gateway, headers=named, stream=True)
    assert again.body == first.body
    assert again.headers["idempotent-replayed"] == "true"
    assert len(anthropic_upstream.calls) == 1
