"""A gateway of our own for tests: the real application behind a real server on loopback, and a caller for it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp
import uvicorn
from asgiref.sync import sync_to_async

from analytics.models import UsageRecord
from providers.models import Deployment
from routing.models import ModelAlias, RoutingPolicy, Team
from tests.factories import (
    CatalogueModelFactory,
    DeploymentFactory,
    ModelAliasFactory,
    PriceFactory,
    ProviderFactory,
    ProviderKeyFactory,
    RoutingPolicyFactory,
    VirtualKeyFactory,
    key_text_of,
)

HELLO = [{"role": "user", "content": "Hello"}]
ALL_CAPABILITIES = [
    "streaming", "tool_calling", "vision", "json_mode", "json_schema", "reasoning", "temperature",
]  # fmt: skip


@dataclass
class Reply:
    """What came back. `events` are the `data:` payloads of a stream; `text` is the answer's own text."""

    status: int
    headers: dict[str, str]
    body: bytes
    events: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False  # the stream ended with [DONE]

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    @property
    def text(self) -> str:
        if not self.events:
            return str(self.json["choices"][0]["message"]["content"])
        choices = [event["choices"][0] for event in self.events if event.get("choices")]
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    @property
    def error(self) -> dict[str, Any]:
        """The error of a refused request, or of a stream that broke."""
        found: dict[str, Any] = next((e["error"] for e in self.events if "error" in e), {}) or self.json["error"]
        return found


@dataclass
class Gateway:
    """A running gateway. `key` is presented unless a call says otherwise."""

    url: str
    session: aiohttp.ClientSession
    key: str

    async def chat(self, *, key: str | None = None, **body: Any) -> Reply:
        return await self.post("/v1/chat/completions", {"messages": HELLO, **body}, key=key)

    async def stream(self, **body: Any) -> Reply:
        return await self.chat(stream=True, **body)

    async def post(
        self, path: str, body: dict[str, Any] | bytes, *, key: str | None = None, extra: dict[str, str] | None = None
    ) -> Reply:
        """`extra` are headers."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {**self.headers(key), **(extra or {})}
        async with self.session.post(self.url + path, data=data, headers=headers) as response:
            return _reply(response, await response.read())

    async def get(self, path: str, *, key: str | None = None) -> Reply:
        async with self.session.get(self.url + path, headers=self.headers(key)) as response:
            return _reply(response, await response.read())

    def headers(self, key: str | None = None) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key if key is None else key}", "content-type": "application/json"}


def _reply(response: aiohttp.ClientResponse, body: bytes) -> Reply:
    reply = Reply(response.status, {name.lower(): value for name, value in response.headers.items()}, body)
    if response.content_type == "text/event-stream":
        for line in body.decode().splitlines():
            if line == "data: [DONE]":
                reply.done = True
            elif line.startswith("data: "):
                reply.events.append(json.loads(line[6:]))
    return reply


class Server(uvicorn.Server):
    """uvicorn, but for its pauses: it looks ten times a second whether it should end, and then lets a tenth pass."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.leave = asyncio.Event()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # which renews the Date header
            with suppress(TimeoutError):
                await asyncio.wait_for(self.leave.wait(), 1.0)
                return

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """In the order of uvicorn's own: no new connections, the open ones finish, then the application ends."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - uvicorn's own sets
                    await asyncio.sleep(0.002)
                for server in self.servers:
                    await server.wait_closed()
        except TimeoutError:
            for task in self.server_state.tasks:
                task.cancel()
        await self.lifespan.shutdown()


@asynccontextmanager
async def serving(application: Any, *, lifespan: Literal["on", "off"] = "on") -> AsyncIterator[str]:
    """Run `application` behind uvicorn in this very loop; yields its base URL."""
    config = uvicorn.Config(
        application, host="127.0.0.1", port=0, log_level="error", ws="websockets-sansio", lifespan=lifespan,
        timeout_graceful_shutdown=5, access_log=False,
    )  # fmt: skip
    server = Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        if task.done():
            await task
            raise AssertionError("the server did not start")
        await asyncio.sleep(0.001)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.leave.set()
        await task


# --- configuration, as an operator would enter it -----------------------------------------------------------------


def vendor(name: str, url: str, *models: str, kind: str = "openai-compatible", **options: Any) -> list[Deployment]:
    """A provider at a loopback address with a key, and a priced deployment ($1 in, $2 out per 1M) for each model.

    `capabilities`, `context_window` and `priced` go to the models, everything else to the provider.
    """
    model_options = {"capabilities": options.pop("capabilities", ALL_CAPABILITIES)}
    if "context_window" in options:
        model_options["context_window"] = options.pop("context_window")
    priced = options.pop("priced", True)
    provider = ProviderFactory(name=name, kind=kind, base_url=url, allowed_networks="127.0.0.1/32", **options)
    ProviderKeyFactory(provider=provider, secret=f"sk-{name}-0001")
    deployments = []
    for model_name in models:
        model = CatalogueModelFactory(name=f"{name}-{model_name}", **model_options)
        deployments.append(DeploymentFactory(provider=provider, model=model, upstream_model=model_name))
        if priced:
            PriceFactory(model=model)
    return deployments


def alias(name: str, *deployments: Deployment) -> ModelAlias:
    made: ModelAlias = ModelAliasFactory(name=name, deployments=list(deployments))
    return made


def policy(
    name: str, *, preferred: list[ModelAlias], fallbacks: list[ModelAlias] | None = None, **options: Any
) -> RoutingPolicy:
    made: RoutingPolicy = RoutingPolicyFactory(name=name, preferred=preferred, fallbacks=fallbacks or [], **options)
    return made


def key(number: int, team: Team | None = None, **options: Any) -> str:
    """Issue virtual key `number`; returns its text."""
    text = key_text_of(number)
    extra = {"team": team} if team else {}
    VirtualKeyFactory(text=text, **extra, **options)
    return text


async def records(count: int = 1) -> list[UsageRecord]:
    """All usage records, oldest first, as soon as there are `count`: they are shipped a moment after the answer."""
    for attempt in range(320):  # half a minute
        found = await sync_to_async(lambda: list(UsageRecord.objects.order_by("started_at")))()
        if len(found) >= count:
            return found
        await asyncio.sleep(0.01 if attempt < 20 else 0.1)
    raise AssertionError(f"{count} records were expected, {len(found)} came")
