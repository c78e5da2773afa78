"""Rows for tests: `ProviderFactory()` saves a valid one, whatever hangs on it comes along.

A virtual key's text is never in the database: `VirtualKeyFactory(text=key_text_of(7))` makes one that a test can call
with.
"""

import base64
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import factory
from django.conf import settings
from django.contrib.auth import get_user_model
from factory.django import DjangoModelFactory

from analytics.domain.budgets import window_id
from analytics.domain.rollup import hour_of
from analytics.models import (
    Alert,
    AlertChannel,
    AlertKind,
    AlertRule,
    AlertUnit,
    Budget,
    BudgetDuration,
    BudgetLease,
    BudgetScope,
    BudgetWindow,
    ChannelKind,
    HourlyRollup,
    LedgerCheck,
    Severity,
    UsageAdjustment,
    UsageRecord,
    UsageRollup,
    UsageSource,
    UsageState,
)
from analytics.services.alert_channels import target_hint
from analytics.services.rollups import hours_mark
from providers.domain.types import Capability
from providers.fields import seal
from providers.models import (
    CatalogueModel,
    Deployment,
    Health,
    Price,
    PriceSource,
    Provider,
    ProviderCheck,
    ProviderKey,
)
from routing.domain.keys import KeyParts, key_digest, key_text
from routing.models import (
    AliasTarget,
    CandidateGroup,
    ClassifierKind,
    ClassifierPlugIn,
    DraftCandidate,
    Experiment,
    Membership,
    ModelAlias,
    Persona,
    PolicyCandidate,
    PolicyDraft,
    PromptTemplate,
    RouterArtefact,
    RoutingPolicy,
    RoutingRule,
    Team,
    TeamRole,
    VirtualKey,
)

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def key_text_of(number: int) -> str:
    """A well-formed virtual key that is always the same for the same number."""
    prefix = base64.b32encode(number.to_bytes(5, "big")).decode().lower()
    return key_text(KeyParts(prefix=prefix, secret=f"test-secret-{number:028d}"))


class UserFactory(DjangoModelFactory[Any]):
    """A person without rights and without a password (hashing one is slow): `client.force_login` signs them in."""

    class Meta:
        model = get_user_model()
        skip_postgeneration_save = True

    username = factory.Sequence(lambda n: f"person-{n}")
    email = factory.LazyAttribute(lambda user: f"{user.username}@example.com")
    password = factory.django.Password(None)


class ProviderFactory(DjangoModelFactory[Provider]):
    class Meta:
        model = Provider

    name = factory.Sequence(lambda n: f"vendor-{n}")
    label = factory.LazyAttribute(lambda provider: provider.name.title())
    kind = "openai-compatible"
    base_url = factory.LazyAttribute(lambda provider: f"https://{provider.name}.example.com/v1")


class ProviderKeyFactory(DjangoModelFactory[ProviderKey]):
    """`secret` is the clear text; it is sealed on the way in."""

    class Meta:
        model = ProviderKey

    class Params:
        secret = factory.Sequence(lambda n: f"sk-test-{n:04d}")

    provider = factory.SubFactory(ProviderFactory)
    label = factory.Sequence(lambda n: f"key {n}")
    sealed = factory.LazyAttribute(lambda key: seal(key.secret))
    last4 = factory.LazyAttribute(lambda key: key.secret[-4:])


class CatalogueModelFactory(DjangoModelFactory[CatalogueModel]):
    """Can stream, call tools and take a temperature."""

    class Meta:
        model = CatalogueModel

    name = factory.Sequence(lambda n: f"model-{n}")
    label = factory.LazyAttribute(lambda model: model.name.title())
    vendor = "Example"
    capabilities = factory.LazyFunction(
        lambda: [Capability.STREAMING.value, Capability.TOOL_CALLING.value, Capability.TEMPERATURE.value]
    )
    context_window = 128_000
    max_output_tokens = 4096


class DeploymentFactory(DjangoModelFactory[Deployment]):
    class Meta:
        model = Deployment

    provider = factory.SubFactory(ProviderFactory)
    model = factory.SubFactory(CatalogueModelFactory)
    upstream_model = factory.LazyAttribute(lambda deployment: deployment.model.name)


