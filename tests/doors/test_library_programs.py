"""What a program does to its router: classes, classifiers and callbacks that raise, hang or talk nonsense."""

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from pytest_django import Settings

from analytics.models import UsageRecord
from routerplatform.doors.library import (
    AIModelRouter,
    BadRequestError,
    CostAlert,
    ModelConfig,
    RefusedError,
    RouterError,
    RoutingPolicy,
    TaskType,
    UnavailableError,
)
from routing.models import RoutingPolicy as PolicyRow
from tests.conftest import configure_two_vendors
from tests.gateway import records
from tests.stalls import PATIENCE_S
from tests.upstreams.scripted import Upstream, hang, openai_stream


@pytest.fixture
async def key(
    transactional_db: None, settings: Settings, tmp_path: Path, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> str:
    """An installation with `swift` and `sage`, whose default policy goes by the kind of work."""
    settings.JOURNAL_DIR = tmp_path / "journal"

    def configure() -> str:
        key = configure_two_vendors(openai_upstream.url, anthropic_upstream.url)
        PolicyRow.objects.update(strategy="task_based")
        return key

    return await sync_to_async(configure)()


@pytest.fixture
async def router(key: str) -> AsyncIterator[AIModelRouter]:
    async with AIModelRouter(api_key=key) as router:
        yield router


class Calls:
    """A provider that does what a function says."""

    def __init__(self, does: Callable[[], Any]) -> None:
        self._does = does

    async def call_model(self, model_name: str, prompt: str) -> Any:
        return self._does()


class CallsPlainly:
    def __init__(self, does: Callable[[], Any]) -> None:
        self._does = does

    def call_model(self, model_name: str, prompt: str) -> Any:
        return self._does()


class Sorts:
    def __init__(self, does: Callable[[], Any]) -> None:
        self._does = does

    def classify(self, prompt: str) -> Any:
        return self._does()


class SortsAsync:
    def __init__(self, does: Callable[[], Any]) -> None:
        self._does = does

    async def classify(self, prompt: str) -> Any:
        return self._does()


def raises(error: BaseException) -> Callable[[], Any]:
    def does() -> Any:
        raise error

    return does


# --- questions ------------------------------------------------------------------------------------------------------


async def test_what_no_json_or_database_holds_is_refused_or_cleaned(router: AIModelRouter) -> None:
    refused: list[tuple[Any, dict[str, Any]]] = [
        ("half a pair \ud83d", {}),
        ([{"role": "user", "content": "\ud800"}], {}),
        ([], {}),
        ([{}], {}),
        ("Hi", {"model": "\ud800"}),
        ("Hi", {"model": "nul\x00"}),
        ("Hi", {"model": 7}),
        ("Hi", {"persona": "\ud800"}),
        ("Hi", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("Hi", {"max_tokens": -1}),
        ("Hi", {"cache": "perhaps"}),
        ("Hi", {"metadata": object()}),
        ("Hi", {"max_cost": 0}),
        ("   ", {}),
    ]
    for prompt, said in refused:
        with pytest.raises(BadRequestError) as caught:
            await router.route(prompt, **said)
        assert caught.value.message, (prompt, said)
    told: dict[str, Any] = {"tag": "a\x00b\ud800c\n", "conversation": "\ud800\x00", "user": "u"}
    assert (await router.route("nul \x00 and all", **told))["response"] == "Hello"
    [record] = [record for record in await records(1) if record.state == "settled"]
    assert record.tag == "abc"


async def test_a_batch_has_an_error_for_each_item_that_cannot_be(router: AIModelRouter) -> None:
    odd: list[Any] = [None, 7, "", {"model": "swift"}, {"prompt": "x", "stream": True}, {"prompt": "x", "max_cost": -1}]
    batch = await router.route_batch([*odd, "fine", [{"role": "user", "content": "fine"}]], model="swift")
    codes = [one.get("error", {}).get("code") for one in batch["results"]]
    assert codes == ["invalid_request"] * 6 + [None, None]
    assert (batch["succeeded"], batch["failed"]) == (2, 6)
    assert (await router.route_batch([]))["total_cost"] == 0
    assert (await router.route_batch(prompt for prompt in ("one", "two")))["succeeded"] == 2  # type: ignore[arg-type]
    for nonsense in (None, 7, b"bytes", {"prompt": "x"}):
        with pytest.raises(BadRequestError, match="prompts is a list"):
            await router.route_batch(nonsense)  # type: ignore[arg-type]
    for parallel in (0, -1, "2", None, float("nan"), True):
        with pytest.raises(BadRequestError, match="max_parallel"):
            await router.route_batch(["one"], max_parallel=parallel)  # type: ignore[arg-type]


async def test_a_batch_asks_no_more_at_a_time_than_it_may(router: AIModelRouter) -> None:
    now, most = 0, 0

    class Counts:
        async def call_model(self, model_name: str, prompt: str) -> str:
            nonlocal now, most
            now, most = now + 1, max(most, now + 1)
            await asyncio.sleep(0.02)
            now -= 1
            return prompt

    router.providers["counts"] = Counts()
    batch = await router.route_batch([f"{n}" for n in range(9)], max_parallel=3, model="counts/m")
    assert [one["response"] for one in batch["results"]] == [f"{n}" for n in range(9)]
    assert 1 <= most <= 3
    assert (batch["total_cost"], batch["unpriced"]) == (0, 9)


# --- classes --------------------------------------------------------------------------------------------------------


async def test_whatever_a_class_answers_is_an_answer_or_a_failure_of_that_provider(router: AIModelRouter) -> None:
    """With breakers in mind: a name of its own for each."""
    cases: list[tuple[Any, str]] = [
        (lambda: b"bytes", "returned bytes"),
        (lambda: 7, "returned int"),
        (dict, "returned dict"),
        (lambda: {"text": "x", "usage": [1]}, "is no count"),
        (lambda: {"text": "x", "usage": {"output_tokens": 10**18}}, "is no count"),
        (raises(SystemExit(1)), "SystemExit"),
        (raises(KeyboardInterrupt()), "KeyboardInterrupt"),
        (raises(asyncio.CancelledError()), "cancelled itself"),
        (raises(StopIteration()), "StopIteration"),
        (raises(RuntimeError("x" * 5000)), "RuntimeError: xxx"),
    ]
    for number, (does, words) in enumerate(cases):
        router.providers[f"plain{number}"] = CallsPlainly(does)
        with pytest.raises(UnavailableError) as caught:
            await asyncio.wait_for(router.route("Hi", model=f"plain{number}/m"), PATIENCE_S)
        assert words in caught.value.message
        assert len(caught.value.message) < 600
    assert (await router.route("Hi", model="swift"))["response"] == "Hello"  # and the router is as it was


async def test_nobody_hangs_when_a_class_wants_to_end_the_program(router: AIModelRouter) -> None:
    """Without a loop of the program its coroutines run in the router's own."""
    router.providers["exit"] = Calls(raises(SystemExit(1)))
    router.providers["gone"] = Calls(raises(asyncio.CancelledError()))

    def program() -> None:
        for name, words in (("exit", "SystemExit"), ("gone", "cancelled itself")):
            with pytest.raises(UnavailableError, match=words):
                router.route_sync("Hi", model=f"{name}/m")
        assert router.route_sync("Hi", model="swift")["response"] == "Hello"

    await asyncio.wait_for(asyncio.to_thread(program), PATIENCE_S)


async def test_odd_texts_of_a_class_come_through(router: AIModelRouter) -> None:
    class Text(str):
        pass

    texts = ["", "nul \x00", "“quotes” \\ \n\r\u2028", "🦜" * 100, Text("subclass")]
    left = list(texts)
    router.providers["odd"] = Calls(lambda: left.pop(0))
    for text in texts:
        assert (await router.route("Hi", model="odd/m"))["response"] == text
    left = ["whole and ", "nul \x00"]
    router.providers["odd"] = Calls(lambda: "".join(left))
    assert "".join([piece async for piece in router.route_stream("Hi", model="odd/m")]) == "whole and nul \x00"
    router.providers["half"] = Calls(lambda: "half a pair \ud83d")
    with suppress(UnavailableError):  # nothing that could be sent to anybody: a clean text, or a failure
        (await router.route("Hi", model="half/m"))["response"].encode()


async def test_plain_classes_that_hang_hold_nobody_else_up(router: AIModelRouter) -> None:
    gate = threading.Event()
    router.providers["hangs"] = CallsPlainly(lambda: gate.wait(PATIENCE_S) and "late")
    hanging = [asyncio.create_task(router.route("Hi", model="hangs/m")) for _ in range(10)]
    try:
        async with asyncio.timeout(PATIENCE_S):
            while sum(thread.name == "program" for thread in threading.enumerate()) < 10:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        router.providers["quick"] = CallsPlainly(lambda: "quick")
        answer = await asyncio.wait_for(router.route("Hi", model="quick/m"), PATIENCE_S)
        assert answer["response"] == "quick"
        assert all(thread.daemon for thread in threading.enumerate() if thread.name == "program")
    finally:
        gate.set()
    assert {answer["response"] for answer in await asyncio.gather(*hanging)} == {"late"}


async def test_a_class_may_use_the_router_itself(router: AIModelRouter) -> None:
    class Asks:
        async def call_model(self, model_name: str, prompt: str) -> str:
            inner = await router.route(prompt, model="swift")
            return f"it said {inner['response']}"

    class AsksPlainly:
        def call_model(self, model_name: str, prompt: str) -> str:
            return str(router.route_sync(prompt, model="swift")["response"]) + "!"

    class AsksWrongly:
        async def call_model(self, model_name: str, prompt: str) -> str:
            return str(router.route_sync(prompt, model="swift"))

    router.providers.update({"asks": Asks(), "plainly": AsksPlainly(), "wrongly": AsksWrongly()})
    assert (await router.route("Hi", model="asks/m"))["response"] == "it said Hello"
    assert (await router.route("Hi", model="plainly/m"))["response"] == "Hello!"
    with pytest.raises(UnavailableError, match="deadlock"):
        await asyncio.to_thread(router.route_sync, "Hi", model="wrongly/m")
    assert await asyncio.to_thread(router.route_sync, "Hi", model="asks/m")


async def test_of_two_routers_each_has_its_own_class(key: str) -> None:
    async with AIModelRouter(api_key=key) as one, AIModelRouter(api_key=key) as other:
        one.providers["custom"] = Calls(lambda: "one")
        assert (await one.route("Hi", model="custom/m"))["response"] == "one"
        other.add_policy(TaskType.CODING, RoutingPolicy(TaskType.CODING, ["custom/m"]))
        with pytest.raises(UnavailableError, match="has none of this name here"):
            await other.route("Hi", task_type="CODING")
        other.providers["custom"] = Calls(lambda: "other")
        answers = await asyncio.gather(*[each.route("Hi", model="custom/m") for each in (one, other)])
        assert [answer["response"] for answer in answers] == ["one", "other"]
        one.registry.models["shared"] = ModelConfig("m3", "custom")
        assert "shared" in other.registry.models
    assert [record.door for record in await records(4)] == ["library"] * 4


# --- a classifier ---------------------------------------------------------------------------------------------------

CODE = "Write a Python function that sorts a list, number {}"


@pytest.mark.parametrize("kind", [Sorts, SortsAsync])
async def test_whatever_a_classifier_answers_a_request_is_answered(router: AIModelRouter, kind: Any) -> None:
    cases: list[Callable[[], Any]] = [
        lambda: None, lambda: 7, lambda: "POETRY", list, object, raises(SystemExit(1)), raises(ValueError("x")),
        raises(asyncio.CancelledError()), raises(StopIteration()), lambda: {"label": "CODING", "confidence": 7},
    ]  # fmt: skip
    for number, does in enumerate(cases):
        router.classifier = kind(does)
        asking = asyncio.to_thread(router.route_sync, CODE.format(number))  # or a program's own loop would end
        answer = await asyncio.wait_for(asking, PATIENCE_S)
        assert answer["task_type"] == "CODING", "the built-in one"
    for label in ("creative", TaskType.CREATIVE, " Creative ", {"label": "CREATIVE"}):
        router.classifier = kind(lambda label=label: label)
        assert (await router.route(f"{CODE} {label}"))["task_type"] == "CREATIVE"


async def test_a_classifier_s_coroutine_runs_in_the_program_s_loop(router: AIModelRouter) -> None:
    here, seen = asyncio.get_running_loop(), list[bool]()
    session = asyncio.Lock()

    class Asks:
        async def classify(self, prompt: str) -> str:
            seen.append(asyncio.get_running_loop() is here)
            async with session:
                await asyncio.sleep(0.01)
            return "CODING"

    router.classifier = Asks()
    answers = await asyncio.gather(*[router.route(f"Hm {number}") for number in range(4)])
    assert {answer["task_type"] for answer in answers} == {"CODING"}
    assert seen == [True] * 4
    assert (await asyncio.to_thread(router.route_sync, "Hm in a thread"))["task_type"]


async def test_a_classifier_is_an_object(router: AIModelRouter) -> None:
    for nonsense in (Sorts, len, "coding", 7, object()):
        with pytest.raises(BadRequestError, match=r"classify|Sorts\(\)"):
            router.classifier = nonsense
        assert router.classifier is None


# --- alerts ---------------------------------------------------------------------------------------------------------


async def test_no_callback_harms_a_request_or_another_callback(router: AIModelRouter) -> None:
    told, gate = asyncio.Queue[str](), threading.Event()
    here = asyncio.get_running_loop()

    async def ends(alert: CostAlert) -> None:
        raise asyncio.CancelledError

    async def told_in_loop(alert: CostAlert) -> None:
        told.put_nowait("async")

    class Told:
        async def __call__(self, alert: CostAlert) -> None:
            told.put_nowait("object")

    callbacks: list[Callable[[CostAlert], Any]] = [
        lambda alert: gate.wait(PATIENCE_S),
        lambda alert: raises(SystemExit(1))(),
        lambda alert: raises(StopIteration())(),
        print,
        ends,
        told_in_loop,
        Told(),
        lambda alert: here.call_soon_threadsafe(told.put_nowait, "plain"),
        partial(lambda give, alert: give(alert), told_in_loop),
    ]
    for callback in callbacks:
        router.alert_at(0.00001, callback)
    try:
        assert (await router.route("Hi"))["response"] == "Hello"
        async with asyncio.timeout(PATIENCE_S):
            assert sorted([await told.get() for _ in range(4)]) == ["async", "async", "object", "plain"]
        assert (await router.route("Hi"))["response"] == "Hello"
        router.alert_at(0.00002, told_in_loop)  # which is reached already
        async with asyncio.timeout(PATIENCE_S):
            assert await told.get() == "async"
    finally:
        gate.set()
    assert told.empty()


async def test_an_alert_that_has_gone_off_is_told_to_its_end(key: str) -> None:
    ended: list[float] = []

    async def tell(alert: CostAlert) -> None:
        await asyncio.sleep(0.1)
        ended.append(alert.threshold)

    async with AIModelRouter(api_key=key, cost_alert=0.00001, on_alert=tell) as router:
        router.alert_at(1000.0, tell)
        await router.route("Hi")
    assert ended == [0.00001]
    with pytest.raises(UnavailableError, match="closed"):
        router.alert_at(1.0, tell)


async def test_an_alert_at_nothing_is_refused(router: AIModelRouter) -> None:
    for usd in (0, -1, float("nan"), float("inf"), "1", None, True, 10**400):
        with pytest.raises(BadRequestError) as caught:
            router.alert_at(usd, print)  # type: ignore[arg-type]
        assert caught.value.code == "invalid_alert"
    with pytest.raises(BadRequestError):
        router.alert_at(1.0, None)  # type: ignore[arg-type]


# --- figures --------------------------------------------------------------------------------------------------------


async def test_figures_of_nothing_are_none_or_nought(key: str) -> None:
    async with AIModelRouter() as router:
        stats = router.get_stats()
        assert (stats["total_cost"], stats["requests"], stats["failed_requests"]) == (0, 0, 0)
        assert (stats["avg_latency"], stats["success_rate"], stats["model_usage"]) == (None, None, {})
        assert router.get_stats(since=datetime.now(UTC) + timedelta(days=1))["requests"] == 0
        assert router.get_stats(since=datetime.max.replace(tzinfo=UTC))["requests"] == 0
        assert router.get_stats(since=datetime.min.replace(tzinfo=UTC))["requests"] == 0
        for since in ("yesterday", 7, date(2026, 1, 1), datetime(2026, 1, 1)):  # noqa: DTZ001 - what is refused
            with pytest.raises(BadRequestError, match="time zone"):
                router.get_stats(since=since)  # type: ignore[arg-type]
        await router.route("Hi")
        assert router.get_stats()["requests"] == 1


# --- loops, threads and ends ----------------------------------------------------------------------------------------


async def test_many_threads_and_loops_share_one_router(router: AIModelRouter) -> None:
    def with_a_loop() -> str:
        return str(asyncio.run(router.route("Hi", model="swift"))["response"])

    def without() -> str:
        return str(router.route_sync("Hi", model="swift")["response"])

    async def stream() -> str:
        return "".join([piece async for piece in router.route_stream("Hi", model="sage")])

    threads = [asyncio.to_thread(work) for work in (with_a_loop, without) * 3]
    found = await asyncio.gather(*threads, stream(), asyncio.to_thread(lambda: asyncio.run(stream())))
    assert found == ["Hello"] * 6 + ["Bonjour"] * 2
    names = [f"m{number}" for number in range(5)]

    def add(name: str) -> None:
        router.registry.models[name] = ModelConfig(name, "alpha", cost_per_1k_tokens=0.001)
        router.add_policy(TaskType.CODING, RoutingPolicy(TaskType.CODING, [name]))

    await asyncio.gather(*[asyncio.to_thread(add, name) for name in names])
    assert set(names) <= set(router.registry.models)
    assert (await router.route("Hi", task_type="CODING"))["model_used"] in names


async def test_a_gather_that_is_given_up_ends_all_of_it(router: AIModelRouter, openai_upstream: Upstream) -> None:
    openai_upstream.play(*[hang()] * 4)
    many = asyncio.gather(*[router.route(f"Hi {number}", model="swift") for number in range(4)])
    await openai_upstream.asked(4)
    many.cancel()
    with pytest.raises(asyncio.CancelledError):
        await many
    assert {record.state for record in await records(4)} == {"cancelled"}
    openai_upstream.play(hang())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(router.route("Hi", model="swift"), 0.2)
    openai_upstream.play()
    assert (await router.route("Hi", model="sage"))["response"] == "Bonjour"


async def test_a_closed_router_says_so_everywhere(key: str) -> None:
    router = AIModelRouter(api_key=key)
    stream = router.route_stream("Hi")
    await asyncio.gather(router.aclose(), router.aclose(), asyncio.to_thread(router.close))
    await router.aclose()

    def add() -> None:
        router.registry.models["new"] = ModelConfig("m", "alpha")

    def provide() -> None:
        router.providers["custom"] = Calls(lambda: "x")

    def classify() -> None:
        router.classifier = Sorts(lambda: "CODING")

    policy = RoutingPolicy(TaskType.CODING, ["swift"])
    works: list[Callable[[], Any]] = [
        router.get_stats, add, provide, classify, lambda: router.add_policy(TaskType.CODING, policy),
        lambda: router.route_sync("Hi"), lambda: list(router.registry.models), lambda: router.alert_at(1.0, print),
    ]  # fmt: skip
    for work in works:
        with pytest.raises(UnavailableError) as caught:
            work()
        assert caught.value.code == "closed"
    for asked in (router.route("Hi"), anext(stream)):
        with pytest.raises(UnavailableError, match="This router is closed"):
            await asked
    batch = await router.route_batch(["one"])
    assert batch["results"][0]["error"]["code"] == "closed"
    assert router.classifier is None
    assert await UsageRecord.objects.acount() == 0


async def test_a_router_that_is_closed_before_it_is_ready_ends_in_peace(key: str) -> None:
    for _ in range(3):
        router = AIModelRouter(api_key=key)
        asking = asyncio.create_task(router.route("Hi"))
        await asyncio.sleep(0)
        await router.aclose()
        with suppress(UnavailableError):
            assert (await asking)["response"] == "Hello"
    assert not [thread for thread in threading.enumerate() if thread.name == "ai-router"]


async def test_closing_in_the_midst_of_a_stream_ends_it_with_an_error(
    router: AIModelRouter, openai_upstream: Upstream
) -> None:
    openai_upstream.play(openai_stream(*["more "] * 500, pause_s=0.02))
    stream = router.route_stream("Hi", model="swift")
    assert await anext(stream) == "more "
    closing = asyncio.create_task(router.aclose())
    with pytest.raises(RouterError, match="closed"):
        async for _ in stream:
            pass
    await closing
    [record] = await records()
    assert record.state == "cancelled"
    assert stream.result == {}


async def test_a_stream_may_be_left_in_every_state(router: AIModelRouter, openai_upstream: Upstream) -> None:
    await router.route_stream("Hi").aclose()  # nothing was asked
    assert openai_upstream.calls == []
    stream = router.route_stream("Hi", model="swift")
    assert [piece async for piece in stream] == ["Hello"]
    assert [piece async for piece in stream] == []
    await stream.aclose()
    await stream.aclose()
    assert stream.result["response"] == "Hello"
    broken = router.route_stream("Hi", model="nobody")
    with pytest.raises(BadRequestError):
        await anext(broken)
    assert broken.result == {}
    with pytest.raises(BadRequestError):
        router.route_stream(None)  # type: ignore[arg-type]


async def test_a_slow_reader_gets_every_piece(router: AIModelRouter, openai_upstream: Upstream) -> None:
    words = [f"{number} " for number in range(300)]
    openai_upstream.play(openai_stream(*words))
    said = ""
    async for piece in router.route_stream("Hi", model="swift"):
        said += piece
        if len(said) < 50:
            await asyncio.sleep(0.01)
    assert said == "".join(words)


async def test_a_child_is_told_to_make_a_router_of_its_own(router: AIModelRouter) -> None:
    """As a fork sees it, without one: another process id."""
    engine = router._engine
    engine._pid = os.getpid() + 1
    try:
        for work in (router.get_stats, lambda: router.route_sync("Hi"), lambda: router.alert_at(1.0, print)):
            with pytest.raises(UnavailableError, match="Make a new one after the fork"):
                work()
        router.close()  # does nothing to the parent's
    finally:
        engine._pid = os.getpid()
    assert (await router.route("Hi"))["response"] == "Hello"


async def test_a_router_can_be_forgotten_in_the_midst_of_anything(key: str, openai_upstream: Upstream) -> None:
    gc.disable()  # nobody has to look for them
    try:
        for _ in range(3):
            assert (await AIModelRouter(api_key=key).route("Hi"))["response"] == "Hello"
        async with asyncio.timeout(PATIENCE_S):
            while [thread for thread in threading.enumerate() if thread.name == "ai-router"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    finally:
        gc.enable()
    assert gc.get_freeze_count() == 0
    assert len(await records(3)) == 3


async def test_a_key_that_is_no_key_is_refused(key: str) -> None:
    for text in ("rp_nobody", "   ", "rp_\ud800", "rp_\x00", "x" * 100_000):
        async with AIModelRouter(api_key=text) as router:
            with pytest.raises(RefusedError) as caught:
                await router.route("Hi")
            assert caught.value.code == "invalid_api_key"
