"""docs/api.md names what the code says: error codes, headers, stream events, close codes, addresses."""

import re
from functools import cache
from pathlib import Path

import msgspec
import pytest

from analytics.ledger.adoption import ERROR_CODE
from providers.domain.errors import Failure
from routerplatform.api import urls as api
from routerplatform.doors import grpc_errors, headers, websocket
from routerplatform.doors.exchange import CallerGone
from routerplatform.doors.formats.native import FrameOut
from routerplatform.gateway.errors import UPSTREAM, GatewayError, InvalidRequest, UpstreamFailed, upstream_error
from routerplatform.gateway.rate_limits import limit_headers
from routerplatform.gateway.tally import CANCELLED
from routing.domain.limits import Headroom, Standing
from tests.gateway import Gateway

assert grpc_errors  # its errors are among those of the code

ROOT = Path(__file__).resolve().parent.parent
FULL = Headroom(limit=1, remaining=0, reset_ms=1)
OTHER_HEADERS = {  # not with every answer
    "retry-after", "allow", "idempotent-replayed", "x-router-idempotency", "x-should-retry", "x-router-max-tokens",
    "x-router-budget-step", "x-router-budget-used",
    "x-router-dropped-params", "x-router-upstream-request-id", "x-router-token-count",
    *limit_headers(Standing(FULL, FULL)),
}  # fmt: skip


@cache
def section(title: str) -> str:
    """The text below a heading, up to the next."""
    text = (ROOT / "docs" / "api.md").read_text()
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_column(title: str) -> list[str]:
    return re.findall(r"^\| `([\w-]+)` \|", section(title), re.MULTILINE)


def documented_errors() -> dict[str, int]:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", section("Errors"), re.MULTILINE)
    return {code: int(status) for code, status in rows}


def kinds(above: type[GatewayError] = GatewayError) -> list[type[GatewayError]]:
    """All kinds of errors, and the kinds of these."""
    return [found for kind in above.__subclasses__() for found in (kind, *kinds(kind))]


def errors_of_the_code() -> dict[str, int]:
    """Codes and statuses of `gateway/errors.py`, and of a chat that its caller stopped."""
    own = {kind.code: kind.http_status for kind in kinds() if kind not in {UpstreamFailed, CallerGone}}
    upstream = [upstream_error(Failure(kind, "")) for kind in UPSTREAM]
    return {**own, **{error.code: error.http_status for error in upstream}, CANCELLED.error_code: CANCELLED.http_status}


def test_every_error_code_is_documented_with_its_status() -> None:
    assert errors_of_the_code().items() - documented_errors().items() == set()


def test_every_documented_error_code_exists() -> None:
    assert documented_errors().keys() - errors_of_the_code().keys() == set()


@pytest.mark.django_db(transaction=True)
async def test_an_unknown_request_gets_the_documented_code(gateway: Gateway) -> None:
    reply = await gateway.get("/v1/nothing")
    assert (reply.error["code"], reply.status) == ("not_found", documented_errors()["not_found"])


@pytest.mark.django_db(transaction=True)
async def test_every_header_of_an_answer_is_documented(gateway: Gateway) -> None:
    reply = await gateway.chat()
    ours = {name for name in reply.headers if name.startswith("x-")}
    assert ours | OTHER_HEADERS == set(first_column("Headers"))


def test_retry_after_is_sent_with_an_error_that_knows_it() -> None:
    assert [name for name, _ in headers.error_headers(InvalidRequest("", retry_after_s=1))] == [b"retry-after"]


def test_every_frame_is_documented() -> None:
    frames = {str(kind.__struct_config__.tag) for kind in FrameOut.__subclasses__()}
    assert frames == set(first_column("Stream events"))


@pytest.mark.parametrize("kind", FrameOut.__subclasses__())
def test_every_field_of_a_frame_is_documented(kind: type[FrameOut]) -> None:
    tag = kind.__struct_config__.tag
    [row] = re.findall(rf"^\| `{tag}` \| (.*) \|$", section("Stream events"), re.MULTILINE)
    fields = {field.name for field in msgspec.structs.fields(kind)} - {"id", "seq"}
    assert fields - set(re.findall(r"`(\w+)`", row)) == set()


def test_every_close_code_is_documented() -> None:
    codes = {websocket.NOT_SIGNED_IN, websocket.ORIGIN_REFUSED, websocket.TOO_MANY}
    assert {str(code) for code in codes} == set(first_column("WebSocket"))


def test_the_rest_api_and_its_addresses_are_documented() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    addresses = [re.sub(r"<\w+:(\w+)>", r"{\1}", str(path.pattern)) for path in api.urlpatterns]
    assert [address for address in addresses if f"/{address}`" not in text] == []


def test_the_error_code_of_adopted_requests_is_documented() -> None:
    assert f"`{ERROR_CODE}`" in section("Errors")
