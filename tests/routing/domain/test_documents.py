"""The rules of a policy as one value: there and back, compiled, and refused by name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.types import Capability
from routing.domain.config import CacheRule, Escalation, Ladder, Strategy, TaskType
from routing.domain.documents import (
    CandidateDocument,
    ConfigError,
    LadderDocument,
    PolicyDocument,
    compile_policy,
    document_from_json,
    document_to_json,
    same_rules,
)
from tests.routing.domain.build import alias, deployment

ALIASES = {"fast": alias("fast", deployment(1)), "wise": alias("wise", deployment(2))}
FULL = PolicyDocument(
    candidates=(
        CandidateDocument("fast", weight=3, task_type="CODING"),
        CandidateDocument("gone"),
        CandidateDocument("wise", is_fallback=True),
    ),
    task_type="ANALYSIS",
    strategy="balanced",
    quality_floor=0.7,
    within_of_best=0.1,
    cost_weight=0.2,
    latency_weight=0.03,
    is_sticky=True,
    regions=("eu",),
    max_cost_nano=50_000_000,
    max_latency_ms=9_000,
    required=("vision",),
    cache_mode="always",
    cache_ttl_s=60,
    ladder=LadderDocument(50, 300, 70, 85, 95),
    escalate_on=("empty", "refusal"),
    sample_percent=20,
    keeps_prompts=True,
)
names = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=9)  # those that can be printed
documents = st.builds(
    PolicyDocument,
    candidates=st.lists(st.builds(CandidateDocument, names, st.booleans(), st.integers(0, 99)), max_size=4).map(tuple),
    strategy=st.sampled_from([one.value for one in Strategy]),
    quality_floor=st.none() | st.floats(0, 1),
    max_cost_nano=st.none() | st.integers(0, 10**15),
    regions=st.lists(names, max_size=3).map(tuple),
    ladder=st.builds(LadderDocument, cap_at=st.none() | st.integers(1, 100)),
)


def compiled(document: PolicyDocument) -> Any:
    return compile_policy(document, ALIASES, policy_id=5, name="p", version=9)


def with_sets(document: PolicyDocument) -> dict[str, Any]:
    """What it says, without the order in which a set of names was written down."""
    said = {name: getattr(document, name) for name in document.__struct_fields__}
    return said | {name: set(said[name]) for name in ("regions", "required", "escalate_on")}


@given(documents)
def test_a_document_comes_back_from_json_as_it_was(document: PolicyDocument) -> None:
    assert document_from_json(document_to_json(document)) == document


@given(documents, documents)
def test_documents_are_the_same_when_they_say_the_same(one: PolicyDocument, other: PolicyDocument) -> None:
    assert same_rules(one, one)
    assert same_rules(one, other) == (with_sets(one) == with_sets(other))


def test_what_is_usual_is_not_written_down() -> None:
    assert document_to_json(PolicyDocument()) == {}
    document = PolicyDocument(candidates=(CandidateDocument("fast"),))
    assert json.dumps(document_to_json(document)) == '{"candidates": [{"alias": "fast"}]}'


def test_everything_that_a_document_says_reaches_the_decision() -> None:
    policy = compiled(FULL)
    assert [(c.alias.name, c.is_fallback, c.weight, c.task_type) for c in policy.candidates] == [
        ("fast", False, 3, TaskType.CODING),
        ("wise", True, 1, TaskType.ANY),
    ]
    assert (policy.id, policy.name, policy.version, policy.task_type) == (5, "p", 9, TaskType.ANALYSIS)
    assert (policy.strategy, policy.quality_floor, policy.within_of_best) == (Strategy.BALANCED, 0.7, 0.1)
    assert (policy.cost_weight, policy.latency_weight, policy.is_sticky) == (0.2, 0.03, True)
    assert (policy.regions, policy.max_cost_nano, policy.max_latency_ms) == (frozenset({"eu"}), 50_000_000, 9_000)
    assert (policy.required, policy.cache) == (frozenset({Capability.VISION}), CacheRule("always", 60))
    assert policy.ladder == Ladder(50, 300, 70, 85, 95)
    assert policy.escalate_on == frozenset({Escalation.EMPTY, Escalation.REFUSAL})
    assert (policy.sample_percent, policy.keeps_prompts) == (20, True)


def test_an_empty_document_is_a_plain_policy() -> None:
    policy = compiled(PolicyDocument())
    assert (policy.strategy, policy.task_type, policy.candidates) == (Strategy.PRIORITY, TaskType.ANY, ())
    assert not policy.asks_for_task
    assert not policy.ladder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strategy": "astrology"}, "unknown strategy “astrology”"),
        ({"task_type": "GARDENING"}, "unknown task type “GARDENING”"),
        ({"candidates": [{"alias": "fast", "task_type": "X"}]}, "unknown task type “X”"),
        ({"required": ["telepathy"]}, "telepathy"),
        ({"escalate_on": ["boredom"]}, "boredom"),
    ],
)
def test_an_unknown_word_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compiled(document_from_json(changes))


@pytest.mark.parametrize("value", [{"cost_weight": float("inf")}, {"quality_floor": float("nan")}])
def test_a_number_that_is_not_finite_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="not finite"):
        document_from_json(value)


def test_half_a_character_where_one_of_some_words_belongs_is_refused() -> None:
    with pytest.raises(ConfigError, match="not the document of a policy"):
        document_from_json({"cache_mode": "\ud800"})


@pytest.mark.parametrize("name", ["\x00", "\ud800", "a\nb", "\u200b"], ids=ascii)
@pytest.mark.parametrize("field", ["regions", "required", "escalate_on"])
def test_a_name_that_cannot_be_printed_is_refused(field: str, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be printed"):
        document_from_json({field: [name]})
    with pytest.raises(ConfigError, match="cannot be printed"):
        document_from_json({"candidates": [{"alias": name}]})


@pytest.mark.parametrize("value", [None, [], "x", {"candidates": 5}, {"quality_floor": "high"}])
def test_what_is_no_document_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="not the document of a policy"):
        document_from_json(value)
