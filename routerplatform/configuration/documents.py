"""What a configuration file says, as typed values: a struct per thing, its fields in the order of writing.

Fields are named as the columns of the tables; `active`, `default` and `sticky` stand for `is_…` in files. Names are the
keys: no id of a database is part of a document. What may be told of a value by itself is said here (types, choices,
bounds); what depends on other rows is checked by the tables' own rules when a plan is rehearsed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import NODEFAULT, Meta, Struct
from msgspec.structs import FieldInfo

from routing.domain.documents import CandidateDocument, LadderDocument, PolicyDocument
from routing.domain.templates import USUAL_VALUE, MessageDocument, TemplateDocument, VariableDocument

FORMAT: Final = 1
SHOWN_AS: Final = {
    "is_active": "active",
    "is_default": "default",
    "is_sticky": "sticky",
    "is_fallback": "fallback",
    "effective_from": "from",
}
NANO_PER_USD: Final = 10**9

Name = Annotated[str, Meta(min_length=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Percent = Annotated[int, Meta(ge=1, le=100)]
Count = Annotated[int, Meta(ge=1, le=2_147_483_647)]
Usd = Decimal  # 0 or more: msgspec bounds no decimals, shapes.py does
Moment = Annotated[datetime, Meta(tz=True)]
Position = Annotated[int, Meta(ge=0, le=2_147_483_647)]


class Entry(Struct, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    """A named thing of a file. A field that a file leaves out has its default."""


class Limited(Entry, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    rpm_limit: Count | None = None
    tpm_limit: Count | None = None
    max_parallel_requests: Count | None = None


# --- whom the platform can call ---------------------------------------------------------------------------------------


class ProviderEntry(Entry, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    kind: Name
    label: Name
    base_url: str = ""
    region: str = ""
    is_active: bool = True
    timeout_s: Annotated[float, Meta(ge=1)] = 120
    connect_timeout_s: Annotated[float, Meta(ge=0.1)] = 5
    allowed_networks: tuple[str, ...] = ()
    key_strategy: Literal["round_robin", "least_used"] = "round_robin"


class ProviderKeyEntry(Entry, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    """`api_key` says where the secret is; `ends_with` is what was stored when the file was written, for people."""

    api_key: Name
    is_active: bool = True
    ends_with: str = ""


class ModelEntry(Entry, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    label: Name
    vendor: Name
    status: Literal["current", "retired"] = "current"
    replaced_by: str = ""
    capabilities: tuple[str, ...] = ()
    context_window: Count | None = None
    max_output_tokens: Count | None = None
    cost_tier: Literal["free", "economy", "standard", "premium"] = "standard"
    strengths: str = ""
    list_price_per_1k: Usd | None = None


class DeploymentEntry(Limited, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    """Named `provider/model name at the provider`."""

    model: Name
    is_active: bool = True
    max_output_tokens: Count | None = None
    expected_latency_ms: Count | None = None
    wire: str = ""
    breaker: Literal["", "open", "closed"] = ""


class TierEntry(Entry, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    above: Count
    input_usd: Usd | None = None
    output_usd: Usd | None = None
    cache_read_usd: Usd | None = None
    cache_write_usd: Usd | None = None
    cache_write_1h_usd: Usd | None = None


class PriceEntry(Entry, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    """An own price, USD per million tokens, from a moment on. Its key has what is priced, and the moment."""

    input_usd: Usd | None = None
    output_usd: Usd | None = None
    cache_read_usd: Usd | None = None
    cache_write_usd: Usd | None = None
    cache_write_1h_usd: Usd | None = None
    per_request_usd: Usd = Decimal(0)
    tiers: tuple[TierEntry, ...] = ()


# --- which model serves -----------------------------------------------------------------------------------------------


class AliasEntry(Limited, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    """`targets` are deployments, in the order of trying."""

    targets: tuple[str, ...] = ()
    description: str = ""
    is_active: bool = True


class CandidateEntry(Entry, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    alias: Name
    is_fallback: bool = False
    weight: Position = 1
    task_type: str = "ANY"


class LadderEntry(Entry, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    """Percentages of a budget."""

    cap_at: Percent | None = None
    cap_tokens: Count = 512
    cheaper_at: Percent | None = None
    cache_only_at: Percent | None = None
    refuse_at: Percent | None = None


class PolicyEntry(Entry, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    """The switches of a policy, and its rules: those of `PolicyDocument`, the cost ceiling in USD."""

    description: str = ""
    is_active: bool = True
    is_default: bool = False
    models: tuple[CandidateEntry, ...] = ()
    task_type: str = "ANY"
    strategy: str = "priority"
    quality_floor: Share | None = None
    within_of_best: Share | None = None
    cost_weight: Annotated[float, Meta(ge=0)] = 0.1
    latency_weight: Annotated[float, Meta(ge=0)] = 0.01
    is_sticky: bool = False
    regions: tuple[str, ...] = ()
    max_cost_per_request: Usd | None = None
    max_latency_ms: Position | None = None
    required_capabilities: tuple[str, ...] = ()
    cache_mode: Literal["auto", "always", "never"] = "auto"
    cache_ttl_s: Count | None = None
    ladder: LadderEntry = LadderEntry()
    escalate_on: tuple[str, ...] = ()
    sample_percent: Annotated[int, Meta(ge=0, le=100)] = 100
    keeps_prompts: bool = False

    def rules(self) -> PolicyDocument:
        """What a version keeps. Preferred models come first, as in the tables."""
        cost = self.max_cost_per_request
        models = sorted(self.models, key=lambda one: one.is_fallback)  # stable
        return PolicyDocument(
            candidates=tuple(
                CandidateDocument(
                    alias=one.alias, is_fallback=one.is_fallback, weight=one.weight, task_type=one.task_type
                )
                for one in models
            ),
            max_cost_nano=None if cost is None else int(cost * NANO_PER_USD),
            required=self.required_capabilities,
            ladder=LadderDocument(**{name: getattr(self.ladder, name) for name in LadderEntry.__struct_fields__}),
            **{name: getattr(self, name) for name in SAME_IN_RULES},
        )

    @classmethod
    def of(cls, rules: PolicyDocument, *, description: str, is_active: bool, is_default: bool) -> "PolicyEntry":
        """The inverse of `rules`."""
        cost = rules.max_cost_nano
        return cls(
            description=description,
            is_active=is_active,
            is_default=is_default,
            models=tuple(
                CandidateEntry(alias=one.alias, is_fallback=one.is_fallback, weight=one.weight, task_type=one.task_type)
                for one in rules.candidates
            ),
            max_cost_per_request=None if cost is None else Decimal(cost) / NANO_PER_USD,
            required_capabilities=rules.required,
            ladder=LadderEntry(**{name: getattr(rules.ladder, name) for name in LadderEntry.__struct_fields__}),
            **{name: getattr(rules, name) for name in SAME_IN_RULES},
        )


SAME_IN_RULES: Final = (
    "task_type", "strategy", "quality_floor", "within_of_best", "cost_weight", "latency_weight", "is_sticky", "regions",
    "max_latency_ms", "cache_mode", "cache_ttl_s", "escalate_on", "sample_percent", "keeps_prompts",
)  # fmt: skip


class MessageEntry(Entry, frozen=True, omit_defaults=True, kw_only=True):
    role: Name
    content: str


class VariableEntry(Entry, frozen=True, omit_defaults=True, kw_only=True):
    name: Name
    description: str = ""
    default: str | None = None
    max_length: Count = USUAL_VALUE


class TemplateEntry(Entry, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    """A prompt template with what its version in force says; other versions are no part of files."""

    description: str = ""
    is_active: bool = True
    system: str = ""
    messages: tuple[MessageEntry, ...] = ()
    variables: tuple[VariableEntry, ...] = ()

    def document(self) -> TemplateDocument:
        return TemplateDocument(
            self.system,
            tuple(MessageDocument(one.role, one.content) for one in self.messages),
            tuple(VariableDocument(one.name, one.description, one.default, one.max_length) for one in self.variables),
        )

    @classmethod
    def of(cls, document: TemplateDocument, *, description: str, is_active: bool) -> "TemplateEntry":
        """The inverse of `document`."""
        return cls(
            description=description,
            is_active=is_active,
            system=document.system,
            messages=tuple(MessageEntry(role=one.role, content=one.content) for one in document.messages),
            variables=tuple(
                VariableEntry(
                    name=one.name, description=one.description, default=one.default, max_length=one.max_length
                )
                for one in document.variables
            ),
        )


class PersonaEntry(Entry, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    name: Name
    policy: Name
    description: str = ""
    system_prompt: str = ""
    template: str = ""
    template_version: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Count = 4096
    required_capabilities: tuple[str, ...] = ()
    is_active: bool = True


class RuleEntry(Entry, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    """Of `task_type`, `tier` and `alias` there is the one that `outcome` names."""

    position: Position = 0
    subject: Literal["text", "tag", "persona", "header"] = "text"
    header: str = ""
    match: Literal["contains", "equals", "regex"] = "contains"
    pattern: Name
    outcome: Literal["task", "tier", "alias"] = "task"
    task_type: str = ""
    tier: str = ""
    alias: str = ""
    is_active: bool = True


# --- who may call, and for how much -----------------------------------------------------------------------------------


class TeamEntry(Limited, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    """Named by its slug."""

    name: Name
    is_active: bool = True


class MemberEntry(Entry, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    role: Literal["member", "lead"] = "member"


class KeyEntry(Limited, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    """A virtual key, named `team/name`, or `team/name#prefix` where a team has several of that name."""

    scopes: tuple[str, ...] = ("chat", "models")
    allowed_models: tuple[str, ...] = ()
    expires_at: Moment | None = None


class BudgetEntry(Entry, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    """Named `scope/subject/duration`, for example team/support/1mo or key/support/bot/1d."""

    max_budget: Usd
    soft_budget: Usd | None = None
    mode: Literal["strict", "expected", "soft", "shadow"] = "strict"
    time_zone: str = "UTC"
    is_active: bool = True


class AlertRuleEntry(Entry, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    is_active: bool = True
    parameters: dict[str, float | int | tuple[int, ...]] = {}


class AlertChannelEntry(Entry, frozen=True, omit_defaults=True, kw_only=True, rename=SHOWN_AS):
    """`address` and `signing_secret` say where they are; `goes_to` is what people may see of the address."""

    kind: Literal["email", "apprise", "webhook"]
    address: Name
    signing_secret: str = ""
    goes_to: str = ""
    minimum_severity: Literal["info", "warning", "critical"] = "warning"
    kinds: tuple[str, ...] = ()
    team: str = ""
    allowed_networks: tuple[str, ...] = ()
    is_active: bool = True


# --- the sections of a file -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Section:
    """A group of entries of one shape. `inside` is (section, key) for what a file writes inside the entries of another:
    such an entry is called `outer/inner`. `short` is the only field where a file writes nothing but its value.

    `refers` says which fields name entries of other sections, as (field, section). An `is_optional` section inside
    another counts as part of a file only where something of it is written.
    """

    name: str
    noun: str
    shape: type[Entry]
    inside: tuple[str, str] | None = None
    short: str = ""
    refers: tuple[tuple[str, str], ...] = ()
    is_optional: bool = False

    @property
    def top(self) -> str:
        """The section that a file has it in."""
        return self.inside[0] if self.inside else self.name


# In the order in which they are written to the database: what is referred to comes first.
SECTIONS: Final = (
    Section("models", "model", ModelEntry, refers=(("replaced_by", "models"),)),
    Section("providers", "provider", ProviderEntry),
    Section("provider_keys", "key of provider", ProviderKeyEntry, inside=("providers", "keys")),
    Section("deployments", "deployment", DeploymentEntry, refers=(("model", "models"),)),
    Section("model_prices", "price of model", PriceEntry, inside=("model_prices", "")),
    Section("deployment_prices", "price of deployment", PriceEntry, inside=("deployments", "prices")),
    Section("aliases", "alias", AliasEntry, refers=(("targets", "deployments"),)),
    Section("templates", "template", TemplateEntry),
    Section("policies", "policy", PolicyEntry, refers=(("models", "aliases"),)),
    Section("personas", "persona", PersonaEntry, refers=(("policy", "policies"), ("template", "templates"))),
    Section("rules", "rule", RuleEntry, refers=(("alias", "aliases"),)),
    Section("teams", "team", TeamEntry),
    Section("members", "member of team", MemberEntry, inside=("teams", "members"), short="role", is_optional=True),
    Section("keys", "virtual key", KeyEntry, refers=(("allowed_models", "aliases"),)),
    Section("budgets", "budget", BudgetEntry),
    Section("alert_rules", "alert rule", AlertRuleEntry),
    Section("alert_channels", "alert channel", AlertChannelEntry, refers=(("team", "teams"),)),
)  # fmt: skip
BY_NAME: Final = {section.name: section for section in SECTIONS}
TOP_LEVEL: Final = tuple(dict.fromkeys(section.top for section in SECTIONS))
SEPARATOR: Final = "\0"  # between the name of an outer entry and that of an inner one: no database keeps it in a name

Entries = Mapping[str, Entry]
Documents = Mapping[str, Entries]
"""By section, by name."""


def inner_name(outer: str, name: str) -> str:
    return f"{outer}{SEPARATOR}{name}"


def split_inner(name: str) -> tuple[str, str]:
    """(name of the outer entry, own name); the inverse of `inner_name`."""
    outer, _, own = name.partition(SEPARATOR)
    return outer, own


def said(entry: Entry) -> dict[str, Any]:
    """What an entry says beyond its defaults, by the keys of files. (`omit_defaults` of msgspec compares some values by
    identity, and what comes from a database never is the default itself.)"""
    fields = msgspec.structs.fields(type(entry))
    return {one.encode_name: getattr(entry, one.name) for one in fields if not _is_default(entry, one)}


def _is_default(entry: Entry, described: FieldInfo) -> bool:
    if described.required:
        return False
    made = described.default_factory
    return bool(getattr(entry, described.name) == (described.default if made is NODEFAULT else made()))


def shown(field: str) -> str:
    """A field as files write it."""
    return SHOWN_AS.get(field, field)
