"""How a call that does not end well is told to a gRPC caller: one status, its details, and the usual headers.

Details are those of google.rpc: `ErrorInfo` always (reason, and in its metadata what other doors have in the error's
body), `RetryInfo` where somebody knows when it is worth another try, `BadRequest` where one field is to blame.
Source: AIP-193 “Errors”; google/rpc/code.proto, which names the HTTP status of each code (2026-11).
"""

from collections.abc import Sequence
from typing import Any, Final, NoReturn

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from grpc_status import rpc_status

from analytics.domain.usage import UsageEntry
from routerplatform.doors.grpc_calls import Context, Metadata, metadata_of
from routerplatform.doors.headers import error_headers
from routerplatform.gateway.errors import GatewayError

DOMAIN: Final = "router-platform"
LONGEST_MESSAGE: Final = 1000  # UTF-8 bytes: it travels twice, percent- and base64-encoded, and 8 KiB is all there is
LONGEST_VALUE: Final = 200

# Asking again does not help before somebody has changed something here: not the caller's fault, and not of the moment.
OPERATORS_TURN: Final = frozenset(
    {"no_eligible_model", "price_unknown", "upstream_credentials", "upstream_model_not_found", "idempotency_not_kept"}
)
CODES: Final = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    405: StatusCode.UNIMPLEMENTED,
    409: StatusCode.ABORTED,
    410: StatusCode.FAILED_PRECONDITION,
    413: StatusCode.RESOURCE_EXHAUSTED,
    422: StatusCode.INVALID_ARGUMENT,
    429: StatusCode.RESOURCE_EXHAUSTED,
    499: StatusCode.CANCELLED,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}


def status_code(error: GatewayError) -> StatusCode:
    """Never UNKNOWN, which tells a caller nothing: what has no code of its own is a fault of this side, or of that."""
    if error.code in OPERATORS_TURN:
        return StatusCode.FAILED_PRECONDITION
    other = StatusCode.FAILED_PRECONDITION if error.http_status < 500 else StatusCode.INTERNAL
    return CODES.get(error.http_status, other)


def rich_status(error: GatewayError, request_id: str) -> Status:
    """The status with its details."""
    told: list[Message] = [
        ErrorInfo(reason=error.code.upper(), domain=DOMAIN, metadata=_about(error, request_id)),
    ]
    if error.retry_after_s is not None:
        told.append(RetryInfo(retry_delay=_duration(error.retry_after_s)))
    message = _cut(error.message, LONGEST_MESSAGE)
    code = status_code(error)
    if code is StatusCode.INVALID_ARGUMENT and error.param:
        violation = BadRequest.FieldViolation(field=_cut(error.param, LONGEST_VALUE), reason=error.code.upper())
        told.append(BadRequest(field_violations=[violation]))
    status = Status(code=code.value[0], message=message)
    for detail in told:
        status.details.add().Pack(detail)
    return status


async def tell_error(
    context: Context, error: GatewayError, request_id: str, bill: Sequence[UsageEntry] = ()
) -> NoReturn:
    """End the call with an error. Raises what the gRPC library ends calls by."""
    found = rpc_status.to_status(rich_status(error, request_id))
    headers = [(b"x-request-id", request_id.encode()), (b"x-router-error-code", error.code.encode())]
    if error.param:
        headers.append((b"x-router-error-param", _cut(error.param, LONGEST_VALUE).encode()))
    trailers: Metadata = metadata_of([*headers, *error_headers(error, bill)])
    await context.abort(found.code, found.details, (*trailers, *found.trailing_metadata))


def _about(error: GatewayError, request_id: str) -> dict[str, str]:
    about = {
        "code": error.code,
        "type": error.kind,
        "http_status": str(error.http_status),
        "request_id": request_id,
        "param": error.param or "",
    }
    about |= {name: _text(value) for name, value in (error.details or {}).items() if value is not None}
    return {name: _cut(value, LONGEST_VALUE) for name, value in about.items() if value}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(max(0.0, seconds) * 1e9))
    return duration


def _cut(text: str, most: int) -> str:
    """At most so many bytes of UTF-8, cut between characters."""
    data = text.encode(errors="replace")
    return data.decode() if len(data) <= most else data[: most - 3].decode(errors="ignore") + "…"
