"""The gRPC door for tests: the real server on loopback, in the test's own loop, and a caller for it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from asgiref.sync import sync_to_async
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc import aio
from grpc_status import rpc_status

from routerplatform.doors.grpc_server import GrpcServer, Listening, Stopping
from routerplatform.gateway.build import build_runtime
from routerplatform.gateway.runtime import Runtime
from routerplatform.protos.ai_router_pb2 import AIRequest, AIResponse
from routerplatform.protos.ai_router_pb2_grpc import AIProxyStub, AIRouterStub
from routing.models import ConfigRevision
from tests.stalls import PATIENCE_S

Metadata = tuple[tuple[str, str], ...]


@dataclass
class Said:
    """What came back: the messages, the metadata before and after them, and the error where there was one."""

    messages: list[AIResponse] = field(default_factory=list)
    head: dict[str, Any] = field(default_factory=dict)
    tail: dict[str, Any] = field(default_factory=dict)
    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""
    info: ErrorInfo = field(default_factory=ErrorInfo)
    retry: RetryInfo | None = None
    fields: list[str] = field(default_factory=list)  # that the error blames

    @property
    def text(self) -> str:
        return "".join(message.text for message in self.messages)

    @property
    def last(self) -> AIResponse:
        return self.messages[-1]


@dataclass
class Door:
    """A server that listens, and a caller's end of it. `key` is presented unless a call says otherwise."""

    runtime: Runtime
    server: GrpcServer
    channel: aio.Channel
    key: str

    @property
    def router(self) -> Any:
        return AIRouterStub(self.channel)

    @property
    def proxy(self) -> Any:
        return AIProxyStub(self.channel)

    async def changed(self, edit: Callable[[], Any]) -> None:
        """Make an edit, and come back when this door serves by it, budgets included."""

        def make() -> int:
            edit()
            return ConfigRevision.objects.get(pk=1).revision

        wanted = await sync_to_async(make)()
        async with asyncio.timeout(PATIENCE_S):
            while min(self._revisions()) < wanted:  # noqa: ASYNC110 - threads of the runtime change them
                await asyncio.sleep(0.02)

    def _revisions(self) -> tuple[int, int]:
        """Of the configuration that is in force, and of its budgets."""
        return self.runtime.config.status().revision or 0, self.runtime.ledger.status().budgets_revision or 0

    def credentials(self, *more: tuple[str, str]) -> Metadata:
        return (("authorization", f"Bearer {self.key}"), *more)

    async def ask(self, request: AIRequest | bytes | None = None, *metadata: tuple[str, str], **fields: Any) -> Said:
        """One whole answer; without anything said, to “Hello”."""
        call = self.channel.unary_unary(
            "/ai_router.v1.AIRouter/RouteRequest", response_deserializer=AIResponse.FromString
        )
        return await heard(call(_bytes(request, fields), metadata=self.credentials(*metadata), timeout=60))

    async def stream(self, request: AIRequest | None = None, *metadata: tuple[str, str], **fields: Any) -> Said:
        call = self.channel.unary_stream(
            "/ai_router.v1.AIRouter/StreamingRouteRequest", response_deserializer=AIResponse.FromString
        )
        return await heard(call(_bytes(request, fields), metadata=self.credentials(*metadata), timeout=60))


def _bytes(request: AIRequest | bytes | None, fields: dict[str, Any]) -> bytes:
    if isinstance(request, bytes):
        return request
    return (request or AIRequest(**({"prompt": "Hello"} | fields))).SerializeToString()


async def heard(call: Any) -> Said:
    """All that a call leads to, whichever way it ends."""
    said = Said()
    try:
        if hasattr(call, "__aiter__"):
            async for message in call:
                said.messages.append(message)
        else:
            said.messages.append(await call)
    except aio.AioRpcError as error:
        said.code, said.message = error.code(), error.details() or ""
    said.head, said.tail = dict(await call.initial_metadata()), dict(await call.trailing_metadata())
    status = await rpc_status.aio.from_call(call)
    for detail in status.details if status else ():
        _take(said, detail)
    return said


def _take(said: Said, detail: Any) -> None:
    bad = BadRequest()
    retry = RetryInfo()
    if detail.Unpack(bad):
        said.fields = [violation.field for violation in bad.field_violations]
    elif detail.Unpack(retry):
        said.retry = retry
    else:
        assert detail.Unpack(said.info)


@asynccontextmanager
async def grpc_serving(key: str, /, **options: Any) -> AsyncIterator[Door]:
    """A gateway process's gRPC door, with a runtime of its own as in a process of its own."""
    runtime = build_runtime()
    await runtime.start()
    server = GrpcServer(runtime, Listening(**({"host": "127.0.0.1", "port": 0} | options)))
    await server.start()
    channel = aio.insecure_channel(f"127.0.0.1:{server.port}")
    try:
        yield Door(runtime, server, channel, key)
    finally:
        await channel.close()
        hurry = asyncio.Event()
        hurry.set()
        await server.stop(Stopping(0, 0), hurry)
        await runtime.close()
