"""Classifiers of one's own: whatever they do, the request is served in time, the built-in one takes over, and it is
counted."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from providers.transport import Transport
from routerplatform.gateway.classifiers.build import PlugIns, timeout_s
from routerplatform.gateway.classifiers.dotted import MOST_THREADS
from routerplatform.gateway.classifiers.guard import ENOUGH, REST_S, GuardedPlugIn
from routerplatform.gateway.classifiers.protocol import PlugInFailure, classification_of
from routerplatform.gateway.task_classifier import TaskClassifiers
from routing.domain.classification.types import Classification, PromptText
from routing.domain.config import ClassifierSpec, ConfigSnapshot, Strategy, TaskType
from routing.trained import Trained, TrainedArtefacts
from tests.gateway_path import own_classifiers
from tests.gateway_path.own_classifiers import NONSENSE, Hanging, Moody
from tests.gateway_path.situation_parts import OWN, Clock, config_of, own_classifier, rules_of, until
from tests.upstreams.scripted import Upstream, hang, status

CONFIG = config_of(rules_of(strategy=Strategy.BEST_QUALITY))
HELLO = PromptText("Hello")


class Stand:
    """The built-in classifier of a test: everything is a simple question."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def classify(self, prompt: PromptText) -> Classification:
        self.asked.append(prompt.text)
        return Classification(TaskType.SIMPLE_QA, 0.8, known=0.4, features=(1, 2))


class Artefacts(TrainedArtefacts):
    """One whose numbers nobody had to train."""

    def __init__(self, classifier: Stand | None) -> None:
        super().__init__()
        self.classifier = classifier

    def of(self, version: str) -> Trained:
        return Trained(version or "shipped", self.classifier)


class Set:
    """Task classifiers with everything that a test looks at."""

    def __init__(
        self,
        *,
        setting: str = "",
        networks: tuple[str, ...] = (),
        built_in: bool = True,
        transport: Transport | None = None,
    ) -> None:
        self.failures: list[tuple[str, str]] = []
        self.built_in = Stand()
        self.plug_ins = PlugIns(
            transport or Transport(), lambda name, reason: self.failures.append((name, reason)), setting=setting,
            allowed_networks=networks,
        )  # fmt: skip
        self.all = TaskClassifiers(Artefacts(self.built_in if built_in else None), self.plug_ins)

    async def says(self, spec: ClassifierSpec | str, text: str = "Hello", **options: Any) -> Classification | None:
        return await self.all.classify(plugged(spec), PromptText(text), **options)

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason in self.failures]


def plugged(spec: ClassifierSpec | str) -> ConfigSnapshot:
    return replace(CONFIG, classifier=own_classifier(spec) if isinstance(spec, str) else spec)


@pytest.fixture(autouse=True)
def good_manners() -> None:
    """What classifiers of tests remember."""
    own_classifiers.asked.clear()
    Hanging.calls = 0
    Hanging.go.clear()
    Moody.is_bad = True


# --- what they may answer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "label", "confidence"),
    [
        ("Sync", "some code", TaskType.CODING, 0.9),
        ("Sync", "a poem", TaskType.CREATIVE, 0.9),
        ("Async", "what?", TaskType.SIMPLE_QA, 1.0),
        ("Attentive", "a report", TaskType.ANALYSIS, 1.0),
        ("Mapping", "a riddle", TaskType.COMPLEX_REASONING, 0.7),
        ("Unsure", "hm", TaskType.ANY, 1.0),
    ],
)
async def test_a_class_of_ones_own_says_what_kind_of_work_it_is(
    name: str, text: str, label: TaskType, confidence: float
) -> None:
    found = await Set().says(name, text)
    assert found is not None
    assert (found.label, found.confidence, found.source) == (label, confidence, "own")


async def test_the_features_that_quality_is_estimated_by_stay_the_artefacts() -> None:
    found = await Set().says("Mapping")
    assert found is not None
    assert (found.features, found.known, found.scores) == ((1, 2), 0.4, {TaskType.CODING: 0.3})
    assert found.reasons == ("it is long",)


