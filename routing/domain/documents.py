"""The rules of a policy as one value: what a version keeps, a draft proposes, a diff compares, a snapshot compiles."""

from collections.abc import Mapping
from math import isfinite
from typing import Final

import msgspec
from msgspec import Struct

from providers.domain.types import Capability
from routing.domain.config import (
    Alias,
    CacheMode,
    CacheRule,
    Candidate,
    Escalation,
    Ladder,
    Policy,
    Strategy,
    TaskType,
    Variant,
)


class ConfigError(Exception):
    """The configuration contradicts itself; the text names the row and what to change."""


class CandidateDocument(Struct, frozen=True, omit_defaults=True):
    """A model of a policy, by its alias's name; the order of candidates is the order of trying."""

    alias: str
    is_fallback: bool = False
    weight: int = 1
    task_type: str = TaskType.ANY.value


class LadderDocument(Struct, frozen=True, omit_defaults=True):
    """Percentages of a budget, None for a step that there is not; `cap_tokens` is the answer's length from `cap_at`."""

    cap_at: int | None = None
    cap_tokens: int = 512
    cheaper_at: int | None = None
    cache_only_at: int | None = None
    refuse_at: int | None = None


class PolicyDocument(Struct, frozen=True, omit_defaults=True):
    """All rules of a policy; field for field the columns of `routing.models.PolicyRules`, money in nano-USD."""

    candidates: tuple[CandidateDocument, ...] = ()
    task_type: str = TaskType.ANY.value
    strategy: str = Strategy.PRIORITY.value
    quality_floor: float | None = None
    within_of_best: float | None = None
    cost_weight: float = 0.1
    latency_weight: float = 0.01
    is_sticky: bool = False
    regions: tuple[str, ...] = ()
    max_cost_nano: int | None = None
    max_latency_ms: int | None = None
    required: tuple[str, ...] = ()
    cache_mode: CacheMode = "auto"
    cache_ttl_s: int | None = None
    ladder: LadderDocument = LadderDocument()
    escalate_on: tuple[str, ...] = ()
    sample_percent: int = 100
    keeps_prompts: bool = False


def document_to_json(document: PolicyDocument) -> dict[str, object]:
    """As a JSON column keeps it; defaults are left out."""
    built: dict[str, object] = msgspec.to_builtins(document)
    return built


def document_from_json(value: object) -> PolicyDocument:
    """The inverse of `document_to_json`.

    :raises ConfigError: it was not written by this platform.
    """
    try:
        document = msgspec.convert(value, PolicyDocument)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter: half a surrogate pair
        raise ConfigError(f"This is not the document of a policy: {error}.") from error
    if complaint := _unkeepable(document):
        raise ConfigError(f"This is not the document of a policy: {complaint}.")
    return document


def _unkeepable(document: PolicyDocument) -> str:
    """What no JSON column of a database takes, though readers of JSON let it through; empty when there is nothing."""
    numbers = (document.quality_floor, document.within_of_best, document.cost_weight, document.latency_weight)
    if not all(isfinite(number) for number in numbers if number is not None):
        return "a number in it is not finite"
    models = [name for one in document.candidates for name in (one.alias, one.task_type)]
    names = (document.task_type, document.strategy, *document.regions, *document.required, *document.escalate_on)
    if odd := next((name for name in (*names, *models) if not name.isprintable()), None):
        return f"the name {odd!a} has characters in it that cannot be printed"
    return ""


UNORDERED: Final = ("required", "regions", "escalate_on")


def same_rules(one: PolicyDocument, other: PolicyDocument) -> bool:
    """Whether they decide alike, in whatever order a set of names was written down."""
    # not by their JSON: whether it leaves a default out depends on which object says so
    return _sorted(one) == _sorted(other)


def _sorted(document: PolicyDocument) -> PolicyDocument:
    names = {field: tuple(sorted(set(getattr(document, field)))) for field in UNORDERED}
    return msgspec.structs.replace(document, **names)


def compile_policy(
    document: PolicyDocument,
    aliases: Mapping[str, Alias],
    *,
    policy_id: int,
    name: str,
    version: int,
    variants: tuple[Variant, ...] = (),
) -> Policy:
    """The policy as decisions read it. An alias that is not active drops out of it.

    :raises ConfigError: an unknown capability, task type, strategy or reason to escalate.
    """
    where = f"Policy “{name}”"
    ladder = document.ladder
    return Policy(
        id=policy_id,
        name=name,
        task_type=task_type_named(document.task_type, where),
        candidates=tuple(
            Candidate(aliases[one.alias], one.is_fallback, one.weight, task_type_named(one.task_type, where))
            for one in document.candidates
            if one.alias in aliases
        ),
        required=capabilities_named(document.required, where),
        max_cost_nano=document.max_cost_nano,
        max_latency_ms=document.max_latency_ms,
        cache=CacheRule(document.cache_mode, document.cache_ttl_s),
        version=version,
        strategy=_strategy(document.strategy, where),
        quality_floor=document.quality_floor,
        within_of_best=document.within_of_best,
        cost_weight=document.cost_weight,
        latency_weight=document.latency_weight,
        is_sticky=document.is_sticky,
        regions=frozenset(document.regions),
        ladder=Ladder(ladder.cap_at, ladder.cap_tokens, ladder.cheaper_at, ladder.cache_only_at, ladder.refuse_at),
        escalate_on=_escalations(document.escalate_on, where),
        sample_percent=document.sample_percent,
        keeps_prompts=document.keeps_prompts,
        variants=variants,
    )


def task_type_named(name: str, where: str) -> TaskType:
    try:
        return TaskType(name)
    except ValueError:
        raise ConfigError(f"{where} has the unknown task type “{name}”.") from None


def capabilities_named(names: tuple[str, ...], where: str) -> frozenset[Capability]:
    try:
        return frozenset(Capability(name) for name in names)
    except ValueError as error:
        raise ConfigError(f"{where} requires an unknown capability: {error}.") from None


def _strategy(name: str, where: str) -> Strategy:
    try:
        return Strategy(name)
    except ValueError:
        raise ConfigError(f"{where} has the unknown strategy “{name}”.") from None


def _escalations(names: tuple[str, ...], where: str) -> frozenset[Escalation]:
    try:
        return frozenset(Escalation(name) for name in names)
    except ValueError as error:
        raise ConfigError(f"{where} escalates on something unknown: {error}.") from None
