"""“Test this policy”: what a prompt's route would be, on the pages of policies and of drafts. Nothing is spent or kept.

The decision is made by the gateway of this very process: it knows which breakers are open and how quick models are.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from asgiref.sync import async_to_sync
from csp.decorators import csp_replace
from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import permission_required
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from routerplatform.api.explain import draft_compiled
from routerplatform.doors.formats import openai_chat
from routerplatform.doors.rest import RUNTIME
from routerplatform.explained_page import Side, side_of
from routerplatform.gateway.errors import InvalidRequest, Unavailable
from routerplatform.gateway.explaining import ANYBODY, Bench, Explained, Question, caller_with_prefix, explained
from routerplatform.gateway.ids import new_request_id
from routerplatform.gateway.pipeline import current_config
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.situations import TAG
from routing.domain.config import Caller, ConfigSnapshot, Policy
from routing.domain.documents import ConfigError, compile_policy
from routing.models import Persona, PolicyDraft, RoutingPolicy, VirtualKey
from routing.selectors import policy_document

KEYS_OFFERED: Final = 200
LONGEST_PROMPT: Final = 50_000
NO_GATEWAY: Final = (
    "This page was served without a gateway beside it (WSGI), so nobody here can decide. Serve the platform through "
    "ASGI, or ask in a terminal: manage.py route_explain."
)
NEEDS: Final = [
    ("stream", "Streaming"),
    ("tools", "Tool calls"),
    ("json", "JSON"),
    ("schema", "JSON of a schema"),
    ("image", "An image"),
]
AN_OBJECT: Final = 'Write a JSON object, like {"name": "Ada"}.'
_FORMATS: Final = {"json": {"type": "json_object"}, "schema": {"type": "json_schema", "json_schema": {"schema": {}}}}
_PICTURE: Final = {"type": "image_url", "image_url": {"url": "https://example.com/picture.png"}}
_TOOL: Final = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


class PromptForm(forms.Form):
    """A request in words. It stands beside a model's own form, so its fields have names of their own."""

    prefix = "test"

    prompt = forms.CharField(
        max_length=LONGEST_PROMPT,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "placeholder": "What somebody might ask"}),
        error_messages={"required": "Write what somebody might ask."},
    )
    persona = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget)
    variables = forms.JSONField(
        required=False,
        label="Variables",
        widget=UnfoldAdminTextareaWidget(
            attrs={"rows": 1, "placeholder": '{"name": "Ada"}, for a persona’s template', "spellcheck": "false"}
        ),
        error_messages={"invalid": AN_OBJECT},
    )
    key = forms.CharField(
        required=False,
        max_length=40,
        label="Virtual key",
        widget=UnfoldAdminTextInputWidget(attrs={"list": "test-keys", "placeholder": "any", "autocomplete": "off"}),
    )
    tag = forms.CharField(required=False, max_length=200, widget=UnfoldAdminTextInputWidget)
    max_tokens = forms.IntegerField(
        required=False, min_value=1, max_value=2**31 - 1, label="Max. tokens", widget=UnfoldAdminIntegerFieldWidget
    )
    needs = forms.MultipleChoiceField(
        required=False, choices=NEEDS, label="It needs", widget=UnfoldAdminCheckboxSelectMultipleWidget
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        active = Persona.objects.filter(is_active=True).order_by("slug").values_list("slug", flat=True)
        self.fields["persona"].choices = [("", "none"), *((slug, slug) for slug in active)]  # type: ignore[attr-defined]

    def clean_variables(self) -> dict[str, Any] | None:
        given: Any = self.cleaned_data["variables"]
        if given is not None and not isinstance(given, dict):
            raise forms.ValidationError(AN_OBJECT)
        return given

    def keys_offered(self) -> QuerySet[VirtualKey]:
        """Some of the keys that can be named; any other one can be typed."""
        return VirtualKey.objects.filter(revoked_at=None).select_related("team").order_by("team", "name")[:KEYS_OFFERED]

    def body(self) -> bytes:
        """The request, as a client would send it."""
        wanted = self.cleaned_data
        text, needs = wanted["prompt"], wanted["needs"]
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": [{"type": "text", "text": text}, _PICTURE]}]
            if "image" in needs
            else [{"role": "user", "content": text}],
            "persona": wanted["persona"],
        }
        body |= {"variables": wanted["variables"]} if wanted["variables"] is not None else {}
        body |= {"max_tokens": wanted["max_tokens"]} if wanted["max_tokens"] else {}
        body |= {"tools": [_TOOL]} if "tools" in needs else {}
        body |= {"stream": True} if "stream" in needs else {}
        for name, shape in _FORMATS.items():
            body |= {"response_format": shape} if name in needs else {}
        return json.dumps(body).encode()


@dataclass(frozen=True, slots=True)
class Tried:
    """Rules that are tried out, and the heading of what they answer."""

    name: str
    policy: Policy


Rules = Callable[[ConfigSnapshot], list[Tried]]


# --- the pages ----------------------------------------------------------------------------------------------------


