"""What a caller gets to see when a request does not end well.

GatewayError(code, http_status)     raised above the providers; every door renders it in its own shape
  InvalidRequest      400           the request itself; `param` names the field
  Unauthenticated     401           no key, or none that is valid: one constant text
  Forbidden           403           a valid key that may not do this
  ModelNotFound       404
  UnknownAddress      404           nothing is served there
  MethodNotAllowed    405           the address takes another one, which `Allow` names
  BodyTooLarge        413
  UnsupportedMediaType 415          the body is no JSON and does not say to be
  NoEligibleModel     400           every candidate was left out, each for a reason
  TemplateNotFound    400           the prompt template, or its version, is not there
  InvalidVariables    400           its variables do not fit; `details` says what it takes
  PreviousResponseNotFound 400      it is continued by its id, and is not there
  ResponseNotFound    404           it is asked for by its id, and is not kept here
  ResponsesUnavailable 503          nobody can tell whether it is there
  IdempotencyInProgress 409         the request that this one repeats is still running
  IdempotencyNotKept  410           it was answered, but the answer was not kept
  IdempotencyKeyReused 422          the key came with another request before
  IdempotencyUnavailable 503        nobody can tell whether this is a repetition
  BatchExpired        504           a chat of a batch did not get its turn in time
  BudgetExceeded      429           a hard budget cannot afford it
  BudgetStepReached   429           a budget is so full that the policy gives no (new) answer
  PriceUnknown        400           a hard budget applies, and nobody knows what it would cost
  BudgetUnavailable   503           nobody can tell what the budget allows
  RateLimited         429           too many requests or tokens per minute, or requests at a time
  CircuitOpen         503           the providers that could serve have failed too often lately; nobody was asked
  UpstreamFailed      4xx/5xx       from a `ProviderError`: `upstream_error` is the one place that translates
  Unavailable         503           the gateway cannot serve at all yet
  Stopping            503           it ends, and this request did not end in time
  InternalError       500           a fault of ours; logged with the request id
"""

from typing import Any

from analytics.domain.budgets import BudgetTerms, Span
from providers.domain.errors import Failure, FailureKind
from providers.domain.out_of_service import KeysResting, OutOfService
from providers.domain.pricing import usd


class GatewayError(Exception):
    """`code` is stable and meant for programs, `message` for people; `kind` is OpenAI's error `type`.

    `headers` go with the answer, beside `Retry-After`; `details` stand in its body (JSON values).
    """

    code = "internal_error"
    http_status = 500
    kind = "server_error"

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.headers: dict[str, str] = {}
        self.details: dict[str, Any] | None = None


class InvalidRequest(GatewayError):
    code = "invalid_request"
    http_status = 400
    kind = "invalid_request_error"


class Unauthenticated(GatewayError):
    code = "invalid_api_key"
    http_status = 401
    kind = "authentication_error"

    def __init__(self) -> None:
        super().__init__("No valid API key was given. Send one as “Authorization: Bearer rp_…”.")


class Forbidden(GatewayError):
    code = "permission_denied"
    http_status = 403
    kind = "permission_error"


class ModelNotFound(GatewayError):
    code = "model_not_found"
    http_status = 404
    kind = "invalid_request_error"


class UnknownAddress(GatewayError):
    code = "not_found"
    http_status = 404
    kind = "invalid_request_error"

    def __init__(self, path: str) -> None:
        super().__init__(f"There is nothing at {path}.")


class MethodNotAllowed(GatewayError):
    code = "method_not_allowed"
    http_status = 405
    kind = "invalid_request_error"

    def __init__(self, method: str, *, allowed: str) -> None:
        super().__init__(f"{method} is not possible here, only {allowed}.")
        self.headers = {"allow": allowed}


class PreviousResponseNotFound(GatewayError):
    """As OpenAI words it: clients that know the code then send the whole conversation."""

    code = "previous_response_not_found"
    http_status = 400
    kind = "invalid_request_error"

    def __init__(self, response_id: str) -> None:
        super().__init__(f"Previous response with id '{response_id}' not found.", param="previous_response_id")


class ResponseNotFound(GatewayError):
    code = "response_not_found"
    http_status = 404
    kind = "invalid_request_error"


class DecisionNotFound(GatewayError):
    code = "decision_not_found"
    http_status = 404
    kind = "invalid_request_error"

    def __init__(self, decision_id: str) -> None:
        super().__init__(
            f"This key's team has made no request {decision_id}. Send what x-router-decision-id said.",
            param="decision_id",
        )


