"""What a program that uses the library gets to catch.

RouterError(code, message)        all of them; `retry_after` in seconds where somebody knows when to try again
  SetupError                      the installation of this program cannot be used: folder, secrets, database
  BadRequestError                 the program asks for something that cannot be: no such model, a wrong field
  RefusedError                    a key, a budget or a rate limit says no
  UnavailableError                no provider could answer, or the router is closed
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Final

from routerplatform.gateway.errors import GatewayError

LARGEST: Final = 1e300  # a Python int may be larger than any float


class RouterError(Exception):
    """`code` is stable and meant for programs, `message` for people. `request_id` finds the request among the usage
    records, `param` names the field that is wrong; both are empty where there is none."""

    def __init__(
        self, code: str, message: str, *, retry_after: float | None = None, request_id: str = "", param: str = ""
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.request_id = request_id
        self.param = param

    def __reduce__(self) -> tuple[Any, ...]:
        """So that a pool of processes can hand it on."""
        return _again, (type(self), self.args, self.__dict__)


class SetupError(RouterError):
    def __init__(self, message: str) -> None:
        super().__init__("setup", message)


class BadRequestError(RouterError):
    pass


class RefusedError(RouterError):
    pass


class UnavailableError(RouterError):
    pass


def _again(kind: type[RouterError], args: tuple[Any, ...], told: dict[str, Any]) -> RouterError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(told)
    return error


def from_gateway(error: GatewayError, request_id: str) -> RouterError:
    """The gateway's own error, as a program gets to see it."""
    kind: type[RouterError] = UnavailableError
    if error.http_status in {401, 403, 429}:
        kind = RefusedError
    elif error.http_status < 500:
        kind = BadRequestError
    return kind(
        error.code,
        error.message,
        retry_after=error.retry_after_s,
        request_id=request_id,
        param=error.param or "",
    )


def is_number(value: object) -> bool:
    """Whether a program has given an amount, whatever it has annotated."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def near(name: object, known: Iterable[str]) -> str:
    """A sentence that helps with a name that means nothing here; empty where nothing is alike."""
    found = get_close_matches(str(name), sorted(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(f'“{one}”' for one in found)}?" if found else ""
