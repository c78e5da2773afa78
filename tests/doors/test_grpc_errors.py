"""What a gRPC caller is told when a call does not end well: codes, details, metadata. And never UNKNOWN."""

import asyncio
import inspect
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

from providers.domain.errors import Failure, FailureKind
from routerplatform.doors import grpc_errors
from routerplatform.doors.grpc_calls import DeadlineExceeded, RpcCall, metadata_of
from routerplatform.doors.grpc_errors import rich_status, status_code
from routerplatform.doors.grpc_under_way import CallsUnderWay
from routerplatform.gateway import errors
from routerplatform.gateway.errors import (
    GatewayError,
    InternalError,
    InvalidRequest,
    NoEligibleModel,
    Unavailable,
    upstream_error,
)
from routerplatform.protos.ai_router_pb2 import AIRequest
from tests.grpc_door import Door, heard
from tests.upstreams.scripted import Upstream, status

Code = grpc.StatusCode
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GatewayError)]


# --- the table ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_gateway_has_a_code_that_says_something(kind: type[GatewayError]) -> None:
    error = kind.__new__(kind)
    code = status_code(error)
    assert code not in {Code.OK, Code.UNKNOWN, Code.DATA_LOSS}
    assert (code is Code.INTERNAL) == (kind.http_status == 500)


@pytest.mark.parametrize("http_status", [*range(400, 432), 451, 499, *range(500, 512), 529, 599])
def test_every_http_status_has_one_too(http_status: int) -> None:
    error = GatewayError("x")
    error.http_status = http_status
    assert status_code(error) not in {Code.OK, Code.UNKNOWN}


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (FailureKind.BAD_REQUEST, Code.INVALID_ARGUMENT),
        (FailureKind.CONTEXT_TOO_LONG, Code.INVALID_ARGUMENT),
        (FailureKind.AUTHENTICATION, Code.FAILED_PRECONDITION),
        (FailureKind.MODEL_NOT_FOUND, Code.FAILED_PRECONDITION),
        (FailureKind.RATE_LIMITED, Code.RESOURCE_EXHAUSTED),
        (FailureKind.OVERLOADED, Code.UNAVAILABLE),
        (FailureKind.SERVER_ERROR, Code.UNAVAILABLE),
        (FailureKind.TIMEOUT, Code.DEADLINE_EXCEEDED),
    ],
)
def test_a_failure_of_the_vendor_says_whether_trying_again_helps(kind: FailureKind, code: grpc.StatusCode) -> None:
    assert status_code(upstream_error(Failure(kind, message="no"))) is code


def test_no_eligible_model_waits_for_an_operator_though_its_http_status_is_400() -> None:
    assert status_code(NoEligibleModel("none")) is Code.FAILED_PRECONDITION
    assert status_code(InvalidRequest("none")) is Code.INVALID_ARGUMENT
    assert status_code(DeadlineExceeded()) is Code.DEADLINE_EXCEEDED


# --- the details ----------------------------------------------------------------------------------------------------


def test_details_say_the_reason_the_request_and_when_to_come_back() -> None:
    error = Unavailable("Later.", param="model", retry_after_s=1.5)
    error.details = {"scope": "team", "budget_id": 7, "resets_at": None}
    told = rich_status(error, "r-1")
    info, retry = ErrorInfo(), RetryInfo()
    assert told.details[0].Unpack(info)
    assert told.details[1].Unpack(retry)
    assert (info.reason, info.domain) == ("UNAVAILABLE", "router-platform")
    assert dict(info.metadata) == {
        "code": "unavailable", "type": "server_error", "http_status": "503", "request_id": "r-1", "param": "model",
        "scope": "team", "budget_id": "7",
    }  # fmt: skip
    assert retry.retry_delay.ToTimedelta() == timedelta(seconds=1.5)


@pytest.mark.parametrize("text", ["x" * 50_000, "ü" * 50_000, "ok \ud83d"])
def test_what_is_told_fits_into_what_a_caller_takes_as_metadata(text: str) -> None:
    told = rich_status(InvalidRequest(text, param="p" * 5_000), "r-1")
    assert len(told.message.encode()) <= grpc_errors.LONGEST_MESSAGE
    assert told.ByteSize() < 2_500


def test_metadata_is_printable_ascii_whatever_an_operator_has_called_things() -> None:
    assert metadata_of([(b"x-router-budget-step", "“kürzen”\n".encode())]) == (("x-router-budget-step", "?k?rzen??"),)


async def test_a_fault_of_the_door_itself_is_internal_and_says_nothing_of_its_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = EndedContext()
    with pytest.raises(Aborted):
        async with CallsUnderWay().told(RpcCall(context, "/x/Y", request_id="r-1")):  # type: ignore[arg-type]
            raise ZeroDivisionError("secret")
    assert (context.code, context.message) == (Code.INTERNAL, InternalError().message)
    assert "r-1" in caplog.text
    assert b"secret" not in context.details


