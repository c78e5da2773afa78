"""What a replay found, for the page of a draft."""

from typing import Any

from django import template
from django.utils import timezone

from analytics.replay_page import may_see, panel_of
from routing.models import PolicyDraft

register = template.Library()


@register.inclusion_tag("admin/analytics/replay/panel.html", takes_context=True)
def replay_panel(context: template.Context, draft: PolicyDraft | None) -> dict[str, Any]:
    """Nothing where there is no draft yet, and for people who may not see replays."""
    request = context["request"]
    if draft is None or not may_see(request.user):
        return {}
    return {
        **panel_of(draft, request.user, now=timezone.now()),
        "csrf_token": context.get("csrf_token"),
        "request": request,
    }
