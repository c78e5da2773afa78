"""A share of a policy's requests follows other rules: over HTTP, with real vendors on loopback."""

import asyncio
from collections import Counter

from asgiref.sync import sync_to_async
from django.utils import timezone

from analytics.models import UsageRecord
from analytics.services.experiments import experiments_watch
from routing.models import Experiment
from routing.services.experiments import experiment_advance, experiment_stop
from tests.gateway import Gateway, Reply, records
from tests.gateway_path.changes import changed
from tests.routing.trials import against_sage
from tests.upstreams.scripted import Upstream, status

CHALLENGER, CONTROL = "trial:challenger", "trial:control"


async def asked(gateway: Gateway, times: int, at_once: int = 20) -> list[Reply]:
    replies: list[Reply] = []
    for begin in range(0, times, at_once):
        several = (gateway.chat(model="auto") for _ in range(min(at_once, times - begin)))
        replies += await asyncio.gather(*several)
    return replies


def arms(found: list[UsageRecord]) -> Counter[str]:
    return Counter(record.arm for record in found)


async def test_a_share_of_the_requests_follows_the_challenger(gateway: Gateway) -> None:
    await changed(gateway, lambda: against_sage(kind="ab", percent=30))

    replies = await asked(gateway, 300)

    assert {reply.status for reply in replies} == {200}
    found = await records(300)
    assert set(arms(found)) == {CHALLENGER, CONTROL}
    # 99.99 % of all draws of 300 at 30 % are within 90 +- 3.9 standard deviations of 7.9
    assert 59 <= arms(found)[CHALLENGER] <= 121
    served = {(record.arm, record.deployment) for record in found}
    assert served == {(CHALLENGER, "beta/sage-1"), (CONTROL, "alpha/swift-1")}


async def test_one_side_for_all_requests_of_a_key(gateway: Gateway) -> None:
    await changed(gateway, lambda: against_sage(kind="ab", percent=50, unit="key"))

    await asked(gateway, 20)

    assert len(arms(await records(20))) == 1


async def test_everybody_follows_at_a_hundred_per_cent_and_nobody_once_it_is_stopped(gateway: Gateway) -> None:
    await changed(gateway, lambda: against_sage(kind="ab", percent=100))
    await asked(gateway, 10)

    def stop() -> None:
        experiment = Experiment.objects.get()
        assert experiment_stop(experiment=experiment, reason="enough", by=None, now=timezone.now())

    await changed(gateway, stop)
    await asked(gateway, 10)

    found = await records(20)
    assert [record.arm for record in found] == [CHALLENGER] * 10 + [""] * 10


async def test_a_growing_share_keeps_the_keys_that_were_in(gateway: Gateway) -> None:
    await changed(gateway, lambda: against_sage(kind="canary", stages=[20, 100], unit="key"))
    before = (await gateway.chat(model="auto")).status

    def grow() -> None:
        assert experiment_advance(experiment=Experiment.objects.get(), percent=100, now=timezone.now())

    await changed(gateway, grow)
    await gateway.chat(model="auto")

    assert before == 200
    first, second = await records(2)
    assert first.arm in {CHALLENGER, CONTROL}
    assert second.arm == CHALLENGER


async def test_a_guard_stops_a_challenger_that_fails_and_traffic_returns(
    gateway: Gateway, anthropic_upstream: Upstream
) -> None:
    anthropic_upstream.play(status(400))  # no breaker opens, nobody else is asked
    await changed(gateway, lambda: against_sage(kind="ab", percent=50, min_samples=10))
    await asked(gateway, 80)
    await records(80)

    await changed(gateway, lambda: experiments_watch(now=timezone.now()))

    stopped = await sync_to_async(Experiment.objects.get)()
    assert stopped.state == "stopped"
    assert stopped.stop_reason == (
        "Guard: the challenger fails 100.0 percentage points more often than the control (guard: 5)."
    )
    assert {reply.status for reply in await asked(gateway, 20)} == {200}
    assert [record.arm for record in await records(100)][-20:] == [""] * 20


async def test_a_guard_leaves_a_challenger_alone_that_does_as_well(gateway: Gateway) -> None:
    await changed(gateway, lambda: against_sage(kind="ab", percent=50, min_samples=10, guard_latency_percent=None))
    await asked(gateway, 60)
    await records(60)

    assert await sync_to_async(lambda: experiments_watch(now=timezone.now()))() == 0

    assert (await sync_to_async(Experiment.objects.get)()).state == "running"


async def test_all_turns_of_a_conversation_are_on_one_side(gateway: Gateway) -> None:
    await changed(gateway, lambda: against_sage(kind="ab", percent=50, unit="conversation"))

    async def talk(number: int) -> None:
        messages = [{"role": "user", "content": f"Question {number}"}]
        for turn in range(3):
            await gateway.chat(model="auto", messages=messages, user=str(number))
            messages = [*messages, {"role": "assistant", "content": "So."}, {"role": "user", "content": f"And {turn}?"}]

    for number in range(16):
        await talk(number)

    found = [record.arm for record in await records(48)]
    sides = [set(found[start : start + 3]) for start in range(0, 48, 3)]
    assert all(len(side) == 1 for side in sides)
    assert {next(iter(side)) for side in sides} == {CHALLENGER, CONTROL}