async def test_the_settings_class_holds_where_no_row_is_active_and_a_row_goes_first() -> None:
    own = Set(setting=f"{OWN}.Attentive")
    assert own.plug_ins.spec(None) is not None
    assert own.plug_ins.spec(own_classifier("Sync")) == own_classifier("Sync")
    assert Set().plug_ins.spec(None) is None


async def test_without_a_plug_in_the_built_in_one_says_it_and_without_that_nobody() -> None:
    found = await Set().all.classify(CONFIG, HELLO)
    assert found is not None
    assert found.label is TaskType.SIMPLE_QA
    assert await Set(built_in=False).all.classify(CONFIG, HELLO) is None


@pytest.mark.parametrize("text", NONSENSE)
async def test_nonsense_is_no_answer(text: str) -> None:
    own = Set()
    found = await own.says("Nonsense", text)
    assert found is not None
    assert (found.label, own.reasons) == (TaskType.SIMPLE_QA, ["nonsense"])


def test_what_is_wrong_with_an_answer_is_said_in_words() -> None:
    with pytest.raises(PlugInFailure, match="“POETRY” is no task type"):
        classification_of("POETRY", "own")
    with pytest.raises(PlugInFailure, match="confidence is no number from 0 to 1"):
        classification_of({"label": "CODING", "confidence": -1}, "own")


# --- each text once -------------------------------------------------------------------------------------------------


async def test_an_equal_text_is_classified_once() -> None:
    own = Set()
    for text in ("one", "two", "one", "one"):
        await own.says("Attentive", text)
    assert own_classifiers.asked == ["one", "two"]
    for text in ("one", "two", "one"):
        await own.all.classify(CONFIG, PromptText(text))
    assert own.built_in.asked == ["one", "two"]


async def test_the_system_prompt_is_part_of_the_text() -> None:
    own = Set()
    for system in ("", "Be brief.", "Be brief."):
        await own.all.classify(CONFIG, PromptText("Hello", system))
    assert len(own.built_in.asked) == 2


async def test_100_equal_texts_at_once_are_one_question() -> None:
    own = Set()
    said = await asyncio.gather(*(own.says("Attentive") for _ in range(100)))
    assert {one.label for one in said if one} == {TaskType.ANALYSIS}
    assert own_classifiers.asked == ["Hello"]


async def test_only_so_many_texts_are_remembered() -> None:
    own = Set()
    few = TaskClassifiers(Artefacts(own.built_in), own.plug_ins, most=2)
    for text in ("one", "two", "three", "one"):
        await few.classify(CONFIG, PromptText(text))
    assert own.built_in.asked == ["one", "two", "three", "one"]


async def test_what_the_built_in_one_said_in_its_place_is_not_taken_for_the_plug_ins_word() -> None:
    own = Set()
    first = await own.says("Moody")
    Moody.is_bad = False
    again = await own.says("Moody")
    assert [one.label for one in (first, again) if one] == [TaskType.SIMPLE_QA, TaskType.CODING]


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Raising", "AsyncRaising", "Exiting"])
async def test_one_that_raises_is_replaced_counted_and_told(name: str, caplog: pytest.LogCaptureFixture) -> None:
    own = Set()
    found = await own.says(name)
    assert found is not None
    assert (found.label, found.source) == (TaskType.SIMPLE_QA, "linear")
    assert own.failures == [("own", "raised")]
    assert "Classifier “own” fails (raised)" in own.plug_ins.problem
    assert "The built-in one classifies." in caplog.text


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        (f"{OWN}.Nobody", "has no class “Nobody”"),
        ("no_such_package.Classifier", "No module named"),
        (f"{OWN}.WithArguments", "missing 1 required positional argument"),
        (f"{OWN}.Silent", "has no classify(prompt)"),
        (f"{OWN}.not_a_class", "has no class “not_a_class”"),
        ("Classifier", "is no dotted path of a class"),
        ("", "is no dotted path of a class"),
        ("tests..Classifier", "has no class"),
    ],
)
async def test_one_that_cannot_be_loaded_says_why(path: str, complaint: str) -> None:
    own = Set()
    found = await own.says(ClassifierSpec("own", "dotted", dotted_path=path, timeout_ms=10_000))
    assert found is not None
    assert found.label is TaskType.SIMPLE_QA
    assert complaint in own.plug_ins.problem or "No module named" in own.plug_ins.problem


