"""A gateway in front of the demo provider, with a provider of every kind at the path that its vendor has."""

import asyncio
import json
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async

from analytics.models import UsageRecord
from providers.domain.types import Capability, Operation, Wire
from providers.models import Deployment, Provider
from providers.registry import PROVIDER_KINDS
from tests import gateway as configure
from tests.factories import CatalogueModelFactory, DeploymentFactory, PriceFactory
from tests.gateway import Gateway, Reply

EMBEDS = "-embeds"  # behind a kind's name: its alias for embeddings
CAPABILITIES = [capability.value for capability in Capability if capability is not Capability.EMBEDDINGS]

FAILURES = (AssertionError, LookupError, RuntimeError, TypeError, ValueError)  # what a cell that is wrong may raise


def brief(error: BaseException) -> str:
    """The cause in one line, for a list of many."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


@dataclass
class Grid(Gateway):
    """A gateway with an alias for every kind; `vendor` is the demo provider's own address."""

    vendor: str = ""

    async def post_large(self, path: str, body: dict[str, Any]) -> Reply:
        """A body that aiohttp wants to have as a file."""
        data = BytesIO(json.dumps(body).encode())
        async with self.session.post(self.url + path, data=data, headers=self.headers()) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, headers, await response.read())

    async def bills(self, *request_ids: str) -> list[dict[str, Any]]:
        """What the vendor billed for these requests, attempt by attempt."""
        wanted = [("request_id", request_id) for request_id in request_ids]
        async with self.session.get(f"{self.vendor}/demo/bills", params=wanted) as response:
            rows: list[dict[str, Any]] = (await response.json())["bills"]
            return rows

    async def records(self, request_ids: set[str]) -> dict[str, UsageRecord]:
        """The usage records of these requests by id, as soon as all are there: they are shipped a moment later."""
        found: dict[str, UsageRecord] = {}
        for _ in range(600):
            rows = await sync_to_async(lambda: list(UsageRecord.objects.filter(pk__in=request_ids)))()
            found = {str(row.request_id): row for row in rows}
            if found.keys() == request_ids:
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"{len(request_ids) - len(found)} of {len(request_ids)} records did not come")


def chat_wire(kind: str) -> Wire | None:
    """What a request of another wire is translated to for this kind."""
    return next((wire for wire in PROVIDER_KINDS[kind].wires if wire.operation is Operation.CHAT), None)


# A kind for each API that a chat can be translated to, and one that takes legacy completions as they are.
ONE_OF_EACH = {
    "openai-compatible": Wire.OPENAI,
    "perplexity": Wire.OPENAI_RESPONSES,
    "anthropic": Wire.ANTHROPIC,
    "gemini": Wire.GEMINI,
    "cohere": Wire.COHERE,
    "ollama": Wire.OLLAMA,
    "vllm": Wire.OPENAI_COMPLETIONS,
}


def embeds(kind: str) -> bool:
    return any(wire.operation is Operation.EMBEDDINGS for wire in PROVIDER_KINDS[kind].wires)


def install(vendor: str) -> str:
    """Everything, with prices of $1 in and $2 out per million tokens; returns a key.

    Breakers stay closed: what fails in one cell shall not be felt in the next.
    """
    for kind, known in PROVIDER_KINDS.items():
        url = vendor + urlsplit(known.base_url or known.example_url).path
        [chat] = configure.vendor(kind, url, "demo-swift", kind=kind, capabilities=CAPABILITIES)
        configure.alias(kind, chat)
        if embeds(kind):
            configure.alias(kind + EMBEDS, _embedder(chat.provider))
    Deployment.objects.update(breaker="closed")
    return configure.key(1)


def _embedder(provider: Provider) -> Any:
    name, capabilities = f"{provider.name}-demo-embed", [Capability.EMBEDDINGS.value]
    model = CatalogueModelFactory(name=name, capabilities=capabilities, max_output_tokens=None)
    PriceFactory(model=model)
    return DeploymentFactory(provider=provider, model=model, upstream_model="demo-embed")
