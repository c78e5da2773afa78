"""The addresses of the management API, below /api/v1/manage/. docs/management-api.md names them; a test compares."""

from rest_framework.routers import SimpleRouter

from routerplatform.api.management.budgets import BudgetRaiseViews, BudgetViews
from routerplatform.api.management.catalogue import CatalogueModelViews, DeploymentViews, PriceViews
from routerplatform.api.management.drafts import PolicyDraftViews
from routerplatform.api.management.keys import VirtualKeyViews
from routerplatform.api.management.policies import PolicyVersionViews, RoutingPolicyViews
from routerplatform.api.management.providers import ProviderKeyViews, ProviderViews
from routerplatform.api.management.routing import ModelAliasViews, PersonaViews, RoutingRuleViews
from routerplatform.api.management.teams import MembershipViews, TeamViews
from routerplatform.api.management.tokens import AccessTokenViews
from routerplatform.api.management.usage import UsageViews

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
for noun, views in {
    "providers": ProviderViews,
    "provider-keys": ProviderKeyViews,
    "models": CatalogueModelViews,
    "deployments": DeploymentViews,
    "prices": PriceViews,
    "aliases": ModelAliasViews,
    "personas": PersonaViews,
    "rules": RoutingRuleViews,
    "policies": RoutingPolicyViews,
    "policy-versions": PolicyVersionViews,
    "policy-drafts": PolicyDraftViews,
    "teams": TeamViews,
    "memberships": MembershipViews,
    "keys": VirtualKeyViews,
    "budgets": BudgetViews,
    "budget-raises": BudgetRaiseViews,
    "usage": UsageViews,
    "access-tokens": AccessTokenViews,
}.items():
    router.register(noun, views, basename=f"manage-{noun}")

urlpatterns = router.urls