class ResponsesUnavailable(GatewayError):
    code = "responses_unavailable"
    http_status = 503

    def __init__(self) -> None:
        super().__init__(
            "Nobody can look up now what was answered before: the database is away. Try again in a moment, or send the "
            "whole conversation as “input”.",
            retry_after_s=2,
        )


class BodyTooLarge(GatewayError):
    code = "request_too_large"
    http_status = 413
    kind = "invalid_request_error"


class UnsupportedMediaType(GatewayError):
    code = "unsupported_media_type"
    http_status = 415
    kind = "invalid_request_error"

    def __init__(self, media_type: str) -> None:
        super().__init__(f"A body of type “{media_type[:60]}” is not understood here. Send JSON, as application/json.")


class IdempotencyInProgress(GatewayError):
    code = "idempotency_in_progress"
    http_status = 409
    kind = "invalid_request_error"

    def __init__(self) -> None:
        super().__init__("The first request with this Idempotency-Key is still being answered.", retry_after_s=2)


class IdempotencyNotKept(GatewayError):
    code = "idempotency_not_kept"
    http_status = 410
    kind = "invalid_request_error"

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"Request {request_id} with this Idempotency-Key was answered, but its answer could not be kept. "
            "For another answer, which costs again, use another key."
        )


class IdempotencyKeyReused(GatewayError):
    code = "idempotency_key_reused"
    http_status = 422
    kind = "invalid_request_error"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key came with another request before. A new request needs a new key.")


class IdempotencyUnavailable(GatewayError):
    code = "idempotency_unavailable"
    http_status = 503

    def __init__(self) -> None:
        super().__init__(
            "Nobody can tell now whether this request is a repetition: the database is away. Try again in a moment.",
            retry_after_s=2,
        )


class BatchExpired(GatewayError):
    code = "batch_expired"
    http_status = 504


