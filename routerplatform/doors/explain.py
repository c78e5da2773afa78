"""What is asked of `POST /api/v1/route/explain`, and the JSON that answers it. Pure: the view is `explain_api.py`."""

from typing import Any, Final

import msgspec
from msgspec import Struct
from rest_framework import serializers

from providers.domain.pricing import usd
from providers.domain.types import ChatRequest, Deployment, Price
from routerplatform.doors.formats import openai_chat
from routerplatform.doors.formats.openai_body import decode_body
from routerplatform.doors.schema import ChatRequestSerializer
from routerplatform.gateway.errors import InvalidRequest
from routerplatform.gateway.explaining import Explained, Looked
from routing.domain.config import STRATEGY_LABELS, TASK_LABELS, Policy
from routing.domain.explanation import candidate, explanation

LONGEST_NAME: Final = 200


class Asked(Struct):
    """What a question has beside the request's own fields: they are no part of the request that is decided."""

    policy: str = ""
    draft: int | None = None
    tag: str = ""
    request_id: str = ""
    key: str = ""


OWN_FIELDS: Final = frozenset(Asked.__struct_fields__)
_asked = msgspec.json.Decoder(Asked)


def read_question(raw: bytes) -> tuple[Asked, ChatRequest]:
    """The question, and the request as it would have been sent.

    :raises InvalidRequest: as a chat completion is refused; a field of the question of the wrong type or too long.
    """
    asked, fields = decode_body(raw, _asked)
    for name in ("policy", "tag", "request_id", "key"):
        if len(getattr(asked, name)) > LONGEST_NAME:
            raise InvalidRequest(f"“{name}” has at most {LONGEST_NAME} characters.", param=name)
    if asked.policy and asked.draft is not None:
        raise InvalidRequest("Name a policy or a draft, not both.", param="draft")
    if OWN_FIELDS & fields.keys():
        raw = msgspec.json.encode({name: value for name, value in fields.items() if name not in OWN_FIELDS})
    return asked, openai_chat.parse(raw)


# --- the answer ---------------------------------------------------------------------------------------------------


def explained_json(told: Explained) -> dict[str, Any]:
    """Everything that the decision was made from. `chosen` is null where `problem` says why nothing would serve."""
    plan, situation, snapshot = told.plan, told.situation, told.snapshot
    policy = told.policy
    return {
        "object": "route.explanation",
        "request_id": told.question.request_id,
        "chosen": plan.targets[0].name if plan else None,
        "asked_first": told.asked_first or None,
        "problem": None if told.problem is None else _problem(told),
        "decision": explanation(plan) if plan else None,
        "candidates": [candidate_json(one, policy) for one in told.candidates],
        "policy": None if policy is None else {"name": policy.name, "version": policy.version},
        "strategy": None
        if policy is None
        else {"name": policy.strategy.value, "words": STRATEGY_LABELS[policy.strategy]},
        "task": _task(told),
        "rule": situation.rule.name if policy is not None and situation.rule else None,
        "arm": plan.arm or None if plan else None,
        "step": {"name": told.step.name, "words": told.step_in_words} if told.step.name else None,
        "budget_used": round(situation.budget_used, 4),
        "max_tokens": told.step.max_tokens,
        "kept_for_conversation": bool(plan and plan.sticks),
        "expected_output_tokens": situation.usual_output,
        "input_tokens": told.question.request.input_tokens_estimate,
        "tag": situation.tag or None,
        "turn": situation.turn if policy is not None else None,
        "artefact": snapshot.artefact or "default",
        "config_revision": snapshot.revision,
    }


def _problem(told: Explained) -> dict[str, Any]:
    problem = told.problem
    return {"code": problem.code, "message": problem.message, "param": problem.param} if problem else {}


def _task(told: Explained) -> dict[str, Any] | None:
    """What kind of work it is; None where nobody wanted to know."""
    task = told.situation.task
    if task is None:
        return None
    return {
        "label": task.label.value,
        "words": TASK_LABELS[task.label],
        "confidence": round(task.confidence, 4),
        "known": round(task.known, 4),
        "source": task.source,
        "scores": {label.value: round(score, 4) for label, score in task.scores.items()},
        "reasons": list(task.reasons),
        "contributions": [{"word": one.text, "contribution": round(one.weight, 4)} for one in told.words],
    }


def candidate_json(one: Looked, policy: Policy | None) -> dict[str, Any]:
    """A candidate as records keep it, and what else is known of it now."""
    known = candidate(one.considered, policy) | {"estimated_cost_usd": usd_text(one.considered.estimated_cost_nano)}
    deployment, standing, estimate = one.deployment, one.standing, one.estimate
    if deployment is None or standing is None or estimate is None:
        return known
    return known | {
        "model": deployment.model,
        "provider": deployment.endpoint.name,
        "region": deployment.endpoint.region or None,
        "cost_tier": deployment.cost_tier,
        "quality": round(estimate.mean, 4),
        "quality_basis": estimate.basis,
        "quality_samples": estimate.samples,
        "latency_ms": known.get("latency_ms", _latency(one)),
        "in_flight": standing.in_flight,
        "headroom": round(standing.headroom, 4),
        "circuit_breaker": one.breaker,
        "keys": {"all": one.keys, "usable": one.keys_awake},
        "out_of_service": one.out_of_service or standing.out_of_service or None,
        "price": price_json(deployment.price),
        "context_window": deployment.context_window,
        "capabilities": sorted(deployment.capabilities),
    }


