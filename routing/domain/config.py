"""The gateway's configuration, compiled: what the database says, frozen, indexed, and checked.

A request reads one `ConfigSnapshot` from start to end. It holds no clear secret: virtual keys by HMAC, provider keys
sealed.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

from providers.domain.types import Capability, Deployment, PromptDefaults, RateLimit


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
    """A model of a policy, in the order of trying. `is_fallback` is for the explanation only."""

    alias: Alias
    is_fallback: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """`max_cost_nano` is nano-USD per request; None is no ceiling."""

    id: int
    name: str
    task_type: TaskType
    candidates: tuple[Candidate, ...]
    required: frozenset[Capability]
    max_cost_nano: int | None = None
    max_latency_ms: int | None = None
    cache: CacheRule = USUAL_CACHE


@dataclass(frozen=True, slots=True)
class Persona:
    slug: str
    name: str
    description: str
    policy: Policy
    defaults: PromptDefaults
    required: frozenset[Capability]


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
    problems: tuple[str, ...] = ()  # what had to be left out, in words for the operator
