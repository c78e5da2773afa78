"""POST /api/v1/route/explain: what would be decided of a request, for keys and for signed-in staff."""

from dataclasses import dataclass

from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.db import DatabaseError
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response

from routerplatform.doors import schema
from routerplatform.doors.explain import (
    Asked,
    ExplainAnswerSerializer,
    ExplainRequestSerializer,
    explained_json,
    read_question,
)
from routerplatform.doors.hints import hints_of
from routerplatform.doors.rest import GatewayView, credential, request_id
from routerplatform.gateway.errors import Forbidden, InvalidRequest, Unauthenticated, Unavailable
from routerplatform.gateway.explaining import ANYBODY, Bench, Question, caller_with_prefix, explained
from routerplatform.gateway.pipeline import current_config
from routerplatform.gateway.situations import TAG
from routing.domain.config import Caller, ConfigSnapshot, Policy, Scope
from routing.domain.documents import ConfigError, compile_policy
from routing.models import PolicyDraft
from routing.selectors import policy_document

MAY_LOOK = "routing.view_routingpolicy"
MAY_SEE_DRAFTS = "routing.view_policydraft"
LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Asker:
    """`staff` is None for a key."""

    caller: Caller
    staff: User | None


class ExplainView(GatewayView):
    def get_authenticators(self) -> list[BaseAuthentication]:
        """A page's session counts where no key is presented."""
        presented = getattr(self.request, "headers", {})  # the schema is made without a request
        return [] if "authorization" in presented or "x-api-key" in presented else [SessionAuthentication()]

    @extend_schema(
        request=ExplainRequestSerializer,
        responses={200: ExplainAnswerSerializer, **schema.ERRORS},
        summary="Explain a route",
        tags=["Routing"],
        description="What would be decided of this request and why: nothing is spent, kept or counted, and no provider "
        "is called. Where nothing can serve it, `chosen` is null and `problem` says why.",
        examples=[
            OpenApiExample(
                "Explain auto",
                value={"model": "auto", "messages": [{"role": "user", "content": "Fix this loop."}]},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> Response:
        runtime = self.runtime(request)
        snapshot = current_config(runtime)
        asker = self._asker(request, snapshot, "")
        asked, chat = read_question(request._request.body)
        if asked.key:
            asker = self._asker(request, snapshot, asked.key)
        hints = hints_of((name.lower().encode(), value.encode()) for name, value in request.headers.items())
        question = Question(
            caller=asker.caller,
            request=chat,
            request_id=asked.request_id or request_id(request),
            hints={**hints, TAG: asked.tag} if asked.tag else hints,
            policy=_policy(snapshot, asked, asker.staff),
        )
        answer = async_to_sync(explained)(Bench.of(runtime), snapshot, question)
        return Response(explained_json(answer))

    def _asker(self, request: Request, snapshot: ConfigSnapshot, prefix: str) -> _Asker:
        """:raises Unauthenticated, Forbidden, InvalidRequest:"""
        presented = credential(request)
        if presented or not request.user.is_authenticated:
            runtime = self.runtime(request)
            if prefix:
                raise InvalidRequest("“key” is for signed-in staff: here the key that you present asks.", param="key")
            found = runtime.authenticator.caller(snapshot, presented, now=runtime.now(), scope=Scope.CHAT)
            return _Asker(found, None)
        staff = _staff(request.user)
        caller = caller_with_prefix(snapshot, prefix) if prefix else ANYBODY
        if caller is None:
            raise InvalidRequest(f"No key begins with “{prefix}”.", param="key")
        return _Asker(caller, staff)


def _staff(user: User | AnonymousUser) -> User:
    if isinstance(user, AnonymousUser):
        raise Unauthenticated
    if not user.is_staff or not user.has_perm(MAY_LOOK):
        raise Forbidden("Without a key, only staff who may view routing policies can ask.")
    return user


def _policy(snapshot: ConfigSnapshot, asked: Asked, staff: User | None) -> Policy | None:
    """The policy that is to be followed; None: the one that the request leads to."""
    if asked.draft is not None:
        if staff is None or not staff.has_perm(MAY_SEE_DRAFTS):
            raise Forbidden("Drafts are for signed-in staff who may view them.")
        return _drafted(snapshot, asked.draft)
    if not asked.policy:
        return None
    if asked.policy not in snapshot.policies:
        raise InvalidRequest(f"There is no active policy “{asked.policy}”.", param="policy")
    return snapshot.policies[asked.policy]


def _drafted(snapshot: ConfigSnapshot, number: int) -> Policy:
    """:raises InvalidRequest: there is no such draft, or its rules contradict themselves."""
    try:
        draft = PolicyDraft.objects.select_related("policy").filter(pk=min(number, LARGEST_ID)).first()
        if draft is None:
            raise InvalidRequest(f"There is no draft {number}.", param="draft")
        return draft_compiled(snapshot, draft)
    except ConfigError as error:
        raise InvalidRequest(str(error), param="draft") from error
    except DatabaseError as error:
        raise Unavailable("The draft cannot be read now: the database does not answer.") from error


def draft_compiled(snapshot: ConfigSnapshot, draft: PolicyDraft) -> Policy:
    """The rules of a draft over the models that are in force.

    :raises ConfigError: they contradict themselves.
    """
    document = policy_document(draft, draft.candidates.select_related("alias"))
    policy = draft.policy
    return compile_policy(
        document, snapshot.aliases, policy_id=policy.pk, name=policy.name, version=draft.version or draft.base_version
    )
