"""Replays for signed-in people: what other rules of a policy would have done with the requests of a range."""

from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http.response import HttpResponseBase
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response

from analytics.exports import csv_response
from analytics.models import Replay, ReplayState
from analytics.replay_page import csv_of, may_run, may_see, range_of, row_of
from analytics.services.replays import dial_request, replay_cancel, replay_request, replay_stalled
from analytics.tasks import dial_queue, replay_queue
from routerplatform.api.authentication import AccessTokenAuthentication
from routerplatform.doors import schema
from routerplatform.doors.rest import GatewayView
from routerplatform.gateway.errors import Forbidden, GatewayError, InvalidRequest, Unauthenticated, UnknownAddress
from routing.domain.documents import ConfigError, PolicyDocument, document_from_json
from routing.models import PolicyDraft, RoutingPolicy


class ReplayRequestSerializer(serializers.Serializer[Any]):
    draft = serializers.IntegerField(required=False, help_text="The draft whose rules to replay by.")
    document = serializers.DictField(required=False, help_text="Or the rules themselves, as a policy version has them.")
    last = serializers.ChoiceField(choices=["24h", "7d"], required=False)
    since = serializers.DateTimeField(required=False, help_text="Or from when; UTC where no zone is given.")
    until = serializers.DateTimeField(required=False, help_text="By default now.")


class DialRequestSerializer(serializers.Serializer[Any]):
    change = serializers.FloatField(help_text="The wanted change of cost: -0.3 is 30 % less.")


class ReplaySerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    id = serializers.IntegerField()
    policy = serializers.CharField()
    policy_id = serializers.IntegerField()
    draft = serializers.IntegerField(allow_null=True)
    base_version = serializers.IntegerField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    state = serializers.ChoiceField(choices=ReplayState.choices)
    error = serializers.CharField()
    done = serializers.IntegerField()
    total = serializers.IntegerField()
    percent = serializers.FloatField()
    seconds_left = serializers.FloatField(allow_null=True)
    warnings = serializers.ListField(
        child=serializers.CharField(), help_text="Why the result may not hold any more: it is stale."
    )
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    result = serializers.DictField(
        allow_null=True,
        help_text="Of one that is done: requests, moved, quality_change, before and after (cost_nano, p95_ms, "
        "violations), routes, teams; and dial, once it was turned.",
    )


class SignInFirst(Unauthenticated):
    """A virtual key is nobody here."""

    code = "not_signed_in"

    def __init__(self) -> None:
        GatewayError.__init__(self, "Sign in first: replays are for people, not for virtual keys.")


class _ForPeople(GatewayView):
    """People who see policies, signed in or by an access token; a virtual key is nobody here."""

    authentication_classes = (AccessTokenAuthentication, SessionAuthentication)  # type: ignore[assignment]  # the base: none

    def person(self, request: Request, *, runs: bool = False) -> User:
        """:raises Unauthenticated, Forbidden: nobody is signed in, or may not see (or run) replays."""
        if not request.user.is_authenticated:
            raise SignInFirst
        person = request.user
        if not may_see(person) or (runs and not may_run(person)):
            raise Forbidden("You may not run replays." if runs else "You may not see policies.")
        return person

    def replay(self, request: Request, id: int) -> Replay:
        """:raises UnknownAddress: there is none."""
        rows = Replay.objects.select_related("policy", "draft__policy")
        replay = rows.filter(pk=min(id, 2**63 - 1)).first()
        if replay is None:
            raise UnknownAddress(request.path)
        if replay_stalled(replay=replay, now=timezone.now()):
            replay.refresh_from_db()
        return replay


class PolicyReplayView(_ForPeople):
    @extend_schema(
        operation_id="policies_replay",
        request=ReplayRequestSerializer,
        responses={202: ReplaySerializer, **schema.ERRORS},
        summary="Replay a policy",
        tags=["Policies"],
        description="Decides the kept requests of a range again, by the rules in force and by those of a draft, and "
        "prices the difference. A worker does it: look at the replay until its state is `done`.",
    )
    def post(self, request: Request, id: int) -> Response:
        person = self.person(request, runs=True)
        policy = RoutingPolicy.objects.filter(pk=min(id, 2**63 - 1)).first()
        if policy is None:
            raise UnknownAddress(request.path)
        body = _body(request)
        try:
            asked = {name: str(body.get(name) or "") for name in ("last", "since", "until")}
            since, until = range_of(asked, now=timezone.now())
        except ValueError as error:
            raise InvalidRequest(str(error), param="since") from error
        try:
            replay = replay_request(
                policy=policy, since=since, until=until, by=person, draft=_draft(body), document=_document(body)
            )
        except ValidationError as error:
            raise InvalidRequest(" ".join(error.messages)) from error
        replay_queue(replay)
        replay.refresh_from_db()
        return Response(row_of(replay, now=timezone.now()), status=202)