async def test_one_that_is_late_does_not_keep_the_request_waiting() -> None:
    own = Set()
    spec = own_classifier("Hanging", timeout_ms=20)
    async with asyncio.timeout(10):
        found = await own.says(spec)
    assert found is not None
    assert found.label is TaskType.SIMPLE_QA
    Hanging.go.set()


async def test_one_that_hangs_gets_no_more_than_a_few_threads_and_none_while_it_rests() -> None:
    own, spec = Set(), own_classifier("Hanging", timeout_ms=300)
    said = await asyncio.gather(*(own.says(spec, f"text {number}") for number in range(20)))
    assert {one.label for one in said if one} == {TaskType.SIMPLE_QA}
    assert Hanging.calls <= MOST_THREADS
    assert set(own.reasons) <= {"late", "busy"}
    calls, failures = Hanging.calls, len(own.failures)
    assert failures >= ENOUGH
    await asyncio.gather(*(own.says(spec, f"more {number}") for number in range(20)))
    assert (Hanging.calls, len(own.failures)) == (calls, failures)
    Hanging.go.set()


async def test_one_that_does_not_let_itself_be_cancelled_is_left_behind() -> None:
    own = Set()
    async with asyncio.timeout(10):
        assert await own.says(own_classifier("Stubborn", timeout_ms=50)) is not None
    assert own.reasons in ([], ["late"])  # none, if it was still being loaded


async def guarded(name: str, clock: Clock) -> tuple[GuardedPlugIn, list[str]]:
    reasons: list[str] = []
    plug_ins = PlugIns(Transport(), lambda name, reason: None)
    plug_in = plug_ins._made(own_classifier(name))
    guard = GuardedPlugIn(
        name, plug_in, timeout_s=10.0, failed=lambda name, reason: reasons.append(reason), clock=clock
    )  # fmt: skip
    return guard, reasons


async def test_after_three_failures_in_a_row_it_rests_for_half_a_minute() -> None:
    clock = Clock()
    guard, reasons = await guarded("Moody", clock)
    for _ in range(10):
        assert await guard.classify(HELLO) is None
    assert reasons == ["raised"] * ENOUGH
    assert guard.is_resting
    clock.now += REST_S + 1
    Moody.is_bad = False
    assert (await guard.classify(HELLO)) is not None
    assert (guard.problem, guard.is_resting) == ("", False)


async def test_a_success_in_between_begins_the_row_anew() -> None:
    guard, _ = await guarded("Moody", Clock())
    for is_bad in (True, True, False, True, True):
        Moody.is_bad = is_bad
        await guard.classify(HELLO)
    assert not guard.is_resting


async def test_failures_are_logged_once_in_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    guard, reasons = await guarded("Moody", clock)
    caplog.set_level(logging.WARNING)
    for _ in range(4):
        for _ in range(ENOUGH):
            await guard.classify(HELLO)
        clock.now += REST_S + 1
    assert len(reasons) == 4 * ENOUGH
    assert sum("fails (raised)" in record.message for record in caplog.records) == 2


async def test_a_caller_who_leaves_does_not_take_the_answer_from_the_others() -> None:
    own, spec = Set(), own_classifier("Hanging")
    first = asyncio.create_task(own.says(spec))
    await until(lambda: Hanging.calls == 1)
    second = asyncio.create_task(own.says(spec))
    await asyncio.sleep(0)
    first.cancel()
    Hanging.go.set()
    found = await second
    assert found is not None
    assert (found.label, Hanging.calls) == (TaskType.CODING, 1)


# --- a web address --------------------------------------------------------------------------------------------------


