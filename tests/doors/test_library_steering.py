"""What a program tells its router: policies, models, a classifier, providers of its own."""

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from pytest_django import Settings

from providers.models import Provider
from routerplatform.doors.library import (
    AIModelRouter,
    BadRequestError,
    ModelConfig,
    RouterError,
    RoutingPolicy,
    SetupError,
    TaskType,
    UnavailableError,
)
from routerplatform.library.embedding import environment_of, exclusively, home_folder, logs_to
from routing.models import PolicyCandidate
from routing.models import RoutingPolicy as PolicyRow
from routing.services.rollouts import policy_edited
from tests.conftest import configure_two_vendors
from tests.gateway import records
from tests.upstreams.scripted import Upstream, openai_answer, status


@pytest.fixture
async def router(
    transactional_db: None, settings: Settings, tmp_path: Path, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> AsyncIterator[AIModelRouter]:
    """Of an installation with `swift` and `sage`, whose default policy goes by the kind of work."""
    settings.JOURNAL_DIR = tmp_path / "journal"

    def configure() -> str:
        key = configure_two_vendors(openai_upstream.url, anthropic_upstream.url)
        PolicyRow.objects.update(strategy="task_based")
        return key

    async with AIModelRouter(api_key=await sync_to_async(configure)()) as router:
        yield router


class Echo:
    def __init__(self, *answers: Any, takes_s: float = 0.0) -> None:
        self.asked: list[tuple[str, str]] = []
        self._loop = asyncio.get_running_loop()
        self._answers = list(answers)
        self._takes_s = takes_s

    async def call_model(self, model_name: str, prompt: str) -> Any:
        assert asyncio.get_running_loop() is self._loop, "where its sessions and locks belong"
        self.asked.append((model_name, prompt))
        await asyncio.sleep(self._takes_s)
        answer = self._answers.pop(0) if self._answers else f"{model_name}: {prompt}"
        if isinstance(answer, Exception):
            raise answer
        return answer


# --- policies -------------------------------------------------------------------------------------------------------


async def test_a_policy_serves_its_kind_of_work_from_then_on(router: AIModelRouter) -> None:
    policy = RoutingPolicy(TaskType.CODING, ["sage"], 0.5, 30, ["swift", "sage"])
    router.add_policy(TaskType.CODING, policy)
    answer = await router.route("Sort a list", task_type=TaskType.CODING)
    assert (answer["model_used"], answer["policy"], answer["task_type"]) == ("beta-sage-1", "library-coding", "CODING")
    assert (await router.route("Why?", task_type="simple_qa"))["policy"] == "default"
    router.add_policy("coding", RoutingPolicy("coding", ["swift"], max_cost_per_request=0.25))
    row = await PolicyRow.objects.aget(name="library-coding")
    assert (float(row.max_cost_per_request or 0), row.max_latency_ms, row.version) == (0.25, None, 2)
    assert (await router.route("Sort a list", task_type="CODING"))["model_used"] == "alpha-swift-1"


async def test_the_policy_that_serves_a_kind_of_work_today_is_the_one_that_changes(router: AIModelRouter) -> None:
    def operator() -> None:
        row = PolicyRow.objects.create(name="creative", task_type="CREATIVE")
        PolicyCandidate.objects.create(policy=row, alias_id=PolicyCandidate.objects.values_list("alias_id")[0][0])
        policy_edited(policy=row, by=None)

    await sync_to_async(operator)()
    router.add_policy(TaskType.CREATIVE, RoutingPolicy(TaskType.CREATIVE, ["sage"]))
    assert (await router.route("A poem", task_type=TaskType.CREATIVE))["policy"] == "creative"
    row = await PolicyRow.objects.aget(name="creative")
    notes = [version.note async for version in row.versions.order_by("-number")]
    assert notes[0] == "add_policy of a program"


@pytest.mark.parametrize(
    ("task", "said", "words"),
    [
        (TaskType.CODING, {"preferred_models": ["swfit"]}, "no model alias “swfit”. Did you mean “swift”?"),
        (TaskType.CODING, {"preferred_models": []}, "at least one of preferred_models"),
        (TaskType.CODING, {"preferred_models": "swift"}, "lists of names"),
        (TaskType.CODING, {"preferred_models": ["swift"], "max_latency": -1}, "max_latency is a number from 0"),
        (TaskType.CODING, {"preferred_models": ["swift"], "max_cost_per_request": float("inf")}, "is a number from 0"),
        (TaskType.CREATIVE, {"preferred_models": ["swift"]}, "made for CODING, and added for CREATIVE"),
        ("POETRY", {"preferred_models": ["swift"]}, "“POETRY” is no kind of work. There are: CODING"),
    ],
)
async def test_a_policy_that_cannot_be_is_refused_and_changes_nothing(
    router: AIModelRouter, task: Any, said: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        router.add_policy(task, RoutingPolicy(TaskType.CODING, **said))
    assert words in caught.value.message
    assert await PolicyRow.objects.acount() == 1


async def test_where_rules_are_reviewed_a_program_changes_none(router: AIModelRouter, settings: Settings) -> None:
    settings.POLICY_REVIEW = True
    with pytest.raises(BadRequestError, match="POLICY_REVIEW"):
        router.add_policy(TaskType.CODING, RoutingPolicy(TaskType.CODING, ["swift"]))


# --- models ---------------------------------------------------------------------------------------------------------


async def test_a_model_that_is_added_can_be_named_and_is_billed_as_it_says(
    router: AIModelRouter, openai_upstream: Upstream
) -> None:
    config = ModelConfig("big-1", "local", 0.002, 4096, ["SIMPLE_QA", "Private"], 1.5, base_url=openai_upstream.url)
    router.registry.models["big"] = config
    answer = await router.route("Hi", model="big")
    assert (answer["deployment"], answer["cost"]) == ("local/big-1", pytest.approx(17 * 0.000002))
    shown = router.registry.models["big"]
    assert (shown.cost_per_1k_tokens, shown.input_cost_per_1k, shown.output_cost_per_1k) == (0.002, 0.002, 0.002)
    assert (shown.max_tokens, shown.avg_latency, shown.strengths) == (4096, 1.5, ("SIMPLE_QA", "Private"))
    assert shown.is_callable
    router.registry.models["big"] = ModelConfig("big-1", "local", input_cost_per_1k=0.001, output_cost_per_1k=0.003)
    assert (await router.route("Hi", model="big"))["cost"] == pytest.approx(0.000012 + 0.000015)
    assert {"big", "swift", "sage"} <= set(router.registry.models)
    del router.registry.models["big"]
    with pytest.raises(BadRequestError, match="big"):
        await router.route("Hi", model="big")
    with pytest.raises(KeyError, match="Did you mean “swift”"):
        router.registry.models["swifty"]
    provider = await Provider.objects.aget(name="local")
    assert provider.allowed_networks == "127.0.0.1/32"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ModelConfig("m", "opnai"), "no provider “opnai”. Did you mean “openai”"),
        (ModelConfig("m", "openai"), "OPENAI_API_KEY"),
        (ModelConfig("m", "mine", base_url="ftp://10.0.0.1/v1"), "http"),
        (ModelConfig("m", "mine", base_url="http://box/v1", allowed_networks=["10.0.0.0/99"]), "10.0.0.0/99"),
        (ModelConfig("m", "alpha", cost_per_1k_tokens=-1), "from 0 on"),
        (ModelConfig("m", "alpha", cost_per_1k_tokens=float("nan")), "from 0 on"),
        (ModelConfig("m", "alpha", max_tokens=0), "max_tokens"),
        (ModelConfig("m", "alpha", capabilities=["flying"]), "flying"),
        (ModelConfig("not a name", "alpha"), "not a name"),
        ("gpt-4o", "a ModelConfig, not a str"),
    ],
)
async def test_a_model_that_cannot_be_is_refused(router: AIModelRouter, config: Any, words: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        router.registry.models["new"] = config
    assert words in caught.value.message
    assert "new" not in router.registry.models
    with pytest.raises(BadRequestError, match="“swift” stands for alpha/swift-1 already"):
        router.registry.models["swift"] = ModelConfig("other", "alpha")


# --- a classifier ---------------------------------------------------------------------------------------------------


async def test_a_classifier_of_ones_own_says_what_a_prompt_is(router: AIModelRouter) -> None:
    asked: list[str] = []

    class Plain:
        def classify(self, prompt: str) -> str:
            asked.append(prompt)
            return "coding"

    class Async:
        async def classify(self, prompt: str) -> TaskType:
            return TaskType.CREATIVE

    class Broken:
        def classify(self, prompt: str) -> TaskType:
            raise ValueError("no idea")

    router.classifier = Plain()
    assert (await router.route("Hm 1", system="Be kind."))["task_type"] == "CODING"
    assert asked == ["Hm 1"]
    router.classifier = Async()
    assert (await router.route("Hm 1"))["task_type"] == "CREATIVE"
    router.classifier = Broken()
    assert (await router.route("Hm 1"))["response"] == "Hello"
    router.classifier = None
    assert (await router.route("Write a Python function that sorts a list"))["task_type"] == "CODING"
    with pytest.raises(BadRequestError, match="classify"):
        router.classifier = "coding"


# --- providers ------------------------------------------------------------------------------------------------------


async def test_a_class_answers_like_any_vendor(router: AIModelRouter) -> None:
    usage = {"input_tokens": 100, "output_tokens": 10}
    echo = Echo({"text": "counted", "usage": usage}, "plain", "streamed")
    router.providers["custom"] = echo
    router.registry.models["parrot"] = ModelConfig("parrot-1", "custom", cost_per_1k_tokens=0.01)
    answer = await router.route("Hello", model="parrot")
    assert (answer["response"], answer["provider"]) == ("counted", "custom")
    assert answer["cost"] == pytest.approx(110 * 0.00001)
    assert (await router.route([{"role": "user", "content": "Hi"}], model="custom/any"))["response"] == "plain"
    stream = router.route_stream("Again", system="Be brief.", model="custom/any")
    assert [piece async for piece in stream] == ["streamed"]
    assert stream.result["model_used"] == "any"
    assert echo.asked == [("parrot-1", "Hello"), ("any", "Hi"), ("any", "system: Be brief.\n\nuser: Again")]
    assert [record.door for record in await records(3)] == ["library"] * 3
    assert dict(router.providers) == {"custom": echo}


async def test_what_a_class_raises_is_a_failure_of_that_provider(router: AIModelRouter) -> None:
    secret = "sk-proj-" + "a1" * 20
    router.providers["custom"] = echo = Echo()
    cases: list[tuple[Any, str]] = [
        (ValueError(f"bad key {secret}"), "custom raised ValueError: bad key"),
        (None, "return a text"),
        ({"text": "x", "usage": {"input_tokens": -1}}, "no count"),
    ]
    for answer, words in cases:
        echo._answers = [answer] * 2  # it may be asked once more
        with pytest.raises(UnavailableError) as caught:
            await router.route("Hi", model="custom/any")
        assert words in caught.value.message
        assert secret not in str(caught.value)
    router.registry.models["parrot"] = ModelConfig("parrot-1", "custom")
    router.add_policy(TaskType.CODING, RoutingPolicy(TaskType.CODING, ["parrot"], fallback_models=["sage"]))
    echo._answers = [RuntimeError("down")]
    found = await router.route("Hi", task_type="CODING")
    assert (found["model_used"], found["attempts"]) == ("beta-sage-1", 2)


async def test_a_class_that_is_late_or_gone_is_passed_over(router: AIModelRouter) -> None:
    class Slow:
        def call_model(self, model_name: str, prompt: str) -> str:
            time.sleep(1.5)
            return "late"

    router.providers["slow"] = Slow()
    router.registry.models["snail"] = ModelConfig("snail-1", "slow")
    assert (await router.route("Hi", model="snail"))["response"] == "late"
    await Provider.objects.filter(name="slow").aupdate(timeout_s=0.2)
    router.registry.models["snail"] = ModelConfig("snail-1", "slow", avg_latency=1.0)  # which has the edit noticed
    with pytest.raises(RouterError, match=r"no answer from slow within 0\.2 s"):
        await router.route("Hi", model="snail")
    del router.providers["slow"]
    router.registry.models["snail"] = ModelConfig("snail-1", "slow", avg_latency=2.0)
    with pytest.raises(RouterError, match=r"router\.providers has none of this name here"):
        await router.route("Hi", model="snail")


async def test_a_name_that_belongs_to_a_vendor_cannot_be_a_class(router: AIModelRouter) -> None:
    for name, words in (("alpha", "another provider"), ("openai", "another provider"), ("No Name", "cannot be")):
        with pytest.raises(BadRequestError, match=words):
            router.providers[name] = Echo()
    with pytest.raises(BadRequestError, match="call_model"):
        router.providers["custom"] = object()
    with pytest.raises(BadRequestError, match=r"Echo\(\)"):
        router.providers["custom"] = Echo
    assert list(router.providers) == []


async def test_the_breaker_holds_for_a_class_too(router: AIModelRouter, openai_upstream: Upstream) -> None:
    router.providers["custom"] = echo = Echo(*[OSError("down")] * 20)
    codes = []
    for _ in range(7):
        with pytest.raises(UnavailableError) as caught:
            await router.route("Hi", model="custom/any")
        codes.append(caught.value.code)
    assert codes[-1] == "circuit_open"
    assert len(echo.asked) <= 6
    openai_upstream.play(status(500), openai_answer("up again"))
    assert (await router.route("Hi", model="swift"))["response"] == "up again"


# --- the folder -----------------------------------------------------------------------------------------------------


def test_a_folder_keeps_its_secrets_and_lets_no_strange_setting_in(tmp_path: Path) -> None:
    home = home_folder({"AI_ROUTER_HOME": str(tmp_path / "a" / "b"), "DATA_DIR": "/nowhere"})
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    strange = {"DATABASE_URL": "postgresql://x", "REDIS_URL": "redis://x", "SECRET_KEY": "short", "DEBUG": "true"}
    with exclusively(home):
        first = environment_of(home, {**strange, "OPENAI_API_KEY": "sk-1", "AI_ROUTER_TIMEOUT": "3"})
        second = environment_of(home, {})
    assert first["OPENAI_API_KEY"] == "sk-1"
    assert first["DATA_DIR"] == str(home)
    assert not {"DATABASE_URL", "REDIS_URL", "DEBUG"} & set(first)
    assert first["SECRET_KEY"] == second["SECRET_KEY"] != "short"
    (home / "secrets").chmod(0o640)
    with exclusively(home), pytest.raises(SetupError, match="chmod 600"):
        environment_of(home, {})


def test_a_folder_or_log_level_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for named in (str(tmp_path / "file" / "x"), str(tmp_path / "file"), "~nobody-of-this-name/x"):
        with pytest.raises(SetupError, match="AI_ROUTER_HOME"):
            home_folder({"AI_ROUTER_HOME": named})
    if os.geteuid():
        with pytest.raises(SetupError, match="cannot be written"):
            home_folder({"AI_ROUTER_HOME": "/"})
    with pytest.raises(SetupError, match="“LOUD”, but must be one of"):
        logs_to("LOUD")
