"""Which Content-Security-Policy a page gets: the strict one, but for the admin, whose theme evaluates expressions."""

from csp.middleware import CSPMiddleware, PolicyParts
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase


class PagePolicyMiddleware(CSPMiddleware):
    """django-csp's middleware; pages of the admin's address space get ADMIN_CONTENT_SECURITY_POLICY on top."""

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        match = request.resolver_match
        if match is not None and "admin" in match.app_names:
            parts.replace = settings.ADMIN_CONTENT_SECURITY_POLICY
        return parts
