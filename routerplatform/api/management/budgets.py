"""Budgets with what is spent of them, and their raises. Amounts are exact decimal USD as text.

Staff work with what the admin shows them; everybody else sees the budgets of their teams and of these teams' keys.
"""

from decimal import Decimal
from typing import Any

import django_filters
from django.conf import settings
from django.core.exceptions import ValidationError as RuleError
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from analytics.models import Budget, BudgetRaise
from analytics.selectors.budgets import BudgetState, budget_states, budgets_seen, limit_before, rival_of
from analytics.services.budget_raises import (
    budget_raise,
    may_decide,
    raise_apply,
    raise_propose,
    raise_reject,
    raise_withdraw,
)
from analytics.services.budgets import REASON_LENGTH, budget_recall
from routerplatform.api.budgets import usd_text
from routerplatform.api.errors import told_as_conflict
from routerplatform.api.filters import IdFilter, YesNoFilter
from routerplatform.api.management.serializers import ManagedSerializer, Noun, StrictSerializer, Username
from routerplatform.api.management.views import VERBS, Managed, Shown
from routerplatform.gateway.errors import Forbidden
from routing.access import sees_every_team, teams_of

CENT = Decimal("0.01")


class Told(serializers.CharField):
    """A figure of the current period."""

    def __init__(self, help_text: str = "") -> None:
        super().__init__(read_only=True, source="*", help_text=help_text)

    def to_representation(self, value: Any) -> str:
        return usd_text(getattr(state_of(value), f"{self.field_name}_nano"))


class ManagedBudgetSerializer(ManagedSerializer[Budget]):
    object = Noun("budget")
    subject = serializers.CharField(read_only=True, help_text="The name of the team, key, persona or alias.")
    limit = serializers.DecimalField(source="max_budget", max_digits=12, decimal_places=2, min_value=Decimal(0))
    soft_limit = serializers.DecimalField(
        source="soft_budget",
        max_digits=12,
        decimal_places=2,
        min_value=CENT,
        required=False,
        allow_null=True,
        help_text="An alert opens here too.",
    )
    duration = serializers.ChoiceField(
        source="budget_duration", choices=Budget._meta.get_field("budget_duration").choices or [], required=False
    )
    spent = Told("Of this period.")
    leased = Told("Set aside by gateways.")
    remaining = Told("What no gateway has set aside yet.")
    starts_at = serializers.SerializerMethodField()
    resets_at = serializers.SerializerMethodField(help_text="Null: never.")

    class Meta:
        model = Budget
        fixed = ("scope", "team", "key", "persona", "alias", "budget_duration", "time_zone")
        read_only_fields = ("id", "created_at")
        fields = (
            *("object", "id", "scope", "team", "key", "persona", "alias", "subject", "limit", "soft_limit"),
            *("duration", "time_zone", "mode", "is_active", "spent", "leased", "remaining"),
            *("starts_at", "resets_at", "created_at"),
        )

    def get_starts_at(self, budget: Budget) -> Any:
        return state_of(budget).begins_at

    def get_resets_at(self, budget: Budget) -> Any:
        return state_of(budget).ends_before

    def check_row(self, row: Budget, attrs: dict[str, Any]) -> None:
        if row.is_active and (rival := rival_of(row)):
            raise RuleError({"budget_duration" if self.instance is None else "is_active": rival})
        if self.instance is not None and settings.POLICY_REVIEW and limit_before(row, row.max_budget) is not None:
            raise RuleError({"max_budget": "Somebody else has to approve a raise here: ask for it at …/raise."})

    def update(self, instance: Budget, validated_data: dict[str, Any]) -> Budget:
        """A higher amount is a raise, with all that belongs to one."""
        wanted, before = self.checked.max_budget, limit_before(instance, self.checked.max_budget)
        if before is not None:
            self.checked.max_budget = before
        saved = super().update(instance, validated_data)
        if before is not None:
            raise_propose(
                budget=saved, amount_to=wanted, by=self.context["request"].user, reason="Changed by the management API"
            )
        return saved


def state_of(budget: Any) -> BudgetState:
    """The budget in its current period; read once, for a list with those of all its rows (`BudgetViews`)."""
    if not hasattr(budget, "told_state"):
        [budget.told_state] = budget_states([budget], now=timezone.now())
    found: BudgetState = budget.told_state
    return found


class BudgetFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    team = IdFilter(field_name="team_id")
    key = IdFilter(field_name="key_id")
    persona = IdFilter(field_name="persona_id")
    alias = IdFilter(field_name="alias_id")
    is_active = YesNoFilter()
    duration = django_filters.ChoiceFilter(
        field_name="budget_duration", choices=Budget._meta.get_field("budget_duration").choices or []
    )

    class Meta:
        model = Budget
        fields = ("scope", "mode", "is_active", "team", "key", "persona", "alias", "duration")


class RaiseRequestSerializer(StrictSerializer):
    amount = serializers.DecimalField(max_digits=12, decimal_places=2, min_value=CENT, help_text="USD more than now.")
    reason = serializers.CharField(max_length=REASON_LENGTH, help_text="Kept in the history.")


