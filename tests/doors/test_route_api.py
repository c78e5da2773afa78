"""`POST /api/v1/route`: a prompt in; the model that served it, its cost, and why out."""

import asyncio
import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from routing.domain.config import Strategy, TaskType
from routing.models import ModelAlias, RoutingPolicy, Team
from tests import gateway as configure
from tests.factories import BudgetFactory
from tests.gateway import Gateway, Reply, records
from tests.upstreams.scripted import Upstream, openai_stream

ROUTE = "/api/v1/route"


async def ask(gateway: Gateway, **body: Any) -> Reply:
    return await gateway.post(ROUTE, body)


async def test_a_prompt_comes_back_with_its_model_its_cost_and_the_reason(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    reply = await ask(gateway, prompt="Why is the sky blue?", system="Be brief.", top_p=0.5)
    answer = reply.json
    assert (reply.status, answer["model_used"], answer["response"]) == (200, "alpha-swift-1", "Hello")
    assert answer["cost"] == pytest.approx(0.000022)
    assert (answer["provider"], answer["deployment"], answer["policy"]) == ("alpha", "alpha/swift-1", "default")
    assert answer["usage"] == {"input_tokens": 12, "output_tokens": 5, "cache_read_input_tokens": 0}
    assert answer["decision"] == (
        "“auto” follows the default policy “default”: alpha/swift-1, one of 2 that could, answered."
    )
    assert (answer["task_type"], answer["cached"], answer["attempts"]) == ("SIMPLE_QA", False, 1)
    assert reply.headers["x-request-id"] == answer["request_id"]
    assert reply.headers["x-router-deployment"] == "alpha/swift-1"
    sent = openai_upstream.calls[0].body
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why is the sky blue?"},
    ]
    assert sent["top_p"] == 0.5
    assert not {"prompt", "system"} & sent.keys()
    [record] = await records()
    assert (record.door, record.task_type, str(record.request_id)) == ("route", "SIMPLE_QA", answer["request_id"])


async def test_a_conversation_may_stand_where_the_prompt_does(gateway: Gateway, openai_upstream: Upstream) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    reply = await ask(gateway, messages=messages, model="swift")
    assert (reply.status, reply.json["response"]) == (200, "Hello")
    assert reply.json["task_type"] is None
    assert reply.json["decision"] == "Model alias “swift”: the only model that could serve it, alpha/swift-1, answered."
    assert openai_upstream.calls[0].body["messages"] == messages


async def test_a_stream_has_the_events_of_a_chat(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_stream("Hel", "lo"))
    headers = {**gateway.headers(), "accept": "text/event-stream"}
    body = json.dumps({"prompt": "Hi", "stream": True})
    async with gateway.session.post(gateway.url + ROUTE, data=body, headers=headers) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        events = [json.loads(line[6:]) for line in (await response.text()).splitlines() if line.startswith("data: ")]
    assert [event["type"] for event in events[:2]] == ["start", "route"]
    assert "".join(event.get("text", "") for event in events if event["type"] == "delta") == "Hello"
    assert [event["type"] for event in events[-2:]] == ["usage", "done"]


# --- what kind of work it is --------------------------------------------------------------------------------------


@pytest.fixture
async def by_task(gateway: Gateway) -> Gateway:
    """The default policy goes by the kind of work, and there is one of its own for code, which prefers `sage`."""

    def make() -> None:
        RoutingPolicy.objects.filter(name="default").update(strategy=Strategy.TASK_BASED)
        sage = ModelAlias.objects.get(name="sage")
        configure.policy("code", preferred=[sage], task_type=TaskType.CODING)

    await sync_to_async(make)()
    for _ in range(600):
        if (await ask(gateway, prompt="x", task_type="CODING")).json.get("policy") == "code":
            return gateway
        await asyncio.sleep(0.05)
    raise AssertionError("the gateway did not notice the policy")


async def test_the_kind_of_work_that_a_caller_names_steers(by_task: Gateway) -> None:
    for said in ("coding", "CODING"):
        answer = (await ask(by_task, prompt="What is the capital of France?", task_type=said, tag="batch")).json
        assert (answer["task_type"], answer["policy"], answer["provider"]) == ("CODING", "code", "beta")
    other = (await ask(by_task, prompt="What is the capital of France?", task_type="SIMPLE_QA")).json
    assert (other["task_type"], other["policy"], other["provider"]) == ("SIMPLE_QA", "default", "alpha")
    for number in range(1, 100):  # beside those by which the policy was waited for
        told = next((one for one in await records(number) if str(one.request_id) == answer["request_id"]), None)
        if told is not None:
            break
    assert told is not None
    assert (told.task_type, told.tag, told.decision["task"]["source"]) == ("CODING", "batch", "caller")