class PriceFactory(DjangoModelFactory[Price]):
    """A model's own price: $1 in, $2 out per million tokens since 2026.

    A deployment's own one: `PriceFactory(model=None, deployment=deployment)`.
    """

    class Meta:
        model = Price

    model = factory.SubFactory(CatalogueModelFactory)
    deployment = None
    source = PriceSource.OVERRIDE
    effective_from = datetime(2026, 1, 1, tzinfo=UTC)
    input_usd = Decimal("1")
    output_usd = Decimal("2")


class ProviderCheckFactory(DjangoModelFactory[ProviderCheck]):
    class Meta:
        model = ProviderCheck

    provider = factory.SubFactory(ProviderFactory)
    checked_at = factory.Sequence(lambda n: NOON + timedelta(seconds=n))
    health = Health.HEALTHY


class TeamFactory(DjangoModelFactory[Team]):
    class Meta:
        model = Team

    name = factory.Sequence(lambda n: f"Team {n}")
    slug = factory.Sequence(lambda n: f"team-{n}")


class MembershipFactory(DjangoModelFactory[Membership]):
    class Meta:
        model = Membership

    team = factory.SubFactory(TeamFactory)
    user = factory.SubFactory(UserFactory)
    role = TeamRole.MEMBER


class ModelAliasFactory(DjangoModelFactory[ModelAlias]):
    """A name that callers may send. `deployments=[a, b]` makes its targets, in that order."""

    class Meta:
        model = ModelAlias
        skip_postgeneration_save = True

    name = factory.Sequence(lambda n: f"alias-{n}")

    @factory.post_generation
    def deployments(obj: ModelAlias, create: bool, extracted: list[Deployment] | None, **_: Any) -> None:
        for position, deployment in enumerate(extracted or []):
            AliasTarget.objects.create(alias=obj, deployment=deployment, position=position)


def served_alias(**fields: Any) -> ModelAlias:
    """An alias that can answer: it has an active deployment of its own."""
    made: ModelAlias = ModelAliasFactory.create(deployments=[DeploymentFactory.create()], **fields)
    return made


class AliasTargetFactory(DjangoModelFactory[AliasTarget]):
    class Meta:
        model = AliasTarget

    alias = factory.SubFactory(ModelAliasFactory)
    deployment = factory.SubFactory(DeploymentFactory)
    position = factory.Sequence(lambda n: n)


class RoutingPolicyFactory(DjangoModelFactory[RoutingPolicy]):
    """`preferred=[alias, ..]` and `fallbacks=[alias, ..]` make its candidates, in that order."""

    class Meta:
        model = RoutingPolicy
        skip_postgeneration_save = True

    name = factory.Sequence(lambda n: f"policy-{n}")

    @factory.post_generation
    def preferred(obj: RoutingPolicy, create: bool, extracted: list[ModelAlias] | None, **_: Any) -> None:
        _add_candidates(obj, CandidateGroup.PREFERRED, extracted or [])

    @factory.post_generation
    def fallbacks(obj: RoutingPolicy, create: bool, extracted: list[ModelAlias] | None, **_: Any) -> None:
        _add_candidates(obj, CandidateGroup.FALLBACK, extracted or [])


def _add_candidates(policy: RoutingPolicy, group: CandidateGroup, aliases: list[ModelAlias]) -> None:
    for position, alias in enumerate(aliases):
        PolicyCandidate.objects.create(policy=policy, alias=alias, group=group, position=position)


class PolicyCandidateFactory(DjangoModelFactory[PolicyCandidate]):
    class Meta:
        model = PolicyCandidate

    policy = factory.SubFactory(RoutingPolicyFactory)
    alias = factory.SubFactory(ModelAliasFactory)
    group = CandidateGroup.PREFERRED
    position = factory.Sequence(lambda n: n)


class PolicyDraftFactory(DjangoModelFactory[PolicyDraft]):
    """A change that nobody has submitted yet; without models."""

    class Meta:
        model = PolicyDraft

    policy = factory.SubFactory(RoutingPolicyFactory)
    title = factory.Sequence(lambda n: f"Change {n}")
    base_version = factory.SelfAttribute("policy.version")


class DraftCandidateFactory(DjangoModelFactory[DraftCandidate]):
    class Meta:
        model = DraftCandidate

    draft = factory.SubFactory(PolicyDraftFactory)
    alias = factory.SubFactory(ModelAliasFactory)
    group = CandidateGroup.PREFERRED
    position = factory.Sequence(lambda n: n)


