"""The REST API's shapes, for its OpenAPI document. They describe; `formats/` reads and writes."""

from typing import Any

from rest_framework import serializers


class MessageSerializer(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=["system", "user", "assistant", "tool"])
    content = serializers.CharField()


class ChatRequestSerializer(serializers.Serializer[Any]):
    messages = MessageSerializer(many=True, help_text="The conversation so far, oldest first.")
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


class PersonaSerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField()
    policy = serializers.CharField()
    temperature = serializers.FloatField(allow_null=True)
    max_tokens = serializers.IntegerField(allow_null=True)
    models = serializers.ListField(child=serializers.CharField())


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
    413: ErrorSerializer,
    429: ErrorSerializer,
    502: ErrorSerializer,
    503: ErrorSerializer,
    504: ErrorSerializer,
}
