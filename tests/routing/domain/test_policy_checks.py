from dataclasses import replace
from typing import Any

import pytest

from providers.domain.types import Capability
from routing.domain.classification.types import QualityEstimate, QualityQuestion
from routing.domain.config import BY_QUALITY, Candidate, Policy, Strategy, TaskType
from routing.domain.documents import CandidateDocument as Model
from routing.domain.documents import LadderDocument, PolicyDocument
from routing.domain.policy_checks import Place, complaints
from tests.routing.domain import build

FAST = build.alias("fast", build.deployment(1))
SMART = build.alias("smart", replace(build.deployment(2), endpoint=build.endpoint(region="eu")))
DUMB = build.alias("dumb", build.deployment(3, capabilities=frozenset({Capability.STREAMING}), context_window=100))
EMPTY = build.alias("empty")
VECTORS = build.alias("vectors", build.deployment(4, capabilities=frozenset({Capability.EMBEDDINGS})))
BOTH = (Model("fast"), Model("smart"))


def place(*policies: Policy, **options: Any) -> Place:
    snapshot = build.snapshot(FAST, SMART, DUMB, EMPTY, VECTORS, policies=policies)
    return Place(snapshot, policy_id=1, name="everyday", **options)


def said(at: Place | None = None, **rules: Any) -> list[str]:
    document = PolicyDocument(**{"candidates": BOTH} | rules)
    return [str(one) for one in complaints(document, at or place())]


def test_plain_rules_have_nothing_against_them() -> None:
    assert said() == []
    assert said(strategy="weighted") == []


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        ((), "It has no models, so it can serve nothing. Add one."),
        (
            (Model("empty"), Model("switched-off")),
            "None of its models has an active deployment (empty, switched-off). Add another model, or switch a "
            "deployment on.",
        ),
    ],
)
def test_without_an_active_model_nothing_is_served(candidates: tuple[Model, ...], expected: str) -> None:
    assert said(candidates=candidates) == [expected]


def test_a_policy_may_be_for_embeddings_alone_unless_a_persona_chats_by_it() -> None:
    vectors = (Model("vectors"),)
    assert said(candidates=vectors) == []
    chatty = place(personas=(build.persona("analyst", build.policy("everyday")),))
    assert "It leaves the persona “analyst” without any model: vectors" in said(chatty, candidates=vectors)[0]


def test_an_unknown_capability_task_or_strategy_is_named() -> None:
    assert "telepathy" in said(required=("telepathy",))[0]
    assert "JUGGLING" in said(task_type="JUGGLING")[0]
    assert "dice" in said(strategy="dice")[0]
    assert "mood" in said(escalate_on=("mood",))[0]


def test_weights_that_are_all_zero_share_nothing_out() -> None:
    zero = (Model("fast", weight=0), Model("smart", is_fallback=True))
    assert "weight 0" in said(candidates=zero, strategy="weighted")[0]
    assert said(candidates=zero) == []  # in order, weights mean nothing


def test_a_model_that_stands_twice_is_named() -> None:
    assert said(candidates=(Model("fast"), Model("fast", is_fallback=True)))[0].startswith("“fast” stands here twice")


def test_the_steps_of_a_budget_have_to_rise() -> None:
    assert "80 %, 70 %" in said(ladder=LadderDocument(cap_at=80, refuse_at=70))[0]
    assert said(ladder=LadderDocument(cap_at=80, refuse_at=81)) == []


def test_a_region_without_a_provider_is_named_with_those_there_are() -> None:
    assert said(regions=("mars",)) == ["No active provider is in the region “mars”. There are: eu."]
    assert said(regions=("eu",)) == []


def test_a_floor_that_nobody_reaches_names_the_best() -> None:
    [text] = said(strategy="lowest_cost", quality_floor=0.9)
    assert text == ("No model reaches the quality floor of 0.9: the best, smart, is expected at 0.75. Lower it.")
    assert said(strategy="lowest_cost", quality_floor=0.75) == []
    assert said(strategy="priority", quality_floor=0.9) == []  # which does not look at it


def test_a_floor_is_reached_by_whoever_does_one_kind_of_work_well() -> None:
    def graded(question: QualityQuestion) -> QualityEstimate:
        is_coding = question.task is not None and question.task.label is TaskType.CODING
        return QualityEstimate(0.95 if is_coding else 0.4, 200, "graded")

    assert said(place(quality=graded), strategy="best_quality", quality_floor=0.9) == []


def test_a_persona_that_no_model_can_serve_is_named_with_the_reasons() -> None:
    seer = build.persona("seer", build.policy("everyday"), required=frozenset({Capability.VISION}))
    assert said(place(personas=(seer,)), candidates=(Model("dumb"),)) == [
        "It leaves the persona “seer” without any model: dumb (alpha/model-3): cannot do vision."
    ]
    assert said(place(personas=(seer,)), candidates=(Model("dumb"), Model("fast", is_fallback=True))) == []


def test_a_prompt_of_a_persona_has_to_fit() -> None:
    wordy = build.persona("wordy", build.policy("everyday"))
    wordy = replace(wordy, defaults=replace(wordy.defaults, system_prompt="word " * 1000))
    [text] = said(place(personas=(wordy,)), candidates=(Model("dumb"),))
    assert "over its context of 100" in text


def test_auto_is_asked_for_like_a_persona() -> None:
    [text] = said(place(is_default=True), required=("vision",), candidates=(Model("dumb"),))
    assert text.startswith("It leaves “auto” without any model: dumb")


