"""The REST API's shapes, for its OpenAPI document. They describe; `formats/` reads and writes."""

from typing import Any

from drf_spectacular.utils import OpenApiExample
from rest_framework import serializers

from routing.domain.config import TaskType


class MessageSerializer(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=["system", "user", "assistant", "tool"])
    content = serializers.CharField()


class TemplateFieldsSerializer(serializers.Serializer[Any]):
    template = serializers.CharField(
        required=False, help_text="A prompt template, like welcome or welcome@3; GET /api/v1/templates lists them."
    )
    variables = serializers.DictField(
        required=False, help_text="What is filled in: texts, numbers, true or false, by the variable's name."
    )


class ChatRequestSerializer(TemplateFieldsSerializer):
    messages = MessageSerializer(
        many=True, required=False, help_text="The conversation so far, oldest first. Only a template may replace it."
    )
    persona = serializers.CharField(required=False, help_text="A persona's name; GET /api/v1/personas lists them.")
    model = serializers.CharField(
        required=False, default="auto", help_text="auto, a model alias, a persona, or provider/model."
    )
    stream = serializers.BooleanField(required=False, default=False)
    temperature = serializers.FloatField(required=False, min_value=0, max_value=2)
    max_tokens = serializers.IntegerField(required=False, min_value=1)


class TokensSerializer(serializers.Serializer[Any]):
    input_tokens = serializers.IntegerField()
    cache_read_input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()


class ToolCallSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    name = serializers.CharField()
    arguments = serializers.CharField(help_text="JSON text, as the model wrote it.")


class ChatAnswerSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(help_text="The request id; the usage record has the same.")
    persona = serializers.CharField()
    model = serializers.CharField()
    provider = serializers.CharField()
    deployment = serializers.CharField()
    content = serializers.CharField()
    reasoning = serializers.CharField()
    tool_calls = ToolCallSerializer(many=True)
    finish_reason = serializers.ChoiceField(choices=["stop", "length", "tool_calls", "content_filter"])
    usage = TokensSerializer()
    cost_usd = serializers.FloatField(allow_null=True, help_text="Null when the price is unknown.")
    ttft_ms = serializers.FloatField(allow_null=True)
    latency_ms = serializers.FloatField()
    attempts = serializers.IntegerField()
    decision = serializers.DictField(help_text="Why this route: every candidate, and what removed it.")
    notice = serializers.CharField(
        required=False, help_text="What a budget that fills does to the answer; only there when it does something."
    )


# --- a prompt instead of a conversation ---------------------------------------------------------------------------

REQUEST_ID = "01a1f9b9-b47f-7d7a-a441-57b6c4c1e089"
SKY = "Air scatters blue light more than red."
FINISH_REASONS = ["stop", "length", "tool_calls", "content_filter"]
TOKENS = {"input_tokens": 12, "cache_read_input_tokens": 0, "output_tokens": 9}


class TurnSerializer(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=["system", "user", "assistant"])
    content = serializers.CharField()


class _Knobs(TemplateFieldsSerializer):
    """What the addresses that take a prompt have in common. Further fields pass through, as of a chat completion."""

    system = serializers.CharField(required=False, help_text="What the model is told before the prompt.")
    stream = serializers.BooleanField(required=False, default=False)
    temperature = serializers.FloatField(required=False, min_value=0, max_value=2)
    max_tokens = serializers.IntegerField(required=False, min_value=1)
    top_p = serializers.FloatField(required=False, min_value=0, max_value=1)


class RouteRequestSerializer(_Knobs):
    prompt = serializers.CharField(required=False, help_text="What is asked; or send `messages`.")
    messages = MessageSerializer(many=True, required=False, help_text="A conversation instead of a prompt.")
    task_type = serializers.ChoiceField(
        choices=[task.value for task in TaskType if task is not TaskType.ANY],
        required=False,
        help_text="What kind of work it is, in upper or lower case; without it, that is found out.",
    )
    model = serializers.CharField(
        required=False, default="auto", help_text="auto, a model alias, a persona, a provider, or provider/model."
    )
    persona = serializers.CharField(required=False, help_text="A persona's name; GET /api/v1/personas lists them.")
    tag = serializers.CharField(required=False, help_text="As the header `x-router-tag`.")
    conversation = serializers.CharField(required=False, help_text="As the header `x-router-conversation`.")


class RouteAnswerSerializer(serializers.Serializer[Any]):
    model_used = serializers.CharField()
    cost = serializers.FloatField(allow_null=True, help_text="USD; null when the price is unknown.")
    response = serializers.CharField()
    provider = serializers.CharField()
    deployment = serializers.CharField()
    task_type = serializers.CharField(
        allow_null=True,
        help_text="ANY where the classifier is not sure; null where a model was named.",
    )
    persona = serializers.CharField()
    policy = serializers.CharField()
    decision = serializers.CharField(help_text="Why this model, in one sentence.")
    finish_reason = serializers.ChoiceField(choices=FINISH_REASONS)
    tool_calls = ToolCallSerializer(many=True)
    usage = TokensSerializer()
    cached = serializers.BooleanField(help_text="An equal request was answered before: this one cost nothing.")
    attempts = serializers.IntegerField()
    ttft_ms = serializers.FloatField(allow_null=True)
    latency_ms = serializers.FloatField()
    request_id = serializers.UUIDField()
    notice = serializers.CharField(required=False, help_text="What a budget that fills does to the answer.")


