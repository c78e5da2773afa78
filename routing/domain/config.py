"""The gateway's configuration, compiled: what the database says, frozen, indexed, and checked.

A request reads one `ConfigSnapshot` from start to end. It holds no clear secret: virtual keys by HMAC, provider keys
sealed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

from providers.domain.types import Capability, Deployment, PromptDefaults, RateLimit
from routing.domain.templates import PromptTemplate, TemplateVersion


class Scope(StrEnum):
    """What a virtual key may do."""

    CHAT = "chat"
    MODELS = "models"
    USAGE = "usage"

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        return [(scope.value, SCOPE_LABELS[scope]) for scope in cls]


SCOPE_LABELS = {
    Scope.CHAT: "Chat: ask models",
    Scope.MODELS: "Models: list what can be asked",
    Scope.USAGE: "Usage: read the team's spend",
}


class TaskType(StrEnum):
    """The kinds of work that policies are made for."""

    ANY = "ANY"
    CODING = "CODING"
    CREATIVE = "CREATIVE"
    ANALYSIS = "ANALYSIS"
    COMPLEX_REASONING = "COMPLEX_REASONING"
    SIMPLE_QA = "SIMPLE_QA"

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        return [(task.value, TASK_LABELS[task]) for task in cls]


TASK_LABELS = {
    TaskType.ANY: "Any",
    TaskType.CODING: "Coding",
    TaskType.CREATIVE: "Creative writing",
    TaskType.ANALYSIS: "Analysis",
    TaskType.COMPLEX_REASONING: "Complex reasoning",
    TaskType.SIMPLE_QA: "Simple questions",
}


class Strategy(StrEnum):
    """How a policy puts the models that it prefers in order."""

    PRIORITY = "priority"
    WEIGHTED = "weighted"
    ROUND_ROBIN = "round_robin"
    LEAST_BUSY = "least_busy"
    LOWEST_COST = "lowest_cost"
    LOWEST_LATENCY = "lowest_latency"
    USAGE_BASED = "usage_based"
    TASK_BASED = "task_based"
    BEST_QUALITY = "best_quality"
    BALANCED = "balanced"

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        return [(strategy.value, STRATEGY_LABELS[strategy]) for strategy in cls]


STRATEGY_LABELS = {
    Strategy.PRIORITY: "In order",
    Strategy.WEIGHTED: "By weight",
    Strategy.ROUND_ROBIN: "In turn",
    Strategy.LEAST_BUSY: "Least busy first",
    Strategy.LOWEST_COST: "Cheapest first",
    Strategy.LOWEST_LATENCY: "Quickest first",
    Strategy.USAGE_BASED: "Most headroom first",
    Strategy.TASK_BASED: "By kind of work",
    Strategy.BEST_QUALITY: "Best first",
    Strategy.BALANCED: "Quality against cost and time",
}
# the strategies for which it matters how well a model is expected to do
BY_QUALITY = frozenset({Strategy.LOWEST_COST, Strategy.TASK_BASED, Strategy.BEST_QUALITY, Strategy.BALANCED})


class Escalation(StrEnum):
    """What makes an answer one for which the next model is asked."""

    REFUSAL = "refusal"
    EMPTY = "empty"
    INVALID_JSON = "invalid_json"
    LOW_LOGPROB = "low_logprob"


@dataclass(frozen=True, slots=True)
class Ladder:
    """What a policy does as a budget fills, before the budget itself refuses: each step from a percentage of it on.
    None: no such step."""

    cap_at: int | None = None
    cap_tokens: int = 0
    cheaper_at: int | None = None
    cache_only_at: int | None = None
    refuse_at: int | None = None

    def __bool__(self) -> bool:
        has_low = self.cap_at is not None or self.cheaper_at is not None
        return has_low or self.cache_only_at is not None or self.refuse_at is not None


NO_LADDER = Ladder()

CacheMode = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class CacheRule:
    """Which answers are kept and given again: of requests at temperature 0, of all, of none. `ttl_s` None is as the
    settings say. A request can opt in or out by itself, but not against “never”."""

    mode: CacheMode = "auto"
    ttl_s: int | None = None


USUAL_CACHE = CacheRule()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a virtual key and its team. `allowed_aliases` empty means all; times are aware UTC.

    Answers that were kept before `cache_purged_at` (seconds since the epoch) are not given again.
    """

    key_id: int
    key_prefix: str
    key_name: str
    team_id: int
    team_name: str
    scopes: frozenset[Scope]
    allowed_aliases: frozenset[str]
    expires_at: datetime | None
    revoked_at: datetime | None
    team_active: bool
    key_limit: RateLimit | None = None
    team_limit: RateLimit | None = None
    cache_purged_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Alias:
    name: str
    description: str
    deployments: tuple[Deployment, ...]
    rate_limit: RateLimit | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model of a policy, in the order of trying. Fallbacks keep their order behind what the strategy has ordered.

    `task_type` is the kind of work that it goes first for, ANY for none.
    """

    alias: Alias
    is_fallback: bool
    weight: int = 1
    task_type: TaskType = TaskType.ANY


VariantKind = Literal["rollout", "ab", "canary", "shadow"]
Unit = Literal["request", "conversation", "key"]


@dataclass(frozen=True, slots=True)
class Variant:
    """Other rules that a share of a policy's requests follow, or are asked again by (a shadow).

    `arm` is what usage records call those that do; `control` what they call the others, “” for a rollout. A shadow's
    second answers are paid for by the virtual key `payer_key_id`.
    """

    kind: VariantKind
    arm: str
    control: str
    percent: int
    seed: str
    unit: Unit
    policy: "Policy"
    payer_key_id: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """`max_cost_nano` is nano-USD per request; None is no ceiling. Quality is a share of good answers, 0 to 1.

    `cost_weight` is quality per US cent, `latency_weight` quality per second.
    """

    id: int
    name: str
    task_type: TaskType
    candidates: tuple[Candidate, ...]
    required: frozenset[Capability]
    max_cost_nano: int | None = None
    max_latency_ms: int | None = None
    cache: CacheRule = USUAL_CACHE
    version: int = 0
    strategy: Strategy = Strategy.PRIORITY
    quality_floor: float | None = None
    within_of_best: float | None = None
    cost_weight: float = 0.0
    latency_weight: float = 0.0
    is_sticky: bool = False
    regions: frozenset[str] = frozenset()
    ladder: Ladder = NO_LADDER
    escalate_on: frozenset[Escalation] = frozenset()
    sample_percent: int = 100
    keeps_prompts: bool = False
    variants: tuple[Variant, ...] = ()

    @property
    def asks_for_task(self) -> bool:
        """Whether a decision by it wants to know what kind of work a request is."""
        return self.strategy in BY_QUALITY


RuleSubject = Literal["text", "tag", "persona", "header"]
RuleMatch = Literal["contains", "equals", "regex"]


@dataclass(frozen=True, slots=True)
class Rule:
    """An operator's rule: when `subject` (of a header: `header`, in lower case) fits, one of the last three holds.

    `fits` is compiled from the pattern.
    """

    name: str
    subject: RuleSubject
    header: str
    fits: Callable[[str], bool] = field(compare=False)
    task_type: TaskType | None = None
    tier: str = ""
    alias: str = ""


ClassifierKind = Literal["dotted", "embeddings", "llm", "webhook"]


@dataclass(frozen=True, slots=True)
class ClassifierSpec:
    """A plug-in that says what kind of work a prompt is: a Python class, a model of ours (by its alias), or a web
    address. It is given `timeout_ms`."""

    name: str
    kind: ClassifierKind
    dotted_path: str = ""
    alias: str = ""
    url: str = ""
    timeout_ms: int = 5


@dataclass(frozen=True, slots=True)
class Persona:
    slug: str
    name: str
    description: str
    policy: Policy
    defaults: PromptDefaults
    required: frozenset[Capability]
    template: TemplateVersion | None = None  # filled in by the request, behind the defaults' system prompt


@dataclass(frozen=True, slots=True)
class ConfigSnapshot:
    """Everything the request path needs to know, at one revision."""

    revision: int
    compiled_at: datetime
    callers_by_digest: dict[str, Caller] = field(repr=False)
    callers_by_key_id: dict[int, Caller] = field(repr=False)
    aliases: dict[str, Alias]
    deployments: dict[str, Deployment]
    policies: dict[str, Policy]
    personas: dict[str, Persona]
    default_policy: Policy | None
    rules: tuple[Rule, ...] = ()  # the first that fits decides
    task_policies: Mapping[TaskType, Policy] = field(default_factory=dict)  # whom “by kind of work” hands over to
    artefact: str = ""  # version of the trained artefact in force; “”: the shipped one
    classifier: ClassifierSpec | None = None  # who classifies instead of the artefact
    templates: Mapping[str, PromptTemplate] = field(default_factory=dict)
    has_templated_personas: bool = False  # else no request has to be looked at for its persona's template
    problems: tuple[str, ...] = ()  # what had to be left out, in words for the operator
