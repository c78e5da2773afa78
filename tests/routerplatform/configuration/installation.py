"""Installations to write out and read in, and the commands as a person runs them."""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db.models import Model

from analytics.models import AlertChannel, AlertRule, Budget, BudgetScope, ChannelKind
from providers.models import CatalogueModel, Deployment, Price, Provider, ProviderKey
from routing.models import (
    AliasTarget,
    Membership,
    ModelAlias,
    Persona,
    PolicyCandidate,
    PolicyDraft,
    PolicyVersion,
    PromptTemplate,
    PromptTemplateVersion,
    RoutingPolicy,
    RoutingRule,
    Team,
    VirtualKey,
)
from tests.factories import (
    AlertChannelFactory,
    BudgetFactory,
    CatalogueModelFactory,
    DeploymentFactory,
    MembershipFactory,
    ModelAliasFactory,
    PersonaFactory,
    PriceFactory,
    ProviderFactory,
    ProviderKeyFactory,
    RoutingPolicyFactory,
    RoutingRuleFactory,
    TeamFactory,
    UserFactory,
    VirtualKeyFactory,
)

LATER = datetime(2030, 5, 1, 12, 30, tzinfo=UTC)
EVERYTHING: tuple[type[Model], ...] = (  # in an order in which nothing is protected
    AlertChannel, AlertRule, Budget, Persona, PromptTemplateVersion, PromptTemplate,
    RoutingRule, PolicyDraft, PolicyVersion, PolicyCandidate, RoutingPolicy,
    Membership, VirtualKey, Team, AliasTarget, ModelAlias, Price, Deployment, ProviderKey, Provider, CatalogueModel,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command said, and how it ended."""

    out: str
    code: int = 0

    @property
    def lines(self) -> list[str]:
        return self.out.strip().splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ran:
    """Run a command; a refusal is what it says with code 1."""
    capsys.readouterr()
    try:
        call_command(*arguments)
    except CommandError as error:
        return Ran(str(error), 1)
    except SystemExit as end:
        return Ran(capsys.readouterr().out, int(end.code or 0))
    return Ran(capsys.readouterr().out)


def wipe() -> None:
    for model in EVERYTHING:
        model._base_manager.all().delete()


def small_installation() -> None:
    """One of everything that files have, with something in every kind of field."""
    provider = ProviderFactory.create(
        name="alpha", label="Alpha: “A”", region="eu", allowed_networks="10.0.0.0/8\n127.0.0.1/32", timeout_s=30.5
    )
    ProviderKeyFactory.create(provider=provider, label="production, EU", secret="sk-test-of-alpha-0001")
    ProviderKeyFactory.create(provider=provider, label="old", secret="sk-test-of-alpha-0000", is_active=False)
    newer = CatalogueModelFactory.create(name="swift-2", list_price_per_1k=Decimal("0.00015"))
    model = CatalogueModelFactory.create(name="swift-1", status="retired", replaced_by=newer, strengths="yes")
    deployment = DeploymentFactory.create(provider=provider, model=newer, rpm_limit=60, breaker="open")
    other = DeploymentFactory.create(provider=provider, model=model, upstream_model="vendor/swift-1", is_active=False)
    PriceFactory.create(model=newer, input_usd=Decimal("0.15"), tiers=[{"above": 200_000, "input_usd": "0.30"}])
    PriceFactory.create(model=None, deployment=deployment, effective_from=LATER, per_request_usd=Decimal("0.000001"))
    alias = ModelAliasFactory.create(name="swift", deployments=[other, deployment], description="no", tpm_limit=9000)
    spare = ModelAliasFactory.create(name="vendor/spare:1", is_active=False)
    policy = RoutingPolicyFactory.create(
        name="default", is_default=True, preferred=[alias], fallbacks=[spare], strategy="weighted", regions=["eu"],
        max_cost_per_request=Decimal("0.05"), quality_floor=0.25, ladder_cap_percent=50, escalate_on=["refusal"],
    )  # fmt: skip
    PersonaFactory.create(slug="chatbot", policy=policy, temperature=0.7, system_prompt="Be short.\n\nBe kind: #1.\n")
    RoutingRuleFactory.create(name="code", position=3)
    RoutingRuleFactory.create(name="vip", subject="header", header="x-app", outcome="alias", alias=alias, task_type="")
    team = TeamFactory.create(name="Support", slug="support", max_parallel_requests=5)
    MembershipFactory.create(team=team, user=UserFactory.create(username="alice"), role="lead")
    key = VirtualKeyFactory.create(team=team, name="bot / prod", scopes=["models", "chat"], expires_at=LATER)
    key.allowed_models.add(alias)
    BudgetFactory.create(team=team, soft_budget=Decimal("12.50"), time_zone="Europe/Berlin")
    BudgetFactory.create(team=None, scope=BudgetScope.KEY, key=key, budget_duration="1d", max_budget=Decimal(0))
    rule, _ = AlertRule.objects.get_or_create(kind="budget_threshold")
    rule.parameters = {"percents": [50, 90]}
    rule.save()
    AlertChannelFactory.create(name="On-call, mail", clear="ops@example.com", team=team, kinds=["ledger"])
    AlertChannelFactory.create(
        name="hook", kind=ChannelKind.WEBHOOK, clear="https://hooks.example.com/in-1234567890", secret=SIGNING_SECRET
    )


SIGNING_SECRET = "whsec_" + "A" * 43 + "="
SECRETS_OF_SMALL = {
    "ALPHA_PRODUCTION__EU_API_KEY": "sk-test-of-alpha-0001",
    "ALPHA_OLD_API_KEY": "sk-test-of-alpha-0000",
    "ALERTS_ON_CALL__MAIL_ADDRESS": "ops@example.com",
    "ALERTS_HOOK_ADDRESS": "https://hooks.example.com/in-1234567890",
    "ALERTS_HOOK_SIGNING_SECRET": SIGNING_SECRET,
}


def set_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS_OF_SMALL.items():
        monkeypatch.setitem(os.environ, name, value)


def everything() -> dict[str, list[str]]:
    """Every row of every table that an import could touch, with the history and the revision that gateways follow."""
    tables = [
        one for app in ("providers", "routing", "analytics", "auth") for one in apps.get_app_config(app).get_models()
    ]
    tables.append(VirtualKey.allowed_models.through)
    return {one.__name__: sorted(map(repr, one._base_manager.values_list())) for one in tables}


def file_of(folder: Path, text: str, name: str = "router.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)
