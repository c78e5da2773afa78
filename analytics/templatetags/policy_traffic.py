"""What a policy's requests of the last day came to, for its page."""

from typing import Any

from django import template
from django.utils import timezone

from analytics.selectors.traffic import policy_traffic
from routing.models import RoutingPolicy

register = template.Library()


@register.inclusion_tag("admin/analytics/traffic.html", takes_context=True)
def policy_traffic_panel(context: template.Context, policy: RoutingPolicy | None) -> dict[str, Any]:
    """Nothing for people who may not see usage."""
    if policy is None or not policy.name or not context["request"].user.has_perm("analytics.view_usagerecord"):
        return {}
    return {"traffic": policy_traffic(policy.name, now=timezone.now()), "policy": policy}