async def test_every_other_door_takes_it_as_a_header(by_task: Gateway) -> None:
    body = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
    reply = await by_task.post("/v1/chat/completions", body, extra={"x-router-task-type": "Coding"})
    assert reply.headers["x-router-deployment"] == "beta/sage-1"
    wrong = await by_task.post("/v1/chat/completions", body, extra={"x-router-task-type": "gardening"})
    assert (wrong.status, wrong.error["param"]) == (400, "x-router-task-type")


# --- bad input ----------------------------------------------------------------------------------------------------

HI = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({}, "prompt", "“prompt”, or “messages”"),
        ({"prompt": "Hi", "messages": HI}, "messages", "not both"),
        ({"messages": HI, "system": "x"}, "system", "first of the messages"),
        ({"prompt": "  "}, "prompt", "must not be empty"),
        ({"prompt": 7}, "prompt", "Expected `str"),
        ({"prompt": "Hi", "task_type": "GARDENING"}, "task_type", "CODING, CREATIVE, ANALYSIS"),
        ({"prompt": "Hi", "task_type": 1}, "task_type", "Expected `str"),
        ({"prompt": "Hi", "temperature": 7}, "temperature", "between 0 and 2"),
        ({"prompt": "Hi", "persona": "nobody"}, "persona", "does not exist"),
    ],
)
async def test_bad_input_is_told_by_the_field(gateway: Gateway, body: dict[str, Any], param: str, says: str) -> None:
    reply = await gateway.post(ROUTE, body)
    assert (reply.status in {400, 404}, reply.error["param"]) == (True, param)
    assert says.replace("`", "") in reply.error["message"].replace("“str", "str").replace("`", "")


async def test_what_is_no_json_is_a_wrong_media_type_or_a_bad_request(gateway: Gateway) -> None:
    form = await gateway.post(ROUTE, b"prompt=Hi", extra={"content-type": "application/x-www-form-urlencoded"})
    assert (form.status, form.error["code"]) == (415, "unsupported_media_type")
    assert "application/json" in form.error["message"]
    broken = await gateway.post(ROUTE, b"prompt=Hi")
    assert (broken.status, broken.error["code"]) == (400, "invalid_request")
    careless = {"content-type": "application/x-www-form-urlencoded"}  # as `curl -d` says
    assert (await gateway.post(ROUTE, b'{"prompt": "Hi"}', extra=careless)).status == 200


async def test_other_methods_are_refused_with_the_one_that_is_taken(gateway: Gateway) -> None:
    reply = await gateway.get(ROUTE)
    assert (reply.status, reply.error["code"]) == (405, "method_not_allowed")
    assert reply.error["message"] == "GET is not possible here, only POST."
    assert "POST" in reply.headers["allow"]


async def test_a_request_that_is_repeated_under_its_name_costs_once(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    name = {"idempotency-key": "route-1"}
    first = await gateway.post(ROUTE, {"prompt": "Hi"}, extra=name)
    again = await gateway.post(ROUTE, {"prompt": "Hi"}, extra=name)
    assert (again.body, again.headers["idempotent-replayed"]) == (first.body, "true")
    assert len(openai_upstream.calls) == 1


async def test_a_budget_of_nothing_refuses_every_address(gateway: Gateway, openai_upstream: Upstream) -> None:
    await sync_to_async(lambda: BudgetFactory(team=Team.objects.get(), max_budget=0))()
    bodies = {ROUTE: {"prompt": "Hi"}, "/chat/": {"message": "Hi"}, "/v1/complete": {"prompt": "Hi"}}
    for _ in range(600):
        if (await ask(gateway, prompt="Hi")).status == 429:
            break
        await asyncio.sleep(0.05)
    calls = len(openai_upstream.calls)
    for path, body in bodies.items():
        reply = await gateway.post(path, body)
        assert (reply.status, reply.error["code"]) == (429, "insufficient_quota")
    assert len(openai_upstream.calls) == calls