class MessageRequestSerializer(_Knobs):
    message = serializers.CharField(help_text="What is asked.")
    chat_model_name = serializers.CharField(
        required=False, default="auto", help_text="A provider: openai, anthropic, cohere; or whatever `model` may be."
    )
    history = TurnSerializer(many=True, required=False, help_text="What was said before, oldest first.")


class MessageAnswerSerializer(serializers.Serializer[Any]):
    response = serializers.CharField()
    chat_model_name = serializers.CharField()
    model = serializers.CharField()
    provider = serializers.CharField()
    finish_reason = serializers.ChoiceField(choices=FINISH_REASONS)
    usage = TokensSerializer()
    cost_usd = serializers.FloatField(allow_null=True)
    cached = serializers.BooleanField()
    request_id = serializers.UUIDField()


class CompleteRequestSerializer(_Knobs):
    prompt = serializers.CharField()
    model = serializers.CharField(
        required=False, default="auto", help_text="auto, a model alias, a persona, a provider, or provider/model."
    )


class CompleteAnswerSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(help_text="The request id.")
    model = serializers.CharField()
    provider = serializers.CharField()
    text = serializers.CharField()
    finish_reason = serializers.ChoiceField(choices=FINISH_REASONS)
    usage = TokensSerializer()
    cost_usd = serializers.FloatField(allow_null=True)
    cached = serializers.BooleanField()


ROUTED = OpenApiExample(
    "Routed",
    value={
        "model_used": "swift", "cost": 0.00003, "response": SKY, "provider": "alpha", "deployment": "alpha/swift-1",
        "task_type": "SIMPLE_QA", "persona": "", "policy": "default",
        "decision": "“auto” follows the default policy “default”: alpha/swift-1, one of 2 that could, answered.",
        "finish_reason": "stop", "tool_calls": [], "usage": TOKENS, "cached": False, "attempts": 1, "ttft_ms": None,
        "latency_ms": 412.7, "request_id": REQUEST_ID,
    },
    response_only=True, status_codes=["200"],
)  # fmt: skip
MESSAGED = OpenApiExample(
    "Answered",
    value={
        "response": SKY, "chat_model_name": "openai", "model": "swift", "provider": "openai", "finish_reason": "stop",
        "usage": TOKENS, "cost_usd": 0.00003, "cached": False, "request_id": REQUEST_ID,
    },
    response_only=True, status_codes=["200"],
)  # fmt: skip
COMPLETED = OpenApiExample(
    "Completed",
    value={
        "id": REQUEST_ID, "model": "swift", "provider": "alpha", "text": SKY, "finish_reason": "stop",
        "usage": TOKENS, "cost_usd": 0.00003, "cached": False,
    },
    response_only=True, status_codes=["200"],
)  # fmt: skip


# --- what is there ------------------------------------------------------------------------------------------------


class PersonaSerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField()
    policy = serializers.CharField()
    temperature = serializers.FloatField(allow_null=True)
    max_tokens = serializers.IntegerField(allow_null=True)
    models = serializers.ListField(child=serializers.CharField())
    template = serializers.CharField(
        allow_null=True, help_text="The version of a prompt template, like welcome@3, that `variables` fill in."
    )


class ModelSerializer(serializers.Serializer[Any]):
    deployment = serializers.CharField()
    model = serializers.CharField()
    capabilities = serializers.ListField(child=serializers.CharField())
    context_window = serializers.IntegerField(allow_null=True)
    max_output_tokens = serializers.IntegerField(allow_null=True)
    cost_tier = serializers.CharField()
    input_usd_per_1m = serializers.FloatField(allow_null=True)
    output_usd_per_1m = serializers.FloatField(allow_null=True)


class ProviderSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    kind = serializers.CharField()
    health = serializers.ChoiceField(choices=["unknown", "healthy", "degraded", "down"])
    models = ModelSerializer(many=True)


class BudgetSerializer(serializers.Serializer[Any]):
    """Amounts are exact decimal USD as text. `settled` + `held` + `remaining` = `limit`, unless more was spent."""

    object = serializers.ChoiceField(choices=["budget"])
    id = serializers.IntegerField()
    scope = serializers.ChoiceField(choices=["team", "key", "persona", "alias"])
    subject = serializers.CharField(help_text="The name of the team, key, persona or model alias.")
    mode = serializers.ChoiceField(choices=["strict", "expected", "soft", "shadow"])
    is_active = serializers.BooleanField()
    limit = serializers.CharField()
    soft_limit = serializers.CharField(allow_null=True, help_text="An alert opens here.")
    settled = serializers.CharField(help_text="Spent in this period.")
    held = serializers.CharField(help_text="Set aside by gateways for requests under way or soon to come.")
    remaining = serializers.CharField()
    duration = serializers.ChoiceField(choices=["1d", "7d", "30d", "1mo", "total"])
    time_zone = serializers.CharField()
    starts_at = serializers.DateTimeField()
    resets_at = serializers.DateTimeField(allow_null=True, help_text="Null: never.")
    as_of = serializers.DateTimeField()
    unpriced_requests = serializers.IntegerField(help_text="Requests of unknown price: not in `settled`.")


