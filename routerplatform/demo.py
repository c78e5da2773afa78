"""The demo installation: rows that make a fresh database worth looking at, and their removal.

Seeding happens once. Whatever is edited or deleted afterwards stays so: a later start only looks and returns. A row
that was there before the demo is never touched, neither by seeding nor by removal.
"""

import base64
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet

from analytics.domain.rollup import hour_of
from analytics.models import Budget, BudgetDuration, BudgetScope, HourlyRollup, UsageRecord, UsageRollup
from analytics.services.rollups import hours_mark
from providers.domain.types import Price as Rates
from providers.history import REASON_ATTRIBUTE
from providers.models import CatalogueModel, Deployment, Price, PriceSource, Provider, ProviderKey
from providers.prices_source import EPOCH
from providers.selectors import price_of
from providers.services import active_set, provider_key_add
from routerplatform.demo_content import (
    DEMO_ALIASES,
    DEMO_CANDIDATES,
    DEMO_MODELS,
    DEMO_PROVIDERS,
    DEMO_TEAMS,
    SUPPORT_BOT,
    DemoModel,
)
from routerplatform.demo_history import SPARSE_PER_DAY, invented_usage
from routerplatform.starter import starter_ensure
from routing.domain.keys import PREFIX_LENGTH, KeyParts, key_digest, key_text
from routing.models import (
    AliasTarget,
    CandidateGroup,
    ModelAlias,
    PolicyCandidate,
    RoutingPolicy,
    Team,
    VirtualKey,
    default_scopes,
)
from routing.services import key_issue, key_revoke
from routing.services.rollouts import policy_edited

ADMIN_USERNAME = "admin"
DEMO_KEY_NAME = "Demo key"
DEMO_REASON = "demo"
LOOPBACK = "127.0.0.1/32\n::1/128"


@dataclass(frozen=True, slots=True)
class SeedResult:
    """How to get in. `admin_username` is an existing superuser's name when there was one already.

    `admin_password` is set only by the seeding that made the account; `demo_key` is None once it is revoked.
    """

    admin_username: str
    admin_password: str | None = field(repr=False)
    demo_key: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class RemoveResult:
    """`switched_off`: real providers exist, so the demo is only switched off and all records stay."""

    switched_off: bool
    usage_records: int = 0


@transaction.atomic
def seed(*, now: datetime, demo_provider_port: int, anew: bool = False, usage_per_day: int | None = None) -> SeedResult:
    """Fill an installation that never had the demo; afterwards only say how to get in.

    `anew` makes again what is missing (after a removal). `usage_per_day` invents so many requests for each weekday of
    the last month; None: some, and only where there has been no request at all.
    """
    username, password = _admin()
    base_url = f"http://127.0.0.1:{demo_provider_port}/v1"
    may_create = anew or not Provider.history.filter(name__in=DEMO_PROVIDERS).exists()
    if may_create:
        starter_ensure()
        _seed_providers(base_url)
        _seed_routing()
        _seed_teams()
        if usage_per_day is None:
            usage_per_day = 0 if UsageRecord.objects.exists() else SPARSE_PER_DAY
        _seed_history(now=now, per_day=usage_per_day)
    _follow_port(base_url)
    return SeedResult(username, password, _demo_key(may_issue=may_create))


def _admin() -> tuple[str, str | None]:
    """A superuser's name, with the password if the account is made here."""
    existing = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if existing:
        return existing.username, None
    password = secrets.token_urlsafe(12)
    username = ADMIN_USERNAME
    while User.objects.filter(username=username).exists():
        username = f"{ADMIN_USERNAME}-{secrets.token_hex(2)}"
    User.objects.create_superuser(username=username, password=password)
    return username, password


def _follow_port(base_url: str) -> None:
    """The demo server may listen elsewhere today; an address that somebody entered is theirs."""
    for provider in Provider.objects.filter(name__in=DEMO_PROVIDERS, base_url__startswith="http://127.0.0.1:"):
        if provider.base_url != base_url:
            provider.base_url = base_url
            provider.save(update_fields=["base_url"])


# --- whom to call -----------------------------------------------------------------------------------------------