def _latency(one: Looked) -> float | None:
    """Measured, else as the operator expects it."""
    deployment: Deployment | None = one.deployment
    if one.standing is not None and one.standing.latency_ms is not None:
        return round(one.standing.latency_ms, 1)
    return deployment.expected_latency_ms if deployment else None


def price_json(price: Price | None) -> dict[str, Any] | None:
    """Exact USD per million tokens, as text; null is unknown, which is not free."""
    if price is None:
        return None
    return {
        "input_usd_per_1m": usd_text(price.input),
        "output_usd_per_1m": usd_text(price.output),
        "cache_read_usd_per_1m": usd_text(price.cache_read),
        "per_request_usd": usd_text(price.per_request),
    }


def usd_text(nano: int | None) -> str | None:
    """Exact USD with two decimals at least: “1.00”, “0.000039”."""
    if nano is None:
        return None
    whole, _, fraction = f"{usd(nano):f}".partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


# --- for the OpenAPI document -------------------------------------------------------------------------------------


class ExplainRequestSerializer(ChatRequestSerializer):
    policy = serializers.CharField(
        required=False, help_text="Follow this policy instead of the one that `model` and `persona` lead to."
    )
    draft = serializers.IntegerField(
        required=False, help_text="Follow the rules of this draft. For signed-in staff; not with a key."
    )
    tag = serializers.CharField(required=False, help_text="As the header `x-router-tag` of a request.")
    request_id = serializers.CharField(
        required=False, help_text="Seeds what is drawn: with a request's id the answer is how that one was decided."
    )
    key = serializers.CharField(
        required=False, help_text="The prefix of the key that asks. For signed-in staff; else the key itself does."
    )


class ExplainProblemSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    param = serializers.CharField(allow_null=True)


class ExplainCandidateSerializer(serializers.Serializer[Any]):
    deployment = serializers.CharField()
    alias = serializers.CharField()
    verdict = serializers.ChoiceField(choices=["chosen", "fallback", "skipped"])
    reason = serializers.CharField(help_text="Why it was skipped.")
    estimated_cost_nano = serializers.IntegerField(allow_null=True)
    estimated_cost_usd = serializers.CharField(allow_null=True)
    quality = serializers.FloatField(help_text="The expected share of good answers, 0 to 1.")
    quality_basis = serializers.CharField()
    quality_samples = serializers.IntegerField(help_text="Graded answers that the estimate rests on.")
    latency_ms = serializers.FloatField(allow_null=True)
    score = serializers.FloatField(required=False, help_text="The number that the strategy went by.")
    is_fallback = serializers.BooleanField(required=False, help_text="One of the policy’s fallbacks.")
    model = serializers.CharField()
    provider = serializers.CharField()
    region = serializers.CharField(allow_null=True)
    cost_tier = serializers.CharField()
    in_flight = serializers.IntegerField(help_text="Requests under way.")
    headroom = serializers.FloatField(help_text="What is left of the vendor’s limits, 0 to 1.")
    context_window = serializers.IntegerField(allow_null=True, help_text="Tokens.")
    capabilities = serializers.ListField(child=serializers.CharField())
    circuit_breaker = serializers.ChoiceField(choices=["closed", "open", "half_open"])
    keys = serializers.DictField(child=serializers.IntegerField())
    out_of_service = serializers.CharField(allow_null=True, help_text="Why it would not be asked now.")
    price = serializers.DictField(allow_null=True)


class ExplainAnswerSerializer(serializers.Serializer[Any]):
    object = serializers.ChoiceField(choices=["route.explanation"])
    request_id = serializers.CharField()
    chosen = serializers.CharField(allow_null=True)
    asked_first = serializers.CharField(allow_null=True, help_text="The first that its breaker and keys allow now.")
    problem = ExplainProblemSerializer(allow_null=True)
    decision = serializers.DictField(allow_null=True, help_text="As the usage record of the request would have it.")
    candidates = ExplainCandidateSerializer(many=True)
    policy = serializers.DictField(allow_null=True)
    strategy = serializers.DictField(allow_null=True)
    task = serializers.DictField(allow_null=True)
    rule = serializers.CharField(allow_null=True)
    arm = serializers.CharField(allow_null=True)
    step = serializers.DictField(allow_null=True)
    budget_used = serializers.FloatField(help_text="Of the fullest budget that pays, 1.0 is all of it.")
    max_tokens = serializers.IntegerField(allow_null=True, help_text="What a filling budget shortens answers to.")
    kept_for_conversation = serializers.BooleanField(help_text="The conversation stays with the model that answers.")
    expected_output_tokens = serializers.IntegerField(allow_null=True, help_text="As the models usually answer.")
    input_tokens = serializers.IntegerField(help_text="About how many the request has.")
    tag = serializers.CharField(allow_null=True)
    turn = serializers.IntegerField(allow_null=True, help_text="Of strategies that take turns; it is not taken.")
    artefact = serializers.CharField()
    config_revision = serializers.IntegerField()
