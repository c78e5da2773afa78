"""Read the configuration that the gateway compiles."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from providers.domain.types import PromptDefaults, RateLimit
from providers.selectors import active_deployments, rate_limit_of
from routing.domain.compile import AliasRow, ConfigRows, PersonaRow, PolicyRow, TemplateRow, VariantRow
from routing.domain.config import (
    CacheMode,
    Caller,
    ClassifierKind,
    ClassifierSpec,
    RuleMatch,
    RuleSubject,
    Scope,
    Unit,
    VariantKind,
)
from routing.domain.documents import CandidateDocument, LadderDocument, PolicyDocument
from routing.domain.rules import RuleRow
from routing.domain.templates import KEPT_VERSIONS, StoredVersion
from routing.models import (
    AliasTarget,
    CandidateGroup,
    CandidateRow,
    ClassifierPlugIn,
    ConfigRevision,
    DraftState,
    Experiment,
    ExperimentState,
    ModelAlias,
    Persona,
    PolicyDraft,
    PolicyRules,
    PromptTemplate,
    PromptTemplateVersion,
    RouterArtefact,
    RoutingPolicy,
    RoutingRule,
    RuleOutcome,
    Team,
    VirtualKey,
)


def config_revision() -> int:
    """The revision that the database is at; 0 before the first edit."""
    return ConfigRevision.objects.filter(pk=1).values_list("revision", flat=True).first() or 0


@transaction.atomic
def config_rows(*, now: datetime, with_callers: bool = True) -> ConfigRows:
    """Everything active, read in one transaction: a dozen queries however large the configuration is.

    The revision is read first: an edit that lands meanwhile then only causes one more load.
    """
    return ConfigRows(
        revision=config_revision(),
        deployments=active_deployments(now=now),
        aliases=_aliases(),
        policies=_policies(),
        personas=_personas(),
        callers=_callers() if with_callers else [],
        rules=rule_rows(),
        artefact=_artefact(),
        classifier=_classifier(),
        templates=_templates(),
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


def policy_document(rules: PolicyRules, candidates: Iterable[CandidateRow]) -> PolicyDocument:
    """The rules of a policy or of a draft, with its models in the order of trying, as one value."""
    return PolicyDocument(
        candidates=tuple(
            CandidateDocument(
                alias=row.alias.name,
                is_fallback=row.group == CandidateGroup.FALLBACK,
                weight=row.weight,
                task_type=row.task_type,
            )
            for row in candidates
        ),
        task_type=rules.task_type,
        strategy=rules.strategy,
        quality_floor=rules.quality_floor,
        within_of_best=rules.within_of_best,
        cost_weight=rules.cost_weight,
        latency_weight=rules.latency_weight,
        is_sticky=rules.is_sticky,
        regions=tuple(rules.regions),
        max_cost_nano=_nano(rules.max_cost_per_request),
        max_latency_ms=rules.max_latency_ms,
        required=tuple(rules.required_capabilities),
        cache_mode=cast(CacheMode, rules.cache_mode),
        cache_ttl_s=rules.cache_ttl_s,
        ladder=LadderDocument(
            cap_at=rules.ladder_cap_percent,
            cap_tokens=rules.ladder_cap_tokens,
            cheaper_at=rules.ladder_cheaper_percent,
            cache_only_at=rules.ladder_cache_percent,
            refuse_at=rules.ladder_refuse_percent,
        ),
        escalate_on=tuple(rules.escalate_on),
        sample_percent=rules.sample_percent,
        keeps_prompts=rules.keeps_prompts,
    )


def _policies() -> list[PolicyRow]:
    variants = _variants()
    return [
        PolicyRow(
            id=policy.pk,
            name=policy.name,
            is_default=policy.is_default,
            document=policy_document(policy, policy.candidates.all()),
            version=policy.version,
            variants=variants[policy.pk],
        )
        for policy in RoutingPolicy.objects.filter(is_active=True).prefetch_related("candidates__alias")
    ]


def _variants() -> dict[int, list[VariantRow]]:
    """By policy: the drafts that are rolled out and the challengers of experiments that run."""
    found: dict[int, list[VariantRow]] = defaultdict(list)
    drafts = PolicyDraft.objects.filter(state=DraftState.ROLLING_OUT).prefetch_related("candidates__alias")
    for draft in drafts:
        found[draft.policy_id].append(
            VariantRow(
                kind="rollout",
                arm=f"v{draft.version}",
                control="",
                percent=draft.percent,
                seed=draft.seed,
                unit="conversation",
                version=draft.version or 0,
                document=policy_document(draft, draft.candidates.all()),
            )
        )
    running = Experiment.objects.filter(state=ExperimentState.RUNNING).select_related("challenger")
    for experiment in running.prefetch_related("challenger__candidates__alias"):
        challenger = experiment.challenger
        found[experiment.policy_id].append(
            VariantRow(
                kind=cast(VariantKind, experiment.kind),
                arm=f"{experiment.name}:challenger",
                control=f"{experiment.name}:control",
                percent=experiment.percent,
                seed=experiment.seed,
                unit=cast(Unit, experiment.unit),
                version=challenger.base_version,
                document=policy_document(challenger, challenger.candidates.all()),
                payer_key_id=experiment.payer_id or 0,
            )
        )
    return found


def rule_rows() -> list[RuleRow]:
    """The operators' rules that are active, in the order in which they are looked at."""
    return [
        RuleRow(
            name=rule.name,
            subject=cast(RuleSubject, rule.subject),
            header=rule.header,
            match=cast(RuleMatch, rule.match),
            pattern=rule.pattern,
            task_type=rule.task_type if rule.outcome == RuleOutcome.TASK else "",
            tier=rule.tier if rule.outcome == RuleOutcome.TIER else "",
            alias=rule.alias.name if rule.outcome == RuleOutcome.ALIAS and rule.alias else "",
        )
        for rule in RoutingRule.objects.filter(is_active=True).select_related("alias")
    ]


