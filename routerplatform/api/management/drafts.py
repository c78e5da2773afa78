"""Drafts of policies: the same moves as the buttons on their pages, open to the same people in the same states."""

from typing import Any

import django_filters
from django.core.exceptions import ValidationError as RuleError
from django.db import transaction
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from routerplatform.api.errors import Conflict, told_as_conflict
from routerplatform.api.filters import IdFilter
from routerplatform.api.management.documents import check_document, read_document
from routerplatform.api.management.policies import DRAFTED, Document
from routerplatform.api.management.serializers import ManagedSerializer, Noun, StrictSerializer, Username
from routerplatform.api.management.views import VERBS, Added, Edited, Shown
from routerplatform.gateway.errors import Forbidden
from routing.admin.draft_moves import MOVES
from routing.admin.drafts import OPEN, changes_of
from routing.models import PolicyDraft, validate_stages
from routing.policy_access import is_author, may_edit_draft, may_propose
from routing.policy_selectors import policy_complaints
from routing.services.drafts import draft_change
from routing.services.lifecycle import draft_create, is_stale
from routing.services.policy_rules import document_of, policy_locked, version_ensure

NOTE_LENGTH = 5000
OWN_COLUMNS = ("title", "note", "publish_at", "stages", "stage_minutes")


def stages_field(**options: Any) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.IntegerField(),
        validators=[validate_stages],
        help_text="Rising shares of the requests in percent, the last one 100. [100]: all at once.",
        **options,
    )


class PolicyDraftSerializer(ManagedSerializer[PolicyDraft]):
    object = Noun("policy_draft")
    policy_name = serializers.CharField(source="policy.name", read_only=True)
    author = Username()
    reviewer = Username()
    document = Document(required=False)
    from_version = serializers.IntegerField(
        write_only=True,
        required=False,
        min_value=1,
        max_value=2**31 - 1,
        help_text="Begin with what this version said. Only when it is proposed, and not beside `document`.",
    )
    is_stale = serializers.SerializerMethodField(help_text="Something else was published since: rebase it.")
    stages = stages_field(required=False)

    class Meta:
        model = PolicyDraft
        fixed = ("policy",)
        read_only_fields = (
            *("id", "base_version", "version", "state", "created_at", "submitted_at", "reviewed_at", "review_note"),
            *("percent", "stage_since", "closed_at", "closed_note"),
        )
        fields = (
            *("object", "id", "policy", "policy_name", "title", "note", "document", "from_version", "state"),
            *("is_stale", "base_version", "version", "author", "created_at", "submitted_at"),
            *("reviewer", "reviewed_at", "review_note", "publish_at", "stages", "stage_minutes"),
            *("percent", "stage_since", "closed_at", "closed_note"),
        )

    def get_is_stale(self, draft: PolicyDraft) -> bool:
        return draft.state in OPEN and is_stale(draft)

    def check_row(self, row: PolicyDraft, attrs: dict[str, Any]) -> None:
        if "from_version" in attrs and (self.instance is not None or "document" in attrs):
            raise RuleError({"from_version": "It is for a new draft whose rules are not given otherwise."})
        if "document" in attrs:
            attrs["document"] = read_document(attrs["document"])
            before = document_of(self.instance) if isinstance(self.instance, PolicyDraft) else None
            check_document(attrs["document"], row.policy, before)
        if "publish_at" in attrs and row.publish_at is not None and row.publish_at <= timezone.now():
            raise RuleError({"publish_at": "This moment has passed. Choose a later one."})

    def create(self, validated_data: dict[str, Any]) -> PolicyDraft:
        row, by = self.checked, self.context["request"].user
        draft = draft_create(
            policy=row.policy,
            by=by,
            title=row.title,
            note=row.note,
            version=validated_data.get("from_version"),
            document=validated_data.get("document"),
        )
        columns = {name: validated_data[name] for name in OWN_COLUMNS if name in validated_data}
        return draft_change(draft=draft, by=by, columns=columns)

    def update(self, instance: PolicyDraft, validated_data: dict[str, Any]) -> PolicyDraft:
        columns = {name: validated_data[name] for name in OWN_COLUMNS if name in validated_data}
        by, document = self.context["request"].user, validated_data.get("document")
        with told_as_conflict():
            return draft_change(draft=instance, by=by, columns=columns, document=document)


class PolicyDraftFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    policy = IdFilter(field_name="policy_id")
    author = django_filters.CharFilter(field_name="author__username")

    class Meta:
        model = PolicyDraft
        fields = ("policy", "state", "author")


# --- what the moves take, and what the difference tells -------------------------------------------------------------


class NothingSerializer(StrictSerializer):
    """No fields."""


class NoteSerializer(StrictSerializer):
    note = serializers.CharField(required=False, default="", allow_blank=True, max_length=NOTE_LENGTH)


class ApprovalSerializer(NoteSerializer):
    submitted_at = serializers.DateTimeField(
        help_text="Of the draft as you have read it: one that was changed and submitted again since is not approved."
    )


class ReasonSerializer(StrictSerializer):
    note = serializers.CharField(max_length=NOTE_LENGTH, help_text="What is wrong with it. Its author reads it.")


class PublishSerializer(StrictSerializer):
    stages = stages_field(required=False)
    stage_minutes = serializers.IntegerField(required=False, min_value=1, max_value=43_200, default=10)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "stage_minutes" in self.initial_data and "stages" not in attrs:
            raise serializers.ValidationError({"stages": "Say which. Without stages all requests follow it at once."})
        return attrs


class AdvanceSerializer(StrictSerializer):
    percent = serializers.IntegerField(
        required=False, default=0, min_value=0, max_value=100, help_text="From which stage on: sent twice it acts once."
    )


class ScheduleSerializer(StrictSerializer):
    publish_at = serializers.DateTimeField(allow_null=True, help_text="Null: when somebody publishes it.")


class ChangeSerializer(serializers.Serializer[Any]):
    field = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # declared fields do not stay attributes
    before = serializers.CharField()
    after = serializers.CharField()


class ComplaintSerializer(serializers.Serializer[Any]):
    field = serializers.CharField()
    text = serializers.CharField()


class DifferenceSerializer(serializers.Serializer[Any]):
    object = Noun("policy_difference")
    changes = ChangeSerializer(many=True, help_text="In words; empty: its rules are those in force.")
    complaints = ComplaintSerializer(many=True, help_text="What keeps it from being put into force.")
    moves = serializers.ListField(child=serializers.CharField(), help_text="What you can do with it now.")