class ExperimentFactory(DjangoModelFactory[Experiment]):
    """A draft's rules against those of its policy, not started."""

    class Meta:
        model = Experiment

    name = factory.Sequence(lambda n: f"trial-{n}")
    challenger = factory.SubFactory(PolicyDraftFactory)
    policy = factory.SelfAttribute("challenger.policy")


class RoutingRuleFactory(DjangoModelFactory[RoutingRule]):
    """Text with “traceback” in it is coding."""

    class Meta:
        model = RoutingRule

    name = factory.Sequence(lambda n: f"rule-{n}")
    position = factory.Sequence(lambda n: n)
    pattern = "traceback"
    task_type = "CODING"


class RouterArtefactFactory(DjangoModelFactory[RouterArtefact]):
    """Kept and not in force; its bytes are none that a gateway can read."""

    class Meta:
        model = RouterArtefact

    version = factory.Sequence(lambda n: f"{n:032x}")
    data = b"no archive"


class ClassifierPlugInFactory(DjangoModelFactory[ClassifierPlugIn]):
    """A Python class, switched off."""

    class Meta:
        model = ClassifierPlugIn

    name = factory.Sequence(lambda n: f"classifier-{n}")
    kind = ClassifierKind.DOTTED
    dotted_path = "example.Classifier"


class PromptTemplateFactory(DjangoModelFactory[PromptTemplate]):
    """Without a version; `tests.routing.prompts.template` makes one with what it says."""

    class Meta:
        model = PromptTemplate

    name = factory.Sequence(lambda n: f"template-{n}")


class PersonaFactory(DjangoModelFactory[Persona]):
    class Meta:
        model = Persona

    slug = factory.Sequence(lambda n: f"persona_{n}")
    name = factory.LazyAttribute(lambda persona: persona.slug.replace("_", " ").title())
    policy = factory.SubFactory(RoutingPolicyFactory)


class VirtualKeyFactory(DjangoModelFactory[VirtualKey]):
    """A key of a team. `text` is what a caller presents; give it (`key_text_of(7)`) to be able to call with the key."""

    class Meta:
        model = VirtualKey

    class Params:
        text = factory.Sequence(key_text_of)

    team = factory.SubFactory(TeamFactory)
    name = factory.Sequence(lambda n: f"app {n}")
    prefix = factory.LazyAttribute(lambda key: key.text.split("_")[1])
    digest = factory.LazyAttribute(lambda key: key_digest(settings.KEY_PEPPER.encode(), key.text))


class UsageRecordFactory(DjangoModelFactory[UsageRecord]):
    """A settled request of one cent. `key` decides the team; names are copied from it."""

    class Meta:
        model = UsageRecord

    class Params:
        at = NOON

    request_id = factory.LazyFunction(uuid.uuid4)
    key = factory.SubFactory(VirtualKeyFactory)
    team = factory.SelfAttribute("key.team")
    team_name = factory.SelfAttribute("team.name")
    key_name = factory.SelfAttribute("key.name")
    key_prefix = factory.SelfAttribute("key.prefix")
    started_at = factory.SelfAttribute("at")
    finished_at = factory.LazyAttribute(lambda record: record.started_at + timedelta(milliseconds=record.latency_ms))
    state = UsageState.SETTLED
    door = "openai"
    http_status = 200
    requested_model = "auto"
    provider = "vendor"
    deployment = "vendor/model"
    model = "model"
    input_tokens = 1000
    output_tokens = 200
    usage_source = UsageSource.PROVIDER
    cost_nano = 10_000_000
    latency_ms = 800.0
    overhead_ms = 0.4


class UsageRollupFactory(DjangoModelFactory[UsageRollup]):
    class Meta:
        model = UsageRollup

    day = NOON.date()
    key = factory.SubFactory(VirtualKeyFactory)
    team = factory.SelfAttribute("key.team")
    team_name = factory.SelfAttribute("team.name")
    provider = "vendor"
    model = "model"
    requests = 10
    cost_nano = 100_000_000


class HourlyRollupFactory(DjangoModelFactory[HourlyRollup]):
    class Meta:
        model = HourlyRollup

    hour = NOON
    key = factory.SubFactory(VirtualKeyFactory)
    team = factory.SelfAttribute("key.team")
    team_name = factory.SelfAttribute("team.name")
    provider = "vendor"
    model = "model"
    requests = 10
    cost_nano = 100_000_000