class ReplayView(_ForPeople):
    @extend_schema(
        operation_id="replays_read",
        responses={200: ReplaySerializer, **schema.ERRORS},
        summary="Read a replay",
        tags=["Policies"],
    )
    def get(self, request: Request, id: int) -> Response:
        self.person(request)
        return Response(row_of(self.replay(request, id), now=timezone.now()))


class ReplayCsvView(_ForPeople):
    @extend_schema(
        operation_id="replays_csv",
        parameters=[OpenApiParameter("table", OpenApiTypes.STR, enum=["routes", "teams"], default="routes")],
        responses={200: OpenApiResponse(OpenApiTypes.STR, "CSV"), **schema.ERRORS},
        summary="A replay's result as CSV",
        tags=["Policies"],
    )
    def get(self, request: Request, id: int) -> HttpResponseBase:
        self.person(request)
        replay, table = self.replay(request, id), request.query_params.get("table", "routes")
        if table not in {"routes", "teams"}:
            raise InvalidRequest("“table” is routes or teams.", param="table")
        header, rows = csv_of(replay, table)
        return csv_response(request._request, name=f"replay-{replay.pk}-{table}", header=header, rows=rows)


class ReplayCancelView(_ForPeople):
    @extend_schema(
        operation_id="replays_cancel",
        request=None,
        responses={200: ReplaySerializer, **schema.ERRORS},
        summary="Cancel a replay",
        tags=["Policies"],
        description="One that runs stops within a second or two. One that is over stays as it is.",
    )
    def post(self, request: Request, id: int) -> Response:
        self.person(request, runs=True)
        replay = self.replay(request, id)
        replay_cancel(replay=replay)
        replay.refresh_from_db()
        return Response(row_of(replay, now=timezone.now()))


class ReplayDialView(_ForPeople):
    @extend_schema(
        operation_id="replays_dial",
        request=DialRequestSerializer,
        responses={202: ReplaySerializer, **schema.ERRORS},
        summary="Find the threshold for a saving",
        tags=["Policies"],
        description="Looks for the quality floor (or what else the draft's strategy goes by) that changes the cost so "
        "far; the answer comes as `result.dial`.",
    )
    def post(self, request: Request, id: int) -> Response:
        self.person(request, runs=True)
        replay, wanted = self.replay(request, id), _body(request).get("change")
        if not isinstance(wanted, int | float) or isinstance(wanted, bool):
            raise InvalidRequest("“change” is a number: -0.3 is 30 % less.", param="change")
        try:
            dial_request(replay=replay, wanted=float(wanted))
        except ValidationError as error:
            raise InvalidRequest(" ".join(error.messages), param="change") from error
        dial_queue(replay)
        replay.refresh_from_db()
        return Response(row_of(replay, now=timezone.now()), status=202)


def _body(request: Request) -> dict[str, Any]:
    """:raises InvalidRequest: no JSON object."""
    if not isinstance(request.data, dict):
        raise InvalidRequest("The body is a JSON object.")
    return dict(request.data)


def _draft(body: dict[str, Any]) -> PolicyDraft | None:
    """:raises InvalidRequest: there is none with this id."""
    asked = body.get("draft")
    if asked is None:
        return None
    is_id = isinstance(asked, int) and not isinstance(asked, bool) and 0 < asked < 2**63
    draft = PolicyDraft.objects.select_related("policy").filter(pk=asked).first() if is_id else None
    if draft is None:
        raise InvalidRequest(f"There is no draft {asked}.", param="draft")
    return draft


def _document(body: dict[str, Any]) -> PolicyDocument | None:
    """:raises InvalidRequest: it is no document of a policy."""
    asked = body.get("document")
    if asked is None:
        return None
    try:
        return document_from_json(asked)
    except ConfigError as error:
        raise InvalidRequest(str(error), param="document") from error
