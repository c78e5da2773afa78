"""How gRPC calls end before their answer does: deadlines, callers who leave, a gateway that stops. Nothing is lost.

Both vendors cost 1,000 nano-USD a token in and 2,000 out.
"""

import asyncio
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from analytics.models import UsageRecord
from routerplatform.doors.grpc_server import Stopping
from routerplatform.protos.ai_router_pb2 import AIRequest
from tests.gateway import records
from tests.grpc_door import Door, heard
from tests.stalls import PATIENCE_S, Stalls
from tests.upstreams.scripted import Upstream, frames, hang, openai_events

WITHIN_S = 0.5
MIDWAY = frames(*openai_events("Hello", " there")[:3], end="hang")
ASKED = AIRequest(prompt="Hello", model="swift")
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def begun(door: Door, *, stream: bool, timeout: float | None = None) -> Any:
    method = door.router.StreamingRouteRequest if stream else door.router.RouteRequest
    return method(ASKED, metadata=door.credentials(), timeout=timeout)


async def cut(upstream: Upstream) -> None:
    """Until the vendor sees its connection closed."""
    [call] = upstream.calls
    await asyncio.wait_for(call.cut.wait(), PATIENCE_S)


async def billed(state: str = "cancelled") -> UsageRecord:
    [record] = await records()
    assert (record.door, record.state, record.cost_nano > 0) == ("grpc", state, True)
    return record


# --- the caller's doing ---------------------------------------------------------------------------------------------


@STREAM
async def test_a_caller_who_cancels_ends_the_vendors_call_within_half_a_second_and_pays(
    grpc_door: Door, openai_upstream: Upstream, stalls: Stalls, stream: bool
) -> None:
    openai_upstream.play(MIDWAY if stream else hang())
    call = begun(grpc_door, stream=stream)
    if stream:
        assert (await call.read()).text == "Hello", "a piece comes while the vendor still writes"
    else:
        asyncio.ensure_future(heard(call)).add_done_callback(lambda task: task.cancelled() or task.exception())
    await openai_upstream.asked()
    watch = stalls.watch()
    call.cancel()
    await cut(openai_upstream)
    assert watch.seconds <= WITHIN_S
    record = await billed()
    assert (record.error_code, record.output_tokens > 0) == ("cancelled", stream)


@STREAM
async def test_a_deadline_ends_the_vendors_call_and_the_caller_pays_for_what_was_asked(
    grpc_door: Door, openai_upstream: Upstream, stream: bool
) -> None:
    openai_upstream.play(MIDWAY if stream else hang())
    said = await heard(begun(grpc_door, stream=stream, timeout=2))
    assert said.code is grpc.StatusCode.DEADLINE_EXCEEDED
    await cut(openai_upstream)
    await billed()


async def test_a_deadline_that_has_passed_asks_nobody(grpc_door: Door, openai_upstream: Upstream) -> None:
    assert (await heard(begun(grpc_door, stream=False, timeout=0))).code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await grpc_door.ask(model="sage")).text == "Bonjour"
    assert openai_upstream.calls == []


async def test_a_connection_that_breaks_off_is_as_if_every_call_on_it_were_cancelled(
    grpc_door: Door, openai_upstream: Upstream
) -> None:
    openai_upstream.play(MIDWAY)
    async with aio.insecure_channel(f"127.0.0.1:{grpc_door.server.port}") as channel:
        other = Door(grpc_door.runtime, grpc_door.server, channel, grpc_door.key)
        call = begun(other, stream=True)
        await call.read()
    await cut(openai_upstream)
    await billed()


async def test_callers_who_leave_while_pieces_are_written_are_no_fault_of_the_gateway(
    grpc_door: Door, openai_upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    openai_upstream.play(frames(*openai_events(*["word "] * 400), pause_s=0.001))

    async def leave_after(pieces: int) -> None:
        call = begun(grpc_door, stream=True)
        for _ in range(pieces):
            await call.read()
        call.cancel()

    await asyncio.gather(*(leave_after(pieces) for pieces in range(1, 25)))
    found = await records(24)
    assert {record.state for record in found} <= {"cancelled", "settled"}
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


# --- the gateway's doing --------------------------------------------------------------------------------------------


async def stopped(door: Door, *, drain_s: float, hurry: bool = False) -> int:
    now = asyncio.Event()
    if hurry:
        now.set()
    return await door.server.stop(Stopping(0, drain_s), now)


async def test_a_stop_lets_a_stream_finish_and_takes_no_new_calls(grpc_door: Door, openai_upstream: Upstream) -> None:
    openai_upstream.play(frames(*openai_events("Hel", "lo"), pause_s=0.3))
    answer = asyncio.create_task(heard(begun(grpc_door, stream=True)))
    await openai_upstream.asked()
    assert await stopped(grpc_door, drain_s=PATIENCE_S) == 0
    said = await answer
    assert (said.text, said.last.done) == ("Hello", True)
    late = await grpc_door.ask(model="swift")
    assert late.code is grpc.StatusCode.UNAVAILABLE
    [record] = await records()
    assert record.state == "settled"


@STREAM
async def test_what_does_not_finish_is_cut_told_to_come_again_and_settled(
    grpc_door: Door, openai_upstream: Upstream, stream: bool
) -> None:
    openai_upstream.play(MIDWAY if stream else hang())
    answer = asyncio.create_task(heard(begun(grpc_door, stream=stream)))
    await openai_upstream.asked()
    assert await stopped(grpc_door, drain_s=0.2) == 1
    said = await answer
    assert (said.code, said.info.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    assert "stopping" in said.message
    assert said.retry is not None
    await cut(openai_upstream)
    record = await billed()
    assert said.tail["x-router-decision-id"] == str(record.request_id)


async def test_a_second_signal_waits_for_nobody(grpc_door: Door, openai_upstream: Upstream) -> None:
    openai_upstream.play(hang())
    answer = asyncio.create_task(heard(begun(grpc_door, stream=False)))
    await openai_upstream.asked()
    assert await asyncio.wait_for(stopped(grpc_door, drain_s=600, hurry=True), PATIENCE_S) == 1
    assert (await answer).code is grpc.StatusCode.UNAVAILABLE


async def test_while_a_stop_is_announced_health_says_so_and_calls_are_still_taken(grpc_door: Door) -> None:
    health, hurry = HealthStub(grpc_door.channel), asyncio.Event()
    watching = health.Watch(HealthCheckRequest(service="ai_router.v1.AIRouter"))
    assert (await watching.read()).status == HealthCheckResponse.SERVING
    stopping = asyncio.create_task(grpc_door.server.stop(Stopping(PATIENCE_S, 0), hurry))
    assert (await watching.read()).status == HealthCheckResponse.NOT_SERVING
    assert (await grpc_door.ask(model="swift")).text == "Hello"
    hurry.set()
    assert await stopping == 0, "who watches does not hold the stop up"
