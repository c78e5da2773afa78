"""`manage.py rungrpc` as a process: it starts, says that it is well, streams, and finishes what it began."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from routerplatform.embedded import free_port
from routerplatform.protos.ai_router_pb2 import AIRequest
from routerplatform.protos.ai_router_pb2_grpc import AIRouterStub
from tests.e2e.processes import PYTHON, Platform, Process, wait_until
from tests.stalls import PATIENCE_S

pytestmark = pytest.mark.e2e

SLOW = "[[tokens=20]] [[pace=50]]"  # about a second
ENDLESS = "[[tokens=2000]] [[pace=50]]"


class GrpcProcess(Process):
    """The gRPC door of a platform, started as in production but for its port."""

    def __init__(self, platform: Platform, *, drain_s: float = 30) -> None:
        self.port = free_port()
        argv = [PYTHON, "manage.py", "rungrpc", "--port", str(self.port), "--stop-announce", "0"]
        env = {
            **platform.installation.env,
            "DATABASE_URL": platform.database.url,
            "DATA_DIR": str(platform.folder),
            "JOURNAL_DIR": str(platform.journal),
        }
        super().__init__([*argv, "--stop-drain", str(drain_s)], env, platform.folder / "grpc.log")
        self.wait_for(lambda: f"port {self.port}." in self.text)


@pytest.fixture
def door(platform: Platform) -> Iterator[GrpcProcess]:
    process = GrpcProcess(platform)
    yield process
    if process.exit_code is None:
        process.stop()


def ask(door: GrpcProcess, platform: Platform, channel: aio.Channel, text: str) -> aio.UnaryStreamCall:
    request = AIRequest(model="demo-swift", prompt=text)
    who = (("authorization", f"Bearer {platform.key}"),)
    call: aio.UnaryStreamCall = AIRouterStub(channel).StreamingRouteRequest(request, metadata=who, timeout=PATIENCE_S)
    return call


async def test_it_serves_and_a_stop_signal_lets_a_stream_finish(platform: Platform, door: GrpcProcess) -> None:
    async with aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        health = await HealthStub(channel).Check(HealthCheckRequest(), timeout=PATIENCE_S)
        assert health.status == HealthCheckResponse.SERVING
        call = ask(door, platform, channel, SLOW)
        pieces = [await call.read()]
        door.ask_to_stop()
        while (piece := await call.read()) is not aio.EOF:
            pieces.append(piece)
        assert await call.code() is grpc.StatusCode.OK
        assert len(pieces) > 5, "it streams"
        assert [piece.done for piece in pieces[-2:]] == [False, True]
    assert await asyncio.to_thread(door.wait) == 0
    assert "Stopping: calls under way may finish." in door.text
    record = platform.database.records()[pieces[0].request_id]
    assert (record.door, record.state, record.output_tokens) == ("grpc", "settled", pieces[-1].usage.output_tokens)


async def test_a_second_signal_cuts_and_what_was_cut_is_on_record(platform: Platform, door: GrpcProcess) -> None:
    async with aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        call = ask(door, platform, channel, ENDLESS)
        first = await call.read()
        door.ask_to_stop()
        await asyncio.to_thread(wait_until, lambda: "Stopping" in door.text, what="the first signal is heard")
        door.ask_to_stop()
        assert await asyncio.wait_for(call.code(), PATIENCE_S) is grpc.StatusCode.UNAVAILABLE
    assert await asyncio.to_thread(door.wait) == 0
    assert "1 calls did not finish in time" in door.text
    record = platform.database.records()[first.request_id]
    assert (record.door, record.state, (record.cost_nano or 0) > 0) == ("grpc", "cancelled", True)


def test_a_second_one_on_the_same_port_says_so_and_ends(platform: Platform, door: GrpcProcess, tmp_path: Path) -> None:
    argv = [PYTHON, "manage.py", "rungrpc", "--port", str(door.port)]
    second = Process(argv, platform.installation.env | {"DATA_DIR": str(platform.folder)}, tmp_path / "second.log")
    assert second.wait() == 1
    assert f"port {door.port} cannot be listened on" in second.text
    assert "Traceback" not in second.text