def test_a_ceiling_below_the_smallest_request_leaves_nobody() -> None:
    [text] = said(max_cost_nano=1)
    assert text.startswith("It leaves every request without any model: fast (alpha/model-1): estimated")


def by_task(name: str, number: int, task: TaskType, *own: TaskType) -> Policy:
    """A policy that goes by the kind of work, is made for `task`, and prefers a model of its own for those in `own`."""
    return Policy(
        id=number,
        name=name,
        task_type=task,
        candidates=tuple(Candidate(FAST, False, 1, one) for one in own or (TaskType.ANY,)),
        required=frozenset(),
        strategy=Strategy.TASK_BASED,
    )


def test_policies_that_hand_over_in_a_circle_are_refused() -> None:
    coding = by_task("coding", 2, TaskType.CODING)
    [text] = said(place(coding), strategy="task_based", task_type="ANALYSIS")
    assert text.startswith(
        "Policies hand over in a circle: “everyday” hands coding over to “coding”, “coding” hands analysis over to "
        "“everyday”."
    )


def test_a_circle_of_three_is_found() -> None:
    coding, creative = (
        by_task("coding", 2, TaskType.CODING, TaskType.ANALYSIS),
        by_task("creative", 3, TaskType.CREATIVE),
    )
    own = (Model("fast", task_type="CREATIVE"), Model("smart"))
    [text] = said(place(coding, creative), strategy="task_based", task_type="ANALYSIS", candidates=own)
    assert text.count("hands") == 3


@pytest.mark.parametrize(
    "rules",
    [
        {"strategy": "priority", "task_type": "ANALYSIS"},
        {"strategy": "task_based"},  # made for nothing in particular: nobody hands over to it
        {"strategy": "task_based", "task_type": "ANALYSIS", "candidates": (Model("fast", task_type="CODING"),)},
    ],
)
def test_handing_over_without_a_way_back_is_fine(rules: dict[str, Any]) -> None:
    assert said(place(by_task("coding", 2, TaskType.CODING)), **rules) == []


@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_order_has_nothing_against_plain_models(strategy: Strategy) -> None:
    assert said(strategy=strategy.value) == []


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_floor_out_of_reach_matters_to_the_orders_that_look_at_it(strategy: Strategy) -> None:
    found = said(strategy=strategy.value, quality_floor=0.99)
    assert bool(found) == (strategy in BY_QUALITY)


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"candidates": ()}, "candidates"),
        ({"candidates": (Model("fast"), Model("fast"))}, "candidates"),
        ({"candidates": (Model("fast", weight=0),), "strategy": "weighted"}, "weights"),
        ({"ladder": LadderDocument(cheaper_at=50, refuse_at=50)}, "ladder"),
        ({"required": ("telepathy",)}, "required"),
        ({"regions": ("mars",)}, "regions"),
        ({"quality_floor": 0.99, "strategy": "best_quality"}, "quality_floor"),
        ({"max_cost_nano": 0}, "candidates"),
    ],
)
def test_a_complaint_names_the_field_that_would_have_to_change(rules: dict[str, Any], field: str) -> None:
    [complaint] = complaints(PolicyDocument(**{"candidates": BOTH} | rules), place())
    assert complaint.field == field


def test_a_region_that_is_known_but_serves_none_of_the_models_leaves_nobody() -> None:
    [text] = said(candidates=(Model("fast"),), regions=("eu",))
    assert text.startswith("It leaves every request without any model: fast (alpha/model-1): it is served in")


def test_of_many_reasons_three_are_named_and_the_others_counted() -> None:
    many = build.alias("many", *(build.deployment(number) for number in range(10, 15)))
    at = Place(build.snapshot(FAST, SMART, many), policy_id=1, name="everyday")
    [text] = said(at, candidates=(Model("many"),), max_cost_nano=0)
    assert text.count("alpha/model-") == 3
    assert text.endswith("; and 2 more.")


def test_each_persona_that_is_left_without_a_model_is_named() -> None:
    seers = [
        build.persona(slug, build.policy("everyday"), required=frozenset({Capability.VISION}))
        for slug in ("ada", "bob")
    ]
    found = said(place(personas=tuple(seers), is_default=True), candidates=(Model("dumb"),))
    assert [text.split(" without")[0] for text in found] == [
        "It leaves the persona “ada”",
        "It leaves the persona “bob”",
    ]


def test_a_model_that_is_switched_off_is_forgiven_while_another_serves() -> None:
    assert said(candidates=(Model("switched-off"), Model("fast"))) == []


def test_fallbacks_alone_may_serve() -> None:
    assert said(candidates=(Model("fast", weight=0, is_fallback=True),), strategy="weighted") == []


def test_a_policy_does_not_hand_over_to_what_it_is_itself_made_for() -> None:
    assert said(place(), strategy="task_based", task_type="CODING") == []


def test_the_rules_in_force_of_the_policy_itself_do_not_count_against_its_draft() -> None:
    old = replace(by_task("everyday", 1, TaskType.ANALYSIS), strategy=Strategy.TASK_BASED)
    assert said(place(old, by_task("coding", 2, TaskType.CODING)), strategy="priority", task_type="ANALYSIS") == []


def test_everything_is_said_at_once() -> None:
    found = said(
        candidates=(Model("fast", weight=0), Model("fast", weight=0)),
        strategy="weighted",
        ladder=LadderDocument(cap_at=90, refuse_at=10),
        regions=("mars",),
    )
    assert len(found) == 4