class Aborted(Exception):
    """As the library ends calls."""


class EndedContext:
    """The end of a call that nobody carries."""

    async def abort(self, code: grpc.StatusCode, message: str, trailing: tuple[tuple[str, Any], ...]) -> None:
        self.code, self.message, self.details = code, message, dict(trailing)["grpc-status-details-bin"]
        raise Aborted


async def test_a_call_that_its_caller_left_is_told_nothing() -> None:
    with pytest.raises(asyncio.CancelledError):
        async with CallsUnderWay().told(RpcCall(EndedContext(), "/x/Y")):  # type: ignore[arg-type]
            raise asyncio.CancelledError


# --- through the server ---------------------------------------------------------------------------------------------

BAD = {
    "no message at all": (b"", "prompt"),
    "bytes that are no message": (b"\xff\xff\xff", ""),
    "text that is not UTF-8": (b"\x0a\x02\xff\xfe", ""),
    "prompt and messages": (AIRequest(prompt="x", messages=[{"role": "user", "content": "y"}]), "prompt"),
    "a role that is none": (AIRequest(messages=[{"role": "boss", "content": "y"}]), "messages[0].role"),
    "too hot": (AIRequest(prompt="x", temperature=2.5), "temperature"),
    "no number": (AIRequest(prompt="x", top_p=float("nan")), "top_p"),
    "no tokens": (AIRequest(prompt="x", max_tokens=-1), "max_tokens"),
    "a schema that is no JSON": (
        AIRequest(prompt="x", tools=[{"name": "t", "parameters": "{"}]),
        "tools[0].parameters",
    ),
}


async def test_bad_input_is_refused_with_the_field_that_is_to_blame(grpc_door: Door, openai_upstream: Upstream) -> None:
    for what, (request, field) in BAD.items():
        said = await grpc_door.ask(request)
        assert (said.code, said.info.reason) == (Code.INVALID_ARGUMENT, "INVALID_REQUEST"), what
        assert said.fields == ([field] if field else []), what
        assert said.tail.get("x-router-error-param", "") == field, what
    unknown = await grpc_door.ask(model="nope")
    assert (unknown.code, unknown.info.reason) == (Code.NOT_FOUND, "MODEL_NOT_FOUND")
    assert unknown.info.metadata["param"] == "model"
    assert openai_upstream.calls == []


async def test_a_message_that_is_too_large_is_not_taken_in(grpc_door: Door, openai_upstream: Upstream) -> None:
    limit = grpc_door.runtime.max_body_bytes
    said = await grpc_door.ask(AIRequest(prompt="x" * limit))
    assert said.code is Code.RESOURCE_EXHAUSTED
    assert "larger than max" in said.message
    packed = grpc_door.router.RouteRequest(
        AIRequest(prompt="x" * limit), metadata=grpc_door.credentials(), compression=grpc.Compression.Gzip, timeout=60
    )
    assert (await heard(packed)).code is Code.RESOURCE_EXHAUSTED, "it is small only on its way"
    assert openai_upstream.calls == []


async def test_a_caller_without_a_key_is_refused_before_a_large_message_is_read(grpc_door: Door) -> None:
    grpc_door.key = "rp_wrong"
    said = await grpc_door.ask(AIRequest(prompt="x" * grpc_door.runtime.max_body_bytes))
    assert said.code is Code.UNAUTHENTICATED


async def test_what_no_model_can_do_is_told_with_every_reason(grpc_door: Door) -> None:
    too_long = await grpc_door.ask(model="swift", prompt="word " * 200_000)
    assert (too_long.code, too_long.info.reason) == (Code.FAILED_PRECONDITION, "NO_ELIGIBLE_MODEL")


async def test_a_vendor_that_refuses_and_one_that_is_busy_are_told_apart(
    grpc_door: Door, openai_upstream: Upstream
) -> None:
    openai_upstream.play(status(400, {"error": {"message": "bad prompt"}}), status(429, headers={"retry-after": "7"}))
    refused = await grpc_door.ask(model="swift")
    assert (refused.code, refused.info.reason) == (Code.INVALID_ARGUMENT, "UPSTREAM_REJECTED")
    assert "bad prompt" in refused.message
    busy = await grpc_door.ask(model="swift")
    assert (busy.code, busy.info.reason) == (Code.RESOURCE_EXHAUSTED, "UPSTREAM_RATE_LIMITED")
    assert busy.retry is not None


async def test_an_unknown_method_is_unimplemented(grpc_door: Door) -> None:
    call = grpc_door.channel.unary_unary("/ai_router.v1.AIRouter/Nope")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"", timeout=60)
    assert caught.value.code() is Code.UNIMPLEMENTED