class BudgetRaiseSerializer(ManagedSerializer[BudgetRaise]):
    object = Noun("budget_raise")
    subject = serializers.CharField(source="budget.subject", read_only=True)
    author = Username()
    reviewer = Username()

    class Meta:
        model = BudgetRaise
        fields = (
            *("object", "id", "budget", "subject", "amount_from", "amount_to", "reason", "state", "author"),
            *("created_at", "reviewer", "reviewed_at", "review_note"),
        )
        read_only_fields = fields


class BudgetViews(Managed):
    """A limit on what a team, key, persona or model alias may spend per period."""

    model = Budget
    tag = "Budgets"
    queryset = Budget.objects.select_related("team", "key__team", "persona", "alias")
    serializer_class = ManagedBudgetSerializer
    filterset_class = BudgetFilters
    verbs = {**VERBS, "list": None, "retrieve": None}

    def get_queryset(self) -> QuerySet[Budget]:
        everything = self.may("view") or sees_every_team(self.person)
        return budgets_seen(None if everything else list(teams_of(self.person).values_list("pk", flat=True)))

    def paginate_queryset(self, queryset: Any) -> Any:
        page = super().paginate_queryset(queryset)
        states = {state.budget.pk: state for state in budget_states(page or [], now=timezone.now())}
        for budget in page or []:
            budget.told_state = states[budget.pk]
        return page

    @extend_schema(
        request=RaiseRequestSerializer,
        responses={201: BudgetRaiseSerializer},
        summary="Raise a budget",
        examples=[OpenApiExample("By $10", value={"amount": "10.00", "reason": "a demo day"}, request_only=True)],
    )
    @action(detail=True, methods=["post"], url_path="raise")
    def raise_limit(self, request: Request, pk: int) -> Response:
        """For this period and those that follow. Under review it waits for somebody else's approval."""
        budget = self.get_object()
        wanted = self.body(RaiseRequestSerializer(data=request.data))
        with told_as_conflict():
            raised = budget_raise(budget=budget, amount=wanted["amount"], by=self.person, reason=wanted["reason"])
        told = BudgetRaiseSerializer(raised, context=self.get_serializer_context())
        return Response(told.data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, summary="Recall idle leases of a budget")
    @action(detail=True, methods=["post"])
    def recall(self, request: Request, pk: int) -> Response:
        """Gateways give back what they do not need within seconds."""
        budget = self.get_object()
        budget_recall(budget=budget, by=self.person, now=timezone.now())
        return self.told(budget)


class BudgetRaiseFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    budget = IdFilter(field_name="budget_id")

    class Meta:
        model = BudgetRaise
        fields = ("budget", "state")


class DecisionSerializer(StrictSerializer):
    note = serializers.CharField(required=False, default="", allow_blank=True, max_length=300)


class BudgetRaiseViews(Shown):
    """A change of a budget's amount that somebody else has to approve, and what became of it."""

    model = BudgetRaise
    tag = "Budget raises"
    queryset = BudgetRaise.objects.select_related(
        "budget__team", "budget__key", "budget__persona", "budget__alias", "author", "reviewer"
    )
    serializer_class = BudgetRaiseSerializer
    filterset_class = BudgetRaiseFilters
    verbs = {**VERBS, "approve": "view", "reject": "view", "withdraw": "view"}

    @extend_schema(request=DecisionSerializer, summary="Approve a raise")
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: int) -> Response:
        """The budget gets its new limit at once."""
        raised, note = self._to_decide(may_be_own=False)
        with told_as_conflict():
            raise_apply(raised=raised, by=self.person, note=note)
        return self.told(raised)

    @extend_schema(request=DecisionSerializer, summary="Reject a raise")
    @action(detail=True, methods=["post"])
    def reject(self, request: Request, pk: int) -> Response:
        """The budget stays as it is; `note` says why, and is asked for."""
        raised, note = self._to_decide(may_be_own=False)
        if not note:
            raise RuleError({"note": "Say why, for whoever has asked for it."})
        with told_as_conflict():
            raise_reject(raised=raised, by=self.person, note=note)
        return self.told(raised)

    @extend_schema(request=None, summary="Withdraw a raise")
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: int) -> Response:
        """By whoever has asked for it."""
        raised, _ = self._to_decide(may_be_own=True)
        with told_as_conflict():
            raise_withdraw(raised=raised, by=self.person)
        return self.told(raised)

    def _to_decide(self, *, may_be_own: bool) -> tuple[BudgetRaise, str]:
        """:raises Forbidden: it is not for this person to do it."""
        raised: BudgetRaise = self.get_object()
        note: str = self.body(DecisionSerializer(data=self.request.data))["note"]
        if may_be_own and raised.author_id != self.person.pk:
            raise Forbidden("Only who has asked for it can withdraw it; others reject it.")
        if not may_be_own and not may_decide(raised, self.person):
            raise Forbidden(
                "You may not decide on this raise: that takes the permission analytics.approve_budgetraise, and under "
                "review nobody decides on their own."
            )
        return raised, note
