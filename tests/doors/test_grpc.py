"""The gRPC door from outside: the same answers, limits and records as over HTTP, in protobuf."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from django.conf import settings as django_settings
from django.forms.models import model_to_dict
from django.utils import timezone

from analytics.models import UsageRecord
from routerplatform.protos.ai_router_pb2 import (
    AIRequest,
    HealthCheckRequest,
    HealthCheckResponse,
    ProviderStatusRequest,
)
from routing.models import RoutingPolicy, Team, VirtualKey
from tests.factories import BudgetFactory, PersonaFactory
from tests.gateway import Gateway, records
from tests.gateway_path.changes import price_forget
from tests.grpc_door import Door, heard
from tests.routing.prompts import says, template
from tests.upstreams.scripted import (
    Upstream,
    frames,
    openai_answer,
    openai_chunk,
    openai_events,
    openai_stream,
    sse,
    status,
)

OWN_TO_A_REQUEST = {"id", "request_id", "started_at", "finished_at", "ttft_ms", "latency_ms", "overhead_ms", "attempts"}
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


# --- answers --------------------------------------------------------------------------------------------------------


async def test_a_whole_answer_comes_with_everything_about_it(grpc_door: Door) -> None:
    said = await grpc_door.ask(model="swift")
    [answer] = said.messages
    assert (answer.text, answer.finish_reason, answer.done) == ("Hello", "stop", True)
    assert (answer.provider, answer.deployment, answer.model) == ("alpha", "alpha/swift-1", "alpha-swift-1")
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (12, 5, 17)
    assert (answer.cost.usd, answer.cost.nano_usd) == ("0.000022000", 22_000)
    assert not answer.cost.HasField("saved_nano_usd")
    assert answer.latency_ms >= answer.ttft_ms > 0
    [candidate] = answer.decision.candidates
    assert (answer.decision.requested, candidate.deployment, candidate.verdict) == ("swift", "alpha/swift-1", "chosen")
    [record] = await records()
    assert (str(record.request_id), record.door, record.cost_nano) == (answer.request_id, "grpc", 22_000)
    assert said.head["x-request-id"] == answer.request_id
    assert (said.head["x-router-deployment"], said.head["x-router-attempts"]) == ("alpha/swift-1", "1")
    assert said.tail["x-router-cost-usd"] == "0.000022000"


async def test_a_stream_begins_with_the_route_and_ends_with_the_bill(
    grpc_door: Door, openai_upstream: Upstream
) -> None:
    openai_upstream.play(openai_stream("Hel", "lo", " you", pause_s=0.05))
    said = await grpc_door.stream(model="swift")
    first, *others = said.messages
    assert (said.text, first.text, first.deployment, first.done) == ("Hello you", "Hel", "alpha/swift-1", False)
    assert first.decision.candidates
    assert not first.HasField("usage")
    assert {message.request_id for message in others} == {first.request_id}
    assert [message.done for message in said.messages].index(True) == len(others)
    assert (said.last.finish_reason, said.last.usage.output_tokens, said.last.cost.nano_usd) == ("stop", 5, 22_000)
    assert said.last.deployment == "alpha/swift-1"
    [record] = await records()
    assert (record.is_stream, record.state) == (True, "settled")


@STREAM
async def test_the_record_is_that_of_http_but_for_the_door(gateway: Gateway, grpc_door: Door, stream: bool) -> None:
    fields = {"model": "swift", "temperature": 0.5, "max_tokens": 50}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    body = {**fields, "messages": messages, "stream": stream}
    reply = await gateway.post("/api/v1/chat", body, extra={"x-router-tag": "nightly"})
    assert reply.status == 200
    await records(1)
    request = AIRequest(prompt="Hello", system="Be brief.", tag="nightly", **fields)
    said = await (grpc_door.stream(request) if stream else grpc_door.ask(request))
    assert said.text == "Hello"
    over_http, over_grpc = [_comparable(record) for record in await records(2)]
    assert (over_http.pop("door"), over_grpc.pop("door")) == ("rest", "grpc")
    assert over_grpc == over_http
    assert over_grpc["tag"] == "nightly"


def _comparable(record: UsageRecord) -> dict[str, Any]:
    row = {name: value for name, value in model_to_dict(record).items() if name not in OWN_TO_A_REQUEST}
    [attempt] = record.attempts
    return row | {"asked": attempt["deployment"]}


async def test_tools_and_pictures_reach_the_vendor_and_a_tool_call_comes_back_whole(
    grpc_door: Door, openai_upstream: Upstream
) -> None:
    begin = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": '{"city": "Bern"}'}}
    chunks = [openai_chunk({"role": "assistant", "tool_calls": [begin]}), openai_chunk({"tool_calls": [more]})]
    openai_upstream.play(frames(*sse(*chunks, openai_chunk({}, "tool_calls"), "[DONE]")))
    request = AIRequest(provider="alpha", model="swift-1", tool_choice="weather", more='{"reasoning_effort": "low"}')
    request.tools.add(name="weather", parameters='{"type": "object"}')
    request.messages.add(role="user").parts.add().picture.data = b"\x89PNG"
    request.messages[0].parts[0].picture.media_type = "image/png"
    said = await grpc_door.stream(request)
    [call] = said.last.tool_calls
    assert (call.id, call.name, call.arguments) == ("c1", "weather", '{"city": "Bern"}')
    assert said.last.finish_reason == "tool_calls"
    [asked] = [call.body for call in openai_upstream.calls]
    assert (asked["model"], asked["reasoning_effort"]) == ("swift-1", "low")
    assert asked["messages"][0]["content"][0]["image_url"]["url"] == "data:image/png;base64,iVBORw=="
    assert asked["tools"][0]["function"] == {"name": "weather", "parameters": {"type": "object"}}


async def test_the_next_model_answers_when_the_first_one_fails(grpc_door: Door, openai_upstream: Upstream) -> None:
    openai_upstream.play(status(503))
    said = await grpc_door.ask(model="auto")
    assert (said.text, said.last.deployment, said.last.attempts) == ("Bonjour", "beta/sage-1", 2)
    assert said.last.decision.strategy == "priority"


async def test_a_persona_is_asked_by_its_name(grpc_door: Door, openai_upstream: Upstream) -> None:
    await grpc_door.changed(
        lambda: PersonaFactory(slug="poet", system_prompt="Rhyme.", policy=RoutingPolicy.objects.get())
    )
    said = await grpc_door.ask(persona="poet")
    assert (said.text, said.last.persona) == ("Hello", "poet")
    assert openai_upstream.calls[0].body["messages"][0]["content"] == "Rhyme."


async def test_a_template_is_filled_in_and_what_it_lacks_is_told(grpc_door: Door, openai_upstream: Upstream) -> None:
    await grpc_door.changed(lambda: template("welcome", says("Be kind to {{ name }}.", variables=("name",))))
    said = await grpc_door.ask(model="swift", template="welcome", variables={"name": "Ada"})
    assert said.text == "Hello"
    assert openai_upstream.calls[0].body["messages"][0] == {"role": "system", "content": "Be kind to Ada."}
    lacking = await grpc_door.ask(model="swift", template="welcome@1")
    assert (lacking.code, lacking.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_VARIABLES")
    assert lacking.fields == ["variables.name"]
    assert '"name":"name"' in lacking.info.metadata["variables"]


async def test_an_unknown_price_is_no_cost_at_all(grpc_door: Door) -> None:
    await grpc_door.changed(lambda: price_forget("alpha"))
    said = await grpc_door.ask(model="swift")
    assert not said.last.HasField("cost")
    assert said.tail["x-router-cost-usd"] == "unknown"


async def test_the_proxy_answers_under_its_own_names(grpc_door: Door) -> None:
    request, who = AIRequest(prompt="Hello", model="swift"), grpc_door.credentials()
    whole = await heard(grpc_door.proxy.Complete(request, metadata=who, timeout=60))
    pieces = await heard(grpc_door.proxy.StreamComplete(request, metadata=who, timeout=60))
    assert (whole.text, pieces.text, pieces.last.done) == ("Hello", "Hello", True)


# --- what is said beside the request --------------------------------------------------------------------------------


@pytest.mark.skipif(not django_settings.REDIS_URL, reason="answers are kept in Redis")
async def test_an_equal_request_gets_the_kept_answer_for_nothing(grpc_door: Door, openai_upstream: Upstream) -> None:
    request = AIRequest(prompt=f"Tell me about {uuid4()}", model="swift", temperature=0)
    first, again = await grpc_door.ask(request), await grpc_door.ask(request)
    assert (first.last.cache, again.last.cache, again.text) == ("miss", "hit", "Hello")
    assert (again.last.cost.nano_usd, again.last.cost.saved_nano_usd) == (0, 22_000)
    assert again.head["x-router-cache"] == "hit"
    off = await grpc_door.ask(request, ("x-router-cache", "off"))
    assert (off.last.cache, len(openai_upstream.calls)) == ("none", 2)


@STREAM
async def test_a_call_with_an_idempotency_key_is_answered_once_and_told_again(
    grpc_door: Door, openai_upstream: Upstream, stream: bool
) -> None:
    method, mine = grpc_door.stream if stream else grpc_door.ask, ("idempotency-key", "order-7")
    first, again = await method(None, mine, model="swift"), await method(None, mine, model="swift")
    assert again.messages == first.messages
    assert ("idempotent-replayed" in first.head, again.head["idempotent-replayed"]) == (False, "true")
    assert again.tail["x-router-cost-usd"] == first.tail["x-router-cost-usd"]
    assert len(openai_upstream.calls) == 1
    other = await method(None, mine, model="sage")
    assert (other.code, other.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED")


async def test_a_call_that_failed_may_be_tried_again_with_its_idempotency_key(
    grpc_door: Door, openai_upstream: Upstream
) -> None:
    openai_upstream.play(status(400, {"error": {"message": "no"}}), openai_answer("Now"))
    mine = ("idempotency-key", "order-8")
    assert (await grpc_door.ask(None, mine, model="swift")).code is grpc.StatusCode.INVALID_ARGUMENT
    assert (await grpc_door.ask(None, mine, model="swift")).text == "Now"
    bad = await grpc_door.ask(None, ("idempotency-key", "x" * 256))
    assert (bad.code, bad.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["idempotency-key"])


# --- what is refused ------------------------------------------------------------------------------------------------


async def test_a_key_may_come_as_x_api_key_and_none_or_a_wrong_one_is_refused(grpc_door: Door) -> None:
    request = AIRequest(prompt="Hello", model="swift")
    assert (await heard(grpc_door.router.RouteRequest(request, metadata=(("x-api-key", grpc_door.key),)))).text
    for metadata in ((), (("authorization", "Bearer rp_wrong"),), (("authorization", f"Basic {grpc_door.key}"),)):
        said = await heard(grpc_door.router.RouteRequest(request, metadata=metadata))
        assert (said.code, said.info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_API_KEY")
        assert said.tail["x-request-id"] == said.info.metadata["request_id"]
    await grpc_door.changed(lambda: _saved(VirtualKey.objects.get(), scopes=["models"]))
    refused = await grpc_door.ask(request)
    assert (refused.code, refused.info.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")


@STREAM
async def test_a_budget_of_nothing_refuses_and_says_when_it_renews(
    grpc_door: Door, openai_upstream: Upstream, stream: bool
) -> None:
    await grpc_door.changed(lambda: BudgetFactory(max_budget=0, team=Team.objects.get(), mode="strict"))
    said = await (grpc_door.stream if stream else grpc_door.ask)(model="swift")
    assert (said.code, said.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "INSUFFICIENT_QUOTA")
    assert said.retry is None, "waiting a little does not help"
    assert (said.info.metadata["scope"], said.tail["x-should-retry"]) == ("team", "false")
    assert said.info.metadata["resets_at"]
    assert openai_upstream.calls == []
    [record] = await records()
    assert (record.door, record.state, record.error_code, record.cost_nano) == (
        "grpc",
        "released",
        said.tail["x-router-error-code"],
        0,
    )


async def test_a_rate_limit_says_how_long_to_wait(grpc_door: Door) -> None:
    await grpc_door.changed(lambda: _saved(VirtualKey.objects.get(), rpm_limit=1))
    let_in, refused = await grpc_door.ask(model="swift"), await grpc_door.ask(model="swift")
    assert let_in.head["x-ratelimit-limit-requests"] == "1"
    assert (refused.code, refused.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMIT_EXCEEDED")
    assert refused.retry is not None
    assert timedelta(0) < refused.retry.retry_delay.ToTimedelta() <= timedelta(minutes=2)
    assert refused.tail["x-ratelimit-remaining-requests"] == "0"
    assert int(refused.tail["retry-after"]) >= 1


async def test_a_stream_that_breaks_ends_with_a_status_after_what_came(
    grpc_door: Door, openai_upstream: Upstream
) -> None:
    openai_upstream.play(frames(*openai_events("Hel", "lo")[:2], end="cut"))
    said = await grpc_door.stream(model="swift")
    assert (said.text, said.code, said.info.reason) == ("Hel", grpc.StatusCode.UNAVAILABLE, "UPSTREAM_FAILED")
    assert not said.last.done
    assert said.tail["x-router-deployment"] == "alpha/swift-1"
    [record] = await records()
    assert (record.state, record.error_code, record.cost_nano > 0) == ("settled", "upstream_failed", True)


# --- about the gateway ----------------------------------------------------------------------------------------------


async def test_health_needs_no_key_and_names_the_configuration(grpc_door: Door) -> None:
    health = await grpc_door.proxy.HealthCheck(HealthCheckRequest(), timeout=60)
    assert (health.status, health.problem) == (HealthCheckResponse.STATUS_SERVING, "")
    assert health.config_revision == grpc_door.runtime.config.status().revision


async def test_provider_status_tells_of_breakers_and_resting_keys(grpc_door: Door, openai_upstream: Upstream) -> None:
    openai_upstream.play(status(429, headers={"retry-after": "30"}))
    await grpc_door.ask(model="swift")
    ask, who = grpc_door.proxy.GetProviderStatus, grpc_door.credentials()
    told = await ask(ProviderStatusRequest(), metadata=who, timeout=60)
    alpha, beta = told.providers
    assert (alpha.name, alpha.kind, beta.name, beta.health) == ("alpha", "openai-compatible", "beta", "healthy")
    assert (alpha.deployments[0].deployment, alpha.deployments[0].breaker) == ("alpha/swift-1", "closed")
    assert (alpha.keys[0].last4, alpha.keys[0].resting[0].reason) == ("0001", "rate_limited")
    assert alpha.keys[0].resting[0].until.ToDatetime(timezone.get_default_timezone()) > timezone.now()
    assert [one.name for one in (await ask(ProviderStatusRequest(provider="beta"), metadata=who)).providers] == ["beta"]
    unknown = await heard(ask(ProviderStatusRequest(provider="gamma"), metadata=who))
    assert (unknown.code, unknown.info.metadata["param"]) == (grpc.StatusCode.NOT_FOUND, "provider")
    assert (await heard(ask(ProviderStatusRequest()))).code is grpc.StatusCode.UNAUTHENTICATED


async def test_many_calls_at_once_on_one_connection_each_get_their_own_answer(grpc_door: Door) -> None:
    methods = [grpc_door.ask, grpc_door.stream] * 8
    said = await asyncio.gather(*(method(model=("swift", "sage")[at % 2]) for at, method in enumerate(methods)))
    assert [one.text for one in said] == ["Hello", "Bonjour"] * 8
    assert len({one.last.request_id for one in said}) == len(await records(16)) == 16


def _saved(row: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(row, name, value)
    row.save()
