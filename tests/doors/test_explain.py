"""POST /api/v1/route/explain, driven over HTTP: what is told, to whom, and that nothing comes of it."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import Permission
from django.test import Client

from analytics.models import UsageRecord
from routing.models import DraftCandidate, ModelAlias, PolicyDraft, RoutingPolicy
from tests import gateway as configure
from tests.factories import UserFactory, VirtualKeyFactory, key_text_of
from tests.gateway import HELLO, Gateway, Reply, records
from tests.upstreams.scripted import Upstream

PATH = "/api/v1/route/explain"


async def explain(gateway: Gateway, *, presented: str | None = None, **body: Any) -> Reply:
    return await gateway.post(PATH, {"messages": HELLO, **body}, key=presented)


# --- what is told -------------------------------------------------------------------------------------------------


async def test_the_route_is_told_with_what_each_candidate_would_cost(gateway: Gateway) -> None:
    reply = await explain(gateway, model="auto", max_tokens=100)
    assert reply.status == 200
    told = reply.json
    assert (told["chosen"], told["asked_first"], told["problem"]) == ("alpha/swift-1", "alpha/swift-1", None)
    assert (told["policy"]["name"], told["strategy"]["words"]) == ("default", "In order")
    first, second = told["candidates"]
    assert (first["verdict"], second["verdict"], second["deployment"]) == ("chosen", "fallback", "beta/sage-1")
    assert Decimal(first["estimated_cost_usd"]) * 10**9 == first["estimated_cost_nano"]
    assert first["price"]["input_usd_per_1m"] == "1.00"
    assert (first["circuit_breaker"], first["keys"], first["out_of_service"]) == (
        "closed", {"all": 1, "usable": 1}, None,
    )  # fmt: skip
    assert 0 < first["quality"] < 1
    assert told["decision"]["how"] == "“auto” follows the default policy “default”"


async def test_a_request_that_nothing_can_serve_is_explained_all_the_same(gateway: Gateway) -> None:
    file = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}
    told = (await explain(gateway, messages=[{"role": "user", "content": [file]}])).json
    assert (told["chosen"], told["asked_first"], told["decision"]) == (None, None, None)
    assert told["problem"]["code"] == "no_eligible_model"
    assert [one["verdict"] for one in told["candidates"]] == ["skipped", "skipped"]
    assert all(one["reason"] == "cannot do documents" for one in told["candidates"])


@pytest.mark.parametrize(
    ("body", "param"), [({"model": "nothing"}, "model"), ({"persona": "nobody"}, "persona")]
)  # fmt: skip
async def test_a_name_that_does_not_exist_is_the_problem(gateway: Gateway, body: dict[str, str], param: str) -> None:
    reply = await explain(gateway, **body)
    assert reply.status == 200
    assert (reply.json["problem"]["code"], reply.json["problem"]["param"]) == ("model_not_found", param)
    assert reply.json["candidates"] == []


async def test_a_model_by_its_own_name_needs_no_policy(gateway: Gateway) -> None:
    told = (await explain(gateway, model="sage")).json
    assert (told["chosen"], told["policy"], told["strategy"], told["turn"]) == ("beta/sage-1", None, None, None)


async def test_another_policy_is_followed_on_request(gateway: Gateway) -> None:
    def add() -> None:
        sage = ModelAlias.objects.get(name="sage")
        configure.policy("careful", preferred=[sage])

    await sync_to_async(add)()
    told = await _when_known(gateway, policy="careful", model="swift")
    assert (told["chosen"], told["policy"]["name"]) == ("beta/sage-1", "careful")
    assert told["decision"]["how"] == "the test follows policy “careful”"


async def _when_known(gateway: Gateway, **body: Any) -> dict[str, Any]:
    """The answer, once the gateway has noticed what was entered."""
    for _ in range(200):
        reply = await explain(gateway, **body)
        if reply.status == 200:
            return reply.json
    raise AssertionError(reply.body)


async def test_an_open_breaker_and_a_resting_key_are_told(gateway: Gateway, openai_upstream: Upstream) -> None:
    def hold_open() -> None:
        alpha = configure.Deployment.objects.get(upstream_model="swift-1")
        alpha.breaker = "open"
        alpha.save()

    await sync_to_async(hold_open)()
    for _ in range(200):
        told = (await explain(gateway)).json
        if told["asked_first"] == "beta/sage-1":
            break
    first = told["candidates"][0]
    assert (told["chosen"], first["circuit_breaker"]) == ("alpha/swift-1", "open")
    assert first["out_of_service"] == "an operator holds its circuit breaker open"


async def test_the_tag_and_the_request_id_are_those_of_the_question(gateway: Gateway) -> None:
    told = (await explain(gateway, tag="billing", request_id="some-request")).json
    assert (told["tag"], told["request_id"]) == ("billing", "some-request")


# --- and nothing else happens -------------------------------------------------------------------------------------


async def test_nobody_is_called_and_nothing_is_on_record(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    for _ in range(3):
        assert (await explain(gateway)).status == 200
    assert (await gateway.chat()).status == 200
    await records(1)
    assert await sync_to_async(UsageRecord.objects.count)() == 1
    assert (len(openai_upstream.calls), len(anthropic_upstream.calls)) == (1, 0)


async def test_no_turn_is_taken(gateway: Gateway) -> None:
    def in_turn() -> None:
        policy = RoutingPolicy.objects.get(name="default")
        policy.strategy = "round_robin"
        policy.save()
        policy.candidates.update(group="preferred")

    await sync_to_async(in_turn)()
    while (await explain(gateway)).json["strategy"]["name"] != "round_robin":
        pass
    turns = {(await explain(gateway)).json["turn"] for _ in range(3)}
    assert len(turns) == 1
    told = (await explain(gateway)).json
    reply = await gateway.chat()
    assert reply.status == 200
    assert reply.headers["x-router-deployment"] == told["chosen"]
    assert (await explain(gateway)).json["turn"] == told["turn"] + 1


# --- who may ask --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "rp_nonsense"])
async def test_without_a_good_key_nothing_is_told(gateway: Gateway, key: str) -> None:
    reply = await explain(gateway, presented=key)
    assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")


async def test_a_key_that_may_not_chat_may_not_ask(gateway: Gateway) -> None:
    await sync_to_async(configure.key)(2, scopes=["models"])
    for _ in range(200):
        reply = await explain(gateway, presented=key_text_of(2))
        if reply.status != 401:
            break
    assert reply.status == 403


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b'{"messages": []}', "messages"),
        (b'{"messages": [{"role": "user", "content": "x"}], "draft": "one"}', "draft"),
        (b'{"messages": [{"role": "user", "content": "x"}], "policy": "none such"}', "policy"),
        (b'{"messages": [{"role": "user", "content": "x"}], "key": "abc"}', "key"),
        (b'{"messages": [{"role": "user", "content": "x"}], "tag": "' + b"x" * 201 + b'"}', "tag"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused_with_the_field(
    gateway: Gateway, body: bytes, param: str | None
) -> None:
    reply = await gateway.post(PATH, body)
    assert (reply.status, reply.error["code"]) == (400, "invalid_request")
    assert reply.error["param"] == param


async def test_drafts_are_not_for_keys(gateway: Gateway) -> None:
    assert (await explain(gateway, draft=1)).status == 403


# --- signed-in staff ----------------------------------------------------------------------------------------------


@pytest.fixture
async def ops(gateway: Gateway) -> AsyncIterator[Gateway]:
    """The gateway, asked by the session of somebody who may view policies and drafts."""
    cookies = await sync_to_async(_signed_in)(["view_routingpolicy", "view_policydraft"])
    async with aiohttp.ClientSession(cookies=cookies, headers={"x-csrftoken": cookies["csrftoken"]}) as session:
        yield _Signed(gateway.url, session, "")


class _Signed(Gateway):
    def headers(self, key: str | None = None) -> dict[str, str]:
        return {"content-type": "application/json", "origin": self.url, "referer": self.url}


def _signed_in(permissions: list[str], *, is_staff: bool = True) -> dict[str, str]:
    user = UserFactory(is_staff=is_staff)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    token = "a" * 32
    return {settings.SESSION_COOKIE_NAME: client.cookies[settings.SESSION_COOKIE_NAME].value, "csrftoken": token}


def draft_of_sage() -> PolicyDraft:
    policy = RoutingPolicy.objects.get(name="default")
    draft = PolicyDraft.objects.create(policy=policy, title="Only sage", base_version=policy.version)
    DraftCandidate.objects.create(draft=draft, alias=ModelAlias.objects.get(name="sage"))
    return draft


async def test_staff_see_what_a_draft_would_do(ops: Gateway) -> None:
    draft = await sync_to_async(draft_of_sage)()
    told = (await explain(ops, draft=draft.pk)).json
    assert (told["chosen"], [one["deployment"] for one in told["candidates"]]) == ("beta/sage-1", ["beta/sage-1"])
    assert (await explain(ops)).json["chosen"] == "alpha/swift-1"


async def test_staff_ask_for_a_key_by_its_prefix(ops: Gateway) -> None:
    def limited() -> str:
        key = VirtualKeyFactory(text=key_text_of(7))
        key.allowed_models.set([ModelAlias.objects.get(name="sage")])
        return str(key.prefix)

    prefix = await sync_to_async(limited)()
    for _ in range(200):
        reply = await explain(ops, key=prefix)
        if reply.status == 200 and reply.json["chosen"] == "beta/sage-1":
            break
    assert reply.json["chosen"] == "beta/sage-1"


async def test_an_unknown_draft_and_an_unknown_key_are_named(ops: Gateway) -> None:
    assert (await explain(ops, draft=10**30)).error["param"] == "draft"
    assert (await explain(ops, key="zzzzzzzz")).error["param"] == "key"


async def test_who_may_not_view_policies_is_refused(gateway: Gateway) -> None:
    cookies = await sync_to_async(_signed_in)([])
    async with aiohttp.ClientSession(cookies=cookies, headers={"x-csrftoken": cookies["csrftoken"]}) as session:
        assert (await explain(_Signed(gateway.url, session, ""))).status == 403


async def test_a_session_without_its_token_is_refused(gateway: Gateway) -> None:
    cookies = await sync_to_async(_signed_in)(["view_routingpolicy"])
    async with aiohttp.ClientSession(cookies=cookies) as session:
        reply = await explain(_Signed(gateway.url, session, ""))
    assert reply.status == 403
    assert "CSRF" in reply.error["message"]
