"""The box “Test this policy”, for the page of a policy or of a draft."""

from typing import Any

from django import template

from routerplatform.policy_trial import PromptForm, trial_url
from routing.models import PolicyDraft, RoutingPolicy

register = template.Library()


@register.inclusion_tag("admin/routing/policy_trial/box.html", takes_context=True)
def policy_trial_box(context: template.Context, row: RoutingPolicy | PolicyDraft | None) -> dict[str, Any]:
    """Nothing on the page of a row that is not saved, and for people who may not look at policies."""
    user = context["request"].user
    if row is None or row._state.adding or not user.has_perm("routing.view_routingpolicy"):
        return {}
    return {
        "form": PromptForm(),
        "test_action": trial_url(row),
        "is_draft": isinstance(row, PolicyDraft),
        "csrf_token": context.get("csrf_token"),
        "request": context["request"],
    }
