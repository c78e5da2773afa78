"""GET /v1/models: OpenAI's shape, and Anthropic's for clients that send anthropic-version."""

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest

from tests import gateway as configure
from tests.gateway import Gateway, Reply
from tests.gateway_path.changes import changed
from tests.upstreams.scripted import Upstream

pytestmark = pytest.mark.django_db(transaction=True)

VERSION = {"anthropic-version": "2026-10-21"}


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as made:
        yield made


async def listed(gateway: Gateway, query: str = "") -> Reply:
    url = f"{gateway.url}/v1/models{query}"
    async with gateway.session.get(url, headers={**gateway.headers(), **VERSION}) as response:
        return Reply(response.status, dict(response.headers), await response.read())


async def test_openai_clients_get_their_own_shape(gateway: Gateway) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        names = [model.id async for model in client.models.list()]
        one = await client.models.retrieve("sage")
    assert names == ["auto", "sage", "swift"]
    assert (one.id, one.object, one.owned_by) == ("sage", "model", "router")


async def test_the_anthropic_sdk_finds_every_field_that_it_requires(client: anthropic.AsyncAnthropic) -> None:
    page = await client.models.list()
    assert [model.id for model in page.data] == ["auto", "sage", "swift"]
    assert (page.first_id, page.last_id, page.has_more) == ("auto", "swift", False)
    for model in page.data:
        type(model).model_validate(model.to_dict())  # the SDK itself builds models without looking
    one = await client.models.retrieve("sage")
    assert (one.id, one.display_name, one.type, one.lifecycle) == ("sage", "sage", "model", "active")
    assert one.created_at.year == 1970


async def test_the_anthropic_sdk_turns_the_pages(client: anthropic.AsyncAnthropic) -> None:
    assert [model.id async for model in client.models.list(limit=1)] == ["auto", "sage", "swift"]
    assert [model.id async for model in client.models.list(limit=2, before_id="swift")] == ["auto", "sage"]


async def test_what_a_model_can_do_is_told_of_the_first_that_serves_it(
    gateway: Gateway, client: anthropic.AsyncAnthropic, anthropic_upstream: Upstream
) -> None:
    def add() -> None:
        able = ["streaming", "reasoning", "vision", "json_schema"]
        for number, name in enumerate(("claude-opus-4-8", "claude-haiku-4-5", "claude-fable-5")):
            [made] = configure.vendor(
                f"v{number}", anthropic_upstream.url, name, kind="anthropic-compatible", capabilities=able,
                context_window=200_000,
            )  # fmt: skip
            configure.alias(name, made)
        [plain] = configure.vendor("v9", anthropic_upstream.url, "plain", capabilities=["streaming"])
        configure.alias("plain", plain)

    await changed(gateway, add)
    told = {model.id: model async for model in client.models.list()}
    assert told["claude-opus-4-8"].max_input_tokens == 200_000
    assert thinking_of(told["claude-opus-4-8"]) == {"adaptive": True, "disabled": True, "enabled": False}
    assert thinking_of(told["claude-haiku-4-5"]) == {"adaptive": False, "disabled": True, "enabled": True}
    assert thinking_of(told["claude-fable-5"]) == {"adaptive": True, "disabled": False, "enabled": False}
    plain = told["plain"].capabilities
    assert plain
    assert not any((plain.thinking.supported, plain.image_input.supported, plain.effort.supported))
    newest = told["claude-opus-4-8"].capabilities
    assert newest
    assert newest.effort.max.supported
    assert newest.pdf_input.supported
    assert newest.structured_outputs.supported


def thinking_of(model: Any) -> dict[str, bool]:
    types = model.capabilities.thinking.types
    return {name: getattr(types, name).supported for name in ("adaptive", "disabled", "enabled")}


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?limit=0", "limit"),
        ("?limit=1001", "limit"),
        ("?limit=x", "limit"),
        ("?limit=99999999999", "limit"),
        ("?after_id=nobody", "after_id"),
        ("?before_id=nobody", "before_id"),
    ],
)
async def test_a_page_that_does_not_exist_is_refused_with_the_parameters_name(
    query: str, param: str, gateway: Gateway
) -> None:
    reply = await listed(gateway, query)
    assert (reply.status, reply.json["type"]) == (400, "error")
    assert reply.error["details"]["param"] == param


async def test_pages_say_whether_there_are_more(gateway: Gateway) -> None:
    first = (await listed(gateway, "?limit=2")).json
    assert ([row["id"] for row in first["data"]], first["has_more"]) == (["auto", "sage"], True)
    rest = (await listed(gateway, "?limit=2&after_id=sage")).json
    assert (rest["first_id"], rest["last_id"], rest["has_more"]) == ("swift", "swift", False)
    none = (await listed(gateway, "?after_id=swift")).json
    assert none == {"data": [], "first_id": None, "has_more": False, "last_id": None}


async def test_an_unknown_model_is_not_found_in_the_callers_shape(
    gateway: Gateway, client: anthropic.AsyncAnthropic
) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        await client.models.retrieve("nobody")
    assert caught.value.error_code == "model_not_found"
    plain = await gateway.get("/v1/models/nobody")
    assert (plain.status, plain.error["code"]) == (404, "model_not_found")


async def test_a_bad_key_sees_no_models(gateway: Gateway) -> None:
    reply = await gateway.get("/v1/models", key="rp_wrong")
    assert reply.status == 401
