"""What holds for every record of a decision: it comes back as it was, damage is told, and it decides the same again."""

import json
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from providers.domain.conversation import EmbeddingBatch
from providers.domain.types import Capability, ChatRequest, Operation
from routing.domain.classification.types import Classification, QualityQuestion
from routing.domain.config import Rule, Strategy, TaskType
from routing.domain.decision import NoRoute, RoutePlan, decide
from routing.domain.recording import (
    TEXT_LENGTH,
    Outcome,
    RecordedCandidate,
    RecordedInputs,
    RecordedRule,
    RecordedTask,
    UnreadableInputs,
    observed,
    read_inputs,
    recalled,
    recorded,
    write_inputs,
)
from routing.domain.replay import replayed
from routing.domain.situation import UNKNOWN_STANDING, Situation, Standing, quality_by_tier
from tests.routing.domain import build
from tests.routing.domain.worlds import World, world

NUMBERS = st.integers(0, 10**9)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)  # half a surrogate pair is no UTF-8
COUNTS = st.integers(0, 2**53)
SHARES = st.floats(0, 4, allow_nan=False)
TIMES = st.floats(0, 10**7, allow_nan=False)
outcomes = st.builds(
    Outcome, WORDS, st.integers(0, 599), WORDS, COUNTS, COUNTS, COUNTS, COUNTS,
    st.none() | st.integers(-(2**62), 2**62), TIMES, st.none() | TIMES, st.sampled_from(["", "hit", "miss"]),
)  # fmt: skip
candidates = st.builds(RecordedCandidate, WORDS, st.none() | TIMES, COUNTS, SHARES, WORDS, st.none() | SHARES)
records = st.builds(
    RecordedInputs,
    seed=WORDS, turn=COUNTS, requested=WORDS, persona=WORDS, entry=WORDS, policy=WORDS, policy_version=COUNTS,
    key_id=COUNTS, team_id=COUNTS,
    allowed=st.lists(WORDS, max_size=3).map(tuple),
    needs=st.lists(st.sampled_from([one.value for one in Capability]), max_size=3, unique=True).map(tuple),
    is_embedding=st.booleans(), input_tokens=COUNTS, max_tokens=st.none() | COUNTS, choices=st.integers(1, 128),
    is_stream=st.booleans(), only_at=WORDS,
    task=st.none() | st.builds(RecordedTask, st.sampled_from([one.value for one in TaskType]), SHARES, SHARES, WORDS),
    rule=st.none() | st.builds(
        RecordedRule, WORDS, st.sampled_from(["", *(one.value for one in TaskType)]), WORDS, WORDS
    ),
    tag=WORDS, conversation=WORDS, pinned=WORDS, cached_input=COUNTS, is_tool_loop=st.booleans(),
    usual_output=st.none() | COUNTS, budget_used=SHARES,
    candidates=st.lists(candidates, max_size=4).map(tuple), arm=WORDS, outcome=outcomes,
)  # fmt: skip


def kept(one: World, outcome: Outcome = Outcome()) -> tuple[RoutePlan, RecordedInputs] | None:  # noqa: B008 - frozen
    """What the world decides, with its record; None where nobody can serve or no policy decides."""
    situation = observed(one.situation)
    try:
        plan = decide(one.snapshot, one.caller, one.request, situation)
    except NoRoute:
        return None
    if plan.followed is None:
        return None
    made = recorded(
        plan, snapshot=one.snapshot, caller=one.caller, request=one.request, situation=situation, outcome=outcome
    )
    return plan, made


def simple(**changes: Any) -> World:
    """One policy of two models, and what is asked of it."""
    models = [build.alias(f"alias-{number}", build.deployment(number)) for number in (1, 2)]
    policy = build.policy("default", *models, version=2)
    one = World(
        build.snapshot(*models, policies=(policy,), default=policy),
        build.caller(),
        build.request(),
        Situation(seed="0198-1"),
    )
    return replace(one, **changes)


def record_of(**changes: Any) -> RecordedInputs:
    found = kept(simple(**changes))
    assert found is not None
    return found[1]


def recalled_in(one: World, made: RecordedInputs) -> Any:
    return recalled(read_inputs(write_inputs(made)), one.snapshot, quality_by_tier)


# --- as bytes -----------------------------------------------------------------------------------------------------


