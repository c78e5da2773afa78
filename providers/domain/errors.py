"""What can go wrong below the gateway.

    ProviderError(failure)          any attempt that did not end in a whole answer; `failure` says all that is known

`failures.py` decides what kind a vendor's error is; the gateway decides what the caller gets to see.
"""

from dataclasses import dataclass
from enum import StrEnum


class FailureKind(StrEnum):
    """Why an attempt failed; the gateway's reaction depends on nothing else."""

    BAD_REQUEST = "bad_request"  # the vendor refuses this request; another model may not
    UNSUPPORTED = "unsupported"  # this model cannot do what is asked; another one may
    CONTEXT_TOO_LONG = "context_too_long"
    CONTENT_FILTERED = "content_filtered"
    MODEL_NOT_FOUND = "model_not_found"
    AUTHENTICATION = "authentication"  # our key: the operator's fault, never the caller's
    PERMISSION = "permission"
    QUOTA_EXHAUSTED = "quota_exhausted"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    CONNECT = "connect"
    TIMEOUT = "timeout"
    STREAM_BROKEN = "stream_broken"  # ended without its finish event, or was cut
    MALFORMED = "malformed"  # not the wire it claims to speak


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt. `message` is the vendor's text, at most 500 characters, safe to show (no secrets)."""

    kind: FailureKind
    message: str
    http_status: int | None = None
    vendor_code: str = ""
    retry_after_s: float | None = None
    vendor_request_id: str = ""
    dispatched: bool = True  # False when no byte of the request can have reached the vendor


class ProviderError(Exception):
    """An attempt at a provider failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.kind}: {failure.message}")
        self.failure = failure
