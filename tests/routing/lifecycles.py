"""Policies on their way, for tests: people, a policy with models that serve, and drafts of it in any state."""

from typing import Any, Final

from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.test import Client
from django.utils import timezone

from routing.domain.documents import LadderDocument
from routing.models import DraftState, ModelAlias, PolicyDraft, RoutingPolicy
from routing.services.lifecycle import draft_approve, draft_create, draft_reject, draft_submit, draft_withdraw
from routing.services.policy_rules import RULE_COLUMNS
from routing.services.rollouts import draft_publish
from tests.factories import (
    DeploymentFactory,
    ModelAliasFactory,
    PriceFactory,
    ProviderFactory,
    RoutingPolicyFactory,
    UserFactory,
)

VIEWER: Final = ("view_routingpolicy",)
EDITOR: Final = (*VIEWER, "change_routingpolicy", "add_policydraft", "view_policycandidate", "view_modelalias")
REVIEWER: Final = (*EDITOR, "approve_policydraft")

# one value for each field of the rules that is not the usual one, and that the tests' models can live up to
UNUSUAL: Final[dict[str, Any]] = {
    "task_type": "CODING",
    "strategy": "balanced",
    "quality_floor": 0.2,
    "within_of_best": 0.3,
    "cost_weight": 0.4,
    "latency_weight": 0.5,
    "is_sticky": True,
    "regions": ("eu",),
    "max_cost_nano": 50_000_000,
    "max_latency_ms": 9_000,
    "required": ("streaming",),
    "cache_mode": "always",
    "cache_ttl_s": 600,
    "ladder": LadderDocument(cap_at=50, cap_tokens=300, cheaper_at=70, cache_only_at=85, refuse_at=95),
    "escalate_on": ("empty", "refusal"),
    "sample_percent": 20,
    "keeps_prompts": True,
}


def alias(name: str, **options: Any) -> ModelAlias:
    """Served by one deployment in the region eu, at a known price."""
    deployment = DeploymentFactory.create(provider=ProviderFactory.create(region="eu"))
    PriceFactory.create(model=deployment.model)
    made: ModelAlias = ModelAliasFactory.create(name=name, deployments=[deployment], **options)
    return made


def everyday(**options: Any) -> RoutingPolicy:
    """Tries fast, then smart; nothing uses it."""
    models = [alias("fast"), alias("smart")]
    made: RoutingPolicy = RoutingPolicyFactory.create(**{"name": "everyday", "preferred": models} | options)
    return made


def person(name: str, *permissions: str) -> User:
    """Somebody of the staff who has these permissions of routing."""
    user: User = UserFactory.create(username=name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="routing", codename__in=permissions))
    return User.objects.get(pk=user.pk)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def drafted(policy: RoutingPolicy, by: User | None, title: str = "take turns", **rules: Any) -> PolicyDraft:
    """A draft that says something else than the policy; by default that models take turns."""
    draft = draft_create(policy=policy, by=by, title=title)
    usual = {} if rules.keys() & set(RULE_COLUMNS) else {"strategy": "round_robin"}
    for name, value in (usual | rules).items():
        setattr(draft, name, value)
    draft.save()
    return draft


def approved(policy: RoutingPolicy, by: User, reviewer: User, **rules: Any) -> PolicyDraft:
    draft = draft_submit(draft=drafted(policy, by, **rules), by=by)
    return draft_approve(draft=draft, by=reviewer)


@transaction.atomic
def draft_in(state: DraftState, policy: RoutingPolicy, by: User, reviewer: User, **rules: Any) -> PolicyDraft:
    """A draft that came to `state` the way that drafts come there."""
    draft = drafted(policy, by, **rules)
    if state == DraftState.DRAFT:
        return draft
    if state == DraftState.WITHDRAWN:
        return draft_withdraw(draft=draft, by=by)
    draft = draft_submit(draft=draft, by=by)
    if state == DraftState.REVIEW:
        return draft
    if state == DraftState.REJECTED:
        return draft_reject(draft=draft, by=reviewer, note="too dear")
    draft = draft_approve(draft=draft, by=reviewer)
    if state == DraftState.APPROVED:
        return draft
    stages = [5, 50, 100] if state == DraftState.ROLLING_OUT else [100]
    return draft_publish(draft=draft, stages=stages, now=timezone.now())