class RateLimited(GatewayError):
    """`retry_after_s` is None when waiting does not help: the request is larger than the limit."""

    code = "rate_limit_exceeded"
    http_status = 429
    kind = "rate_limit_error"

    def __init__(self, message: str, *, headers: dict[str, str], retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.headers = headers if retry_after_s is not None else {**headers, "x-should-retry": "false"}


class BudgetExceeded(GatewayError):
    """Trying again does not help before the budget's next window; amounts are nano-USD, of this one request."""

    code = "insufficient_quota"
    http_status = 429
    kind = "insufficient_quota"

    def __init__(self, terms: BudgetTerms, span: Span, *, needs_nano: int, left_nano: int) -> None:
        super().__init__(
            f"The budget “{terms.name}” does not allow this request: it may cost up to ${usd(needs_nano):f}, and "
            f"${usd(left_nano):f} can be used now. {resets_in_words(span)}"
        )
        self.headers = {"x-should-retry": "false"}
        self.details = _about(terms, span)


class BudgetStepReached(GatewayError):
    """The ladder of a policy: from this share of a budget on it refuses, or gives only answers that it has kept.

    Trying again does not help before the budget's next period, or before it is raised.
    """

    code = "insufficient_quota"
    http_status = 429
    kind = "insufficient_quota"

    def __init__(self, message: str, *, headers: dict[str, str], budget: tuple[BudgetTerms, Span] | None) -> None:
        super().__init__(message)
        self.headers = {"x-should-retry": "false", **headers}
        self.details = _about(*budget) if budget else None


def resets_in_words(span: Span) -> str:
    return f"A new period begins at {span.ends_before.isoformat()}." if span.ends_before else "It does not renew."


def _about(terms: BudgetTerms, span: Span) -> dict[str, Any]:
    return {
        "scope": terms.scope,
        "budget_id": terms.id,
        "limit_usd": f"{usd(terms.limit_nano):f}",
        "resets_at": span.ends_before.isoformat() if span.ends_before else None,
    }


class PriceUnknown(GatewayError):
    code = "price_unknown"
    http_status = 400
    kind = "invalid_request_error"

    def __init__(self, deployment: str) -> None:
        super().__init__(
            f"A budget that must not be passed applies, and the price of {deployment} is not known. Name another "
            "model, or ask an operator to enter the price."
        )


class NoEligibleModel(GatewayError):
    code = "no_eligible_model"
    http_status = 400
    kind = "invalid_request_error"


class TemplateNotFound(GatewayError):
    code = "template_not_found"
    http_status = 400
    kind = "invalid_request_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, param="template")


class InvalidVariables(GatewayError):
    """`param` is “variables” or “variables.<name>”; `declared` is what there is to fill in."""

    code = "invalid_variables"
    http_status = 400
    kind = "invalid_request_error"

    def __init__(self, message: str, param: str, *, declared: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message, param=param)
        self.details = None if declared is None else {"variables": declared}


class Unavailable(GatewayError):
    code = "unavailable"
    http_status = 503


class Stopping(Unavailable):
    """Another gateway, or this one once it is back, takes the request at once."""

    def __init__(self) -> None:
        super().__init__("The gateway is stopping. Send the request again.", retry_after_s=1)


class BudgetUnavailable(Unavailable):
    code = "budget_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"What the budget allows cannot be known now. {reason} Try again soon.", retry_after_s=2)


class CircuitOpen(GatewayError):
    """`retry_after_s` is None where an operator holds a breaker open: nobody knows for how long."""

    code = "circuit_open"
    http_status = 503


class InternalError(GatewayError):
    code = "internal_error"
    http_status = 500

    def __init__(self) -> None:
        super().__init__("The gateway failed on this request. Quote the request id when you report it.")


class UpstreamFailed(GatewayError):
    """Every attempt failed; what is told is the last failure."""

    def __init__(self, failure: Failure, *, code: str, http_status: int, kind: str, message: str) -> None:
        super().__init__(message, retry_after_s=failure.retry_after_s)
        self.failure = failure
        self.code = code
        self.http_status = http_status
        self.kind = kind


# kind of failure -> (code, status, type, sentence). A refused provider key is the operator's fault, hence 502.
UPSTREAM: dict[FailureKind, tuple[str, int, str, str]] = {
    FailureKind.BAD_REQUEST: ("upstream_rejected", 400, "invalid_request_error", "The provider refused the request"),
    FailureKind.UNSUPPORTED: (
        "upstream_rejected", 400, "invalid_request_error", "The model cannot do what was asked",
    ),
    FailureKind.CONTEXT_TOO_LONG: (
        "context_length_exceeded", 400, "invalid_request_error", "The prompt is too long for the model",
    ),
    FailureKind.CONTENT_FILTERED: (
        "content_filter", 400, "invalid_request_error", "The provider's content filter refused the request",
    ),
    FailureKind.MODEL_NOT_FOUND: (
        "upstream_model_not_found", 502, "server_error", "The provider does not know the model",
    ),
    FailureKind.AUTHENTICATION: ("upstream_credentials", 502, "server_error", "The gateway's key does not work"),
    FailureKind.PERMISSION: ("upstream_credentials", 502, "server_error", "The gateway's key may not use the model"),
    FailureKind.QUOTA_EXHAUSTED: ("upstream_quota", 503, "server_error", "The gateway's account is out of quota"),
    FailureKind.RATE_LIMITED: ("upstream_rate_limited", 429, "rate_limit_error", "The provider limits the rate"),
    FailureKind.OVERLOADED: ("upstream_overloaded", 503, "server_error", "The provider is overloaded"),
    FailureKind.SERVER_ERROR: ("upstream_failed", 502, "server_error", "The provider failed"),
    FailureKind.CONNECT: ("upstream_unreachable", 502, "server_error", "The provider could not be reached"),
    FailureKind.TIMEOUT: ("upstream_timeout", 504, "server_error", "The provider did not answer in time"),
    FailureKind.STREAM_BROKEN: ("upstream_failed", 502, "server_error", "The provider broke off its answer"),
    FailureKind.MALFORMED: ("upstream_malformed", 502, "server_error", "The provider's answer could not be read"),
}  # fmt: skip


def upstream_error(failure: Failure) -> UpstreamFailed:
    """A provider's failure as the caller sees it."""
    code, http_status, kind, sentence = UPSTREAM[failure.kind]
    return UpstreamFailed(
        failure,
        code=code,
        http_status=http_status,
        kind=kind,
        message=f"{sentence}: {failure.message}".rstrip(": .") + ".",
    )


def out_of_service_error(target: str, error: OutOfService) -> GatewayError:
    """Why a target is not asked, as the caller sees it: keys that rest are told as the failure that they rest after."""
    if isinstance(error, KeysResting):
        return upstream_error(error.failure)
    return CircuitOpen(f"{target} is out of service: {error.reason}.", retry_after_s=error.retry_after_s)