def _seed_providers(base_url: str) -> None:
    for name, (kind, label) in DEMO_PROVIDERS.items():
        provider, created = Provider.objects.get_or_create(
            name=name, defaults={"label": label, "kind": kind, "base_url": base_url, "allowed_networks": LOOPBACK}
        )
        if created:
            provider_key_add(provider=provider, label="Demo", secret=f"demo-{secrets.token_urlsafe(24)}")
        for model in DEMO_MODELS:
            if model.provider == name:
                _seed_model(model, provider)


def _seed_model(model: DemoModel, provider: Provider) -> None:
    row, created = CatalogueModel.objects.get_or_create(
        name=model.name,
        defaults={
            "label": model.label,
            "vendor": "Demo",
            "capabilities": [capability.value for capability in model.capabilities],
            "context_window": model.context_window,
            "max_output_tokens": model.max_output_tokens,
            "cost_tier": model.cost_tier,
            "strengths": model.strengths,
        },
    )
    if created:
        rates = [Decimal(price) for price in model.prices]
        Price.objects.create(
            model=row,
            source=PriceSource.DEMO,
            effective_from=EPOCH,
            **dict(zip(("input_usd", "output_usd", "cache_read_usd", "cache_write_usd"), rates, strict=True)),
        )
    Deployment.objects.get_or_create(
        provider=provider,
        upstream_model=model.name,
        defaults={"model": row, "expected_latency_ms": model.expected_latency_ms},
    )


# --- who serves what ----------------------------------------------------------------------------------------------


def _seed_routing() -> None:
    deployments = {row.upstream_model: row for row in Deployment.objects.filter(provider__name__in=DEMO_PROVIDERS)}
    aliases = {
        name: _alias(name, description, [deployments[model] for model in models])
        for name, (description, models) in DEMO_ALIASES.items()
    }
    for policy in RoutingPolicy.objects.filter(name__in=DEMO_CANDIDATES):
        if not policy.candidates.exists():
            preferred, fallbacks = DEMO_CANDIDATES[policy.name]
            _candidates(policy, CandidateGroup.PREFERRED, [aliases[name] for name in preferred])
            _candidates(policy, CandidateGroup.FALLBACK, [aliases[name] for name in fallbacks])
            policy_edited(policy=policy, by=None, note="The demo's models")


def _alias(name: str, description: str, deployments: Iterable[Deployment]) -> ModelAlias:
    alias, created = ModelAlias.objects.get_or_create(name=name, defaults={"description": description})
    if created:
        for position, deployment in enumerate(deployments):
            AliasTarget.objects.create(alias=alias, deployment=deployment, position=position)
    return alias


def _candidates(policy: RoutingPolicy, group: CandidateGroup, aliases: Iterable[ModelAlias]) -> None:
    for position, alias in enumerate(aliases):
        PolicyCandidate.objects.create(policy=policy, alias=alias, group=group, position=position)


# --- who calls and pays -------------------------------------------------------------------------------------------


def _seed_teams() -> None:
    for demo in DEMO_TEAMS:
        if Team.objects.filter(Q(slug=demo.slug) | Q(name=demo.name)).exists():
            continue
        team = Team(slug=demo.slug, name=demo.name)
        setattr(team, REASON_ATTRIBUTE, DEMO_REASON)
        team.save()
        Budget.objects.create(
            team=team, budget_duration=BudgetDuration.MONTH, max_budget=demo.monthly_usd, mode=demo.mode
        )
        key = key_issue(team=team, name=demo.key_name, by=None, scopes=default_scopes()).key
        if demo.key_daily_usd:
            Budget.objects.create(
                scope=BudgetScope.KEY, key=key, budget_duration=BudgetDuration.DAY, max_budget=demo.key_daily_usd
            )


def _demo_teams() -> QuerySet[Team]:
    """The teams that the demo made, whatever they are called by now."""
    made = Team.history.filter(history_type="+", history_change_reason=DEMO_REASON)
    return Team.objects.filter(pk__in=list(made.values_list("id", flat=True)))


def demo_key() -> str | None:
    """The demo's virtual key where there is one that is in force; reads only."""
    text = _demo_key_text()
    digest = key_digest(settings.KEY_PEPPER.encode(), text)
    return text if VirtualKey.objects.filter(digest=digest, revoked_at=None).exists() else None


