"""A running demo provider and a client that sees its bytes, for the tests of the demo provider."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from providers.demo.server import running
from tests.stalls import PATIENCE_S

HEADERS = {"authorization": "Bearer any-key"}
ANTHROPIC_HEADERS = {"x-api-key": "any-key", "anthropic-version": "2023-06-01"}
Event = dict[str, Any]


@dataclass(frozen=True)
class Demo:
    """The server at `url`, and a session to speak to it."""

    url: str
    session: aiohttp.ClientSession

    def post_chat(self, prompt: str, **fields: Any) -> Any:
        """OpenAI wire; to be used with `async with`."""
        body = {"model": "demo-swift", "messages": [{"role": "user", "content": prompt}], **fields}
        return self.session.post(f"{self.url}/v1/chat/completions", json=body, headers=HEADERS)

    def post_message(self, prompt: str, **fields: Any) -> Any:
        """Anthropic wire; to be used with `async with`."""
        body = {
            "model": "demo-sage",
            "max_tokens": 4096,
            "messages": [{"role": "user", "content": prompt}],
            **fields,
        }
        return self.session.post(f"{self.url}/v1/messages", json=body, headers=ANTHROPIC_HEADERS)

    async def chat(self, prompt: str, **fields: Any) -> Any:
        async with self.post_chat(prompt, **fields) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def message(self, prompt: str, **fields: Any) -> Any:
        async with self.post_message(prompt, **fields) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def chat_events(self, prompt: str, **fields: Any) -> list[Event]:
        """The chunks of a stream; `[DONE]` becomes {"done": True}."""
        async with self.post_chat(prompt, stream=True, **fields) as response:
            assert response.status == 200, await response.text()
            return parse_events(await response.read())

    async def message_events(self, prompt: str, **fields: Any) -> list[Event]:
        async with self.post_message(prompt, stream=True, **fields) as response:
            assert response.status == 200, await response.text()
            return parse_events(await response.read())

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        async with self.session.get(f"{self.url}{path}", headers=headers) as response:
            return response.status, await response.json()

    async def bills(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = (await self.get("/demo/bills"))[1]["bills"]
        return rows

    async def last_bill(self) -> dict[str, Any]:
        """The youngest bill, once it is closed."""
        async with asyncio.timeout(PATIENCE_S):
            while (bill := (await self.bills())[-1])["state"] == "open":  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.01)
            return bill

    async def left(self, asking: Coroutine[Any, Any, Any], *, after_s: float = 0.3) -> None:
        """A request whose client gives up: so long after it came here, however long that took."""
        known = len(await self.bills())
        client = asyncio.create_task(asking)
        async with asyncio.timeout(PATIENCE_S):
            while len(await self.bills()) == known:  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.005)
        await asyncio.sleep(after_s)
        assert not client.done(), "it was answered"
        client.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client


@asynccontextmanager
async def demo_server(pace_factor: float = 0) -> AsyncIterator[Demo]:
    async with running(pace_factor=pace_factor) as url, aiohttp.ClientSession() as session:
        yield Demo(url, session)


def parse_events(data: bytes) -> list[Event]:
    """Server-sent events as dictionaries; an `event:` line must agree with the data's type."""
    events = []
    for block in data.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if line)
        if not lines:
            continue
        event = {"done": True} if lines["data"] == "[DONE]" else json.loads(lines["data"])
        assert lines.get("event", event.get("type")) == event.get("type")
        events.append(event)
    return events


def text_of(events: list[Event]) -> str:
    """The text of an OpenAI stream."""
    return "".join(
        choice["delta"].get("content") or "" for event in events for choice in event.get("choices", []) if choice
    )


def text_of_message(events: list[Event]) -> str:
    """The text of an Anthropic stream."""
    return "".join(event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta")