@given(records)
@settings(max_examples=200)
def test_a_record_comes_back_from_its_bytes_as_it_was(made: RecordedInputs) -> None:
    packed = write_inputs(made)
    assert read_inputs(packed) == made
    assert read_inputs(memoryview(packed)) == made
    assert write_inputs(read_inputs(packed)) == packed


@given(records, st.data())
@settings(max_examples=200)
def test_a_record_that_is_cut_short_is_told_and_never_half_read(made: RecordedInputs, data: st.DataObject) -> None:
    packed = write_inputs(made)
    with pytest.raises(UnreadableInputs) as refused:
        read_inputs(packed[: data.draw(st.integers(0, len(packed) - 1))])
    assert str(refused.value)


@given(records, st.data())
@settings(max_examples=300)
def test_a_damaged_byte_is_one_clear_error_or_another_record(made: RecordedInputs, data: st.DataObject) -> None:
    """Nothing else ever comes out: neither a half-filled record nor an error of the decoder's own."""
    packed = bytearray(write_inputs(made))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(UnreadableInputs):
        assert isinstance(read_inputs(bytes(packed)), RecordedInputs)


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_foreign_bytes_are_told(packed: bytes) -> None:
    with pytest.raises(UnreadableInputs):
        read_inputs(packed)


@pytest.mark.parametrize(
    "foreign", [None, 7, "text", [], {}, {"seed": "x"}, [1] * 30, [["seed"]], list(range(29))], ids=repr
)
def test_what_something_else_packed_is_told(foreign: object) -> None:
    with pytest.raises(UnreadableInputs):
        read_inputs(msgspec.msgpack.encode(foreign))


def test_bytes_after_a_record_are_told() -> None:
    with pytest.raises(UnreadableInputs):
        read_inputs(write_inputs(record_of()) + b"\x00")


def test_a_field_that_a_later_version_adds_is_passed_over() -> None:
    """Gateways of two versions run side by side while one replaces the other."""
    made = record_of()
    later = [*msgspec.msgpack.decode(write_inputs(made)), "something new"]
    assert read_inputs(msgspec.msgpack.encode(later)) == made


def test_text_of_every_script_comes_back() -> None:
    made = msgspec.structs.replace(record_of(), tag="nächtlich 夜 🌙\x00", requested="ü")
    assert read_inputs(write_inputs(made)) == made


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"needs": ("telepathy",)}, "telepathy"),
        ({"task": RecordedTask("GARDENING", 0.5)}, "GARDENING"),
        ({"rule": RecordedRule("r", "COOKING")}, "COOKING"),
    ],
)
def test_a_word_that_this_version_does_not_know_is_named(changes: dict[str, Any], word: str) -> None:
    made = msgspec.structs.replace(record_of(), **changes)
    with pytest.raises(UnreadableInputs, match=word):
        recalled_in(simple(), made)


# --- field by field -----------------------------------------------------------------------------------------------


@given(NUMBERS)
@settings(max_examples=150)
def test_everything_that_a_decision_reads_comes_back_from_the_record(number: int) -> None:
    one = world(number)
    found = kept(one)
    assume(found is not None)
    assert found is not None
    plan, made = found
    was = recalled_in(one, made)
    persona = one.snapshot.personas.get(plan.persona)
    assert was.caller.allowed_aliases == one.caller.allowed_aliases
    assert (was.caller.key_id, was.caller.team_id) == (one.caller.key_id, one.caller.team_id)
    assert was.request.needs == one.request.needs | (persona.required if persona else frozenset())
    assert was.request.input_tokens_estimate == one.request.input_tokens_estimate
    assert was.request.max_tokens == (one.request.max_tokens or plan.defaults.max_tokens)
    assert (was.request.choices, was.request.stream) == (one.request.choices, one.request.stream)
    for field in fields(Situation):
        if field.name in {"standing", "quality", "rule"}:
            continue
        assert getattr(was.situation, field.name) == getattr(one.situation, field.name), field.name


def _same_standings(one: World, made: RecordedInputs, plan: RoutePlan) -> None:
    was = recalled_in(one, made)
    for considered in plan.considered:
        target = one.snapshot.deployments[considered.deployment]
        assert was.situation.standing(target) == one.situation.standing(target)


@given(NUMBERS)
@settings(max_examples=100)
def test_the_candidates_stand_as_they_stood(number: int) -> None:
    one = world(number)
    found = kept(one)
    assume(found is not None)
    assert found is not None
    _same_standings(one, found[1], found[0])


