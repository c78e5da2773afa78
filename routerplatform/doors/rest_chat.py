"""The addresses of the contract's REST API that ask a model. Each reads a body and shapes an answer, nothing more."""

from typing import Any, Final

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.request import Request

from analytics.domain.usage import UsageEntry
from providers.domain.answer import Frame
from providers.domain.types import ChatRequest
from routerplatform.doors import schema
from routerplatform.doors.formats import native, openai_chat, prompted
from routerplatform.doors.hints import LONGEST_HINT
from routerplatform.doors.relay import PlainText
from routerplatform.doors.rest import AskingView, Hints
from routerplatform.gateway.conversation_pins import HINT as CONVERSATION
from routerplatform.gateway.errors import GatewayError, ModelNotFound
from routerplatform.gateway.situations import FIND_OUT, TAG, TASK_TYPE, task_named
from routerplatform.gateway.steps import Opened
from routing.domain.config import ConfigSnapshot
from routing.domain.provider_models import provider_names

ONCE_KEY: Final = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="A name for this request, new for each new one: sent again with it, the same answer is told again and "
    "costs nothing.",
)


class ChatView(AskingView):
    """Ask a persona, a policy or a model."""

    door = "rest"

    @extend_schema(
        operation_id="chat",
        request=schema.ChatRequestSerializer,
        parameters=[ONCE_KEY],
        responses={200: schema.ChatAnswerSerializer, **schema.ERRORS},
        summary="Chat",
        tags=["Chat"],
        description="One chat turn. With `stream: true` the answer is `text/event-stream`: events `start`, `route`, "
        "`delta`, `tool`, `usage`, `done`, or `error`.",
        examples=[
            OpenApiExample(
                "Ask a persona",
                value={"persona": "chatbot", "messages": [{"role": "user", "content": "Hello!"}]},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> HttpResponseBase:
        return self.ask(request)

    def read(self, body: bytes, hints: Hints) -> ChatRequest:
        return openai_chat.parse(body)

    def whole(self, opened: Opened, frames: list[Frame], entry: UsageEntry) -> dict[str, Any]:
        return native.answer(opened, frames, entry)


class RouteView(AskingView):
    """Ask the router: a prompt in, the model that served it and what it cost out."""

    door = "route"

    @extend_schema(
        operation_id="route",
        request=schema.RouteRequestSerializer,
        parameters=[ONCE_KEY],
        responses={200: schema.RouteAnswerSerializer, **schema.ERRORS},
        summary="Route a prompt",
        tags=["Chat"],
        description="Sends a prompt to the model that suits it, and tells which one that was, its cost and why. "
        "`task_type` says what kind of work it is, for policies that go by that; without it, that is found out. "
        "With `stream: true` the answer is the same stream of events as of `/api/v1/chat`.",
        examples=[
            OpenApiExample("A prompt", value={"prompt": "Why is the sky blue?"}, request_only=True),
            OpenApiExample(
                "A kind of work",
                value={"prompt": "Sort this list in place: [3, 1, 2]", "task_type": "CODING", "max_tokens": 400},
                request_only=True,
            ),
            schema.ROUTED,
        ],
    )
    def post(self, request: Request) -> HttpResponseBase:
        return self.ask(request)

    def read(self, body: bytes, hints: Hints) -> ChatRequest:
        asked, said = prompted.read_route(body)
        task = task_named(said.task_type or "", "task_type") or FIND_OUT
        for name, value in ((TASK_TYPE, task), (TAG, said.tag), (CONVERSATION, said.conversation)):
            if value:
                hints[name] = str(value)[:LONGEST_HINT]
        return asked

    def whole(self, opened: Opened, frames: list[Frame], entry: UsageEntry) -> dict[str, Any]:
        return prompted.route_answer(opened, frames, entry)


class MessageView(AskingView):
    """Ask a provider by its name; streams are the text alone."""

    door = "chat"
    framing = PlainText

    @extend_schema(
        operation_id="chat_message",
        request=schema.MessageRequestSerializer,
        parameters=[ONCE_KEY],
        responses={200: schema.MessageAnswerSerializer, **schema.ERRORS},
        summary="Send a message to a provider",
        tags=["Chat"],
        description="One message to the best model of a provider. With `stream: true` the answer is `text/plain` in "
        "chunks as the text comes; one that breaks ends without its end, which HTTP clients report as an error.",
        examples=[
            OpenApiExample(
                "Ask OpenAI",
                value={"message": "Hello!", "chat_model_name": "openai", "stream": False},
                request_only=True,
            ),
            schema.MESSAGED,
        ],
    )
    def post(self, request: Request) -> HttpResponseBase:
        return self.ask(request)

    def read(self, body: bytes, hints: Hints) -> ChatRequest:
        return prompted.read_message(body)

    def whole(self, opened: Opened, frames: list[Frame], entry: UsageEntry) -> dict[str, Any]:
        return prompted.message_answer(opened, frames, entry)

    def refusal(self, error: GatewayError, snapshot: ConfigSnapshot, asked: ChatRequest) -> GatewayError:
        if not isinstance(error, ModelNotFound) or error.param != "model":
            return error
        there = ", ".join(provider_names(snapshot)) or "none yet"
        return ModelNotFound(
            f"This key cannot ask a provider “{asked.model[:60]}”. Configured providers: {there}.",
            param="chat_model_name",
        )


class CompleteView(AskingView):
    """Continue one prompt."""

    door = "complete"

    @extend_schema(
        operation_id="complete",
        request=schema.CompleteRequestSerializer,
        parameters=[ONCE_KEY],
        responses={200: schema.CompleteAnswerSerializer, **schema.ERRORS},
        summary="Complete a prompt",
        tags=["Chat"],
        description="One prompt, one text. With `stream: true` the answer is the same stream of events as of "
        "`/api/v1/chat`.",
        examples=[
            OpenApiExample(
                "A prompt",
                value={"model": "auto", "prompt": "Say hello.", "temperature": 0, "max_tokens": 100, "top_p": 1},
                request_only=True,
            ),
            schema.COMPLETED,
        ],
    )
    def post(self, request: Request) -> HttpResponseBase:
        return self.ask(request)

    def read(self, body: bytes, hints: Hints) -> ChatRequest:
        return prompted.read_complete(body)

    def whole(self, opened: Opened, frames: list[Frame], entry: UsageEntry) -> dict[str, Any]:
        return prompted.complete_answer(opened, frames, entry)
