"""The relay between the task that serves and the one that answers: whatever becomes of one, the other hears of it."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from routerplatform.doors.relay import QUEUE_LENGTH, Relay
from routerplatform.gateway.errors import GatewayError, InternalError, InvalidRequest, Unavailable
from tests.stalls import PATIENCE_S


class Source:
    """Steps as the gateway makes them: `before` of them, and then what `end` brings. It knows whether it was closed."""

    def __init__(self, before: int, end: BaseException | None = None) -> None:
        self.before, self.end, self.made = before, end, 0
        self.closed = asyncio.Event()

    async def steps(self) -> AsyncGenerator[Any, None]:
        try:
            for _ in range(self.before):
                self.made += 1
                yield []
            if self.end is not None:
                raise self.end
            await asyncio.Event().wait()
        finally:
            self.closed.set()


async def heard(relay: Relay) -> tuple[int, GatewayError | None]:
    """How many steps came, and the error behind them."""
    count = 0
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for _ in relay.steps():
                count += 1
    except GatewayError as error:
        return count, error
    return count, None


@pytest.mark.parametrize("before", [0, 1, QUEUE_LENGTH, QUEUE_LENGTH + 5])
async def test_an_error_of_the_gateway_comes_behind_all_that_was_said(before: int) -> None:
    source = Source(before, InvalidRequest("No."))
    count, error = await heard(Relay(source.steps()))
    assert (count, str(error)) == (before, "No.")
    assert source.closed.is_set()


@pytest.mark.parametrize("before", [0, 1, QUEUE_LENGTH - 1])
async def test_a_fault_that_nobody_thought_of_ends_the_answer_and_is_logged(
    before: int, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(before, ZeroDivisionError("of ours"))
    count, error = await heard(Relay(source.steps()))
    assert (count, type(error)) == (before, InternalError)
    assert "of ours" not in str(error)
    assert "an answer could not be passed on" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_a_fault_before_the_first_step_is_told_in_place_of_it() -> None:
    relay = Relay(Source(0, ZeroDivisionError()).steps())
    with pytest.raises(InternalError):
        await asyncio.wait_for(relay.opened(), PATIENCE_S)


async def test_a_reader_who_is_stopped_before_the_first_step_stops_the_gateway() -> None:
    source = Source(0)
    waiting = asyncio.create_task(Relay(source.steps()).opened())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(source.closed.wait(), PATIENCE_S)


async def test_a_reader_who_leaves_in_the_middle_stops_the_gateway() -> None:
    source = Source(3)
    steps = Relay(source.steps()).steps()
    assert await asyncio.wait_for(anext(steps), PATIENCE_S) == []
    await steps.aclose()
    await asyncio.wait_for(source.closed.wait(), PATIENCE_S)


async def test_a_slow_reader_makes_the_gateway_wait() -> None:
    source = Source(1_000)
    relay = Relay(source.steps())
    await asyncio.sleep(0.05)
    assert source.made <= QUEUE_LENGTH + 1
    relay.cancel()
    await asyncio.wait_for(source.closed.wait(), PATIENCE_S)
    count, error = await heard(relay)
    assert isinstance(error, Unavailable)  # also where the queue was full
    assert count == QUEUE_LENGTH - 1


async def test_it_may_be_stopped_any_number_of_times() -> None:
    relay = Relay(Source(0, InvalidRequest("No.")).steps())
    _, error = await heard(relay)
    assert error is not None
    relay.cancel()
    await asyncio.to_thread(relay.cancel)
    await asyncio.sleep(0)