def _demo_key(*, may_issue: bool) -> str | None:
    """The key to try the platform with: derived, so that each start can print it and no one has to store it."""
    text = _demo_key_text()
    digest = key_digest(settings.KEY_PEPPER.encode(), text)
    known = VirtualKey.objects.filter(digest=digest).first()
    if known:
        return None if known.revoked_at else text
    team = _demo_teams().filter(slug=SUPPORT_BOT).first()
    stale = list(VirtualKey.objects.filter(team=team, name=DEMO_KEY_NAME, revoked_at=None)) if team else []
    if team is None or not (may_issue or stale):
        return None
    for key in stale:  # derived from a secret that has been replaced: nobody can print it any more
        key_revoke(key=key, by=None)
    return key_issue(team=team, name=DEMO_KEY_NAME, by=None, scopes=default_scopes(), secret=text).secret


def _demo_key_text() -> str:
    secret = f"{settings.SECRET_KEY}\n{settings.KEY_PEPPER}".encode()
    mac = hmac.digest(secret, b"router-platform demo key", "sha512")
    prefix = "demo" + base64.b32encode(mac[:5]).decode().lower()
    return key_text(KeyParts(prefix[:PREFIX_LENGTH], base64.urlsafe_b64encode(mac[5:38]).decode()))


# --- what it cost -------------------------------------------------------------------------------------------------


def _seed_history(*, now: datetime, per_day: int) -> None:
    keys = _history_keys()
    if len(keys) < len(DEMO_TEAMS):
        return
    records = list(invented_usage(keys, _demo_prices(), now=now, per_day=per_day))
    UsageRecord.objects.bulk_create(records, batch_size=500, ignore_conflicts=True)
    hours_mark(hours={hour_of(record.started_at) for record in records})


def _history_keys() -> dict[str, VirtualKey]:
    names = {demo.slug: demo.key_name for demo in DEMO_TEAMS}
    keys = VirtualKey.objects.filter(team__in=_demo_teams()).select_related("team")
    return {key.team.slug: key for key in keys if key.name == names.get(key.team.slug)}


def _demo_prices() -> dict[str, Rates]:
    return {
        row.model.name: price_of(row)
        for row in Price.objects.filter(source=PriceSource.DEMO, model__isnull=False).select_related("model")
        if row.model
    }


# --- removal ------------------------------------------------------------------------------------------------------


@transaction.atomic
def remove() -> RemoveResult:
    """Take the demo away again: its providers, models, aliases, teams, keys, and the usage of these teams.

    Policies and personas stay: they are the platform's own beginning, and real models may serve them. Records are
    deleted only while there are no other providers; later they may be about real money, and the demo is switched off.
    """
    demo_providers = Provider.objects.filter(name__in=DEMO_PROVIDERS)
    if Provider.objects.exclude(name__in=DEMO_PROVIDERS).exists():
        for provider in demo_providers:
            active_set(row=provider, is_active=False)
        return RemoveResult(switched_off=True)
    usage = _remove_teams()
    deployments = Deployment.objects.filter(provider__in=demo_providers)
    AliasTarget.objects.filter(deployment__in=deployments).delete()
    # A key that is limited to an alias keeps it: without it, the key would be limited to nothing, which means all.
    orphans = ModelAlias.objects.filter(name__in=DEMO_ALIASES, targets__isnull=True, keys__isnull=True)
    PolicyCandidate.objects.filter(alias__in=orphans).delete()
    orphans.delete()
    deployments.delete()
    CatalogueModel.objects.filter(name__in=[model.name for model in DEMO_MODELS]).delete()
    ProviderKey.objects.filter(provider__in=demo_providers).delete()
    demo_providers.delete()
    return RemoveResult(switched_off=False, usage_records=usage)


def _remove_teams() -> int:
    """Delete the demo teams with all that hangs on them; the number of usage records."""
    teams = _demo_teams()
    usage, _ = UsageRecord.objects.filter(team__in=teams).delete()
    for rollups in (UsageRollup, HourlyRollup):
        rollups.objects.filter(team__in=teams).delete()
    Budget.objects.filter(Q(team__in=teams) | Q(key__team__in=teams)).delete()
    VirtualKey.objects.filter(team__in=teams).delete()
    teams.delete()
    return usage
