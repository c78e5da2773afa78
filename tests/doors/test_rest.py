"""The contract's REST API, driven over HTTP."""

import asyncio
import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from routing.models import Persona, RoutingPolicy
from tests.factories import PersonaFactory
from tests.gateway import HELLO, Gateway, records
from tests.stalls import PATIENCE_S
from tests.upstreams.scripted import Upstream, frames, openai_events, openai_stream, status


@pytest.fixture
async def analyst(gateway: Gateway) -> Persona:
    """A persona on the default policy, known to the gateway."""

    def make() -> Persona:
        policy = RoutingPolicy.objects.get(name="default")
        made: Persona = PersonaFactory(
            slug="analyst", system_prompt="Answer with figures.", policy=policy, temperature=0.4, max_tokens=321
        )
        return made

    persona = await sync_to_async(make)()
    for _ in range(600):
        found = await gateway.get("/api/v1/personas")
        if found.json:
            return persona
        await asyncio.sleep(0.05)
    raise AssertionError("the gateway did not notice the new persona")


async def test_a_persona_answers_with_its_prompt_and_defaults(
    gateway: Gateway, analyst: Persona, openai_upstream: Upstream
) -> None:
    reply = await gateway.post("/api/v1/chat", {"persona": "analyst", "messages": HELLO})
    assert reply.status == 200
    answer = reply.json
    assert answer["content"] == "Hello"
    assert (answer["persona"], answer["deployment"], answer["finish_reason"]) == ("analyst", "alpha/swift-1", "stop")
    assert answer["usage"] == {"input_tokens": 12, "output_tokens": 5, "cache_read_input_tokens": 0}
    assert answer["cost_usd"] == pytest.approx(0.000022)
    assert [c["verdict"] for c in answer["decision"]["candidates"]] == ["chosen", "fallback"]
    assert reply.headers["x-request-id"] == answer["id"]
    sent = openai_upstream.calls[0].body
    assert sent["messages"][0] == {"role": "system", "content": "Answer with figures."}
    assert (sent["temperature"], sent["max_tokens"]) == (0.4, 321)
    [record] = await records()
    assert (record.door, record.persona, record.policy) == ("rest", "analyst", "default")


async def test_the_callers_own_values_win_over_the_personas(
    gateway: Gateway, analyst: Persona, openai_upstream: Upstream
) -> None:
    body = {"persona": "analyst", "messages": HELLO, "temperature": 0.7, "max_tokens": 4096}
    await gateway.post("/api/v1/chat", body)
    sent = openai_upstream.calls[0].body
    assert (sent["temperature"], sent["max_tokens"]) == (0.7, 4096)


async def test_a_persona_is_a_model_name_for_openai_clients(
    gateway: Gateway, analyst: Persona, openai_upstream: Upstream
) -> None:
    reply = await gateway.chat(model="analyst")
    assert reply.status == 200
    assert openai_upstream.calls[0].body["messages"][0]["content"] == "Answer with figures."
    assert "analyst" in [row["id"] for row in (await gateway.get("/v1/models")).json["data"]]


async def test_a_stream_is_a_row_of_named_events(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_stream("Hel", "lo", pause_s=0.02))
    events = await _events(gateway, {"messages": HELLO, "stream": True})
    kinds = [kind for kind, _ in events]
    assert kinds[:2] == ["start", "route"]
    assert kinds[-2:] == ["usage", "done"]
    assert "".join(data["text"] for kind, data in events if kind == "delta") == "Hello"
    assert next(data for kind, data in events if kind == "usage")["cost_usd"] == pytest.approx(0.000022)
    [record] = await records()
    assert str(record.request_id) == events[0][1]["request_id"]


