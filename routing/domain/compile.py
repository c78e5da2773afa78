"""From plain rows to a `ConfigSnapshot`: every reference resolved, every rule checked, or a `ConfigError` that names
the row. Pure, so that the same check can run before a change is published."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from providers.domain.types import Deployment, PromptDefaults, RateLimit
from routing.domain.config import (
    Alias,
    Caller,
    ClassifierSpec,
    ConfigSnapshot,
    Persona,
    Policy,
    Rule,
    TaskType,
    Unit,
    Variant,
    VariantKind,
)
from routing.domain.documents import ConfigError, PolicyDocument, capabilities_named, compile_policy
from routing.domain.rules import RuleRow, compile_rule
from routing.domain.templates import (
    PromptTemplate,
    StoredVersion,
    TemplateError,
    TemplateVersion,
    UnknownTemplate,
    compile_version,
    document_of,
    template_named,
)

__all__ = [
    "AliasRow", "ConfigError", "ConfigRows", "PersonaRow", "PolicyRow", "TemplateRow", "VariantRow",
    "compile_snapshot",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class AliasRow:
    id: int
    name: str
    description: str
    deployment_ids: Sequence[int]  # in the order of trying
    rate_limit: RateLimit | None = None


@dataclass(frozen=True, slots=True)
class VariantRow:
    """Other rules for a share of a policy's requests: a draft that is rolled out, or an experiment's challenger."""

    kind: VariantKind
    arm: str
    control: str
    percent: int
    seed: str
    unit: Unit
    version: int
    document: PolicyDocument
    payer_key_id: int = 0


@dataclass(frozen=True, slots=True)
class PolicyRow:
    id: int
    name: str
    is_default: bool
    document: PolicyDocument
    version: int = 0
    variants: Sequence[VariantRow] = ()


@dataclass(frozen=True, slots=True)
class TemplateRow:
    """A template with all its versions by number, as `document_of` reads them; `current` 0: none is in force."""

    name: str
    description: str
    current: int
    versions: Mapping[int, StoredVersion]


@dataclass(frozen=True, slots=True)
class PersonaRow:
    """`template` is “welcome” or “welcome@3”, “” for none."""

    slug: str
    name: str
    description: str
    policy_id: int
    defaults: PromptDefaults
    required: Sequence[str]
    template: str = ""


@dataclass(frozen=True, slots=True)
class ConfigRows:
    """All that is active, as read in one transaction. `callers` go with the digest of their key."""

    revision: int
    deployments: Mapping[int, Deployment]
    aliases: Sequence[AliasRow]
    policies: Sequence[PolicyRow]
    personas: Sequence[PersonaRow]
    callers: Sequence[tuple[str, Caller]]
    rules: Sequence[RuleRow] = ()  # in the order in which they are looked at
    artefact: str = ""
    classifier: ClassifierSpec | None = None
    templates: Sequence[TemplateRow] = ()


def compile_snapshot(rows: ConfigRows, *, now: datetime) -> ConfigSnapshot:
    """Resolve all references.

    An inactive deployment or alias simply drops out of the lists that name it. A persona whose policy or template is
    not active drops out too, and is named among the problems: one such row must not keep every other edit, a revoked
    key among them, from taking effect.

    A rule, or a version of a template, that does not compile drops out as well.

    :raises ConfigError: an unknown capability, task type or strategy.
    """
    aliases = {
        row.id: Alias(row.name, row.description, _present(rows.deployments, row.deployment_ids), row.rate_limit)
        for row in rows.aliases
    }
    by_name = {alias.name: alias for alias in aliases.values()}
    policies = {row.id: _policy(row, by_name) for row in rows.policies}
    templates, unreadable = _templates(rows.templates)
    personas, left_out = _personas(rows.personas, policies, templates)
    defaults = [policies[row.id] for row in rows.policies if row.is_default]
    rules, broken = _rules(rows.rules)
    return ConfigSnapshot(
        revision=rows.revision,
        compiled_at=now,
        callers_by_digest=dict(rows.callers),
        callers_by_key_id={caller.key_id: caller for _, caller in rows.callers},
        aliases=by_name,
        deployments={deployment.name: deployment for deployment in rows.deployments.values()},
        policies={policy.name: policy for policy in policies.values()},
        personas=personas,
        default_policy=defaults[0] if defaults else None,
        rules=rules,
        task_policies=policies_by_task(policies.values()),
        artefact=rows.artefact,
        classifier=rows.classifier,
        templates=templates,
        has_templated_personas=any(persona.template is not None for persona in personas.values()),
        problems=(*left_out, *broken, *unreadable),
    )


def _rules(rows: Iterable[RuleRow]) -> tuple[tuple[Rule, ...], list[str]]:
    """The rules that compile, and what is wrong with the others: one of them must not keep every other edit away."""
    rules: list[Rule] = []
    broken: list[str] = []
    for row in rows:
        try:
            rules.append(compile_rule(row))
        except ConfigError as error:
            broken.append(f"{error} It is left out.")
    return tuple(rules), broken


def _present(deployments: Mapping[int, Deployment], ids: Iterable[int]) -> tuple[Deployment, ...]:
    return tuple(deployments[i] for i in ids if i in deployments)


def _policy(row: PolicyRow, aliases: Mapping[str, Alias]) -> Policy:
    variants = tuple(
        Variant(
            kind=one.kind,
            arm=one.arm,
            control=one.control,
            percent=one.percent,
            seed=one.seed,
            unit=one.unit,
            policy=compile_policy(one.document, aliases, policy_id=row.id, name=row.name, version=one.version),
            payer_key_id=one.payer_key_id,
        )
        for one in row.variants
    )
    return compile_policy(
        row.document, aliases, policy_id=row.id, name=row.name, version=row.version, variants=variants
    )


def policies_by_task(policies: Iterable[Policy]) -> dict[TaskType, Policy]:
    """The policy for each kind of work that has one; of several the first by name."""
    found: dict[TaskType, Policy] = {}
    for policy in sorted(policies, key=lambda policy: policy.name):
        if policy.task_type is not TaskType.ANY and policy.candidates:
            found.setdefault(policy.task_type, policy)
    return found


def _templates(rows: Iterable[TemplateRow]) -> tuple[dict[str, PromptTemplate], list[str]]:
    """Templates by name, with those of their versions that can be used, and what is wrong with the others."""
    templates: dict[str, PromptTemplate] = {}
    broken: list[str] = []
    for row in rows:
        versions: dict[int, TemplateVersion] = {}
        for number, stored in row.versions.items():
            try:
                versions[number] = compile_version(row.name, number, document_of(*stored))
            except TemplateError as error:
                broken.append(f"Template “{row.name}@{number}” is left out. {error}")
        templates[row.name] = PromptTemplate(row.name, row.description, row.current, versions)
    return templates, broken


def _personas(
    rows: Iterable[PersonaRow], policies: Mapping[int, Policy], templates: Mapping[str, PromptTemplate]
) -> tuple[dict[str, Persona], list[str]]:
    """Personas by name, and why others are left out: one without its prompt would say what it is not meant to."""
    personas: dict[str, Persona] = {}
    problems: list[str] = []
    for row in rows:
        policy = policies.get(row.policy_id)
        if policy is None:
            problems.append(f"Persona “{row.slug}” uses a policy that is not active. Activate it or choose another.")
            continue
        try:
            template = template_named(templates, row.template) if row.template else None
        except UnknownTemplate as error:
            problems.append(f"Persona “{row.slug}” uses a template that cannot be used: {error}")
            continue
        if template is not None and template.messages:
            problems.append(f"Persona “{row.slug}” uses “{template.label}”, which has messages. Choose another.")
            continue
        personas[row.slug] = _persona(row, policy, template)
    return personas, problems


def _persona(row: PersonaRow, policy: Policy, template: TemplateVersion | None) -> Persona:
    return Persona(
        slug=row.slug,
        name=row.name,
        description=row.description,
        policy=policy,
        defaults=row.defaults,
        required=capabilities_named(tuple(row.required), f"Persona “{row.slug}”"),
        template=template,
    )
