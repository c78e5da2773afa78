"""What a caller may read about money: the budgets that apply to a virtual key, or those that a person may see.

A key needs the scope `usage` and sees the budgets of its team and its own. A signed-in person sees those of their
teams and of these teams' keys; who may see every team sees all, those of personas and model aliases too.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import DatabaseError
from django.db.models import Q, QuerySet
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response

from analytics.models import Budget
from analytics.selectors.budgets import BudgetState, budget_states, budgets_seen
from providers.domain.pricing import usd
from routerplatform.api.authentication import AccessTokenAuthentication
from routerplatform.doors import schema
from routerplatform.doors.rest import GatewayView, credential
from routerplatform.gateway.errors import InvalidRequest, Unavailable, UnknownAddress
from routerplatform.gateway.pipeline import current_config
from routing.access import sees_every_team, teams_of
from routing.domain.config import Scope

PAGE, LARGEST_PAGE = 100, 1000
LARGEST_ID = 2**63 - 1


class _ForKeysAndPeople(GatewayView):
    """Also people are let in: those who are signed in, and by their access tokens."""

    authentication_classes = (AccessTokenAuthentication, SessionAuthentication)  # type: ignore[assignment]  # the base: none

    def budgets(self, request: Request) -> QuerySet[Budget]:
        """The budgets that whoever asks may see.

        :raises Unauthenticated: neither a valid key nor a signed-in person.
        :raises Forbidden: the key lacks the scope `usage`.
        """
        person, presented = request.user, credential(request)
        if person.is_authenticated and (request.auth or not presented):
            teams = None if sees_every_team(person) else list(teams_of(person).values_list("pk", flat=True))
            return budgets_seen(teams)
        runtime = self.runtime(request)
        caller = runtime.authenticator.caller(current_config(runtime), presented, now=runtime.now(), scope=Scope.USAGE)
        return budgets_seen(None).filter(Q(team_id=caller.team_id) | Q(key_id=caller.key_id))


class BudgetsView(_ForKeysAndPeople):
    @extend_schema(
        operation_id="budgets_list",
        parameters=[
            OpenApiParameter("limit", OpenApiTypes.INT, description=f"1 to {LARGEST_PAGE}; by default {PAGE}."),
            OpenApiParameter(
                "starting_after", OpenApiTypes.INT, description="The id of the last budget of the page before."
            ),
        ],
        responses={200: schema.BudgetListSerializer, **schema.ERRORS},
        summary="List budgets",
        tags=["Budgets"],
        description="The budgets in force that you may see, by id, each in its current period.",
    )
    def get(self, request: Request) -> Response:
        limit = number(request, "limit", PAGE, at_most=LARGEST_PAGE)
        after = number(request, "starting_after", 0, at_least=0, at_most=LARGEST_ID)
        budgets = self.budgets(request).filter(is_active=True, pk__gt=after).order_by("pk")[: limit + 1]
        rows = _rows(budgets, timezone.now())
        return Response({"object": "list", "data": rows[:limit], "has_more": len(rows) > limit})


class BudgetView(_ForKeysAndPeople):
    @extend_schema(
        operation_id="budgets_read",
        responses={200: schema.BudgetSerializer, **schema.ERRORS},
        summary="Read a budget",
        tags=["Budgets"],
        description="One budget in its current period. One that you may not see is not found, like any other.",
    )
    def get(self, request: Request, id: int) -> Response:
        rows = _rows(self.budgets(request).filter(pk=min(id, LARGEST_ID)), timezone.now())
        if not rows:
            raise UnknownAddress(request.path)
        return Response(rows[0])


def _rows(budgets: QuerySet[Budget], now: datetime) -> list[dict[str, Any]]:
    try:
        return [row_of(state) for state in budget_states(budgets, now=now)]
    except DatabaseError as error:
        raise Unavailable("Budgets cannot be read now: the database does not answer. Try again in a moment.") from error


def row_of(state: BudgetState) -> dict[str, Any]:
    budget = state.budget
    return {
        "object": "budget",
        "id": budget.pk,
        "scope": budget.scope,
        "subject": str(budget.subject),
        "mode": budget.mode,
        "is_active": budget.is_active,
        "limit": usd_text(state.limit_nano),
        "soft_limit": f"{budget.soft_budget:f}" if budget.soft_budget is not None else None,
        "settled": usd_text(state.spent_nano),
        "held": usd_text(state.leased_nano),
        "remaining": usd_text(state.remaining_nano),
        "duration": budget.budget_duration,
        "time_zone": budget.time_zone,
        "starts_at": state.begins_at,
        "resets_at": state.ends_before,
        "as_of": state.as_of,
        "unpriced_requests": state.unpriced,
    }


def usd_text(nano: int) -> str:
    """Exact USD with two decimals at least: “12.50”, “0.000039”."""
    exact: Decimal = usd(nano)
    whole, _, fraction = f"{exact:f}".partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


def number(request: Request, name: str, default: int, *, at_least: int = 1, at_most: int) -> int:
    """:raises InvalidRequest: no whole number, or out of range."""
    text = request.query_params.get(name, "")
    if not text:
        return default
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    if not at_least <= value <= at_most:
        raise InvalidRequest(f"“{name}” is a whole number from {at_least} to {at_most}.", param=name)
    return value