async def test_a_stream_that_breaks_ends_in_an_error_event(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(frames(*openai_events("Hel", "lo")[:2], pause_s=0.02, end="cut"))
    events = await _events(gateway, {"messages": HELLO, "stream": True})
    assert events[-1][0] == "error"
    assert events[-1][1]["code"] == "upstream_failed"


async def test_an_error_before_content_sets_the_status(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(status(429, {"error": {"message": "slow"}}, {"retry-after": "3"}))
    for stream in (False, True):
        reply = await gateway.post("/api/v1/chat", {"model": "swift", "messages": HELLO, "stream": stream})
        assert reply.status == 429
        assert reply.headers["retry-after"] == "3"
        assert reply.error["code"] == "upstream_rate_limited"


async def test_a_caller_who_leaves_a_stream_is_billed_and_the_vendor_is_cancelled(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(openai_stream(*["word "] * 200, pause_s=0.02))
    await openai_upstream.left(_events(gateway, {"model": "swift", "messages": HELLO, "stream": True}))
    await asyncio.wait_for(openai_upstream.calls[0].cut.wait(), PATIENCE_S)
    [record] = await records()
    assert (record.state, record.usage_source) == ("cancelled", "counted")


@pytest.mark.parametrize(
    ("body", "status_code", "code"),
    [
        (b'{"messages": []}', 400, "invalid_request"),
        (b"{", 400, "invalid_request"),
        (b'{"messages": [{"role": "user", "content": "x"}], "persona": "nobody"}', 404, "model_not_found"),
    ],
)
async def test_bad_input_gets_the_same_errors_as_on_every_door(
    gateway: Gateway, body: bytes, status_code: int, code: str
) -> None:
    reply = await gateway.post("/api/v1/chat", body)
    assert (reply.status, reply.error["code"]) == (status_code, code)


@pytest.mark.parametrize("path", ["/api/v1/personas", "/api/v1/providers"])
async def test_lists_need_a_key(gateway: Gateway, path: str) -> None:
    reply = await gateway.get(path, key="rp_wrong")
    assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")


async def test_providers_show_their_models_and_prices(gateway: Gateway) -> None:
    reply = await gateway.get("/api/v1/providers")
    providers: list[dict[str, Any]] = json.loads(reply.body)
    assert [provider["name"] for provider in providers] == ["alpha", "beta"]
    [model] = providers[0]["models"]
    assert model["deployment"] == "alpha/swift-1"
    assert (model["input_usd_per_1m"], model["output_usd_per_1m"]) == (1.0, 2.0)


async def test_an_unknown_persona_is_the_personas_fault_and_not_the_models(gateway: Gateway) -> None:
    reply = await gateway.post("/api/v1/chat", {"persona": "nobody", "messages": HELLO})
    assert (reply.status, reply.error["param"]) == (404, "persona")


async def test_a_wrong_method_is_refused_in_the_same_shape(gateway: Gateway) -> None:
    reply = await gateway.get("/api/v1/chat")
    assert (reply.status, reply.error["code"]) == (405, "method_not_allowed")


async def test_health_tells_the_revision_and_what_is_unshipped(gateway: Gateway) -> None:
    health = (await gateway.get("/health", key="")).json
    assert health["status"] == "ok"
    assert health["config_revision"] > 0


async def test_probes_answer_without_a_key(gateway: Gateway) -> None:
    assert (await gateway.get("/health/live", key="")).json == {"status": "live"}
    assert (await gateway.get("/health/ready", key="")).json == {"status": "ready"}


async def test_the_openapi_document_names_every_rest_path(gateway: Gateway) -> None:
    async with gateway.session.get(gateway.url + "/api/v1/schema/?format=json") as response:
        document = await response.json(content_type=None)
    assert {"/api/v1/chat", "/api/v1/personas", "/api/v1/providers", "/health"} <= set(document["paths"])


async def _events(gateway: Gateway, body: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    async with gateway.session.post(
        gateway.url + "/api/v1/chat", data=json.dumps(body), headers=gateway.headers()
    ) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        text = (await response.read()).decode()
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    return [(lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))) for lines in blocks]