class LedgerCheckFactory(DjangoModelFactory[LedgerCheck]):
    """A check that found nothing wrong."""

    class Meta:
        model = LedgerCheck

    at = factory.Sequence(lambda n: NOON + timedelta(hours=n))
    first = NOON.date() - timedelta(days=7)
    last = NOON.date()
    duration_ms = 1200
    records = 12_345
    windows = 3


def mark_hour(moment: datetime) -> None:
    """It is dirty: its records count, whatever the rollups say."""
    hours_mark(hours=[hour_of(moment)])


def mark_day(day: date) -> None:
    """All its hours are dirty."""
    hours_mark(hours=(datetime(day.year, day.month, day.day, hour, tzinfo=UTC) for hour in range(24)))


class BudgetFactory(DjangoModelFactory[Budget]):
    """A strict budget of a team, per month. Another subject: `BudgetFactory(scope="key", team=None, key=key)`."""

    class Meta:
        model = Budget

    team = factory.SubFactory(TeamFactory)
    max_budget = Decimal("100.00")
    budget_duration = BudgetDuration.MONTH


def key_budget(key: VirtualKey, **fields: Any) -> Budget:
    """A strict budget of a key, per month."""
    return BudgetFactory.create(scope=BudgetScope.KEY, team=None, key=key, **fields)


class BudgetWindowFactory(DjangoModelFactory[BudgetWindow]):
    """March 2026 of a budget, nothing spent; `leased_nano` is the sum of its leases: see BudgetLeaseFactory."""

    class Meta:
        model = BudgetWindow

    budget = factory.SubFactory(BudgetFactory, created_at=NOON.replace(month=1))
    starts_at = NOON.replace(day=1, hour=0)
    ends_before = NOON.replace(month=4, day=1, hour=0)
    ceiling_nano = factory.SelfAttribute("budget.limit_nano")
    id = factory.LazyAttribute(lambda window: window_id(window.budget.pk, window.starts_at))


class BudgetLeaseFactory(DjangoModelFactory[BudgetLease]):
    """One dollar for one process. It is not counted into its window by itself."""

    class Meta:
        model = BudgetLease

    window = factory.SubFactory(BudgetWindowFactory, leased_nano=10**9)
    owner = factory.Sequence(lambda n: f"gateway-{n}")
    amount_nano = 10**9


class UsageAdjustmentFactory(DjangoModelFactory[UsageAdjustment]):
    class Meta:
        model = UsageAdjustment

    request_id = factory.LazyFunction(uuid.uuid4)
    started_at = NOON
    delta_nano = 1_000_000
    reason = "a corrected price"
    batch = factory.LazyFunction(uuid.uuid4)


class AlertFactory(DjangoModelFactory[Alert]):
    """An open alert: a team has spent 80 % of its budget. `spent` is nano-USD. Another rule: `kind="provider_down"`."""

    class Meta:
        model = Alert

    class Params:
        kind = AlertKind.BUDGET_THRESHOLD

    rule = factory.LazyAttribute(lambda alert: AlertRule.objects.get_or_create(kind=alert.kind)[0])
    budget = factory.SubFactory(BudgetFactory)
    team = factory.LazyAttribute(lambda alert: alert.budget.team if alert.budget else None)
    subject = factory.LazyAttribute(lambda alert: f"budget:{alert.budget.pk}")
    subject_name = factory.LazyAttribute(lambda alert: str(alert.team))
    window_starts_at = NOON.replace(day=1, hour=0)
    threshold = "80"
    severity = Severity.WARNING
    title = factory.LazyAttribute(lambda alert: f"{alert.subject_name} has spent {alert.threshold} % of its budget")
    text = "Look at what spends it."
    value = 80_000_000_000
    limit = factory.LazyAttribute(lambda alert: alert.budget.limit_nano if alert.budget else None)
    unit = AlertUnit.NANO_USD


class AlertChannelFactory(DjangoModelFactory[AlertChannel]):
    """Mail to ops. Another one: `kind`, `clear` (its address) and, for a webhook, `secret`."""

    class Meta:
        model = AlertChannel

    class Params:
        clear = "ops@example.com"
        secret = ""

    name = factory.Sequence(lambda n: f"Channel {n}")
    kind = ChannelKind.EMAIL
    target = factory.LazyAttribute(lambda channel: seal(channel.clear))
    signing_secret = factory.LazyAttribute(lambda channel: seal(channel.secret) if channel.secret else "")
    hint = factory.LazyAttribute(lambda channel: target_hint(channel.kind, channel.clear))
