"""The OpenAI-compatible door, driven over HTTP."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from providers.models import Deployment
from tests.gateway import HELLO, Gateway, records
from tests.gateway_path.changes import changed
from tests.stalls import PATIENCE_S
from tests.upstreams.scripted import (
    Upstream,
    anthropic_stream,
    drop,
    frames,
    hang,
    openai_answer,
    openai_chunk,
    openai_events,
    openai_stream,
    sse,
    status,
)


async def test_an_answer_of_the_same_wire_passes_byte_for_byte(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_answer("Hi there", vendor_extra={"kept": True}))
    reply = await gateway.chat(model="swift")
    assert reply.status == 200
    assert reply.text == "Hi there"
    assert reply.json["vendor_extra"] == {"kept": True}
    assert reply.headers["x-router-deployment"] == "alpha/swift-1"
    assert reply.headers["x-router-attempts"] == "1"
    assert reply.headers["x-router-cost-usd"] == "0.000022000"  # 12 in at $1, 5 out at $2 per million


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/chat"])
async def test_a_name_with_a_line_break_brings_no_header_along(gateway: Gateway, path: str) -> None:
    await changed(gateway, _line_break_in_a_name)
    reply = await gateway.post(path, {"model": "swift", "messages": HELLO})
    assert reply.status == 200
    assert "x-planted" not in reply.headers
    assert reply.headers["x-router-deployment"] == "alpha/swift??x-planted: 1?"


def _line_break_in_a_name() -> None:
    deployment = Deployment.objects.get(upstream_model="swift-1")
    deployment.upstream_model = "swift\r\nx-planted: 1\u20ac"
    deployment.save()


async def test_unknown_fields_reach_the_vendor_and_the_gateways_own_do_not(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    await gateway.chat(model="swift", brand_new_knob={"a": [1, 2]}, seed=7)
    sent = openai_upstream.calls[0].body
    assert sent["brand_new_knob"] == {"a": [1, 2]}
    assert sent["seed"] == 7
    assert sent["model"] == "swift-1"
    assert "persona" not in sent


async def test_the_vendor_gets_its_own_key_and_never_the_callers(gateway: Gateway, openai_upstream: Upstream) -> None:
    await gateway.chat(model="swift")
    headers = {name.lower(): value for name, value in openai_upstream.calls[0].headers.items()}
    assert headers["authorization"] == "Bearer sk-alpha-0001"
    assert gateway.key not in json.dumps(headers)


async def test_a_stream_passes_frame_by_frame_and_leaves_a_record(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_stream("Hel", "lo"))
    reply = await gateway.stream(model="swift")
    assert reply.text == "Hello"
    assert reply.done
    assert all(event.get("choices") for event in reply.events), "the caller did not ask for the usage chunk"
    [record] = await records()
    assert (record.state, record.usage_source, record.is_stream) == ("settled", "provider", True)
    assert (record.input_tokens, record.output_tokens, record.cost_nano) == (12, 5, 22_000)
    assert str(record.request_id) == reply.headers["x-request-id"]
    assert record.ttft_ms is not None


async def test_the_usage_chunk_comes_through_when_the_caller_asks_for_it(gateway: Gateway) -> None:
    reply = await gateway.stream(model="swift", stream_options={"include_usage": True})
    assert reply.events[-1]["usage"]["completion_tokens"] == 5


async def test_another_wire_is_translated_in_both_directions(gateway: Gateway, anthropic_upstream: Upstream) -> None:
    messages = [{"role": "system", "content": "Be brief."}, *HELLO]
    reply = await gateway.chat(model="sage", messages=messages, max_tokens=50)
    assert reply.text == "Bonjour"
    assert reply.json["object"] == "chat.completion"
    assert reply.json["usage"]["total_tokens"] == 17
    sent = anthropic_upstream.calls[0]
    assert sent.path == "/v1/messages"
    assert sent.body["max_tokens"] == 50
    assert "Be brief." in json.dumps(sent.body["system"])


async def test_another_wire_is_translated_while_it_streams(gateway: Gateway) -> None:
    reply = await gateway.stream(model="sage", stream_options={"include_usage": True})
    assert reply.text == "Bonjour"
    assert reply.done
    assert {event["id"] for event in reply.events} == {f"chatcmpl-{reply.headers['x-request-id']}"}
    assert reply.events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert reply.events[-1]["usage"] == {
        "prompt_tokens": 12,
        "completion_tokens": 5,
        "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    [record] = await records()
    assert record.cost_nano == 22_000


# --- fallback -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        status(500, {"error": {"message": "boom"}}),
        status(503),
        status(429, {"error": {"message": "slow down"}}),
        status(401, {"error": {"message": "bad key"}}),
        status(200, "<html>maintenance</html>", {"content-type": "text/html"}),
        drop(),
        frames(end="cut"),
        frames(*sse(openai_chunk({"role": "assistant", "content": ""})), end="cut"),
    ],
    ids=["500", "503", "429", "401", "html", "drop", "cut-empty", "cut-before-content"],
)
async def test_the_next_candidate_answers_when_the_first_fails_before_content(
    gateway: Gateway, openai_upstream: Upstream, fault: Any, stream: bool
) -> None:
    openai_upstream.play(fault)
    reply = await gateway.chat(model="auto", stream=stream)
    assert reply.status == 200
    assert reply.text == "Bonjour"
    assert reply.headers["x-router-deployment"] == "beta/sage-1"
    [record] = await records()
    assert [bool(attempt.get("failure")) for attempt in record.attempts] == [True, False]


async def test_fallback_is_not_tried_after_the_first_token(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    openai_upstream.play(frames(*openai_events("Hel", "lo")[:2], pause_s=0.02, end="cut"))
    reply = await gateway.stream(model="auto")
    assert reply.status == 200
    assert reply.text == "Hel"
    assert reply.error["code"] == "upstream_failed"
    assert not reply.done
    assert anthropic_upstream.calls == []
    [record] = await records()
    assert (record.state, record.error_code, record.usage_source) == ("settled", "upstream_failed", "counted")
    assert (record.cost_nano or 0) > 0


async def test_a_stream_without_its_finish_is_an_error_and_not_a_clean_end(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(frames(*openai_events("Hel", "lo")[:3]))
    reply = await gateway.stream(model="swift")
    assert reply.text == "Hello"
    assert reply.error["code"] == "upstream_failed"
    assert not reply.done


async def test_a_late_error_event_is_told_inside_the_stream(gateway: Gateway, openai_upstream: Upstream) -> None:
    fault = {"error": {"message": "The server had an error", "type": "server_error"}}
    broken = sse(openai_chunk({"content": "Hel"}), fault)
    openai_upstream.play(frames(*broken))
    reply = await gateway.stream(model="swift")
    assert reply.text == "Hel"
    assert reply.error["code"] == "upstream_failed"


async def test_an_error_before_content_sets_the_status_of_a_stream_too(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(status(429, {"error": {"message": "slow down"}}, {"retry-after": "7"}))
    reply = await gateway.stream(model="swift")
    assert reply.status == 429
    assert reply.headers["retry-after"] == "7"
    assert reply.error["code"] == "upstream_rate_limited"
    [record] = await records()
    assert (record.state, record.cost_nano) == ("released", 0)


async def test_a_request_that_the_vendor_refuses_is_not_tried_elsewhere(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    openai_upstream.play(status(400, {"error": {"message": "bad tool schema", "type": "invalid_request_error"}}))
    reply = await gateway.chat(model="auto")
    assert reply.status == 400
    assert "bad tool schema" in reply.error["message"]
    assert anthropic_upstream.calls == []


async def test_a_lone_target_is_asked_once_more_after_a_fault_of_the_moment(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(status(503), openai_answer("Second time"))
    reply = await gateway.chat(model="swift")
    assert reply.text == "Second time"
    assert reply.headers["x-router-attempts"] == "2"


async def test_the_operators_bad_key_is_not_the_callers_fault(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(status(401, {"error": {"message": "Incorrect API key provided: sk-alpha-0001"}}))
    reply = await gateway.chat(model="swift")
    assert reply.status == 502
    assert reply.error["code"] == "upstream_credentials"
    assert "sk-alpha-0001" not in reply.body.decode()


# --- the caller goes away -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script", [openai_stream(*["word "] * 200, pause_s=0.02), hang()], ids=["mid-stream", "no byte"]
)
async def test_a_caller_who_leaves_is_billed_and_the_vendor_is_cancelled(
    gateway: Gateway, openai_upstream: Upstream, script: Any
) -> None:
    openai_upstream.play(script)
    await openai_upstream.left(gateway.stream(model="swift"))
    await asyncio.wait_for(openai_upstream.calls[0].cut.wait(), PATIENCE_S)
    [record] = await records()
    assert (record.state, record.error_code, record.usage_source) == ("cancelled", "cancelled", "counted")
    assert record.input_tokens > 0
    assert (record.cost_nano or 0) > 0


DEEP = b'{"messages": [{"role": "user", "content": "x"}], "deep": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b'{"messages": [{"role": "user", "content": "x"}', None, "not valid JSON"),
        (b"\xff\xfe{}", None, "not UTF-8"),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', None, "not UTF-8"),
        (b'{"messages": NaN}', None, "not valid JSON"),
        (DEEP, None, "deeply"),
        (b"{}", "messages", "messages"),
        (b'{"messages": []}', "messages", "at least one"),
        (b'{"messages": [{"role": "king", "content": "x"}]}', "messages[0].role", "king"),
        (b'{"messages": [{"role": "user", "content": 7}]}', "messages[0].content", "Expected"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}', "max_tokens", "at least 1"),
        (b'{"messages": [{"role": "user", "content": "x"}], "stream": "yes"}', "stream", "Expected"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": 9}', "temperature", "between 0 and 2"),
        (b"[]", None, "Expected"),
    ],
)
async def test_a_bad_body_is_a_400_that_names_the_field(
    gateway: Gateway, body: bytes, param: str | None, words: str
) -> None:
    reply = await gateway.post("/v1/chat/completions", body)
    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error"
    assert reply.error["param"] == param
    assert words in reply.error["message"]


async def test_a_body_over_the_cap_is_refused_by_its_length_before_it_is_read(gateway: Gateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
    writer.write(f"{head}content-length: {30 * 1024 * 1024}\r\n\r\n".encode())
    line = await asyncio.wait_for(reader.readline(), PATIENCE_S)
    writer.close()
    assert b" 413 " in line


async def test_every_bad_key_gets_the_same_answer(gateway: Gateway) -> None:
    replies = [await gateway.chat(key=key) for key in ("", "rp_nope", "sk-whatever", gateway.key + "x", "a:b:c")]
    assert {reply.status for reply in replies} == {401}
    assert {json.dumps(reply.error, sort_keys=True) for reply in replies} == {
        json.dumps(replies[0].error, sort_keys=True)
    }


async def test_an_unknown_model_is_a_404_with_the_stable_code(gateway: Gateway) -> None:
    reply = await gateway.chat(model="gpt-99")
    assert reply.status == 404
    assert reply.error["code"] == "model_not_found"


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/chat/completions/extra"])
async def test_an_unknown_path_is_a_404_in_the_same_shape(gateway: Gateway, path: str) -> None:
    assert (await gateway.post(path, {})).error["code"] == "not_found"


async def test_models_lists_what_may_be_named(gateway: Gateway) -> None:
    reply = await gateway.get("/v1/models")
    assert [row["id"] for row in reply.json["data"]] == ["auto", "sage", "swift"]
    assert (await gateway.get("/v1/models/swift")).json["object"] == "model"
    assert (await gateway.get("/v1/models/none")).status == 404


async def test_both_ways_to_present_a_key_work(gateway: Gateway) -> None:
    body = json.dumps({"model": "swift", "messages": HELLO})
    async with gateway.session.post(
        gateway.url + "/v1/chat/completions", data=body, headers={"x-api-key": gateway.key}
    ) as response:
        assert response.status == 200
    async with aiohttp.ClientSession() as session, session.get(gateway.url + "/v1/models") as response:
        assert response.status == 401


async def test_a_stream_to_another_wire_that_breaks_never_ends_cleanly(
    gateway: Gateway, anthropic_upstream: Upstream
) -> None:
    whole = anthropic_stream("Bon", "jour")

    async def cut(request: Any, body: dict[str, Any]) -> Any:
        request.loop.call_later(0.1, request.transport.abort)
        return await anthropic_stream("Bon", "jour", pause_s=0.04)(request, body)

    assert whole is not cut
    anthropic_upstream.play(cut)
    reply = await gateway.stream(model="sage")
    assert reply.error["code"] == "upstream_failed"
    assert not reply.done
