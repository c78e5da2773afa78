"""Rules of policies for properties: any value of any field, as rows of the database can have them."""

from typing import Any

from hypothesis import strategies as st

from routing.domain.config import Escalation, Strategy, TaskType
from routing.domain.documents import CandidateDocument, LadderDocument, PolicyDocument

NAMES = ("fast", "smart", "deep", "cheap")
TASKS = [one.value for one in TaskType]
share = st.none() | st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.95, 1.0])
percent = st.none() | st.integers(1, 100)


def names_of(values: list[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=3, unique=True).map(tuple)


def in_order(candidates: list[CandidateDocument]) -> tuple[CandidateDocument, ...]:
    """As rows have them: preferred ones first."""
    return tuple(sorted(candidates, key=lambda one: one.is_fallback))


models = st.lists(
    st.builds(
        CandidateDocument,
        alias=st.sampled_from(NAMES),
        is_fallback=st.booleans(),
        weight=st.integers(0, 3),
        task_type=st.sampled_from(TASKS[:3]),
    ),
    max_size=4,
    unique_by=lambda one: one.alias,
).map(in_order)
ladders = st.builds(
    LadderDocument,
    cap_at=percent,
    cap_tokens=st.sampled_from([256, 512, 1024]),
    cheaper_at=percent,
    cache_only_at=percent,
    refuse_at=percent,
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "candidates": models,
    "task_type": st.sampled_from(TASKS),
    "strategy": st.sampled_from([one.value for one in Strategy]),
    "quality_floor": share,
    "within_of_best": share,
    "cost_weight": st.sampled_from([0.0, 0.1, 2.5]),
    "latency_weight": st.sampled_from([0.0, 0.01, 1.5]),
    "is_sticky": st.booleans(),
    "regions": names_of(["eu", "us", "ch"]),
    "max_cost_nano": st.none() | st.integers(0, 9_000_000).map(lambda micro: micro * 1000),
    "max_latency_ms": st.none() | st.integers(0, 100_000),
    "required": names_of(["vision", "tool_calling", "json_schema"]),
    "cache_mode": st.sampled_from(["auto", "always", "never"]),
    "cache_ttl_s": st.none() | st.integers(1, 100_000),
    "ladder": ladders,
    "escalate_on": names_of([one.value for one in Escalation]),
    "sample_percent": st.integers(0, 100),
    "keeps_prompts": st.booleans(),
}
documents = st.builds(PolicyDocument, **VALUES)


def one_of(fields: set[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Other values for some of these fields."""
    return st.fixed_dictionaries({}, optional={name: VALUES[name] for name in sorted(fields)})


def changed(document: PolicyDocument, fields: dict[str, Any]) -> PolicyDocument:
    return PolicyDocument(**{name: getattr(document, name) for name in document.__struct_fields__} | fields)
