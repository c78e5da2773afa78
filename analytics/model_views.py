"""Models that another one makes superfluous. For those who may see models."""

from django.contrib.auth.decorators import login_required, permission_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from analytics.models_page import model_lines


@require_GET
@never_cache
@login_required
@permission_required("providers.view_cataloguemodel", raise_exception=True)
def dominated_list(request: HttpRequest) -> HttpResponse:
    """Those that would have saved most first."""
    now = timezone.now()
    lines = model_lines(now=now)
    context = {
        "lines": lines,
        "saved": sum(line.row.saved_nano or 0 for line in lines),
        "may_see_policies": request.user.is_staff and request.user.has_perm("routing.view_routingpolicy"),
        "now": now,
    }
    return render(request, "dashboards/models.html", context)
