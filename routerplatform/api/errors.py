"""What the management API answers besides `gateway.errors`: who asks is a person, and rows may stand in the way."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ValidationError

from routerplatform.gateway.errors import GatewayError, InvalidRequest, Unauthenticated


class NotSignedIn(Unauthenticated):
    """Nothing was presented, and no browser is signed in."""

    code = "not_signed_in"

    def __init__(self) -> None:
        GatewayError.__init__(
            self,
            "This is for people. Send an access token as “Authorization: Bearer rt_…” (made at /account/tokens/), or "
            "sign in with your browser.",
        )


class AccessTokenRefused(Unauthenticated):
    code = "invalid_access_token"

    def __init__(self, message: str) -> None:
        GatewayError.__init__(self, message)


class Conflict(GatewayError):
    """The request is well formed, but what is there stands in its way."""

    code = "conflict"
    http_status = 409
    kind = "invalid_request_error"


class ChangedMeanwhile(GatewayError):
    code = "changed_meanwhile"
    http_status = 412
    kind = "invalid_request_error"

    def __init__(self) -> None:
        super().__init__(
            "It is not any more what the ETag in “If-Match” stands for: somebody has changed it. Read it again, then "
            "decide whether your change still fits."
        )


class FieldsRefused(InvalidRequest):
    """`complaints` are (field, sentence); the first is the error's own, all of them stand in `details.errors`."""

    def __init__(self, complaints: list[tuple[str | None, str]]) -> None:
        param, text = complaints[0]
        super().__init__(text, param=param)
        errors: list[dict[str, Any]] = [{"param": param, "message": text} for param, text in complaints]
        self.details = {"errors": errors} if len(errors) > 1 else None


@contextmanager
def told_as_conflict() -> Iterator[None]:
    """What a service refuses because of how things stand is a conflict, not a fault of the request.

    :raises Conflict:
    """
    try:
        yield
    except ValidationError as error:
        raise Conflict(" ".join(error.messages)) from error
