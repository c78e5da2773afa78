"""What a request is charged, by how it ended: LEDGER's table, over HTTP, in nano-USD worked out by hand.

Both vendors cost $1 per million tokens in and $2 out: 1,000 nano-USD a token in, 2,000 out.
"""

import json
from functools import partial
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from analytics.models import UsageRecord
from analytics.request_page import bill
from providers.domain.estimate import TEMPLATE, count_text, estimate_tokens
from tests.gateway import HELLO, Gateway, records
from tests.gateway_path.answers import (
    OPENAI_TOOL_CALL,
    TOOL_ARGUMENTS,
    anthropic_text,
    anthropic_tool_call,
    openai_said,
)
from tests.gateway_path.changes import changed, price_forget, price_set, provider_set
from tests.upstreams.scripted import (
    OPENAI_USAGE,
    Script,
    Upstream,
    drop,
    frames,
    hang,
    openai_answer,
    openai_chunk,
    openai_events,
    sse,
    status,
)

IN, OUT = 1_000, 2_000
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
both_wires = pytest.mark.parametrize("model", ["swift", "sage"])


def tokens(record: UsageRecord) -> tuple[int, int, int, int]:
    return (
        record.input_tokens,
        record.cache_read_input_tokens,
        record.cache_creation_input_tokens,
        record.output_tokens,
    )


def beside(record: UsageRecord) -> list[int | None]:
    """What stands beside each attempt instead of in the record's tokens."""
    return [attempt.get("billed_nano") for attempt in record.attempts]


def prompt_of(upstream: Upstream) -> int:
    """What the gateway counts for the first prompt that this vendor was sent."""
    return estimate_tokens(json.dumps(upstream.calls[0].body).encode())


def bound_of(**body: Any) -> int:
    """The most tokens that the prompt of this request can have: its bytes, and what vendors may add to them."""
    return len(json.dumps({"messages": HELLO, **body}).encode()) + TEMPLATE


async def only_record() -> UsageRecord:
    """The one record. The lines that its page shows a person always add up to its cost."""
    [record] = await records()
    shown = await sync_to_async(bill)(record)
    if shown and record.cost_nano is not None:
        assert sum(line.cost_nano or 0 for line in shown.lines) + shown.broken_nano == record.cost_nano
    return record


# --- answered, and the vendor told its count ----------------------------------------------------------------------


@both_ways
@both_wires
async def test_an_answer_is_charged_by_the_vendors_count(gateway: Gateway, model: str, stream: bool) -> None:
    reply = await gateway.chat(model=model, stream=stream)
    assert reply.status == 200
    record = await only_record()
    assert (record.state, record.http_status, record.error_code) == ("settled", 200, "")
    assert (tokens(record), record.usage_source) == ((12, 0, 0, 5), "provider")
    assert record.cost_nano == 12 * IN + 5 * OUT == 22_000
    assert [(a["http_status"], a.get("failure", "")) for a in record.attempts] == [(200, "")]
    assert beside(record) == [None]
    assert record.price is not None
    assert (record.price["input"], record.price["output"]) == (10**9, 2 * 10**9)


@both_ways
async def test_the_price_in_the_header_is_the_one_on_record(gateway: Gateway, stream: bool) -> None:
    reply = await gateway.chat(model="swift", stream=stream)
    record = await only_record()
    told = reply.headers.get("x-router-cost-usd")
    assert told == (None if stream else f"{(record.cost_nano or 0) / 1e9:.9f}")


@both_ways
@pytest.mark.parametrize(
    ("model", "play", "counts", "cost"),
    [
        (
            "swift",  # OpenAI counts cached tokens as part of the prompt
            openai_said(
                {"content": "Hi"},
                usage={**OPENAI_USAGE, "prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050,
                       "prompt_tokens_details": {"cached_tokens": 600}},
            ),
            (400, 600, 0, 50),
            400 * 1_000 + 600 * 100 + 50 * 2_000,
        ),
        (
            "sage",  # Anthropic counts them beside it
            anthropic_text(
                "Hi",
                start={"input_tokens": 400, "cache_read_input_tokens": 600, "cache_creation_input_tokens": 200},
                end={"output_tokens": 50},
            ),
            (400, 600, 200, 50),
            400 * 1_000 + 600 * 100 + 200 * 1_250 + 50 * 2_000,
        ),
    ],
    ids=["openai", "anthropic"],
)  # fmt: skip
async def test_cached_tokens_are_charged_once_and_at_their_own_rate(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream, model: str, play: Script,
    counts: tuple[int, int, int, int], cost: int, stream: bool,
) -> None:  # fmt: skip
    for vendor in ("alpha", "beta"):
        rates = {"input": "1", "output": "2", "cache_read": "0.1", "cache_write": "1.25"}
        await changed(gateway, partial(price_set, vendor, **rates))
    openai_upstream.play(play)
    anthropic_upstream.play(play)
    await gateway.chat(model=model, stream=stream)
    record = await only_record()
    assert (tokens(record), record.cost_nano) == (counts, cost)


