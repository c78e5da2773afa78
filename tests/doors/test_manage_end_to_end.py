"""From nothing to an answer by the management API alone: the gateway follows what a program has set up."""

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from routing.services.tokens import token_issue
from tests.factories import UserFactory
from tests.gateway import Gateway, Reply, records
from tests.upstreams.scripted import Upstream

BASE = "/api/v1/manage"


@sync_to_async
def a_persons_token() -> str:
    return token_issue(user=UserFactory(is_staff=True, is_superuser=True), name="terraform", is_read_only=False).secret


async def until(ask: Any, status: int) -> Reply:
    """Gateways follow within two seconds; this machine may stall."""
    for _ in range(600):
        reply: Reply = await ask()
        if reply.status == status:
            return reply
        await asyncio.sleep(0.05)
    raise AssertionError(f"still {reply.status}: {reply.body!r}")


async def test_a_program_sets_everything_up_and_an_application_asks(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    token = await a_persons_token()

    async def made(noun: str, **fields: Any) -> dict[str, Any]:
        reply = await gateway.post(f"{BASE}/{noun}", fields, key=token)
        assert reply.status == 201, reply.body
        return reply.json

    provider = await made(
        "providers", name="acme", label="Acme", kind="openai-compatible", base_url=openai_upstream.url,
        allowed_networks=["127.0.0.1/32"],
    )  # fmt: skip
    key = await made("provider-keys", provider=provider["id"], label="production", secret="sk-acme-0123456789")
    assert (key["last4"], "secret" in key) == ("6789", False)
    model = await made(
        "models", name="acme-1", label="Acme 1", vendor="Acme", capabilities=["streaming", "temperature"],
        context_window=128_000,
    )  # fmt: skip
    await made("prices", model=model["id"], input_usd="1", output_usd="2")
    deployment = await made("deployments", provider=provider["id"], model=model["id"], upstream_model="acme-1")
    await made("aliases", name="clever", deployments=[deployment["id"]])
    team = await made("teams", name="Shop", slug="shop")
    issued = await made("keys", team=team["id"], name="shop bot", scopes=["chat"])

    reply = await until(lambda: gateway.chat(key=issued["secret"], model="clever"), 200)
    assert reply.text
    assert openai_upstream.calls[-1].headers["Authorization"] == "Bearer sk-acme-0123456789"
    await records(1)
    used = (await gateway.get(f"{BASE}/usage?team={team['id']}", key=token)).json["data"]
    assert [(row["deployment"], row["door"], row["team"]) for row in used] == [
        ("acme/acme-1", "chat-completions", team["id"])
    ]
    assert used[0]["cost_usd"] is not None

    revoked = await gateway.post(f"{BASE}/keys/{issued['id']}/revoke", {}, key=token)
    assert revoked.json["state"] == "revoked"
    await until(lambda: gateway.chat(key=issued["secret"], model="clever"), 401)


@pytest.mark.parametrize("charset", ["zlib", "undefined", "utf-16", "no-such"])
async def test_json_is_utf_8_whatever_a_body_claims(gateway: Gateway, charset: str) -> None:
    """A server for real: the framework's own test client would not send it."""
    token = await a_persons_token()
    claimed = {"content-type": f"application/json; charset={charset}"}
    reply = await gateway.post(f"{BASE}/teams", {"name": "Shop", "colour": "red"}, key=token, extra=claimed)
    assert (reply.status, reply.json["error"]["param"]) == (400, "colour")
    nested = await gateway.post(f"{BASE}/teams", b'{"name":' + b"[" * 100_000, key=token, extra=claimed)
    assert (nested.status, nested.json["error"]["code"]) == (400, "invalid_request")
