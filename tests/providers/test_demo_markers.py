"""Markers of the demo provider: what they mean, and what they do to an answer on both wires."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

from providers.demo.exchange import Refusal, count
from providers.demo.markers import MARKER_NAMES, Markers, read_markers, without_markers
from tests.providers.demo_client import (
    ANTHROPIC_HEADERS,
    Demo,
    Event,
    demo_server,
    parse_events,
    text_of,
    text_of_message,
)
from tests.stalls import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def demo() -> AsyncIterator[Demo]:
    async with demo_server() as server:
        yield server


# --- reading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no marker at all", Markers()),
        ("[[status=503]] [[retry_after=2.5]] hi", Markers(status=503, retry_after_s=2.5)),
        (
            "[[status=429]][[code=insufficient_quota]][[html]]",
            Markers(status=429, code="insufficient_quota", html=True),
        ),
        ("[[cut=0]]", Markers(cut=0)),
        ("[[hang=5]] [[garbage=1]] [[error_in_stream=9]]", Markers(hang=5, garbage=1, error_in_stream=9)),
        ("[[no_usage]][[no_finish]][[no_done]]", Markers(no_usage=True, no_finish=True, no_done=True)),
        ("[[delay=1.5]] [[pace=20]]", Markers(delay_s=1.5, pace_ms=20.0)),
        ("[[on=demo-swift, demo-deep]] [[times=2]]", Markers(on=("demo-swift", "demo-deep"), times=2)),
        ("[[tool=a]] and [[tool=b]]", Markers(tools=("a", "b"))),
        ("[[say=a [b] c]]", Markers(say="a [b] c")),
        ("[[say=[1]]]", Markers(say="[1]")),
        ("[[say=two\nlines]]", Markers(say="two\nlines")),
        ("[[say=]]", Markers(say="")),
        ("[[cached=3]] [[cache_write=4]] [[reasoning=5]]", Markers(cached=3, cache_write=4, reasoning=5)),
    ],
)
def test_markers_are_read(text: str, expected: Markers) -> None:
    assert read_markers(text) == expected


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[[foo]]", "[[foo]]"),
        ("[[statuss=503]]", "[[statuss=503]]"),
        ("[[status]]", "[[status]]"),
        ("[[status=]]", "[[status=]]"),
        ("[[status=200]]", "`int` >= 400"),
        ("[[status=abc]]", "[[status=abc]]"),
        ("[[cut=-1]]", "[[cut=-1]]"),
        ("[[cut=1.5]]", "[[cut=1.5]]"),
        ("[[tokens=99999999]]", "`int` <= 200000"),
        ("[[delay=soon]]", "Expected `float`, got `str`"),
        ("[[delay=601]]", "[[delay=601]]: Expected `float` <= 600.0"),
        ("[[echo=yes]]", "[[echo=yes]]: Expected `bool`"),
        ("[[say]]", "[[say]]: Expected `str`"),
        ("[[tool=a b]]", "[[tool=a b]]: Expected `str` matching"),
        ("[[on=]]", "[[on=]]: Expected `str` matching"),
        ("[[finish=never]]", "Invalid enum value 'never'"),
        ("[[cut=1]] [[cut=2]]", "cut stands twice"),
        ("[[retry_after=2]]", "needs a [[status=...]]"),
        ("[[html]]", "needs a [[status=...]]"),
    ],
)
def test_a_bad_marker_is_named(text: str, names: str) -> None:
    with pytest.raises(Refusal) as error:
        read_markers(text)
    assert names in error.value.message


def test_a_long_bad_marker_is_shown_short_and_only_once() -> None:
    with pytest.raises(Refusal) as error:
        read_markers(f"[[status=503]] [[code={'x' * 500}]]")
    assert error.value.message.startswith(f"Bad demo marker [[code={'x' * 55}…]]: ")
    assert (error.value.status, error.value.code, error.value.param) == (400, "invalid_demo_marker", "messages")


@pytest.mark.parametrize(
    "code",
    ["frame[[status]]", "if [[ -f file ]]; then", "[[1, 2], [3, 4]]", "[[Page]]", "[[a b]]", "[ [echo] ]", "[[]]"],
)
def test_brackets_in_code_and_prose_are_no_markers(code: str) -> None:
    assert read_markers(code) == Markers()
    assert without_markers(code) == code


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("[[echo]] hello", "hello"),
        ("hello [[echo]]", "hello"),
        ("[[echo]]\n[[cut=5]]\nhello\n", "hello\n"),
        ("one [[echo]] two", "one two"),
        ("  spaces  stay [[echo]]", "  spaces  stay"),
        ("[[echo]]", ""),
        ("a\n\n```\ncode\n```\n[[pace=1]]", "a\n\n```\ncode\n```"),
    ],
)
def test_a_prompt_without_its_markers_is_what_was_meant(text: str, left: str) -> None:
    assert without_markers(text) == left


def test_every_marker_is_explained_in_the_guide() -> None:
    guide = (ROOT / "docs" / "demo-provider.md").read_text()
    rows = set(re.findall(r"^\| `\[\[(\w+)", guide, re.MULTILINE))
    assert rows == set(MARKER_NAMES)


async def test_a_bad_marker_is_a_400_on_both_wires(demo: Demo) -> None:
    async with demo.post_chat("hello [[speed=9]]", stream=True) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert error["code"] == "invalid_demo_marker"
    assert "[[speed=9]]" in error["message"]
    async with demo.post_message("hello [[speed=9]]") as response:
        assert response.status == 400
        assert "[[speed=9]]" in (await response.json())["error"]["message"]


async def test_only_the_last_user_message_counts_wherever_its_text_stands(demo: Demo) -> None:
    messages = [
        {"role": "system", "content": "[[status=500]]"},
        {"role": "user", "content": "[[status=503]] first"},
        {"role": "assistant", "content": "[[nonsense]]"},
        {"role": "user", "content": [{"type": "text", "text": "second"}, {"type": "text", "text": "[[echo]]"}]},
    ]
    body = await demo.chat("", messages=messages)
    assert body["choices"][0]["message"]["content"] == "second"
    body = await demo.message("", messages=messages[1:], system="[[status=500]]")
    assert body["content"][0]["text"] == "second"


# --- error statuses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "openai_type", "openai_code", "anthropic_type"),
    [
        (400, "invalid_request_error", None, "invalid_request_error"),
        (401, "invalid_request_error", "invalid_api_key", "authentication_error"),
        (402, "invalid_request_error", None, "billing_error"),
        (403, "request_forbidden", "unsupported_country_region_territory", "permission_error"),
        (404, "invalid_request_error", "model_not_found", "not_found_error"),
        (408, "invalid_request_error", None, "invalid_request_error"),
        (413, "invalid_request_error", None, "request_too_large"),
        (422, "invalid_request_error", None, "invalid_request_error"),
        (429, "requests", "rate_limit_exceeded", "rate_limit_error"),
        (500, "server_error", None, "api_error"),
        (502, "server_error", None, "api_error"),
        (503, "service_unavailable_error", "server_is_overloaded", "api_error"),
        (504, "server_error", None, "timeout_error"),
        (529, "server_error", None, "overloaded_error"),
    ],
)
async def test_a_status_comes_with_the_vendors_body(
    demo: Demo, status: int, openai_type: str, openai_code: str | None, anthropic_type: str
) -> None:
    async with demo.post_chat(f"[[status={status}]]") as response:
        assert response.status == status
        error = (await response.json())["error"]
    assert (error["type"], error["code"]) == (openai_type, openai_code)
    assert error["message"]
    async with demo.post_message(f"[[status={status}]]", stream=True) as response:
        assert response.status == status
        body = await response.json()
    assert body["type"] == "error"
    assert body["error"]["type"] == anthropic_type
    assert body["error"]["message"]
    assert await demo.bills() == []


async def test_the_sdks_raise_their_own_errors_and_see_retry_after(demo: Demo) -> None:
    prompt = "[[status=429]] [[retry_after=2]]"
    async with openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key="k", max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as openai_error:
            await client.chat.completions.create(model="demo-swift", messages=[{"role": "user", "content": prompt}])
    assert openai_error.value.response.headers["retry-after"] == "2"
    async with anthropic.AsyncAnthropic(base_url=demo.url, api_key="k", max_retries=0) as other:
        with pytest.raises(anthropic.RateLimitError) as anthropic_error:
            await other.messages.create(model="demo-sage", max_tokens=9, messages=[{"role": "user", "content": prompt}])
    assert anthropic_error.value.response.headers["retry-after"] == "2"


@pytest.mark.parametrize(
    ("code", "openai_type", "anthropic_type", "phrase"),
    [
        ("insufficient_quota", "insufficient_quota", "invalid_request_error", "credit balance is too low"),
        ("context_length_exceeded", "invalid_request_error", "invalid_request_error", "prompt is too long"),
        ("overloaded_error", "requests", "overloaded_error", "rate limit"),
        ("something_else", "requests", "rate_limit_error", "rate limit"),
    ],
)
async def test_a_code_chooses_the_error_body(
    demo: Demo, code: str, openai_type: str, anthropic_type: str, phrase: str
) -> None:
    async with demo.post_chat(f"[[status=429]] [[code={code}]]") as response:
        error = (await response.json())["error"]
    assert (response.status, error["type"], error["code"]) == (429, openai_type, code)
    async with demo.post_message(f"[[status=429]] [[code={code}]]") as response:
        error = (await response.json())["error"]
    assert error["type"] == anthropic_type
    assert phrase in error["message"]


async def test_html_is_the_page_of_a_proxy_in_between(demo: Demo) -> None:
    async with demo.post_chat("[[status=502]] [[html]]") as response:
        assert (response.status, response.content_type) == (502, "text/html")
        assert "<h1>502</h1>" in await response.text()


# --- broken answers -------------------------------------------------------------------------------------------


async def collect(response: aiohttp.ClientResponse, data: bytearray) -> None:
    async for chunk in response.content.iter_any():
        data += chunk


async def extend(chunks: list[Any], stream: AsyncIterator[Any]) -> None:
    async for chunk in stream:
        chunks.append(chunk)


async def read_until_broken(response: aiohttp.ClientResponse) -> bytes:
    """What arrives before the connection breaks, which it must."""
    data = bytearray()
    with pytest.raises(aiohttp.ClientPayloadError):
        await collect(response, data)
    return bytes(data)


async def test_cut_drops_an_openai_stream_after_exactly_so_many_tokens(demo: Demo) -> None:
    async with demo.post_chat("[[cut=5]] [[tokens=50]]", stream=True) as response:
        assert response.status == 200
        events = parse_events(await read_until_broken(response))
    assert count(text_of(events)) == 5
    assert {"done": True} not in events
    bill = await demo.last_bill()
    assert (bill["state"], bill["output_tokens"]) == ("cut", 5)


async def test_cut_drops_an_anthropic_stream_after_exactly_so_many_tokens(demo: Demo) -> None:
    async with demo.post_message("[[cut=5]] [[pace=1]] [[tokens=50]]", stream=True) as response:
        events = parse_events(await read_until_broken(response))
    assert count(text_of_message(events)) == 5
    assert "message_stop" not in {event["type"] for event in events}
    assert (await demo.last_bill())["state"] == "cut"


async def test_a_cut_after_the_last_token_takes_only_the_ending(demo: Demo) -> None:
    async with demo.post_chat("[[cut=50]] [[tokens=50]]", stream=True) as response:
        events = parse_events(await read_until_broken(response))
    assert count(text_of(events)) == 50
    assert all(choice["finish_reason"] is None for event in events for choice in event["choices"])


async def test_a_cut_beyond_the_answer_never_happens(demo: Demo) -> None:
    assert (await demo.chat_events("[[cut=51]] [[tokens=50]]"))[-1] == {"done": True}
    assert (await demo.last_bill())["state"] == "completed"


async def test_cut_leaves_half_of_a_whole_answer(demo: Demo) -> None:
    async with demo.post_chat("[[cut=5]]") as response:
        assert response.status == 200
        data = await read_until_broken(response)
    assert data.startswith(b'{"id":"chatcmpl-')
    with pytest.raises(json.JSONDecodeError):
        json.loads(data)
    assert (await demo.last_bill())["output_tokens"] == 5


@pytest.mark.parametrize("stream", [True, False])
async def test_cut_0_drops_the_connection_before_the_first_byte(demo: Demo, stream: bool) -> None:
    with pytest.raises(aiohttp.ServerDisconnectedError):
        async with demo.post_chat("[[cut=0]]", stream=stream):
            pass
    bill = await demo.last_bill()
    assert (bill["state"], bill["output_tokens"]) == ("cut", 0)


async def test_the_sdks_see_a_cut_as_a_connection_error(demo: Demo) -> None:
    async with openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key="k", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="demo-swift", messages=[{"role": "user", "content": "[[cut=3]] [[pace=1]]"}], stream=True
        )
        with pytest.raises(openai.APIConnectionError):
            async for _ in stream:
                pass


def whole_events(data: bytearray) -> list[Event]:
    """Of a stream that is still coming: what is whole by now."""
    return parse_events(bytes(data[: data.rfind(b"\n\n") + 2]))


async def test_hang_sends_so_many_tokens_and_then_nothing(demo: Demo) -> None:
    async with demo.post_chat("[[hang=4]] [[tokens=50]]", stream=True) as response:
        data = bytearray()
        collecting = asyncio.create_task(collect(response, data))
        async with asyncio.timeout(PATIENCE_S):
            while count(text_of(whole_events(data))) < 4:  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.3)
        assert not collecting.done()
        collecting.cancel()
        response.close()
    assert count(text_of(whole_events(data))) == 4
    bill = await demo.last_bill()
    assert (bill["state"], bill["output_tokens"]) == ("cancelled", 4)


@pytest.mark.parametrize(("stream", "marker"), [(True, "[[hang=0]]"), (False, "[[hang=0]]")])
async def test_hang_0_never_answers(demo: Demo, stream: bool, marker: str) -> None:
    async def ask() -> None:
        async with demo.post_chat(marker, stream=stream):
            pass

    await demo.left(ask())
    assert (await demo.last_bill())["state"] == "cancelled"


async def test_hang_in_a_whole_answer_stops_in_the_middle_of_the_body(demo: Demo) -> None:
    async with demo.post_message("[[hang=4]]") as response:
        assert response.status == 200
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio.timeout(0.5):
                await response.read()
        response.close()
    assert (await demo.last_bill())["output_tokens"] == 4


async def test_an_error_in_an_openai_stream_raises_in_the_sdk_after_the_tokens(demo: Demo) -> None:
    chunks: list[Any] = []
    async with openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key="k", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="demo-swift", messages=[{"role": "user", "content": "[[error_in_stream=5]]"}], stream=True
        )
        with pytest.raises(openai.APIError, match="The server had an error"):
            await extend(chunks, stream)
    assert count("".join(chunk.choices[0].delta.content or "" for chunk in chunks)) == 5
    bill = await demo.last_bill()
    assert (bill["state"], bill["output_tokens"]) == ("failed", 5)


async def test_an_error_in_an_anthropic_stream_is_an_error_event(demo: Demo) -> None:
    events = await demo.message_events("[[error_in_stream=5]]")
    assert events[-1]["error"] == {"type": "overloaded_error", "message": "Overloaded"}
    assert count(text_of_message(events[:-1])) == 5
    first = await demo.message_events("[[error_in_stream=0]]")
    assert [event["type"] for event in first] == ["error"]


async def test_an_error_in_stream_without_a_stream_is_an_error_status(demo: Demo) -> None:
    async with demo.post_chat("[[error_in_stream=5]]") as response:
        assert response.status == 500
    async with demo.post_message("[[error_in_stream=5]]") as response:
        assert response.status == 529
    assert await demo.bills() == []


async def test_garbage_is_one_broken_event_in_a_stream_and_half_a_body_without(demo: Demo) -> None:
    async with demo.post_chat("[[garbage=2]] [[tokens=9]]", stream=True) as response:
        blocks = (await response.text()).split("\n\n")
    broken = [block for block in blocks if block.startswith("data: {") and not block.endswith("}")]
    assert len(broken) == 1
    assert blocks[-2] == "data: [DONE]"
    async with demo.post_message("[[garbage=2]]", stream=True) as response:
        assert '"index":0,"del\n\n' in await response.text()
    async with demo.post_chat("[[garbage=0]]") as response:
        with pytest.raises(json.JSONDecodeError):
            json.loads(await response.text())


async def test_no_usage_leaves_out_every_count(demo: Demo) -> None:
    events = await demo.chat_events("[[no_usage]]", stream_options={"include_usage": True})
    assert all("usage" not in event for event in events)
    assert "usage" not in await demo.chat("[[no_usage]]")
    events = await demo.message_events("[[no_usage]]")
    assert "usage" not in events[0]["message"]
    assert "usage" not in events[-2]
    assert "usage" not in await demo.message("[[no_usage]]")
    assert all(bill["output_tokens"] > 0 for bill in await demo.bills())


async def test_no_finish_ends_cleanly_after_the_last_token(demo: Demo) -> None:
    events = await demo.chat_events("[[no_finish]] [[say=the end]]", stream_options={"include_usage": True})
    assert events[-1]["choices"][0]["delta"] == {"content": " end"}
    events = await demo.message_events("[[no_finish]] [[say=the end]]")
    assert events[-1]["delta"]["text"] == " end"
    assert (await demo.chat("[[no_finish]]"))["choices"][0]["finish_reason"] is None
    assert (await demo.message("[[no_finish]]"))["stop_reason"] is None


async def test_no_done_leaves_out_the_last_event_only(demo: Demo) -> None:
    events = await demo.chat_events("[[no_done]]")
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    events = await demo.message_events("[[no_done]]")
    assert events[-1]["type"] == "message_delta"


# --- time and whom it concerns --------------------------------------------------------------------------------


async def test_delay_and_pace_hold_whatever_the_pace_factor(demo: Demo) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with demo.post_chat("[[delay=0.2]] [[pace=10]] [[tokens=11]]", stream=True) as response:
        first_byte_s = loop.time() - began
        await response.read()
    whole_s = loop.time() - began
    assert first_byte_s >= 0.2
    assert 0.3 <= whole_s < PATIENCE_S
    began = loop.time()
    async with demo.post_chat("[[delay=0.2]] [[status=503]]") as response:
        assert response.status == 503
    assert loop.time() - began >= 0.2


async def test_on_keeps_faults_to_the_named_models(demo: Demo) -> None:
    prompt = "[[on=demo-swift]] [[status=503]] [[say=served]]"
    async with demo.post_chat(prompt) as response:
        assert response.status == 503
    body = await demo.message(prompt)
    assert body["content"][0]["text"] == "served"


async def test_times_fails_the_first_requests_of_a_message_and_then_serves(demo: Demo) -> None:
    statuses = []
    for model in ("demo-swift", "demo-deep", "demo-swift"):
        async with demo.post_chat("[[times=2]] [[status=500]] retry me", model=model) as response:
            statuses.append(response.status)
    assert statuses == [500, 500, 200]
    async with demo.post_chat("[[times=2]] [[status=500]] another message") as response:
        assert response.status == 500


# --- content and usage ----------------------------------------------------------------------------------------


async def test_echo_is_the_message_and_say_the_text(demo: Demo) -> None:
    echo = await demo.chat("[[echo]] Line one\n\n  line *two*", model="demo-deep")
    assert echo["choices"][0]["message"]["content"] == "Line one\n\n  line *two*"
    said = await demo.message("[[say=exactly this]] ignored", tools=[{"name": "exactly"}])
    assert said["content"] == [{"type": "text", "text": "exactly this"}]
    nothing = await demo.chat("[[say=]]")
    assert nothing["choices"][0]["message"]["content"] == ""
    assert nothing["usage"]["completion_tokens"] == 0


@pytest.mark.parametrize("tokens", [0, 1, 2, 30, 300, 5000])
async def test_tokens_is_the_exact_number_of_output_tokens(demo: Demo, tokens: int) -> None:
    body = await demo.chat(f"[[tokens={tokens}]] a story about rain")
    assert body["usage"]["completion_tokens"] == tokens
    assert count(body["choices"][0]["message"]["content"]) == tokens
    assert body["choices"][0]["finish_reason"] == "stop"
    events = await demo.message_events(f"[[tokens={tokens}]] [[say=x]]", max_tokens=10_000)
    assert events[-2]["usage"]["output_tokens"] == tokens
    assert [event["type"] for event in events].count("content_block_delta") == tokens


async def test_max_tokens_wins_over_tokens(demo: Demo) -> None:
    body = await demo.chat("[[tokens=300]]", max_tokens=100)
    assert (body["usage"]["completion_tokens"], body["choices"][0]["finish_reason"]) == (100, "length")


async def test_tool_forces_calls_that_nobody_offered(demo: Demo) -> None:
    body = await demo.chat("[[tool=look_up]] [[tool=write_down]]")
    calls = body["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["look_up", "write_down"]
    assert [call["function"]["arguments"] for call in calls] == ["{}", "{}"]
    events = await demo.message_events("[[tool=look_up]] [[tool=write_down]]")
    blocks = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert [block["name"] for block in blocks] == ["look_up", "write_down"]
    stops = [event["index"] for event in events if event["type"] == "content_block_stop"]
    assert stops == [0, 1]
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("finish", "stop_reason"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("tool_calls", "tool_use"), ("content_filter", "refusal")],
)
async def test_finish_sets_the_reason(demo: Demo, finish: str, stop_reason: str) -> None:
    body = await demo.chat(f"[[finish={finish}]]")
    assert body["choices"][0]["finish_reason"] == finish
    assert (await demo.message_events(f"[[finish={finish}]]"))[-2]["delta"]["stop_reason"] == stop_reason


async def test_cached_tokens_are_inside_openais_prompt_and_beside_anthropics_input(demo: Demo) -> None:
    prompt = "[[cached=20]] [[cache_write=10]] " + "word " * 60
    usage = (await demo.chat(prompt))["usage"]
    details = usage["prompt_tokens_details"]
    assert (details["cached_tokens"], details["cache_write_tokens"]) == (20, 10)
    plain = (await demo.chat(prompt.replace("=20", "=0").replace("=10", "=0")))["usage"]
    assert usage["prompt_tokens"] == plain["prompt_tokens"]
    message = (await demo.message(prompt))["usage"]
    assert (message["cache_read_input_tokens"], message["cache_creation_input_tokens"]) == (20, 10)
    assert message["input_tokens"] == usage["prompt_tokens"] - 30


async def test_a_prompt_has_no_more_cached_tokens_than_tokens(demo: Demo) -> None:
    usage = (await demo.chat("[[cached=5000]]"))["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] < 30


async def test_reasoning_is_part_of_the_output_and_of_the_limit(demo: Demo) -> None:
    usage = (await demo.chat("[[reasoning=40]] [[tokens=10]]"))["usage"]
    assert (usage["completion_tokens"], usage["completion_tokens_details"]["reasoning_tokens"]) == (50, 40)
    assert (await demo.last_bill())["output_tokens"] == 50
    body = await demo.chat("[[reasoning=40]] [[tokens=10]]", max_tokens=45)
    assert body["usage"]["completion_tokens"] == 45
    assert count(body["choices"][0]["message"]["content"]) == 5
    events: list[dict[str, Any]] = await demo.message_events("[[reasoning=40]] [[tokens=10]]")
    assert events[-2]["usage"]["output_tokens_details"] == {"thinking_tokens": 40}
    assert (await demo.last_bill())["output_tokens"] == 50


async def test_a_marker_reaches_through_headers_that_a_gateway_adds(demo: Demo) -> None:
    body = {"model": "demo-sage", "max_tokens": 50, "messages": [{"role": "user", "content": "[[echo]] hi"}]}
    headers = {**ANTHROPIC_HEADERS, "x-request-id": "r1", "traceparent": "00-0-0-00", "accept-encoding": "gzip"}
    async with demo.session.post(f"{demo.url}/v1/messages", json=body, headers=headers) as response:
        assert (await response.json())["content"][0]["text"] == "hi"