@pytest.fixture
async def hook() -> AsyncIterator[Upstream]:
    upstream = Upstream(status(200, {"label": "coding", "confidence": 0.75}))
    await upstream.start()
    yield upstream
    await upstream.stop()


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    opened = Transport()
    yield opened
    await opened.close()


def at(hook: Upstream, **options: Any) -> ClassifierSpec:
    return ClassifierSpec("hook", "webhook", url=f"{hook.url}/classify", **{"timeout_ms": 10_000, **options})


LOOPBACK = ("127.0.0.0/8",)


async def test_a_web_address_is_asked_for_each_text_once(hook: Upstream, transport: Transport) -> None:
    own = Set(networks=LOOPBACK, transport=transport)
    for _ in range(3):
        found = await own.says(at(hook), "Fix this")
        assert found is not None
        assert (found.label, found.confidence, found.source) == (TaskType.CODING, 0.75, "hook")
    [call] = hook.calls
    assert (call.path, call.body) == ("/v1/classify", {"text": "Fix this", "system": ""})
    assert "authorization" not in {name.lower() for name in call.headers}


async def test_a_private_address_is_not_called_unless_the_settings_open_it(
    hook: Upstream, transport: Transport
) -> None:
    own = Set(transport=transport)
    await own.says(at(hook))
    assert (hook.calls, own.reasons) == ([], ["unreachable"])


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (status(500), "unreachable"),
        (status(302, "", {"location": "http://127.0.0.1/"}), "unreachable"),
        (status(200, "not json"), "nonsense"),
        (status(200, "[" * 60_000), "nonsense"),
        (status(200, {"label": "POETRY"}), "nonsense"),
        (status(200, '"' + "x" * 100_000 + '"'), "unreachable"),
    ],
)
async def test_a_web_address_that_answers_badly_is_replaced(
    hook: Upstream, transport: Transport, script: Any, reason: str
) -> None:
    hook.play(script)
    own = Set(networks=LOOPBACK, transport=transport)
    found = await own.says(at(hook))
    assert found is not None
    assert (found.label, own.reasons) == (TaskType.SIMPLE_QA, [reason])


async def test_a_web_address_that_says_nothing_is_given_its_time_and_no_more(
    hook: Upstream, transport: Transport
) -> None:
    hook.play(hang())
    own = Set(networks=LOOPBACK, transport=transport)
    async with asyncio.timeout(10):
        await own.says(at(hook, timeout_ms=100))
    assert own.reasons[0] in {"late", "unreachable"}


async def test_a_rehearsal_asks_no_web_address_and_knows_what_it_has_said(hook: Upstream, transport: Transport) -> None:
    own = Set(networks=LOOPBACK, transport=transport)
    rehearsed = await own.says(at(hook), is_rehearsal=True)
    assert rehearsed is not None
    assert (rehearsed.label, hook.calls) == (TaskType.SIMPLE_QA, [])
    await own.says(at(hook))
    known = await own.says(at(hook), is_rehearsal=True)
    assert known is not None
    assert (known.label, len(hook.calls)) == (TaskType.CODING, 1)


def test_over_a_network_five_milliseconds_mean_that_nobody_has_chosen() -> None:
    given: Callable[[str, int], float] = lambda kind, ms: timeout_s(  # noqa: E731
        ClassifierSpec("own", kind, timeout_ms=ms)  # type: ignore[arg-type]
    )
    assert (given("dotted", 5), given("webhook", 5), given("llm", 2_000), given("dotted", 50)) == (
        0.005,
        1.0,
        2.0,
        0.05,
    )


# --- models without anybody who pays --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llm", "embeddings"])
async def test_no_model_is_asked_unless_a_key_pays_for_it(kind: Any) -> None:
    own = Set()
    found = await own.says(ClassifierSpec("paid", kind, alias="swift"))
    assert found is not None
    assert own.failures == [("paid", "unusable")]
    assert "ROUTER_CLASSIFIER_KEY" in own.plug_ins.problem
