import pytest

from providers.domain.errors import FailureKind as Kind
from providers.domain.failures import REACTIONS, RULES, VendorError, classify


@pytest.mark.parametrize(
    ("status", "kind_of", "code", "message", "kind"),
    [
        # OpenAI
        (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided", Kind.AUTHENTICATION),
        (403, "invalid_request_error", "model_not_found", "Project does not have access", Kind.MODEL_NOT_FOUND),
        (403, "", "unsupported_country_region_territory", "Country not supported", Kind.PERMISSION),
        (404, "invalid_request_error", "model_not_found", "The model does not exist", Kind.MODEL_NOT_FOUND),
        (400, "invalid_request_error", "context_length_exceeded", "maximum context length", Kind.CONTEXT_TOO_LONG),
        (400, "invalid_request_error", "invalid_value", "Invalid 'temperature'", Kind.BAD_REQUEST),
        (400, "invalid_request_error", "content_policy_violation", "rejected", Kind.CONTENT_FILTERED),
        (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota", Kind.QUOTA_EXHAUSTED),
        (429, "insufficient_quota", "", "You exceeded your current quota", Kind.QUOTA_EXHAUSTED),
        (429, "billing", "credit_balance_exhausted", "", Kind.QUOTA_EXHAUSTED),
        (429, "requests", "rate_limit_exceeded", "Rate limit reached", Kind.RATE_LIMITED),
        (429, "rate_limit_error", "slow_down", "", Kind.RATE_LIMITED),
        (500, "server_error", "", "The server had an error", Kind.SERVER_ERROR),
        (503, "service_unavailable_error", "server_is_overloaded", "", Kind.OVERLOADED),
        (503, "server_error", "", "The engine is currently overloaded", Kind.OVERLOADED),
        # Anthropic
        (400, "invalid_request_error", "", "prompt is too long: 210000 tokens > 200000 maximum", Kind.CONTEXT_TOO_LONG),
        (400, "invalid_request_error", "", "input length and `max_tokens` exceed context limit", Kind.CONTEXT_TOO_LONG),
        (400, "invalid_request_error", "", "Your credit balance is too low to access", Kind.QUOTA_EXHAUSTED),
        (400, "invalid_request_error", "", "You have reached your specified API usage limits", Kind.QUOTA_EXHAUSTED),
        (400, "invalid_request_error", "", "Output blocked by content filtering policy", Kind.CONTENT_FILTERED),
        (400, "invalid_request_error", "", "`temperature` is deprecated for this model.", Kind.BAD_REQUEST),
        (400, "invalid_request_error", "organization_on_hold", "", Kind.PERMISSION),
        (401, "authentication_error", "", "invalid x-api-key", Kind.AUTHENTICATION),
        (402, "billing_error", "", "", Kind.QUOTA_EXHAUSTED),
        (403, "permission_error", "", "", Kind.PERMISSION),
        (404, "not_found_error", "", "model: claude-x", Kind.MODEL_NOT_FOUND),
        (413, "request_too_large", "", "Request exceeds the maximum size", Kind.CONTEXT_TOO_LONG),
        (429, "rate_limit_error", "", "", Kind.RATE_LIMITED),
        (429, "rate_limit_error", "enforced_spend_limit_reached", "", Kind.QUOTA_EXHAUSTED),
        (500, "api_error", "", "Internal server error", Kind.SERVER_ERROR),
        (504, "timeout_error", "", "", Kind.TIMEOUT),
        (529, "overloaded_error", "", "Overloaded", Kind.OVERLOADED),
        # Gemini
        (400, "INVALID_ARGUMENT", "", "API key not valid. Please pass a valid API key.", Kind.AUTHENTICATION),
        (
            400,
            "INVALID_ARGUMENT",
            "",
            "The input token count (9) exceeds the maximum number of tokens",
            Kind.CONTEXT_TOO_LONG,
        ),
        (400, "FAILED_PRECONDITION", "", "User location is not supported for the API use.", Kind.PERMISSION),
        (429, "RESOURCE_EXHAUSTED", "", "You exceeded your current quota", Kind.RATE_LIMITED),
        (503, "UNAVAILABLE", "", "The model is overloaded.", Kind.OVERLOADED),
        # Groq
        (400, "invalid_request_error", "model_decommissioned", "", Kind.MODEL_NOT_FOUND),
        (400, "invalid_request_error", "tool_use_failed", "Failed to call a function", Kind.SERVER_ERROR),
        (413, "tokens", "rate_limit_exceeded", "Request too large for model on tokens per minute", Kind.RATE_LIMITED),
        (498, "", "", "", Kind.OVERLOADED),
        # Cohere, vLLM
        (400, "", "", "too many tokens: total number of tokens in the prompt", Kind.CONTEXT_TOO_LONG),
        (400, "BadRequestError", "", "This model's maximum context length is 4096 tokens", Kind.CONTEXT_TOO_LONG),
        (404, "NotFoundError", "", "The model `x` does not exist.", Kind.MODEL_NOT_FOUND),
        # Bare statuses
        (302, "", "", "", Kind.MALFORMED),
        (400, "", "", "", Kind.BAD_REQUEST),
        (405, "", "", "", Kind.MALFORMED),
        (408, "", "", "", Kind.TIMEOUT),
        (418, "", "", "", Kind.BAD_REQUEST),
        (422, "", "", "", Kind.BAD_REQUEST),
        (502, "", "", "maximum context length", Kind.SERVER_ERROR),
        (524, "", "", "", Kind.TIMEOUT),
        (None, "", "", "", Kind.SERVER_ERROR),
        (None, "invalid_request_error", "", "bad", Kind.BAD_REQUEST),
        (None, "overloaded_error", "", "", Kind.OVERLOADED),
        (500, "invalid_request_error", "", "", Kind.SERVER_ERROR),
    ],
)
def test_a_vendors_error_is_the_kind_it_means(
    status: int | None, kind_of: str, code: str, message: str, kind: Kind
) -> None:
    assert classify(VendorError(status, kind_of, code, message)) is kind


def test_every_rule_asks_for_something_in_the_form_it_is_compared_in() -> None:
    for rule in RULES:
        assert rule.status or rule.type or rule.code or rule.phrase
        assert rule.phrase == rule.phrase.lower()


def test_no_rule_stands_twice() -> None:
    columns = [rule[1:] for rule in RULES]
    assert len(set(columns)) == len(columns)


def test_every_kind_has_a_reaction() -> None:
    assert set(REACTIONS) == set(Kind)


def test_only_what_no_other_model_would_answer_ends_the_attempts() -> None:
    assert {kind for kind, reaction in REACTIONS.items() if not reaction.try_next} == {
        Kind.BAD_REQUEST,
        Kind.CONTENT_FILTERED,
    }


def test_the_breaker_counts_the_vendors_trouble_and_never_a_4xx_of_ours() -> None:
    assert {kind for kind, reaction in REACTIONS.items() if reaction.counts_for_breaker} == {
        Kind.OVERLOADED,
        Kind.SERVER_ERROR,
        Kind.CONNECT,
        Kind.TIMEOUT,
        Kind.STREAM_BROKEN,
        Kind.MALFORMED,
    }


def test_a_key_rests_when_the_trouble_is_the_keys() -> None:
    assert {kind for kind, reaction in REACTIONS.items() if reaction.cools_key} == {
        Kind.AUTHENTICATION,
        Kind.QUOTA_EXHAUSTED,
        Kind.RATE_LIMITED,
    }


def test_only_what_was_dispatched_without_an_error_reply_may_be_billed() -> None:
    assert {kind for kind, reaction in REACTIONS.items() if reaction.billed_in_doubt} == {
        Kind.TIMEOUT,
        Kind.STREAM_BROKEN,
        Kind.MALFORMED,
    }


def test_asking_the_same_deployment_again_never_repeats_what_is_certain_to_fail() -> None:
    for kind, reaction in REACTIONS.items():
        assert not reaction.retry_same or (reaction.try_next and reaction.counts_for_breaker), kind
