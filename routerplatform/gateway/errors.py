"""What a caller gets to see when a request does not end well.

GatewayError(code, http_status)     raised above the providers; every door renders it in its own shape
  InvalidRequest      400           the request itself; `param` names the field
  Unauthenticated     401           no key, or none that is valid: one constant text
  Forbidden           403           a valid key that may not do this
  ModelNotFound       404
  BodyTooLarge        413
  NoEligibleModel     400           every candidate was left out, each for a reason
  UpstreamFailed      4xx/5xx       from a `ProviderError`: `upstream_error` is the one place that translates
  Unavailable         503           the gateway cannot serve at all yet
  InternalError       500           a fault of ours; logged with the request id
"""

from providers.domain.errors import Failure, FailureKind


class GatewayError(Exception):
    """`code` is stable and meant for programs, `message` for people; `kind` is OpenAI's error `type`."""

    code = "internal_error"
    http_status = 500
    kind = "server_error"

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


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


class BodyTooLarge(GatewayError):
    code = "request_too_large"
    http_status = 413
    kind = "invalid_request_error"


class NoEligibleModel(GatewayError):
    code = "no_eligible_model"
    http_status = 400
    kind = "invalid_request_error"


class Unavailable(GatewayError):
    code = "unavailable"
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
