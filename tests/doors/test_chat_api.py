"""`POST /chat/` and `POST /v1/complete`: a message to a provider, and a prompt to a model."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from asgiref.sync import sync_to_async

from routing.models import VirtualKey
from tests.factories import ModelAliasFactory
from tests.gateway import Gateway, Reply, records
from tests.stalls import PATIENCE_S
from tests.upstreams.scripted import Upstream, frames, openai_events, openai_stream, status

CHAT, COMPLETE = "/chat/", "/v1/complete"


async def say(gateway: Gateway, name: str, **body: Any) -> Reply:
    return await gateway.post(CHAT, {"message": "Hello", "chat_model_name": name, **body})


# --- POST /chat/ --------------------------------------------------------------------------------------------------


async def test_a_message_is_answered_by_the_provider_that_is_named(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    first = await say(gateway, "alpha", system="Be kind.", history=[{"role": "assistant", "content": "Yes?"}])
    answer = first.json
    assert (first.status, answer["response"], answer["chat_model_name"]) == (200, "Hello", "alpha")
    assert (answer["model"], answer["provider"]) == ("alpha-swift-1", "alpha")
    assert answer["cost_usd"] == pytest.approx(0.000022)
    assert first.headers["x-router-deployment"] == "alpha/swift-1"
    assert [message["role"] for message in openai_upstream.calls[0].body["messages"]] == ["system", "assistant", "user"]
    assert (await say(gateway, "beta")).json["provider"] == "beta"
    assert len(anthropic_upstream.calls) == 1
    told = await records(2)
    assert [(record.door, record.requested_model) for record in told] == [("chat", "alpha"), ("chat", "beta")]
    assert told[0].decision["how"] == "the best model of provider “alpha”"


async def test_a_kind_stands_for_its_providers_and_no_name_for_the_policy(gateway: Gateway) -> None:
    assert (await say(gateway, "anthropic-compatible")).json["provider"] == "beta"
    reply = await gateway.post("/chat", {"message": "Hello"})
    assert (reply.json["chat_model_name"], reply.json["provider"]) == ("auto", "alpha")


async def test_another_provider_never_steps_in(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    openai_upstream.play(status(500, {"error": {"message": "broken"}}))
    reply = await say(gateway, "alpha")
    assert (reply.status, reply.error["code"]) == (502, "upstream_failed")
    assert anthropic_upstream.calls == []


async def test_a_provider_that_is_not_there_is_refused_with_those_that_are(gateway: Gateway) -> None:
    reply = await say(gateway, "cohere")
    assert (reply.status, reply.error["code"], reply.error["param"]) == (404, "model_not_found", "chat_model_name")
    assert reply.error["message"] == "This key cannot ask a provider “cohere”. Configured providers: alpha, beta."


async def test_a_key_that_may_use_some_models_reaches_no_other_of_the_provider(gateway: Gateway) -> None:
    def narrow() -> None:
        key = VirtualKey.objects.get()
        key.allowed_models.set([ModelAliasFactory(name="other")])
        key.save()

    await sync_to_async(narrow)()
    for _ in range(600):
        reply = await say(gateway, "alpha")
        if reply.status == 404:
            break
        await asyncio.sleep(0.05)
    assert reply.error["param"] == "chat_model_name"


async def test_a_stream_is_plain_text_in_pieces(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_stream("Hel", "lö ", "you", pause_s=0.02))
    body = json.dumps({"message": "Hi", "chat_model_name": "alpha", "stream": True})
    async with gateway.session.post(gateway.url + CHAT, data=body, headers=gateway.headers()) as response:
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.headers["x-router-deployment"] == "alpha/swift-1"
        pieces = [piece async for piece, _ in response.content.iter_chunks()]
    assert b"".join(pieces).decode() == "Hellö you"
    assert len(pieces) > 1
    [record] = await records()
    assert (record.state, record.is_stream) == ("settled", True)


async def test_a_stream_that_breaks_does_not_look_whole(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(frames(*openai_events("Hel", "lo")[:2], pause_s=0.02, end="cut"))
    body = json.dumps({"message": "Hi", "chat_model_name": "alpha", "stream": True})
    async with gateway.session.post(gateway.url + CHAT, data=body, headers=gateway.headers()) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await asyncio.wait_for(response.read(), PATIENCE_S)
    [record] = await records()
    assert record.error_code == "upstream_failed"


async def test_an_error_before_the_first_word_sets_the_status_of_a_stream(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(status(429, {"error": {"message": "slow"}}, {"retry-after": "3"}))
    reply = await say(gateway, "alpha", stream=True)
    assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (429, "upstream_rate_limited", "3")


# --- POST /v1/complete --------------------------------------------------------------------------------------------


async def test_a_prompt_is_completed_and_an_equal_one_comes_from_the_cache(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    body = {"model": "swift", "prompt": "Say hello.", "temperature": 0, "max_tokens": 100, "top_p": 1}
    first, again = await gateway.post(COMPLETE, body), await gateway.post(COMPLETE, body)
    answer = first.json
    assert (first.status, answer["text"], answer["finish_reason"]) == (200, "Hello", "stop")
    assert (answer["model"], answer["provider"], answer["cached"]) == ("alpha-swift-1", "alpha", False)
    assert answer["cost_usd"] == pytest.approx(0.000022)
    assert (again.json["cached"], again.json["cost_usd"], again.json["text"]) == (True, 0, "Hello")
    [call] = openai_upstream.calls
    assert (call.body["max_tokens"], call.body["top_p"]) == (100, 1)
    assert [record.door for record in await records(2)] == ["complete", "complete"]


async def test_a_completion_streams_the_native_events(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_stream("Hel", "lo"))
    reply = await gateway.post(COMPLETE, {"prompt": "Hi", "stream": True})
    assert [event["type"] for event in reply.events][:2] == ["start", "route"]
    assert reply.events[-1] == {"type": "done", "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (COMPLETE, {}, "prompt"),
        (COMPLETE, {"prompt": ""}, "prompt"),
        (COMPLETE, {"prompt": ["a", "b"]}, "prompt"),
        (COMPLETE, {"prompt": "Hi", "messages": []}, "messages"),
        (COMPLETE, {"prompt": "Hi", "max_tokens": 0}, "max_tokens"),
        (CHAT, {"chat_model_name": "alpha"}, "message"),
        (CHAT, {"message": " ", "chat_model_name": "alpha"}, "message"),
        (CHAT, {"message": "Hi", "chat_model_name": 7}, "chat_model_name"),
        (CHAT, {"message": "Hi", "history": [{"content": "x"}]}, "history[0].role"),
    ],
)
async def test_bad_input_names_the_field(gateway: Gateway, path: str, body: dict[str, Any], param: str) -> None:
    reply = await gateway.post(path, body)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "invalid_request", param)


@pytest.mark.parametrize("path", [CHAT, COMPLETE])
async def test_nobody_asks_without_a_key_or_by_another_method(gateway: Gateway, path: str) -> None:
    nobody = await gateway.post(path, b"{", key="rp_wrong")
    assert (nobody.status, nobody.error["code"]) == (401, "invalid_api_key")
    wrong = await gateway.get(path)
    assert (wrong.status, wrong.error["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(("path", "field"), [(CHAT, "message"), (COMPLETE, "prompt")])
async def test_a_repetition_under_one_name_is_told_again(
    gateway: Gateway, openai_upstream: Upstream, path: str, field: str
) -> None:
    openai_upstream.play(openai_stream("Hel", "lo"))
    name = {"idempotency-key": "again"}
    first = await gateway.post(path, {field: "Hi", "stream": True}, extra=name)
    again = await gateway.post(path, {field: "Hi", "stream": True}, extra=name)
    assert (again.body, again.headers["idempotent-replayed"]) == (first.body, "true")
    assert len(openai_upstream.calls) == 1


# --- what is written about them -----------------------------------------------------------------------------------


async def test_the_openapi_document_describes_them_with_examples(gateway: Gateway) -> None:
    async with gateway.session.get(gateway.url + "/api/v1/schema/?format=json") as response:
        paths = (await response.json(content_type=None))["paths"]
    for path in ("/api/v1/route", CHAT, COMPLETE):
        asked = paths[path]["post"]
        assert asked["requestBody"]["content"]["application/json"]["examples"]
        assert asked["responses"]["200"]["content"]["application/json"]["examples"]
        assert "Idempotency-Key" in [parameter["name"] for parameter in asked["parameters"]]
        assert {"400", "401", "405", "415", "429", "503"} <= asked["responses"].keys()
    assert {"/v1/health", "/v1/providers/status", "/health/ready", "/health", "/api/v1/stats"} <= paths.keys()
    assert "/chat" not in paths