@pytest.mark.parametrize(
    "rule",
    [
        Rule("code", "text", "", bool, task_type=TaskType.CODING),
        Rule("cheap", "header", "x-app", bool, tier="economy"),
        Rule("deep", "tag", "", bool, alias="alias-2"),
    ],
    ids=lambda rule: rule.name,
)
def test_a_rule_comes_back_with_what_it_said_and_fits_nothing_any_more(rule: Rule) -> None:
    one = simple(situation=Situation(seed="0198-1", rule=rule))
    again = recalled_in(one, record_of(situation=one.situation)).situation.rule
    assert (again.name, again.task_type, again.tier, again.alias) == (rule.name, rule.task_type, rule.tier, rule.alias)
    assert not again.fits("anything")


def test_a_kind_of_work_keeps_who_said_it_and_how_sure_they_were() -> None:
    task = Classification(TaskType.ANALYSIS, 0.625, source="own", known=0.25)
    was = recalled_in(simple(), record_of(situation=Situation(seed="0198-1", task=task)))
    again = was.situation.task
    assert (again.label, again.confidence, again.source, again.known) == (TaskType.ANALYSIS, 0.625, "own", 0.25)


def test_a_request_for_embeddings_is_one_again() -> None:
    embedder = build.alias("embed", build.deployment(1, capabilities=frozenset({Capability.EMBEDDINGS})))
    policy = build.policy("default", embedder)
    request = build.request(embeddings=lambda: EmbeddingBatch(("x",)), needs=frozenset({Capability.EMBEDDINGS}))
    one = simple(snapshot=build.snapshot(embedder, policies=(policy,), default=policy), request=request)
    made = record_of(snapshot=one.snapshot, request=request)
    was: ChatRequest = recalled_in(one, made).request
    assert was.operation is Operation.EMBEDDINGS
    assert replayed(made, policy, one.snapshot).targets == embedder.deployments


@pytest.mark.parametrize("field", ["conversation", "embeddings"])
def test_the_text_of_a_recalled_request_is_asked_of_nobody(field: str) -> None:
    request = recalled_in(simple(), msgspec.structs.replace(record_of(), is_embedding=True)).request
    with pytest.raises(AssertionError, match="no text"):
        getattr(request, field)()


def test_what_a_response_is_bound_to_comes_back() -> None:
    request = build.request(only_at="alpha/model-2")
    made = record_of(request=request)
    assert made.only_at == "alpha/model-2"
    assert [one.name for one in replayed(made, *_policy_and_snapshot()).targets] == ["alpha/model-2"]


def _policy_and_snapshot() -> tuple[Any, Any]:
    snapshot = simple().snapshot
    return snapshot.policies["default"], snapshot


def test_of_a_model_that_was_no_candidate_nothing_is_known() -> None:
    one = simple()
    was = recalled_in(one, record_of())
    assert was.situation.standing(build.deployment(9)) == UNKNOWN_STANDING
    question = QualityQuestion("model-9", "premium", None, "")
    assert was.situation.quality(question) == quality_by_tier(question)


def test_a_recorded_quality_wins_over_what_is_believed_today_also_where_it_is_nought() -> None:
    made = msgspec.structs.replace(record_of(), candidates=(RecordedCandidate("alpha/model-1", quality=0.0),))
    was = recalled_in(simple(), made)
    believed = was.situation.quality(QualityQuestion("model-1", "standard", None, ""))
    assert (believed.mean, believed.basis) == (0.0, "as recorded")


def test_a_candidate_that_is_gone_by_now_is_no_one_elses_quality() -> None:
    made = msgspec.structs.replace(record_of(), candidates=(RecordedCandidate("gone/model-1", quality=0.1),))
    was = recalled_in(simple(), made)
    assert was.situation.quality(QualityQuestion("model-1", "standard", None, "")).mean != 0.1


def test_a_deployment_that_is_gone_from_the_configuration_is_recorded_as_unknown() -> None:
    """The configuration was swapped between the decision and its record."""
    one = simple(situation=Situation(seed="0198-1", standing=lambda _: Standing(5.0)))
    plan = decide(one.snapshot, one.caller, one.request, one.situation)
    made = recorded(
        plan,
        snapshot=replace(one.snapshot, deployments={}),
        caller=one.caller,
        request=one.request,
        situation=one.situation,
        outcome=Outcome(),
    )
    assert [candidate.latency_ms for candidate in made.candidates] == [None, None]