@never_cache
@sensitive_post_parameters("test-prompt", "test-variables")
@permission_required("routing.view_routingpolicy", raise_exception=True)
def try_policy(request: HttpRequest, number: int) -> HttpResponse:
    """A policy as it is in force."""
    policy = get_object_or_404(RoutingPolicy, pk=number)

    def rules(snapshot: ConfigSnapshot) -> list[Tried]:
        return [Tried("In force" if policy.is_active else "If it were switched on", _in_force(snapshot, policy))]

    return _page(request, f"Test {policy}", _page_of(policy), trial_url(policy), rules)


@never_cache
@sensitive_post_parameters("test-prompt", "test-variables")
@permission_required(["routing.view_routingpolicy", "routing.view_policydraft"], raise_exception=True)
def try_draft(request: HttpRequest, number: int) -> HttpResponse:
    """A draft beside what is in force; without its own rollout, or it might stand beside itself."""
    draft = get_object_or_404(PolicyDraft.objects.select_related("policy"), pk=number)

    def rules(snapshot: ConfigSnapshot) -> list[Tried]:
        now = replace(_in_force(snapshot, draft.policy), variants=())
        return [Tried("In force", now), Tried("As drafted", draft_compiled(snapshot, draft))]

    return _page(request, f"Test {draft}", _page_of(draft), trial_url(draft), rules)


def trial_url(row: RoutingPolicy | PolicyDraft) -> str:
    return reverse("policy-test" if isinstance(row, RoutingPolicy) else "draft-test", args=[row.pk])


def _page_of(row: RoutingPolicy | PolicyDraft) -> str:
    """Where the row is edited."""
    return reverse(f"admin:routing_{row._meta.model_name}_change", args=[row.pk])


def _page(request: HttpRequest, title: str, back: str, action: str, rules: Rules) -> HttpResponse:
    """The form, and under it what came of it; the box on another page asks for the latter only."""
    form = PromptForm(request.POST if request.method == "POST" else None)
    sides: Sequence[Side] = ()
    problem = ""
    if form.is_valid():
        try:
            sides = _answers(request, form, rules)
        except _CannotTell as error:
            problem = str(error)
    pieces = next((side.pieces for side in sides if side.pieces), ())
    context = {"form": form, "sides": sides, "pieces": pieces, "problem": problem, "test_action": action}
    if request.headers.get("x-requested-with") == "fetch":
        return TemplateResponse(request, "admin/routing/policy_trial/result.html", context)
    context |= {**admin.site.each_context(request), "title": title, "back": back}
    return TemplateResponse(request, "admin/routing/policy_trial/page.html", context)


# --- asking the gateway -------------------------------------------------------------------------------------------


class _CannotTell(Exception):
    """Why there is no answer, for the person who asks."""


def _answers(request: HttpRequest, form: PromptForm, rules: Rules) -> list[Side]:
    """:raises _CannotTell:"""
    scope = getattr(request, "scope", {})
    if RUNTIME not in scope:
        raise _CannotTell(NO_GATEWAY)
    runtime = cast(Runtime, scope[RUNTIME])
    try:
        snapshot = current_config(runtime)
        tried: list[Tried] = rules(snapshot)
        question = _question(snapshot, form)
    except (Unavailable, InvalidRequest, ConfigError) as error:
        raise _CannotTell(str(error)) from error
    told = async_to_sync(_explained)(runtime, snapshot, question, tried)
    return [side_of(one.name, found, form.cleaned_data["prompt"]) for one, found in zip(tried, told, strict=True)]


async def _explained(
    runtime: Runtime, snapshot: ConfigSnapshot, question: Question, tried: Sequence[Tried]
) -> list[Explained]:
    """The same request, with the same id, under each of the rules."""
    return [await explained(Bench.of(runtime), snapshot, replace(question, policy=one.policy)) for one in tried]


def _question(snapshot: ConfigSnapshot, form: PromptForm) -> Question:
    """:raises InvalidRequest: as a chat completion is refused.
    :raises _CannotTell: there is no such key."""
    prefix, tag = form.cleaned_data["key"], form.cleaned_data["tag"]
    caller: Caller | None = caller_with_prefix(snapshot, prefix) if prefix else ANYBODY
    if caller is None:
        raise _CannotTell(f"No key begins with “{prefix}”.")
    hints = {TAG: tag} if tag else {}
    return Question(caller, openai_chat.parse(form.body()), new_request_id(), hints)


def _in_force(snapshot: ConfigSnapshot, policy: RoutingPolicy) -> Policy:
    """As requests meet it; of one that is switched off, as its rows say it.

    :raises ConfigError: they contradict themselves.
    """
    if policy.is_active and policy.name in snapshot.policies:
        return snapshot.policies[policy.name]
    document = policy_document(policy, policy.candidates.select_related("alias"))
    return compile_policy(document, snapshot.aliases, policy_id=policy.pk, name=policy.name, version=policy.version)


# the admin's theme evaluates expressions, which only pages of its own address space may
_themed: Callable[[Any], Any] = csp_replace(settings.ADMIN_CONTENT_SECURITY_POLICY)
urlpatterns = [
    path(
        "admin/routing/routingpolicy/<int:number>/test/", _themed(admin.site.admin_view(try_policy)), name="policy-test"
    ),
    path("admin/routing/policydraft/<int:number>/test/", _themed(admin.site.admin_view(try_draft)), name="draft-test"),
]
