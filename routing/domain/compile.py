"""From plain rows to a `ConfigSnapshot`: every reference resolved, every rule checked, or a `ConfigError` that names
the row. Pure, so that the same check can run before a change is published."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from providers.domain.types import Capability, Deployment, PromptDefaults, RateLimit
from routing.domain.config import (
    USUAL_CACHE,
    Alias,
    CacheRule,
    Caller,
    Candidate,
    ConfigSnapshot,
    Persona,
    Policy,
    TaskType,
)


class ConfigError(Exception):
    """The configuration contradicts itself; the text names the row and what to change."""


@dataclass(frozen=True, slots=True)
class AliasRow:
    id: int
    name: str
    description: str
    deployment_ids: Sequence[int]  # in the order of trying
    rate_limit: RateLimit | None = None


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """`candidates` are (alias id, is a fallback), in the order of trying."""

    id: int
    name: str
    task_type: str
    is_default: bool
    max_cost_nano: int | None
    max_latency_ms: int | None
    required: Sequence[str]
    candidates: Sequence[tuple[int, bool]]
    cache: CacheRule = USUAL_CACHE


@dataclass(frozen=True, slots=True)
class PersonaRow:
    slug: str
    name: str
    description: str
    policy_id: int
    defaults: PromptDefaults
    required: Sequence[str]


@dataclass(frozen=True, slots=True)
class ConfigRows:
    """All that is active, as read in one transaction. `callers` go with the digest of their key."""

    revision: int
    deployments: Mapping[int, Deployment]
    aliases: Sequence[AliasRow]
    policies: Sequence[PolicyRow]
    personas: Sequence[PersonaRow]
    callers: Sequence[tuple[str, Caller]]


def compile_snapshot(rows: ConfigRows, *, now: datetime) -> ConfigSnapshot:
    """Resolve all references.

    An inactive deployment or alias simply drops out of the lists that name it. A persona whose policy is not active
    drops out too, and is named among the problems: one such row must not keep every other edit, a revoked key among
    them, from taking effect.

    :raises ConfigError: an unknown capability or task type.
    """
    aliases = {
        row.id: Alias(row.name, row.description, _present(rows.deployments, row.deployment_ids), row.rate_limit)
        for row in rows.aliases
    }
    policies = {row.id: _policy(row, aliases) for row in rows.policies}
    personas = {row.slug: _persona(row, policies[row.policy_id]) for row in rows.personas if row.policy_id in policies}
    defaults = [policies[row.id] for row in rows.policies if row.is_default]
    return ConfigSnapshot(
        revision=rows.revision,
        compiled_at=now,
        callers_by_digest=dict(rows.callers),
        callers_by_key_id={caller.key_id: caller for _, caller in rows.callers},
        aliases={alias.name: alias for alias in aliases.values()},
        deployments={deployment.name: deployment for deployment in rows.deployments.values()},
        policies={policy.name: policy for policy in policies.values()},
        personas=personas,
        default_policy=defaults[0] if defaults else None,
        problems=tuple(
            f"Persona “{row.slug}” uses a policy that is not active. Activate it or choose another."
            for row in rows.personas
            if row.policy_id not in policies
        ),
    )


def _present(deployments: Mapping[int, Deployment], ids: Iterable[int]) -> tuple[Deployment, ...]:
    return tuple(deployments[i] for i in ids if i in deployments)


def _policy(row: PolicyRow, aliases: Mapping[int, Alias]) -> Policy:
    try:
        task_type = TaskType(row.task_type)
    except ValueError:
        raise ConfigError(f"Policy “{row.name}” has the unknown task type “{row.task_type}”.") from None
    return Policy(
        id=row.id,
        name=row.name,
        task_type=task_type,
        candidates=tuple(Candidate(aliases[i], is_fallback) for i, is_fallback in row.candidates if i in aliases),
        required=_capabilities(row.required, f"Policy “{row.name}”"),
        max_cost_nano=row.max_cost_nano,
        max_latency_ms=row.max_latency_ms,
        cache=row.cache,
    )


def _persona(row: PersonaRow, policy: Policy) -> Persona:
    return Persona(
        slug=row.slug,
        name=row.name,
        description=row.description,
        policy=policy,
        defaults=row.defaults,
        required=_capabilities(row.required, f"Persona “{row.slug}”"),
    )


def _capabilities(names: Iterable[str], where: str) -> frozenset[Capability]:
    try:
        return frozenset(Capability(name) for name in names)
    except ValueError as error:
        raise ConfigError(f"{where} requires an unknown capability: {error}.") from None
