"""The gRPC door: its methods. Each turns a call into a `Call` of the pipeline, and the steps of its answer into
messages.

Every method is registered as one that reads a stream, though callers send one message: on the wire that is the same,
and it lets the door look at the key before it takes in what may be 20 MiB.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import grpc
from google.protobuf import json_format

from analytics.domain.idempotency import MAX_KEY_LENGTH, claim_of, is_key
from providers.domain.answer import Frame
from providers.domain.types import ChatRequest
from routerplatform.doors.grpc_answers import AnswerWriter
from routerplatform.doors.grpc_calls import Context, Outlet, Recorder, RpcCall, Wire, parsed, tell_again
from routerplatform.doors.grpc_requests import chat_request, hints_in
from routerplatform.doors.grpc_under_way import CallsUnderWay
from routerplatform.doors.headers import bill_headers, route_headers
from routerplatform.doors.provider_status import provider_rows
from routerplatform.gateway.errors import InvalidRequest, ModelNotFound
from routerplatform.gateway.pipeline import Call, current_config, serve
from routerplatform.gateway.response_cache import HEADER as CACHE_HEADER
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.steps import Closed, Opened
from routerplatform.protos.ai_router_pb2 import (
    DESCRIPTOR,
    AIRequest,
    HealthCheckRequest,
    HealthCheckResponse,
    ProviderStatus,
    ProviderStatusRequest,
    ProviderStatusResponse,
)
from routing.domain.config import Scope

DOOR: Final = "grpc"
ROUTER = DESCRIPTOR.services_by_name["AIRouter"].full_name
PROXY = DESCRIPTOR.services_by_name["AIProxy"].full_name

Method = Callable[[RpcCall], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RouterService:
    """Answers calls on one runtime."""

    runtime: Runtime
    under_way: CallsUnderWay = field(default_factory=CallsUnderWay)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """What the library calls, for every method of the two services."""
        whole, piecewise = partial(self._ask, stream=False), partial(self._ask, stream=True)
        return [
            self._service(ROUTER, {"RouteRequest": whole, "StreamingRouteRequest": piecewise}),
            self._service(
                PROXY,
                {
                    "Complete": whole,
                    "StreamComplete": piecewise,
                    "HealthCheck": self._health,
                    "GetProviderStatus": self._provider_status,
                },
            ),
        ]

    def _service(self, name: str, methods: dict[str, Method]) -> grpc.GenericRpcHandler:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            method: grpc.stream_stream_rpc_method_handler(self._handler(f"/{name}/{method}", answer))
            for method, answer in methods.items()
        }
        return grpc.method_handlers_generic_handler(name, handlers)

    def _handler(self, path: str, answer: Method) -> Callable[[object, Context], Awaitable[None]]:
        async def handle(_: object, context: Context) -> None:
            call = RpcCall(context, path)
            async with self.under_way.told(call), asyncio.timeout(context.time_remaining()):
                await answer(call)

        return handle

    # --- asking a model ---

    async def _ask(self, call: RpcCall, *, stream: bool) -> None:
        outlet: Outlet = Wire(call.context)
        value = call.said("idempotency-key")
        if not value:
            await self._answer(call, outlet, call.read, stream=stream)
            return
        caller = self.runtime.authenticator.caller(
            current_config(self.runtime), call.credential(), now=self.runtime.now(), scope=Scope.CHAT
        )
        if not is_key(value):
            raise InvalidRequest(
                f"An Idempotency-Key is 1 to {MAX_KEY_LENGTH} printable ASCII characters.", param="idempotency-key"
            )
        raw = await call.read()
        claim = claim_of(
            value, key_id=caller.key_id, method=DOOR, path=call.method, body=raw, request_id=call.request_id
        )
        kept = await self.runtime.idempotency.claim(claim)
        if kept is not None:
            await tell_again(outlet, kept)
            return

        async def read_before() -> bytes:
            return raw

        recorder = Recorder(outlet, self.runtime.idempotency, claim)
        try:
            await self._answer(call, recorder, read_before, stream=stream)
        finally:
            await recorder.end()

    async def _answer(
        self, rpc: RpcCall, outlet: Outlet, read_message: Callable[[], Awaitable[bytes]], *, stream: bool
    ) -> None:
        hints = rpc.hints()

        async def read() -> ChatRequest:
            said = parsed(AIRequest, await read_message())
            hints.update(hints_in(said))
            return chat_request(said, stream=stream)

        call = Call(
            rpc.request_id, DOOR, rpc.credential(), rpc.began, read, rpc.bill.append,
            rpc.said(CACHE_HEADER), rpc.said("traceparent"), hints,
        )  # fmt: skip
        frames: list[Frame] = []
        async with aclosing(serve(self.runtime, call)) as steps:
            opened = await anext(steps)
            assert isinstance(opened, Opened)
            writer = AnswerWriter(rpc.request_id, opened)
            about = [(b"x-request-id", rpc.request_id.encode()), *route_headers(opened, rpc.request_id)]
            await outlet.begin(about)
            async for step in steps:
                match step:
                    case Closed():
                        message = writer.last([*frames, *step.frames], step.entry)
                        await outlet.finish(message, bill_headers(step.entry))
                    case list() if stream:
                        piece = writer.piece(step)
                        if piece is not None:
                            await outlet.say(piece)
                    case list():
                        frames += step

    # --- about the gateway ---

    async def _health(self, call: RpcCall) -> None:
        parsed(HealthCheckRequest, await call.read())
        problem = self.runtime.problem()
        answer = HealthCheckResponse(
            status=HealthCheckResponse.STATUS_NOT_SERVING if problem else HealthCheckResponse.STATUS_SERVING,
            config_revision=self.runtime.config.status().revision,
            problem=problem,
        )
        await call.context.write(answer.SerializeToString())

    async def _provider_status(self, call: RpcCall) -> None:
        rows = provider_rows(self.runtime, call.credential())
        wanted = parsed(ProviderStatusRequest, await call.read()).provider
        found = [row for row in rows if wanted in ("", row["name"])]
        if wanted and not found:
            raise ModelNotFound(f"There is no provider “{wanted[:60]}” with a deployment.", param="provider")
        answer = ProviderStatusResponse(
            providers=[json_format.ParseDict(row, ProviderStatus(), ignore_unknown_fields=True) for row in found]
        )
        await call.context.write(answer.SerializeToString())