@both_ways
async def test_reasoning_is_part_of_the_output_and_not_charged_twice(
    gateway: Gateway, openai_upstream: Upstream, stream: bool
) -> None:
    usage = {**OPENAI_USAGE, "completion_tokens_details": {"reasoning_tokens": 3}}
    openai_upstream.play(openai_said({"reasoning_content": "Let me see.", "content": "Hi"}, usage=usage))
    await gateway.chat(model="swift", stream=stream)
    record = await only_record()
    assert (record.output_tokens, record.reasoning_tokens, record.cost_nano) == (5, 3, 22_000)


@both_ways
@pytest.mark.parametrize(
    ("model", "play"),
    [
        ("swift", openai_said(OPENAI_TOOL_CALL, usage=OPENAI_USAGE, finish="tool_calls")),
        ("sage", anthropic_tool_call(start={"input_tokens": 12}, end={"output_tokens": 5})),
    ],
)
async def test_an_answer_that_is_a_tool_call_is_charged_like_any_other(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream, model: str, play: Script, stream: bool
) -> None:
    openai_upstream.play(play)
    anthropic_upstream.play(play)
    assert (await gateway.chat(model=model, stream=stream)).status == 200
    record = await only_record()
    assert (record.state, record.usage_source, record.cost_nano) == ("settled", "provider", 22_000)


