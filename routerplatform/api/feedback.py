"""POST /api/v1/feedback: what people say of answers, sent by the application that showed them."""

from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import DatabaseError
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from analytics.models import Thumb
from analytics.services.feedback import LONGEST_TEXT, UnknownDecision, feedback_give
from routerplatform.doors import schema
from routerplatform.doors.rest import GatewayView, credential
from routerplatform.gateway.errors import DecisionNotFound, InvalidRequest, Unavailable
from routerplatform.gateway.pipeline import current_config
from routing.domain.config import Scope


class FeedbackSerializer(serializers.Serializer[Any]):
    decision_id = serializers.UUIDField(help_text="What the answer's header x-router-decision-id said.")
    thumb = serializers.ChoiceField(choices=Thumb.choices, required=False, help_text="up or down.")
    grade = serializers.FloatField(required=False, min_value=0, max_value=1, help_text="0 is useless, 1 is perfect.")
    text = serializers.CharField(required=False, max_length=LONGEST_TEXT, trim_whitespace=True)


class FeedbackAnswerSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="feedback")
    decision_id = serializers.UUIDField()
    thumb = serializers.CharField(allow_null=True)
    grade = serializers.FloatField(allow_null=True)
    is_first = serializers.BooleanField(help_text="False: it stands in place of what was said before.")


class FeedbackView(GatewayView):
    parser_classes = (JSONParser,)

    @extend_schema(
        request=FeedbackSerializer,
        responses={200: FeedbackAnswerSerializer, **schema.ERRORS},
        summary="Give feedback",
        tags=["Routing"],
        description="Says how good an answer was. Sending it again for the same answer replaces what was said. The key "
        "has to be one of the team that made the request.",
        examples=[
            OpenApiExample(
                "Thumb down",
                value={"decision_id": "0199f2a4-6d2e-7c31-9f5e-1f6f0a2b3c4d", "thumb": "down", "text": "Made it up."},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> Response:
        runtime = self.runtime(request)
        caller = runtime.authenticator.caller(
            current_config(runtime), credential(request), now=runtime.now(), scope=Scope.CHAT
        )
        told = _read(request)
        decision_id: UUID = told["decision_id"]
        try:
            said, is_first = feedback_give(
                decision_id=decision_id,
                team_id=caller.team_id,
                thumb=told.get("thumb", ""),
                grade=told.get("grade"),
                text=told.get("text", ""),
                now=runtime.now(),
            )
        except UnknownDecision:
            raise DecisionNotFound(str(decision_id)) from None
        except ValidationError as error:
            raise InvalidRequest(" ".join(error.messages), param="thumb") from error
        except DatabaseError as error:
            raise Unavailable("Feedback cannot be kept now: the database does not answer. Try again.") from error
        answer = {"object": "feedback", "decision_id": str(decision_id), "thumb": said.thumb or None}
        return Response({**answer, "grade": said.grade, "is_first": is_first})


def _read(request: Request) -> dict[str, Any]:
    """The body, checked; the first field that is wrong is named."""
    form = FeedbackSerializer(data=request.data)
    if form.is_valid():
        return dict(form.validated_data)
    field, complaints = next(iter(form.errors.items()))
    complaint = str(complaints[0]) if isinstance(complaints, list) else str(complaints)
    param = "" if field == "non_field_errors" else str(field)
    raise InvalidRequest(f"{param}: {complaint}" if param else complaint, param=param or None)
