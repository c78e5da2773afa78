"""Callers of the gRPC door who do what nobody should: odd metadata, odd texts, calls that are left at any moment,
readers who do not read. Each ends with a status, a record, and a closed connection to the vendor."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from pytest_django import Settings

from routerplatform.protos.ai_router_pb2 import AIRequest, AIResponse
from tests.gateway import Gateway, records
from tests.grpc_door import Door, Said, grpc_serving, heard
from tests.stalls import PATIENCE_S
from tests.upstreams.scripted import Upstream, frames, hang, openai_answer, openai_events, openai_stream, status

Code = grpc.StatusCode
WHOLE, PIECES = "/ai_router.v1.AIRouter/RouteRequest", "/ai_router.v1.AIRouter/StreamingRouteRequest"
ASKED = AIRequest(prompt="Hello", model="swift")
ENDLESS = frames(*openai_events(*["word " * 4_000] * 4_000), end="hang")


def opened(door: Door, method: str = PIECES, **options: Any) -> Any:
    """A call whose messages the test sends as it likes."""
    call = door.channel.stream_stream(
        method, request_serializer=AIRequest.SerializeToString, response_deserializer=AIResponse.FromString
    )
    return call(metadata=door.credentials(), **options)


async def closed(upstream: Upstream) -> None:
    """Until the vendor has seen every call of ours end."""
    for call in upstream.calls:
        await asyncio.wait_for(call.cut.wait(), PATIENCE_S)


# --- metadata -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        ("x-trace-bin", b"\x00\xff\xfe"),
        ("authorization-bin", b"Bearer x"),
        ("x-router-tag", "t" * 5_000),
        ("x-router-conversation", ""),
        ("x-router-tag", "  spaces and ~!@#$%^&*()"),
        ("traceparent", "00-nonsense"),
        ("x-router-task-type", ""),
        ("x-anything", "%00%ff"),
        ("idempotency-key", ""),
        ("user-agent", "x"),
    ],
    ids=lambda odd: odd[0],
)
async def test_metadata_that_says_nothing_does_no_harm(grpc_door: Door, odd: tuple[str, Any]) -> None:
    said = await grpc_door.ask(ASKED, odd)
    assert (said.code, said.text) == (Code.OK, "Hello"), said.message
    [record] = await records()
    assert len(record.tag) <= 200


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-router-cache", "maybe"), ("x-router-task-type", "cooking"), ("idempotency-key", "x" * 256)],
)
async def test_metadata_that_makes_no_sense_is_refused_by_its_name(grpc_door: Door, name: str, value: str) -> None:
    said = await grpc_door.ask(ASKED, (name, value))
    assert (said.code, said.fields) == (Code.INVALID_ARGUMENT, [name])


async def test_the_first_of_two_keys_counts(grpc_door: Door) -> None:
    twice = (("authorization", "Bearer rp_wrong"), *grpc_door.credentials())
    assert (await heard(grpc_door.router.RouteRequest(ASKED, metadata=twice))).code is Code.UNAUTHENTICATED
    mine = (*grpc_door.credentials(), ("authorization", "Bearer rp_wrong"))
    assert (await heard(grpc_door.router.RouteRequest(ASKED, metadata=mine))).code is Code.OK


# --- texts --------------------------------------------------------------------------------------------------------


async def test_any_text_goes_there_and_back(grpc_door: Door, openai_upstream: Upstream) -> None:
    texts = 'NUL \0, U+2028 \u2028, 日本語, \U0001f468\u200d\U0001f469, "quoted"\n\ttab, <&>'
    openai_upstream.play(openai_answer(texts))
    for method in (grpc_door.ask, grpc_door.stream):
        assert (await method(AIRequest(prompt=texts, model="swift", system=texts))).text == texts
    assert openai_upstream.calls[0].body["messages"][1]["content"] == texts


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (AIRequest(prompt="x", more='{"user": "\\ud83d"}'), "more"),
        (AIRequest(prompt="x", response_format='{"type": "\\ud83d"}'), "response_format"),
        (AIRequest(prompt="x", tools=[{"name": "t", "parameters": '{"\\ud83d": 1}'}]), "tools[0].parameters"),
        (AIRequest(prompt="x", more='{"user": NaN}'), "more"),
        (AIRequest(prompt="x", more='{"a":' * 5_000), "more"),
    ],
)
async def test_half_a_character_and_what_is_no_json_are_refused_by_their_field(
    grpc_door: Door, openai_upstream: Upstream, request_: AIRequest, field: str
) -> None:
    said = await grpc_door.ask(request_)
    assert (said.code, said.fields) == (Code.INVALID_ARGUMENT, [field])
    assert openai_upstream.calls == []


async def test_half_a_character_from_the_vendor_is_left_out(grpc_door: Door, openai_upstream: Upstream) -> None:
    openai_upstream.play(
        openai_stream("so \ud83d", "\ude42 good", "\ud83d"),
        status(400, {"error": {"message": "bad \ud83d prompt \0"}}),
    )
    assert (await grpc_door.stream(ASKED)).text == "so 🙂 good"
    refused = await grpc_door.ask(ASKED)
    assert (refused.code, refused.info.reason) == (Code.INVALID_ARGUMENT, "UPSTREAM_REJECTED")
    assert "bad" in refused.message


@pytest.mark.parametrize("provider", ["\0", "ü" * 500, "' OR 1=1", "alpha ", "ALPHA"])
async def test_a_provider_that_is_not_there_is_not_found(grpc_door: Door, provider: str) -> None:
    said = await grpc_door.ask(AIRequest(prompt="x", provider=provider, model="swift-1"))
    assert (said.code, said.info.metadata["param"]) == (Code.NOT_FOUND, "model")


# --- calls that are left ------------------------------------------------------------------------------------------


async def test_a_call_without_a_message_is_refused_and_one_with_two_is_answered_once(
    grpc_door: Door, openai_upstream: Upstream
) -> None:
    empty = opened(grpc_door)
    await empty.done_writing()
    assert (await heard(empty)).code is Code.INVALID_ARGUMENT
    double = opened(grpc_door)
    await double.write(ASKED)
    await double.write(ASKED)
    await double.done_writing()
    said = await heard(double)
    assert (said.code, said.text, len(openai_upstream.calls)) == (Code.OK, "Hello", 1)


async def test_a_call_whose_message_never_comes_ends_with_its_deadline(
    grpc_door: Door, openai_upstream: Upstream
) -> None:
    assert (await heard(opened(grpc_door, timeout=0.3))).code is Code.DEADLINE_EXCEEDED
    left = opened(grpc_door)
    await asyncio.sleep(0)
    left.cancel()
    assert (await grpc_door.ask(ASKED)).text == "Hello"
    assert len(openai_upstream.calls) == 1


async def test_a_deadline_beyond_all_measure_is_none(grpc_door: Door) -> None:
    for timeout in (1e9, None):
        said = await heard(grpc_door.router.RouteRequest(ASKED, metadata=grpc_door.credentials(), timeout=timeout))
        assert (said.code, said.text) == (Code.OK, "Hello")


@pytest.mark.parametrize("pieces", [0, 1, 3])
@pytest.mark.parametrize("once", [(), (("idempotency-key", "left"),)], ids=["", "once"])
async def test_a_stream_that_is_left_at_any_moment_is_settled_and_may_come_again(
    grpc_door: Door, openai_upstream: Upstream, pieces: int, once: Any
) -> None:
    openai_upstream.play(frames(*openai_events("one ", "two ", "three ", "four")[:5], end="hang"), openai_answer())
    call = grpc_door.router.StreamingRouteRequest(ASKED, metadata=grpc_door.credentials(*once))
    read = ""
    while read.count(" ") < pieces:  # what comes together is told together
        read += (await call.read()).text
    await openai_upstream.asked()
    call.cancel()
    await closed(openai_upstream)
    [record] = await records()
    assert (record.state, record.error_code) == ("cancelled", "cancelled")
    assert record.cost_nano is not None
    again = await grpc_door.stream(ASKED, *once)
    async with asyncio.timeout(PATIENCE_S):
        while again.info.reason == "IDEMPOTENCY_IN_PROGRESS":  # it is let go a moment later
            await asyncio.sleep(0.05)
            again = await grpc_door.stream(ASKED, *once)
    assert again.text == "Hello"


async def test_who_leaves_after_the_last_piece_has_a_whole_record(grpc_door: Door) -> None:
    call = grpc_door.router.StreamingRouteRequest(ASKED, metadata=grpc_door.credentials())
    while not (await call.read()).done:
        pass
    call.cancel()
    [record] = await records()
    assert (record.state, record.cost_nano) == ("settled", 22_000)


@pytest.fixture
async def short_door(gateway: Gateway, settings: Settings, tmp_path: Path) -> AsyncIterator[Door]:
    """One whose requests may take a second and a half."""
    settings.REQUEST_TIMEOUT_S = 1.5
    settings.JOURNAL_DIR = tmp_path / "grpc-journal"
    async with grpc_serving(gateway.key) as door:
        yield door


async def test_a_caller_who_never_reads_holds_a_vendor_no_longer_than_a_request_may_take(
    short_door: Door, openai_upstream: Upstream
) -> None:
    openai_upstream.play(ENDLESS)
    call = short_door.router.StreamingRouteRequest(ASKED, metadata=short_door.credentials())
    await openai_upstream.asked()
    await closed(openai_upstream)
    [record] = await records()
    assert record.state in {"settled", "cancelled"}
    said: Said = await asyncio.wait_for(heard(call), PATIENCE_S)  # now it reads
    assert said.code is Code.DEADLINE_EXCEEDED
    assert said.info.reason in {"UPSTREAM_TIMEOUT", "DEADLINE_EXCEEDED"}
    openai_upstream.play(openai_answer())
    assert (await short_door.ask(ASKED)).text == "Hello", "the connection is good for other calls"


async def test_a_vendor_that_says_nothing_is_told_when_a_request_has_taken_too_long(
    short_door: Door, openai_upstream: Upstream
) -> None:
    openai_upstream.play(hang())
    said = await short_door.stream(ASKED)
    assert (said.code, said.info.reason) == (Code.DEADLINE_EXCEEDED, "UPSTREAM_TIMEOUT")
    await closed(openai_upstream)


async def test_callers_of_one_connection_do_not_hold_each_other_up(grpc_door: Door, openai_upstream: Upstream) -> None:
    openai_upstream.play(*[hang()] * 10, openai_answer())
    slow = [grpc_door.router.RouteRequest(ASKED, metadata=grpc_door.credentials()) for _ in range(10)]
    await openai_upstream.asked(10)
    said = await asyncio.gather(*(grpc_door.stream(ASKED) for _ in range(30)))
    assert [(one.text, one.code) for one in said] == [("Hello", Code.OK)] * 30
    for call in slow:
        call.cancel()
    found = await records(40)
    assert [record.state for record in found].count("cancelled") == 10
    assert len({one.last.request_id for one in said} & {str(record.request_id) for record in found}) == 30