def test_the_policy_that_the_names_led_to_is_kept_beside_the_one_that_decided() -> None:
    models = [build.alias(f"alias-{number}", build.deployment(number)) for number in (1, 2)]
    coding = build.policy("coding", models[1], task_type=TaskType.CODING)
    entry = build.policy("default", models[0], strategy=Strategy.TASK_BASED)
    snapshot = replace(
        build.snapshot(*models, policies=(entry, coding), default=entry), task_policies={TaskType.CODING: coding}
    )
    situation = Situation(seed="0198-1", task=Classification(TaskType.CODING, 0.9))
    made = record_of(snapshot=snapshot, situation=situation)
    assert (made.entry, made.policy) == ("default", "coding")


def test_a_persona_that_was_deleted_meanwhile_leaves_the_policy_that_decided_as_the_entry() -> None:
    one = simple()
    persona = build.persona("poet", one.snapshot.policies["default"])
    request = build.request("poet")
    plan = decide(replace(one.snapshot, personas={"poet": persona}), one.caller, request, one.situation)
    made = recorded(
        plan, snapshot=one.snapshot, caller=one.caller, request=build.request("auto", persona="poet"),
        situation=one.situation, outcome=Outcome(),
    )  # fmt: skip
    assert (made.entry, made.persona) == ("default", "poet")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=600))
@settings(max_examples=60)
def test_what_a_caller_names_freely_is_cut_to_the_same_length_everywhere(text: str) -> None:
    made = record_of(situation=Situation(seed="0198-1", tag=text))
    assert made.tag == text[:TEXT_LENGTH]
    assert read_inputs(write_inputs(made)).tag == made.tag


def test_all_input_tokens_are_those_read_and_those_cached() -> None:
    assert Outcome(input_tokens=5, cache_read_input_tokens=7, cache_creation_input_tokens=11).all_input_tokens == 23


# --- decided again ------------------------------------------------------------------------------------------------


@given(NUMBERS)
@settings(max_examples=300)
def test_the_same_rules_make_the_same_decision_of_the_record_alone(number: int) -> None:
    """Nothing but the record is asked: standings and estimates of quality come from it, not from the world."""
    one = world(number)
    found = kept(one)
    assume(found is not None)
    assert found is not None
    plan, made = found
    again = replayed(read_inputs(write_inputs(made)), one.snapshot.policies[made.entry], one.snapshot, quality_by_tier)
    assert again.targets == plan.targets
    assert again.aliases == plan.aliases
    assert [_told(one) for one in again.considered] == [_told(one) for one in plan.considered]
    assert (again.policy, again.policy_version, again.strategy) == (plan.policy, plan.policy_version, plan.strategy)
    assert (again.arm, again.rule, again.task_type, again.sticks) == (plan.arm, plan.rule, plan.task_type, plan.sticks)
    assert (again.step, again.cache, again.escalate_on) == (plan.step, plan.cache, plan.escalate_on)


def _told(considered: Any) -> dict[str, Any]:
    """All but where the estimate of the quality comes from: the record."""
    told: dict[str, Any] = msgspec.structs.asdict(considered)
    return told | {"quality_basis": ""}


@given(NUMBERS, outcomes)
@settings(max_examples=80)
def test_what_came_of_a_request_changes_nothing_about_its_decision(number: int, outcome: Outcome) -> None:
    one = world(number)
    found, other = kept(one), kept(one, outcome)
    assume(found is not None and other is not None)
    assert found is not None
    assert other is not None
    assert other[1].outcome == outcome
    assert msgspec.structs.replace(other[1], outcome=Outcome()) == found[1]


@given(NUMBERS)
@settings(max_examples=60)
def test_a_decision_that_is_recorded_twice_is_the_same_bytes(number: int) -> None:
    """Sets have no order of their own: what is made of them is sorted."""
    one, again = kept(world(number)), kept(world(number))
    assume(one is not None and again is not None)
    assert one is not None
    assert again is not None
    assert write_inputs(one[1]) == write_inputs(again[1])
    assert list(one[1].allowed) == sorted(one[1].allowed)
    assert list(one[1].needs) == sorted(one[1].needs)


@given(records)
@settings(max_examples=60)
def test_a_record_can_be_told_as_json(made: RecordedInputs) -> None:
    assert json.dumps(msgspec.to_builtins(made), allow_nan=False)