class BudgetListSerializer(serializers.Serializer[Any]):
    object = serializers.ChoiceField(choices=["list"])
    data = BudgetSerializer(many=True)  # type: ignore[assignment]  # declared fields do not stay attributes
    has_more = serializers.BooleanField()


# --- how it does --------------------------------------------------------------------------------------------------


class ModelUseSerializer(serializers.Serializer[Any]):
    requests = serializers.IntegerField()
    cost = serializers.FloatField(help_text="USD, without requests of unknown price.")
    tokens = serializers.IntegerField()
    avg_latency = serializers.FloatField(help_text="Milliseconds.")
    success_rate = serializers.FloatField(help_text="0 to 1.")
    unpriced_requests = serializers.IntegerField()


class StatsSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(help_text="“stats”.")
    since = serializers.DateTimeField(allow_null=True, help_text="Null: from the beginning.")
    until = serializers.DateTimeField()
    team = serializers.CharField(allow_null=True, help_text="Null: all that you may see.")
    total_cost = serializers.FloatField(help_text="USD, without requests of unknown price.")
    avg_latency = serializers.FloatField(allow_null=True, help_text="Milliseconds; null without requests.")
    success_rate = serializers.FloatField(allow_null=True, help_text="0 to 1; null without requests.")
    model_usage = serializers.DictField(child=ModelUseSerializer(), help_text="By model; `none`: none was asked.")
    requests = serializers.IntegerField()
    failed_requests = serializers.IntegerField()
    unpriced_requests = serializers.IntegerField(help_text="Requests of unknown price: not in `total_cost`.")
    tokens = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    cache_read_input_tokens = serializers.IntegerField()
    cache_creation_input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()


class GatewayHealthSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["ok", "unavailable"])
    config_revision = serializers.IntegerField(allow_null=True)


class DeploymentStatusSerializer(serializers.Serializer[Any]):
    deployment = serializers.CharField()
    model = serializers.CharField()
    breaker = serializers.ChoiceField(choices=["closed", "open", "half_open"])
    forced = serializers.BooleanField(help_text="An operator holds it so.")
    next_probe_in_s = serializers.FloatField(allow_null=True)
    failures_in_a_row = serializers.IntegerField()
    last_failure = serializers.CharField(allow_null=True)


class RestSerializer(serializers.Serializer[Any]):
    until = serializers.DateTimeField()
    reason = serializers.CharField()
    deployment = serializers.CharField(allow_null=True, help_text="Null: for all of them.")


class KeyStatusSerializer(serializers.Serializer[Any]):
    label = serializers.CharField()  # type: ignore[assignment]  # declared fields do not stay attributes
    last4 = serializers.CharField()
    resting = RestSerializer(many=True)


class ProviderStatusSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(help_text="“provider”.")
    name = serializers.CharField()
    kind = serializers.CharField()
    health = serializers.ChoiceField(choices=["healthy", "degraded", "down"])
    deployments = DeploymentStatusSerializer(many=True)
    keys = KeyStatusSerializer(many=True)


class ProviderStatusListSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(help_text="“list”.")
    data = ProviderStatusSerializer(many=True)  # type: ignore[assignment]  # declared fields do not stay attributes


class ProbeSerializer(serializers.Serializer[Any]):
    status = serializers.CharField()


class HealthSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["ok", "unavailable"])
    problem = serializers.CharField()
    config_revision = serializers.IntegerField(allow_null=True)
    budgets_revision = serializers.IntegerField(allow_null=True)
    config_age_s = serializers.FloatField()
    unshipped_records = serializers.IntegerField()
    classifier = serializers.ChoiceField(choices=["ok", "failing"])


class ErrorDetailSerializer(serializers.Serializer[Any]):
    message = serializers.CharField()
    type = serializers.CharField()
    code = serializers.CharField()
    param = serializers.CharField(allow_null=True)


class ErrorSerializer(serializers.Serializer[Any]):
    error = ErrorDetailSerializer()
    request_id = serializers.UUIDField()


ERRORS: dict[int, type[serializers.Serializer[Any]]] = {
    400: ErrorSerializer,
    401: ErrorSerializer,
    403: ErrorSerializer,
    404: ErrorSerializer,
    405: ErrorSerializer,
    413: ErrorSerializer,
    415: ErrorSerializer,
    429: ErrorSerializer,
    502: ErrorSerializer,
    503: ErrorSerializer,
    504: ErrorSerializer,
}