def _artefact() -> str:
    return RouterArtefact.objects.filter(is_active=True).values_list("version", flat=True).first() or ""


def artefact_data(version: str) -> bytes | None:
    """A trained artefact as it was stored; None when there is none of this version."""
    data = RouterArtefact.objects.filter(version=version).values_list("data", flat=True).first()
    return None if data is None else bytes(data)


def _classifier() -> ClassifierSpec | None:
    row = ClassifierPlugIn.objects.filter(is_active=True).select_related("alias").first()
    if row is None:
        return None
    return ClassifierSpec(
        name=row.name,
        kind=cast(ClassifierKind, row.kind),
        dotted_path=row.dotted_path,
        alias=row.alias.name if row.alias else "",
        url=row.url,
        timeout_ms=row.timeout_ms,
    )


def _personas() -> list[PersonaRow]:
    return [
        PersonaRow(
            slug=persona.slug,
            name=persona.name,
            description=persona.description,
            policy_id=persona.policy_id,
            defaults=PromptDefaults(persona.system_prompt, persona.temperature, persona.max_tokens),
            required=persona.required_capabilities,
            template=_template_of(persona),
        )
        for persona in Persona.objects.filter(is_active=True).select_related("template")
    ]


def _template_of(persona: Persona) -> str:
    """As a caller would name it."""
    if persona.template is None:
        return ""
    return persona.template.name + (f"@{persona.template_version}" if persona.template_version is not None else "")


def _templates() -> list[TemplateRow]:
    """With the newest `KEPT_VERSIONS` of each, the one in force, and those that personas keep to."""
    versions: dict[int, dict[int, StoredVersion]] = defaultdict(dict)
    newest = PromptTemplateVersion.objects.filter(template=OuterRef("template")).order_by("-number").values("number")
    kept_to = Persona.objects.filter(template=OuterRef("template"), template_version=OuterRef("number"))
    rows = (
        PromptTemplateVersion.objects.filter(template__is_active=True)
        .alias(newest=Subquery(newest[:1]))
        .filter(
            Q(number__gt=F("newest") - KEPT_VERSIONS) | Q(number=F("template__version")) | Exists(kept_to),
        )
        .order_by("template", "number")
    )
    columns = rows.values_list("template_id", "number", "system", "messages", "variables")
    for template_id, number, system, messages, variables in columns:
        versions[template_id][number] = (system, messages, variables)
    return [
        TemplateRow(one.name, one.description, one.version, versions[one.pk])
        for one in PromptTemplate.objects.filter(is_active=True)
    ]


def persona_variables() -> dict[str, list[dict[str, Any]]]:
    """What callers fill in of the active personas' templates, as `VariableDocument`s by the persona's slug."""
    told = Persona.objects.filter(is_active=True, template__is_active=True).annotate(
        declared=Subquery(
            PromptTemplateVersion.objects.filter(
                template=OuterRef("template"),
                number=Coalesce(OuterRef("template_version"), OuterRef("template__version")),
            ).values("variables")[:1]
        )
    )
    return {slug: declared or [] for slug, declared in told.values_list("slug", "declared")}


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
