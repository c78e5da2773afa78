"""Read the configuration that the gateway compiles."""

from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from typing import cast

from django.db import transaction
from django.db.models import Q

from providers.domain.types import PromptDefaults, RateLimit
from providers.selectors import active_deployments, rate_limit_of
from routing.domain.compile import AliasRow, ConfigRows, PersonaRow, PolicyRow
from routing.domain.config import CacheMode, CacheRule, Caller, Scope
from routing.models import (
    AliasTarget,
    CandidateGroup,
    ConfigRevision,
    ModelAlias,
    Persona,
    PolicyCandidate,
    RoutingPolicy,
    Team,
    VirtualKey,
)


def config_revision() -> int:
    """The revision that the database is at; 0 before the first edit."""
    return ConfigRevision.objects.filter(pk=1).values_list("revision", flat=True).first() or 0


@transaction.atomic
def config_rows(*, now: datetime) -> ConfigRows:
    """Everything active, read in one transaction: a dozen queries however large the configuration is.

    The revision is read first: an edit that lands meanwhile then only causes one more load.
    """
    return ConfigRows(
        revision=config_revision(),
        deployments=active_deployments(now=now),
        aliases=_aliases(),
        policies=_policies(),
        personas=_personas(),
        callers=_callers(),
    )


def _aliases() -> list[AliasRow]:
    targets: dict[int, list[int]] = defaultdict(list)
    for alias_id, deployment_id in AliasTarget.objects.values_list("alias_id", "deployment_id"):
        targets[alias_id].append(deployment_id)
    return [
        AliasRow(
            alias.pk,
            alias.name,
            alias.description,
            targets[alias.pk],
            rate_limit_of(alias.rpm_limit, alias.tpm_limit, alias.max_parallel_requests),
        )
        for alias in ModelAlias.objects.filter(is_active=True)
    ]


def _policies() -> list[PolicyRow]:
    candidates: dict[int, list[tuple[int, bool]]] = defaultdict(list)
    for row in PolicyCandidate.objects.all():
        candidates[row.policy_id].append((row.alias_id, row.group == CandidateGroup.FALLBACK))
    return [
        PolicyRow(
            id=policy.pk,
            name=policy.name,
            task_type=policy.task_type,
            is_default=policy.is_default,
            max_cost_nano=_nano(policy.max_cost_per_request),
            max_latency_ms=policy.max_latency_ms,
            required=policy.required_capabilities,
            candidates=candidates[policy.pk],
            cache=CacheRule(cast(CacheMode, policy.cache_mode), policy.cache_ttl_s),
        )
        for policy in RoutingPolicy.objects.filter(is_active=True)
    ]


def _personas() -> list[PersonaRow]:
    return [
        PersonaRow(
            slug=persona.slug,
            name=persona.name,
            description=persona.description,
            policy_id=persona.policy_id,
            defaults=PromptDefaults(persona.system_prompt, persona.temperature, persona.max_tokens),
            required=persona.required_capabilities,
        )
        for persona in Persona.objects.filter(is_active=True)
    ]


def _callers() -> list[tuple[str, Caller]]:
    """Every key, revoked and expired ones too: the caller is told which of the two it is."""
    allowed: dict[int, set[str]] = defaultdict(set)
    for key_id, alias in VirtualKey.allowed_models.through.objects.values_list("virtualkey_id", "modelalias__name"):
        allowed[key_id].add(alias)
    key_limits, team_limits = _limits(VirtualKey), _limits(Team)
    purges = Team.objects.exclude(cache_purged_at=None).values_list("pk", "cache_purged_at")
    purged = {team_id: at.timestamp() for team_id, at in purges if at is not None}
    keys = VirtualKey.objects.values_list(  # no instances: 10,000 of them kept requests waiting for twice as long
        "digest", "pk", "prefix", "name", "team_id", "team__name", "scopes", "expires_at", "revoked_at",
        "team__is_active",
    )  # fmt: skip
    return [
        (
            digest,
            Caller(
                key_id=key_id,
                key_prefix=prefix,
                key_name=name,
                team_id=team_id,
                team_name=team_name,
                scopes=frozenset(Scope(scope) for scope in scopes),
                allowed_aliases=frozenset(allowed.get(key_id, ())),
                expires_at=expires_at,
                revoked_at=revoked_at,
                team_active=team_active,
                key_limit=key_limits.get(key_id),
                team_limit=team_limits.get(team_id),
                cache_purged_at=purged.get(team_id, 0.0),
            ),
        )
        for digest, key_id, prefix, name, team_id, team_name, scopes, expires_at, revoked_at, team_active in keys
    ]


def _limits(model: type[Team] | type[VirtualKey]) -> dict[int, RateLimit]:
    """By id, for those rows that are limited at all."""
    free = Q(rpm_limit=None, tpm_limit=None, max_parallel_requests=None)
    columns = model._default_manager.exclude(free).values_list("pk", "rpm_limit", "tpm_limit", "max_parallel_requests")
    return {pk: RateLimit(*limit) for pk, *limit in columns}


def _nano(usd: Decimal | None) -> int | None:
    return None if usd is None else int(usd * 1_000_000_000)