class PolicyDraftViews(Shown, Added, Edited):
    """A change of a policy, not yet in force. It is withdrawn, never deleted."""

    model = PolicyDraft
    tag = "Policy drafts"
    queryset = PolicyDraft.objects.select_related("policy", "author", "reviewer").prefetch_related(DRAFTED)
    serializer_class = PolicyDraftSerializer
    filterset_class = PolicyDraftFilters
    verbs = {name: "view" for name in (*VERBS, "diff", *(name.replace("-", "_") for name in MOVES))}

    @extend_schema(
        summary="Propose a change of a policy",
        examples=[
            OpenApiExample(
                "Cheapest first",
                value={
                    "policy": 1,
                    "title": "Cheapest first",
                    "document": {"strategy": "lowest_cost", "candidates": [{"alias": "swift"}, {"alias": "sage"}]},
                },
                request_only=True,
            )
        ],
    )
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """A copy of the rules in force, or of an older version, or the rules that are sent."""
        if not may_propose(self.person):
            raise Forbidden("You may not propose policy changes: that takes the permission routing.add_policydraft.")
        return super().create(request, *args, **kwargs)

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Only its author edits a draft, before it is submitted. `document` replaces all of its rules."""
        if not (may_propose(self.person) and is_author(self.person, self.get_object())):
            raise Forbidden("Only its author edits a draft, with the permission routing.add_policydraft.")
        return super().partial_update(request, *args, **kwargs)

    def locked(self) -> PolicyDraft:
        """The services hold the policy's row while they move its drafts, so that one is taken first here too."""
        policy_locked(self.get_object().policy)
        found: PolicyDraft = self.get_object()
        return found

    def may(self, verb: str, row: Any = None) -> bool:
        if verb == "change" and row is not None:
            return may_edit_draft(self.person, row)
        return super().may(verb, row)

    def why_it_is_fixed(self, row: PolicyDraft) -> str:
        return f"It is “{row.get_state_display().lower()}” by now, or an experiment tries it. Reopen it first."

    @extend_schema(summary="What a draft changes", responses={200: DifferenceSerializer})
    @action(detail=True, methods=["get"])
    def diff(self, request: Request, pk: int) -> Response:
        """Compared with what is in force; of a closed draft, with what it was made from."""
        draft = self.get_object()
        is_open = draft.state in OPEN
        complaints = policy_complaints(draft.policy, document_of(draft), now=timezone.now()) if is_open else []
        told = {
            "changes": changes_of(draft),
            "complaints": complaints,
            "moves": [name for name, move in MOVES.items() if move.is_open_to(self.person, draft)],
        }
        return Response(DifferenceSerializer(told).data)

    # --- the moves --------------------------------------------------------------------------------------------------

    @extend_schema(request=NothingSerializer, summary="Submit a draft for review")
    @action(detail=True, methods=["post"])
    def submit(self, request: Request, pk: int) -> Response:
        """From then on it stays as it is until it is approved, rejected or reopened."""
        return self._move("submit", NothingSerializer)

    @extend_schema(request=ApprovalSerializer, summary="Approve a draft")
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: int) -> Response:
        """Under review of policies, by somebody else than its author."""
        return self._move("approve", ApprovalSerializer)

    @extend_schema(request=ReasonSerializer, summary="Reject a draft")
    @action(detail=True, methods=["post"])
    def reject(self, request: Request, pk: int) -> Response:
        """It goes back to its author."""
        return self._move("reject", ReasonSerializer)

    @extend_schema(request=PublishSerializer, summary="Publish a draft")
    @action(detail=True, methods=["post"])
    def publish(self, request: Request, pk: int) -> Response:
        """For all requests, or with `stages` for a growing share of them."""
        in_stages = isinstance(request.data, dict) and "stages" in request.data
        return self._move("publish-in-stages" if in_stages else "publish", PublishSerializer)

    @extend_schema(request=AdvanceSerializer, summary="Advance a rollout")
    @action(detail=True, methods=["post"])
    def advance(self, request: Request, pk: int) -> Response:
        """On to the next stage, without waiting for the end of this one."""
        return self._move("advance", AdvanceSerializer)

    @extend_schema(request=NoteSerializer, summary="Abort a rollout")
    @action(detail=True, methods=["post"])
    def abort(self, request: Request, pk: int) -> Response:
        """Every request follows what is in force within two seconds; the draft stays approved."""
        return self._move("abort", NoteSerializer)

    @extend_schema(request=ScheduleSerializer, summary="Schedule a draft")
    @action(detail=True, methods=["post"])
    def schedule(self, request: Request, pk: int) -> Response:
        """A worker publishes it then, if nothing else was published meanwhile."""
        return self._move("schedule", ScheduleSerializer)

    @extend_schema(request=NothingSerializer, summary="Rebase a draft")
    @action(detail=True, methods=["post"])
    def rebase(self, request: Request, pk: int) -> Response:
        """Its changes are made on top of what is in force now; what was approved has to be approved again."""
        return self._move("rebase", NothingSerializer)

    @extend_schema(request=NothingSerializer, summary="Reopen a draft")
    @action(detail=True, methods=["post"])
    def reopen(self, request: Request, pk: int) -> Response:
        """For another edit by its author; what was approved has to be approved again."""
        return self._move("reopen", NothingSerializer)

    @extend_schema(request=NoteSerializer, summary="Withdraw a draft")
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: int) -> Response:
        """It is given up for good, and stays to be read."""
        return self._move("withdraw", NoteSerializer)

    def _move(self, name: str, takes: type[StrictSerializer]) -> Response:
        """:raises Forbidden: it is not for this person, whatever state the draft is in.
        :raises Conflict: not in this state.
        """
        draft, move = self.get_object(), MOVES[name]
        given = self.body(takes(data=self.request.data))
        if not move.may(self.person, draft):
            raise Forbidden(f"“{move.label}” is not for you, with this draft.")
        if draft.state not in move.states:
            wanted = " or ".join(f"“{state.label.lower()}”" for state in move.states)
            raise Conflict(f"It is “{draft.get_state_display().lower()}” by now: this is for what is {wanted}.")
        version_ensure(policy=draft.policy)  # a change that nobody recorded makes it stale
        draft.policy.refresh_from_db()
        with told_as_conflict(), transaction.atomic():
            move.act(draft, self.person, given)
        return self.told(draft)
