"""POST /api/v1/route/explain: every body that makes no sense, drafts by permission, and an answer of one shape."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import Permission
from django.test import Client

from analytics.models import DecisionRecord, UsageRecord
from routerplatform.doors.explain import ExplainAnswerSerializer, ExplainCandidateSerializer, ExplainRequestSerializer
from routing.models import DraftCandidate, ModelAlias, PolicyDraft, RoutingPolicy
from tests import gateway as configure
from tests.factories import UserFactory, key_text_of
from tests.gateway import HELLO, Gateway, Reply

PATH = "/api/v1/route/explain"


async def explain(gateway: Gateway, *, presented: str | None = None, **body: Any) -> Reply:
    return await gateway.post(PATH, {"messages": HELLO, **body}, key=presented)


class _Signed(Gateway):
    """Asked by a session: no key is presented."""

    def headers(self, key: str | None = None) -> dict[str, str]:
        return {"content-type": "application/json", "origin": self.url, "referer": self.url}


def _session(permissions: tuple[str, ...], columns: dict[str, bool]) -> dict[str, str]:
    user = UserFactory(**{"is_staff": True} | columns)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return {settings.SESSION_COOKIE_NAME: client.cookies[settings.SESSION_COOKIE_NAME].value, "csrftoken": "a" * 32}


@asynccontextmanager
async def signed_in(gateway: Gateway, *permissions: str, **columns: bool) -> AsyncIterator[Gateway]:
    cookies = await sync_to_async(_session)(permissions, columns)
    async with aiohttp.ClientSession(cookies=cookies, headers={"x-csrftoken": "a" * 32}) as session:
        yield _Signed(gateway.url, session, "")


@pytest.fixture
async def ops(gateway: Gateway) -> AsyncIterator[Gateway]:
    async with signed_in(gateway, "view_routingpolicy", "view_policydraft") as asked:
        yield asked


def draft_of_sage(**columns: Any) -> PolicyDraft:
    policy = RoutingPolicy.objects.get(name="default")
    draft = PolicyDraft.objects.create(policy=policy, title="Only sage", base_version=policy.version, **columns)
    DraftCandidate.objects.create(draft=draft, alias=ModelAlias.objects.get(name="sage"))
    return draft


# --- bodies that make no sense --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"null", None),
        (b"[]", None),
        (b'"auto"', None),
        (b"\xff\xfe", None),
        (b'{"messages": ', None),
        (b"{}", "messages"),
        (b'{"messages": "hello"}', "messages"),
        (b'{"messages": [7]}', "messages"),
        (b'{"messages": [{"role": "user", "content": "x"}], "model": 7}', "model"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": -1}', "max_tokens"),
        (b'{"messages": [{"role": "user", "content": "x"}], "policy": 7}', "policy"),
        (b'{"messages": [{"role": "user", "content": "x"}], "policy": null}', "policy"),
        (b'{"messages": [{"role": "user", "content": "x"}], "tag": ["a"]}', "tag"),
        (b'{"messages": [{"role": "user", "content": "x"}], "request_id": 7}', "request_id"),
        (b'{"messages": [{"role": "user", "content": "x"}], "key": {}}', "key"),
        (b'{"messages": [{"role": "user", "content": "x"}], "draft": 1.5}', "draft"),
        (b'{"messages": [{"role": "user", "content": "x"}], "draft": true}', "draft"),
    ],
)
async def test_a_body_that_makes_no_sense_is_refused_as_a_chat_would_be(
    gateway: Gateway, body: bytes, param: str | None
) -> None:
    reply = await gateway.post(PATH, body)
    assert (reply.status, reply.error["code"]) == (400, "invalid_request")
    found = reply.error["param"]
    assert found == param or (param is not None and str(found).startswith(param))
    assert reply.error["message"].strip()
    assert "x-request-id" in reply.headers


async def test_the_questions_own_fields_are_no_part_of_the_request(gateway: Gateway) -> None:
    """A chat with an unknown field passes it on; a question's own fields would change the estimate otherwise."""
    bare = (await explain(gateway, request_id="one")).json
    asked = (await explain(gateway, request_id="one", policy="default", tag="t", draft=None, key="")).json
    assert asked["input_tokens"] == bare["input_tokens"]
    assert [one["estimated_cost_nano"] for one in asked["candidates"]] == [
        one["estimated_cost_nano"] for one in bare["candidates"]
    ]


async def test_a_policy_and_a_draft_at_once_is_one_too_many(ops: Gateway) -> None:
    draft = await sync_to_async(draft_of_sage)()
    reply = await explain(ops, policy="default", draft=draft.pk)
    assert (reply.status, reply.error["param"]) == (400, "draft")
    assert reply.error["message"] == "Name a policy or a draft, not both."


async def test_only_a_post_is_a_question(gateway: Gateway) -> None:
    assert (await gateway.get(PATH)).status == 405