async def test_the_rate_that_bills_is_the_one_of_the_target_that_answered(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    await changed(gateway, lambda: price_set("beta", input="10", output="20"))
    openai_upstream.play(status(429))
    await gateway.chat(model="auto")
    record = await only_record()
    assert (record.deployment, record.cost_nano) == ("beta/sage-1", 220_000)
    assert record.price is not None
    assert record.price["input"] == 10 * 10**9


# --- answered, but nobody told how much ---------------------------------------------------------------------------

TEXT = "The answer is forty-two, as everybody knows by now."


@both_ways
@pytest.mark.parametrize(
    ("model", "play", "said"),
    [
        ("swift", openai_said({"content": TEXT}, usage=None), TEXT),
        ("swift", openai_said(OPENAI_TOOL_CALL, usage=None, finish="tool_calls"), TOOL_ARGUMENTS),
        ("swift", openai_said({"content": TEXT}, usage={"prompt_tokens": 0, "completion_tokens": 0}), TEXT),
    ],
    ids=["text", "tool call", "a count of zero"],
)
async def test_an_answer_without_a_count_is_counted_and_never_free(
    gateway: Gateway, openai_upstream: Upstream, model: str, play: Script, said: str, stream: bool
) -> None:
    openai_upstream.play(play)
    await gateway.chat(model=model, stream=stream)
    record = await only_record()
    assert (record.state, record.usage_source) == ("settled", "counted")
    assert record.output_tokens == count_text(said)
    assert record.input_tokens == prompt_of(openai_upstream)
    assert record.cost_nano == record.input_tokens * IN + record.output_tokens * OUT


async def test_a_count_that_only_began_is_not_taken_for_the_whole(
    gateway: Gateway, anthropic_upstream: Upstream
) -> None:
    """Anthropic's stream begins with the prompt's count and one output token; some servers never send the rest."""
    anthropic_upstream.play(anthropic_text(TEXT, start={"input_tokens": 12}, end=None))
    await gateway.stream(model="sage")
    record = await only_record()
    assert (record.usage_source, tokens(record)) == ("counted", (12, 0, 0, count_text(TEXT)))
    assert record.cost_nano == 12 * IN + count_text(TEXT) * OUT


# --- the price is unknown -----------------------------------------------------------------------------------------


@both_ways
@both_wires
async def test_an_unknown_price_is_null_and_never_zero(gateway: Gateway, model: str, stream: bool) -> None:
    for vendor in ("alpha", "beta"):
        await changed(gateway, partial(price_forget, vendor))
    reply = await gateway.chat(model=model, stream=stream)
    assert reply.headers.get("x-router-cost-usd", "unknown") == "unknown"
    record = await only_record()
    assert (record.cost_nano, record.price, tokens(record)) == (None, None, (12, 0, 0, 5))
    assert (record.state, record.usage_source) == ("settled", "provider")


@pytest.mark.parametrize("ending", ["answered", "cut", "silent"])
async def test_a_price_that_is_known_in_part_does_not_make_the_rest_free(
    gateway: Gateway, openai_upstream: Upstream, ending: str
) -> None:
    await changed(gateway, lambda: price_set("alpha", output="2"))
    await changed(gateway, lambda: provider_set("alpha", timeout_s=0.3))
    plays = {
        "answered": openai_answer(),
        "cut": frames(*openai_events("Hel")[:2], pause_s=0.05, end="cut"),
        "silent": hang(),
    }
    openai_upstream.play(plays[ending])
    await gateway.stream(model="swift")
    record = await only_record()
    assert (record.state, record.cost_nano) == ("settled", None)


async def test_an_attempt_of_unknown_price_makes_the_whole_request_unpriced(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    """The first vendor may charge for what broke, and nobody knows how much: the second one's price is not the sum."""
    await changed(gateway, lambda: price_forget("alpha"))
    openai_upstream.play(frames(end="cut"))
    reply = await gateway.stream(model="auto")
    assert reply.text == "Bonjour"
    record = await only_record()
    assert (record.deployment, record.cost_nano, tokens(record)) == ("beta/sage-1", None, (12, 0, 0, 5))


async def test_a_refusal_costs_nothing_even_where_the_price_is_unknown(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    await changed(gateway, lambda: price_forget("alpha"))
    openai_upstream.play(status(429))
    await gateway.chat(model="swift")
    record = await only_record()
    assert (record.state, record.cost_nano, record.usage_source) == ("released", 0, "none")


# --- refused, or never reached ------------------------------------------------------------------------------------

ERROR = {"error": {"message": "no", "type": "some_error"}}


@both_ways
@pytest.mark.parametrize(
    "fault",
    [
        *(pytest.param(status(code, ERROR), id=str(code)) for code in (400, 401, 403, 404, 405, 408, 413, 422, 429)),
        *(pytest.param(status(code), id=str(code)) for code in (500, 503)),
        pytest.param(status(302, "", {"location": "https://example.com/"}), id="redirect"),
        pytest.param(drop(), id="hung up without a byte"),
    ],
)
async def test_what_a_vendor_refuses_is_free_and_still_on_record(
    gateway: Gateway, openai_upstream: Upstream, fault: Script, stream: bool
) -> None:
    openai_upstream.play(fault)
    reply = await gateway.chat(model="swift", stream=stream)
    record = await only_record()
    assert (record.state, record.cost_nano, record.usage_source) == ("released", 0, "none")
    assert (record.http_status, record.error_code) == (reply.status, reply.error["code"])
    assert tokens(record) == (0, 0, 0, 0)
    assert record.attempts
    assert set(beside(record)) == {None}


async def test_a_refusal_in_a_packed_body_is_a_refusal_all_the_same(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(status(429, "not really gzip", {"content-encoding": "gzip", "retry-after": "9"}))
    reply = await gateway.chat(model="swift")
    assert (reply.status, reply.headers["retry-after"]) == (429, "9")
    record = await only_record()
    assert (record.state, record.cost_nano, record.error_code) == ("released", 0, "upstream_rate_limited")


async def test_a_vendor_that_is_not_there_costs_nothing(gateway: Gateway, openai_upstream: Upstream) -> None:
    await openai_upstream.stop()
    reply = await gateway.chat(model="swift")
    assert (reply.status, reply.error["code"]) == (502, "upstream_unreachable")
    record = await only_record()
    assert (record.state, record.cost_nano, record.usage_source) == ("released", 0, "none")
    assert {attempt["failure"] for attempt in record.attempts} == {"connect"}


@pytest.mark.parametrize("extra", [{"logprobs": True}, {"messages": [{"role": "assistant", "tool_calls": 5}]}])
async def test_a_request_that_never_left_costs_nothing(gateway: Gateway, extra: dict[str, Any]) -> None:
    """What Anthropic's wire cannot say, or what cannot be read, is found out before anything is sent."""
    reply = await gateway.chat(model="sage", **extra)
    assert reply.status == 400
    record = await only_record()
    assert (record.state, record.cost_nano, record.attempts) == ("released", 0, [])
    assert (record.usage_source, record.deployment) == ("none", "")


# --- broken off ---------------------------------------------------------------------------------------------------


async def test_a_stream_that_is_cut_is_charged_for_what_came(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(frames(*openai_events("Hello", " there")[:3], pause_s=0.02, end="cut"))
    await gateway.stream(model="swift")
    record = await only_record()
    assert (record.state, record.error_code, record.usage_source) == ("settled", "upstream_failed", "counted")
    assert record.output_tokens == count_text("Hello there")
    assert record.cost_nano == record.input_tokens * IN + record.output_tokens * OUT
    assert beside(record) == [None], "its tokens are on the record already"


async def test_a_cut_stream_keeps_the_count_that_the_vendor_had_sent(
    gateway: Gateway, anthropic_upstream: Upstream
) -> None:
    cut = anthropic_text(
        TEXT, start={"input_tokens": 700, "cache_read_input_tokens": 300}, end=None, cut_after=3, ends="cut"
    )
    anthropic_upstream.play(cut)
    await gateway.stream(model="sage")
    record = await only_record()
    assert (record.usage_source, tokens(record)) == ("counted", (700, 300, 0, count_text(TEXT)))
    assert record.cost_nano == 1000 * IN + count_text(TEXT) * OUT


@both_ways
@pytest.mark.parametrize(
    "fault",
    [
        frames(end="cut"),
        frames(*sse(openai_chunk({"role": "assistant", "content": ""})), end="cut"),
        status(200, "<html>maintenance</html>", {"content-type": "text/html"}),
    ],
    ids=["cut", "cut before content", "not this wire"],
)
async def test_an_attempt_that_broke_before_content_is_charged_beside_the_one_that_answered(
    gateway: Gateway, openai_upstream: Upstream, fault: Script, stream: bool
) -> None:
    openai_upstream.play(fault)
    reply = await gateway.chat(model="auto", stream=stream)
    assert reply.text == "Bonjour"
    record = await only_record()
    assert (record.deployment, record.usage_source, tokens(record)) == ("beta/sage-1", "provider", (12, 0, 0, 5))
    broken, answered = beside(record)
    assert (broken, answered) == (bound_of(model="auto", stream=stream) * IN, None)
    assert record.cost_nano == 22_000 + bound_of(model="auto", stream=stream) * IN


# --- silence ------------------------------------------------------------------------------------------------------


@both_ways
async def test_a_timeout_without_a_byte_is_charged_for_the_prompt_and_flagged(
    gateway: Gateway, openai_upstream: Upstream, stream: bool
) -> None:
    await changed(gateway, lambda: provider_set("alpha", timeout_s=0.3))
    openai_upstream.play(hang())
    reply = await gateway.chat(model="swift", stream=stream)
    assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")
    record = await only_record()
    assert (record.state, record.usage_source, tokens(record)) == ("settled", "bound", (0, 0, 0, 0))
    assert record.cost_nano == bound_of(model="swift", stream=stream) * IN
    assert beside(record) == [record.cost_nano]


async def test_a_doubt_stays_flagged_when_the_last_attempt_was_refused(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    await changed(gateway, lambda: provider_set("alpha", timeout_s=0.3))
    openai_upstream.play(hang())
    anthropic_upstream.play(status(429))
    reply = await gateway.chat(model="auto")
    assert reply.status == 429
    record = await only_record()
    assert (record.state, record.usage_source) == ("settled", "bound")
    assert beside(record) == [record.cost_nano, None]
    assert record.cost_nano == bound_of(model="auto") * IN


async def test_a_stream_that_falls_silent_is_charged_for_what_came(gateway: Gateway, openai_upstream: Upstream) -> None:
    await changed(gateway, lambda: provider_set("alpha", timeout_s=0.3))
    openai_upstream.play(frames(*openai_events("Hello")[:2], end="hang"))
    reply = await gateway.stream(model="swift")
    assert reply.error["code"] == "upstream_timeout"
    record = await only_record()
    assert (record.state, record.usage_source) == ("settled", "counted")
    assert record.cost_nano == record.input_tokens * IN + count_text("Hello") * OUT


# --- the caller leaves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "play", "counts"),
    [
        ("swift", hang(), (None, 0)),
        ("swift", frames(*openai_events("Hello", " there")[:3], end="hang"), (None, count_text("Hello there"))),
        (
            "sage",
            anthropic_text(TEXT, start={"input_tokens": 700}, end=None, cut_after=3, ends="hang"),
            (700, count_text(TEXT)),
        ),
    ],
    ids=["before a byte", "openai", "anthropic"],
)
async def test_a_caller_who_leaves_pays_the_prompt_and_what_was_written(
    gateway: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream, model: str, play: Script,
    counts: tuple[int | None, int],
) -> None:  # fmt: skip
    openai_upstream.play(play)
    anthropic_upstream.play(play)
    vendor = anthropic_upstream if model == "sage" else openai_upstream
    await vendor.left(gateway.stream(model=model))
    record = await only_record()
    assert (record.state, record.http_status, record.usage_source) == ("cancelled", 499, "counted")
    assert [attempt["failure"] for attempt in record.attempts] == ["cancelled"]
    assert record.output_tokens == counts[1]
    assert record.input_tokens == (counts[0] or prompt_of(openai_upstream))
    assert record.cost_nano == record.input_tokens * IN + record.output_tokens * OUT
    assert beside(record) == [None]
