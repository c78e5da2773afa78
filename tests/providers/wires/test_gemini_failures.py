"""What Gemini refuses with, and what that means."""

import msgspec
import pytest

from providers.domain.errors import FailureKind as Kind
from providers.domain.types import Wire
from providers.wires import WIRES
from providers.wires.failure_reading import read_failure

CODEC = WIRES[Wire.GEMINI]


@pytest.mark.parametrize(
    ("code", "status", "message", "kind"),
    [
        (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", Kind.AUTHENTICATION),
        (400, "INVALID_ARGUMENT", "API Key not found. Please pass a valid API key.", Kind.AUTHENTICATION),
        (400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", Kind.AUTHENTICATION),
        (403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another one.", Kind.AUTHENTICATION),
        (403, "PERMISSION_DENIED", "Generative Language API has not been used in project 1", Kind.PERMISSION),
        (400, "FAILED_PRECONDITION", "User location is not supported for the API use.", Kind.PERMISSION),
        (400, "FAILED_PRECONDITION", "The free tier is not available in your country.", Kind.PERMISSION),
        (400, "INVALID_ARGUMENT", "Penalty is not enabled for this model", Kind.BAD_REQUEST),
        (400, "INVALID_ARGUMENT", "Function call is missing a thought_signature", Kind.BAD_REQUEST),
        (
            400,
            "INVALID_ARGUMENT",
            "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).",
            Kind.CONTEXT_TOO_LONG,
        ),
        (404, "NOT_FOUND", "models/x is not found for API version v1beta", Kind.MODEL_NOT_FOUND),
        (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan", Kind.RATE_LIMITED),
        (429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted. Go to AI Studio.", Kind.QUOTA_EXHAUSTED),
        (429, "RESOURCE_EXHAUSTED", "Your project has exceeded its monthly spending cap.", Kind.QUOTA_EXHAUSTED),
        (499, "CANCELLED", "The operation was cancelled.", Kind.SERVER_ERROR),
        (500, "INTERNAL", "An internal error has occurred.", Kind.SERVER_ERROR),
        (503, "UNAVAILABLE", "The model is overloaded. Please try again later.", Kind.OVERLOADED),
        (504, "DEADLINE_EXCEEDED", "The request timed out.", Kind.TIMEOUT),
    ],
)
@pytest.mark.parametrize("in_list", [False, True])
def test_a_refusal_is_told_for_what_it_is(code: int, status: str, message: str, kind: Kind, in_list: bool) -> None:
    error = {"error": {"code": code, "message": message, "status": status}}
    failure = read_failure(code, {}, msgspec.json.encode([error] if in_list else error))
    assert (failure.kind, failure.http_status, failure.vendor_code, failure.message) == (kind, code, status, message)


def test_the_wait_that_google_asks_for_is_read() -> None:
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37.5s"},
    ]
    error = {"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "details": details}}
    assert read_failure(429, {}, msgspec.json.encode(error)).retry_after_s == 37.5