# --- drafts, by permission ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("permissions", "columns", "status"),
    [
        ((), {}, 403),
        (("view_policydraft",), {}, 403),
        (("view_routingpolicy",), {}, 403),
        (("view_routingpolicy", "view_policydraft"), {"is_staff": False}, 403),
        (("view_routingpolicy", "view_policydraft"), {}, 200),
        ((), {"is_superuser": True}, 200),
    ],
)
async def test_a_draft_is_for_staff_who_may_view_policies_and_drafts(
    gateway: Gateway, permissions: tuple[str, ...], columns: dict[str, bool], status: int
) -> None:
    draft = await sync_to_async(draft_of_sage)()
    async with signed_in(gateway, *permissions, **columns) as asked:
        reply = await explain(asked, draft=draft.pk)
    assert reply.status == status
    if status == 200:
        assert reply.json["chosen"] == "beta/sage-1"
    else:
        assert "sage-1" not in reply.body.decode()


async def test_whether_a_draft_exists_is_not_told_to_who_may_not_see_it(gateway: Gateway) -> None:
    draft = await sync_to_async(draft_of_sage)()
    there, nowhere = await explain(gateway, draft=draft.pk), await explain(gateway, draft=987_654)
    assert (there.status, there.error["message"]) == (nowhere.status, nowhere.error["message"])


@pytest.mark.parametrize("number", [0, -1, 987_654, 2**63 - 1, 2**63, -(2**70)])
async def test_a_draft_that_does_not_exist_is_named(ops: Gateway, number: int) -> None:
    reply = await explain(ops, draft=number)
    assert (reply.status, reply.error["param"]) == (400, "draft")
    assert reply.error["message"] == f"There is no draft {number}."


async def test_a_draft_whose_rules_contradict_themselves_says_how(ops: Gateway) -> None:
    draft = await sync_to_async(draft_of_sage)(required_capabilities=["telepathy"])
    reply = await explain(ops, draft=draft.pk)
    assert (reply.status, reply.error["param"]) == (400, "draft")
    assert "telepathy" in reply.error["message"]


@pytest.mark.parametrize("state", ["draft", "review", "approved", "published", "rejected", "withdrawn"])
async def test_a_draft_in_any_state_can_be_asked_about(ops: Gateway, state: str) -> None:
    draft = await sync_to_async(draft_of_sage)(state=state)
    assert (await explain(ops, draft=draft.pk)).json["chosen"] == "beta/sage-1"


async def test_a_draft_without_models_serves_nothing_and_says_so(ops: Gateway) -> None:
    draft = await sync_to_async(draft_of_sage)()
    await sync_to_async(DraftCandidate.objects.all().delete)()
    told = (await explain(ops, draft=draft.pk)).json
    assert (told["chosen"], told["candidates"], told["problem"]["code"]) == (None, [], "no_eligible_model")


async def test_a_key_beside_a_session_is_who_asks(gateway: Gateway, ops: Gateway) -> None:
    """What a script presents is never mixed with what a browser happens to be signed in as."""
    draft = await sync_to_async(draft_of_sage)()
    headers = {"authorization": f"Bearer {gateway.key}"}
    reply = await ops.post(PATH, {"messages": HELLO, "draft": draft.pk}, extra=headers)
    assert reply.status == 403
    reply = await ops.post(PATH, {"messages": HELLO}, extra={"authorization": "Bearer rp_nonsense"})
    assert reply.status == 401


# --- keys, and what they may use ------------------------------------------------------------------------------------


async def test_a_key_that_may_not_use_a_model_is_told_so(gateway: Gateway) -> None:
    def limited() -> None:
        key = configure.VirtualKeyFactory(text=key_text_of(3))
        key.allowed_models.set([ModelAlias.objects.get(name="sage")])

    await sync_to_async(limited)()
    for _ in range(200):
        reply = await explain(gateway, presented=key_text_of(3), model="swift")
        if reply.status == 200 and reply.json["chosen"] is None:
            break
    assert (reply.json["chosen"], reply.json["problem"]["code"]) == (None, "model_not_found")
    auto = (await explain(gateway, presented=key_text_of(3))).json
    assert auto["chosen"] == "beta/sage-1"


# --- one shape ------------------------------------------------------------------------------------------------------


def fields_of(serializer: type[Any]) -> set[str]:
    return set(serializer().fields)


@pytest.mark.parametrize(
    "body", [{}, {"model": "sage"}, {"model": "none"}, {"persona": "nobody"}, {"policy": "default"}]
)
async def test_every_answer_has_all_the_documented_fields_and_no_other(gateway: Gateway, body: dict[str, Any]) -> None:
    told = (await explain(gateway, **body)).json
    assert set(told) == fields_of(ExplainAnswerSerializer)
    documented = ExplainCandidateSerializer().fields
    for one in told["candidates"]:
        assert set(one) <= set(documented)
        assert {name for name, field in documented.items() if field.required} <= set(one)


async def test_everything_that_may_be_asked_is_documented(gateway: Gateway) -> None:
    assert {"policy", "draft", "tag", "request_id", "key", "messages", "model"} <= fields_of(ExplainRequestSerializer)


async def test_the_same_question_has_the_same_answer(gateway: Gateway) -> None:
    first = (await explain(gateway, request_id="one")).json
    assert (await explain(gateway, request_id="one")).json == first


async def test_nothing_is_on_record_of_a_question_that_was_refused(gateway: Gateway) -> None:
    for body in ({"draft": 1}, {"policy": "none"}, {"model": "none"}):
        await explain(gateway, **body)
    assert await sync_to_async(UsageRecord.objects.count)() == 0
    assert await sync_to_async(DecisionRecord.objects.count)() == 0
