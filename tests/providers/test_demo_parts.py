"""The parts of the demo provider by themselves: exact bytes of both wires, bills, reading, knowledge, command line."""

import argparse
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from django.core.management import call_command

from providers.demo import __main__ as command
from providers.demo import anthropic_wire, openai_wire
from providers.demo.answers import words_of
from providers.demo.exchange import LISTED, MODELS, Piece, Refusal, Reply, Usage, bad_field
from providers.demo.playback import Bills
from providers.demo.texts import ANSWERS, SNIPPETS, Comparison, comparison_for, fact_for, named_language, vendor_error
from tests.providers.demo_client import HEADERS, Demo, demo_server

USAGE = Usage(7, 2, 1, 3, 1)
TEXT = (Piece("Hel"), Piece("lo"))
CALLS = (Piece("", 0, "call_a", "f"), Piece("{}", 0), Piece("", 1, "call_b", "g"), Piece('{"x"', 1))


@pytest.fixture
async def demo() -> AsyncIterator[Demo]:
    async with demo_server() as server:
        yield server


def reply(model: str, **fields: Any) -> Reply:
    values: dict[str, Any] = {
        "digest": "0123456789" * 6,
        "created": 1_800_000_000,
        "pieces": TEXT,
        "finish": "stop",
        "stop_sequence": None,
        "usage": USAGE,
        "show_usage": True,
        "show_finish": True,
        "show_done": True,
        **fields,
    }
    return Reply(model=MODELS[model], **values)


# --- exact bytes ----------------------------------------------------------------------------------------------


def openai_stream(answer: Reply) -> list[str]:
    """The chunks without the head that all of them share."""
    head = (
        'data: {"id":"chatcmpl-01234567890123456789012345678","object":"chat.completion.chunk","created":1800000000,'
        '"model":"demo-swift","service_tier":"default","system_fingerprint":"fp_demo",'
    )
    return [data.decode().replace(head, "… ") for data, _ in openai_wire.frames_of(answer)]


def test_the_bytes_of_an_openai_stream() -> None:
    assert openai_stream(reply("demo-swift", show_usage=False)) == [
        '… "choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,'
        '"finish_reason":null}]}\n\n',
        '… "choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null}]}\n\n',
        '… "choices":[{"index":0,"delta":{"content":"lo"},"logprobs":null,"finish_reason":null}]}\n\n',
        '… "choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n',
        "data: [DONE]\n\n",
    ]


def test_the_usage_chunk_of_an_openai_stream() -> None:
    assert openai_stream(reply("demo-swift"))[-2] == (
        '… "usage":{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,"prompt_tokens_details":'
        '{"cached_tokens":2,"cache_write_tokens":1,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":1,'
        '"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"choices":[]}\n\n'
    )


def test_the_tool_call_deltas_of_an_openai_stream() -> None:
    chunks = openai_stream(reply("demo-swift", pieces=CALLS, finish="tool_calls", show_usage=False))
    assert '"delta":{"role":"assistant","content":null,"refusal":null}' in chunks[0]
    assert (
        '"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"f","arguments":""}}]}'
        in chunks[1]
    )
    assert '"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}' in chunks[2]
    assert '"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{\\"x\\""}}]}' in chunks[4]
    assert '"finish_reason":"tool_calls"' in chunks[5]


def test_the_bytes_of_an_anthropic_stream() -> None:
    assert [data.decode() for data, _ in anthropic_wire.frames_of(reply("demo-sage"))] == [
        'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_012345678901234567890123",'
        '"type":"message","role":"assistant","model":"demo-sage","content":[],"stop_reason":null,"stop_sequence":null,'
        '"usage":{"input_tokens":7,"cache_creation_input_tokens":1,"cache_read_input_tokens":2,"output_tokens":1,'
        '"service_tier":"standard","output_tokens_details":{"thinking_tokens":1}}}}\n\n',
        'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        '"content_block":{"type":"text","text":""}}\n\n',
        'event: ping\ndata: {"type":"ping"}\n\n',
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        '"delta":{"type":"text_delta","text":"Hel"}}\n\n',
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        '"delta":{"type":"text_delta","text":"lo"}}\n\n',
        'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
        'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
        '"usage":{"input_tokens":7,"cache_creation_input_tokens":1,"cache_read_input_tokens":2,"output_tokens":3,'
        '"service_tier":"standard","output_tokens_details":{"thinking_tokens":1}}}\n\n',
        'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    ]


def test_each_tool_use_of_an_anthropic_stream_is_a_block_of_its_own() -> None:
    answer = reply("demo-sage", pieces=CALLS, finish="tool_calls")
    frames = [data.decode() for data, _ in anthropic_wire.frames_of(answer)]
    assert '"content_block":{"type":"tool_use","id":"call_a","name":"f","input":{}}' in frames[1]
    assert '"delta":{"type":"input_json_delta","partial_json":""}' in frames[3]
    assert '"delta":{"type":"input_json_delta","partial_json":"{}"}' in frames[4]
    assert '"index":0}' in frames[5]
    assert '"index":1,"content_block":{"type":"tool_use","id":"call_b","name":"g","input":{}}' in frames[6]
    assert anthropic_wire.body_of(answer)["content"][1]["input"] == {}, "cut arguments are still an object"


@pytest.mark.parametrize("wire", [openai_wire, anthropic_wire])
@pytest.mark.parametrize("pieces", [TEXT, CALLS, ()])
def test_frames_carry_one_token_for_each_piece(wire: Any, pieces: tuple[Any, ...]) -> None:
    frames = list(wire.frames_of(reply("demo-swift", pieces=pieces)))
    assert sum(tokens for _, tokens in frames) == len(pieces)
    assert all(data.endswith(b"\n\n") for data, _ in frames)


def test_an_empty_anthropic_answer_has_no_block() -> None:
    kinds = [data.split(b"\n")[0] for data, _ in anthropic_wire.frames_of(reply("demo-sage", pieces=()))]
    assert kinds == [b"event: message_start", b"event: message_delta", b"event: message_stop"]


def test_an_error_keeps_its_own_words_and_place() -> None:
    refusal = Refusal(400, "No.", code="odd", param="messages")
    assert openai_wire.error_body(refusal, "req_1") == {
        "error": {"message": "No.", "type": "invalid_request_error", "param": "messages", "code": "odd"}
    }
    assert anthropic_wire.error_body(refusal, "req_1") == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "No."},
        "request_id": "req_1",
    }


@pytest.mark.parametrize("vendor", ["openai", "anthropic", "gemini", "cohere"])
def test_every_error_status_and_code_has_the_vendors_words(vendor: str) -> None:
    assert all(vendor_error(vendor, status, None).message for status in range(400, 600))
    assert vendor_error(vendor, 500, "insufficient_quota") == vendor_error(vendor, 429, "insufficient_quota")
    assert vendor_error(vendor, 418, "made_up") == vendor_error(vendor, 400, None)


def test_each_model_is_listed_by_openai_or_by_anthropic() -> None:
    listed = [row["id"] for wire in (openai_wire, anthropic_wire) for row in wire.MODEL_LIST["data"]]
    assert sorted(listed) == sorted(model.id for model in LISTED)


# --- reading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "missing"),
    [
        ("Expected `object`, got `array`", "", False),
        ("Expected `str`, got `int` - at `$.model`", "model", False),
        ("Object missing required field `role` - at `$.messages[0]`", "messages[0].role", True),
        ("Object missing required field `model`", "model", True),
        ("Expected `int` >= 1 - at `$.n`", "n", False),
    ],
)
def test_a_validation_error_becomes_a_path(text: str, path: str, missing: bool) -> None:
    error = bad_field(text)
    assert (error.path, error.missing) == (path, missing)
    assert "$" not in error.what


def test_nesting_at_the_edge_of_what_can_be_read_is_answered_or_refused() -> None:
    ends: set[int] = set()
    for depth in range(600, 1001):
        schema = b'{"a":' * depth + b"1" + b"}" * depth
        tools = b'[{"type": "function", "function": {"name": "f", "parameters": ' + schema + b"}}]"
        body = b'{"model": "demo-swift", "messages": [{"role": "user", "content": "hi"}], "tools": ' + tools + b"}"
        try:
            ends.add(openai_wire.read_ask(body).input_tokens > depth)
        except Refusal as refusal:
            ends.add(refusal.status)
    assert ends == {True, 400}


# --- bills ----------------------------------------------------------------------------------------------------


def settle(bills: Bills, request_id: str, output: int) -> None:
    with bills.open(request_id=request_id, model=MODELS["demo-swift"], usage=USAGE, stream=True) as bill:
        bill.output_tokens = output
        bill.state = "completed"


def test_old_bills_go_but_the_sums_keep_them() -> None:
    bills = Bills(kept=3)
    for number in range(5):
        settle(bills, f"r{number}", 10)
    assert [bill.request_id for bill in bills.rows()] == ["r2", "r3", "r4"]
    assert bills.stats()["billed"] == 5
    assert bills.stats()["models"]["demo-swift"]["output_tokens"] == 50
    assert bills.stats()["models"]["demo-swift"]["input_tokens"] == 35


def test_a_bill_is_open_inside_the_block_and_cancelled_when_it_breaks() -> None:
    def interrupted(bills: Bills) -> Iterator[Bills]:
        with bills.open(request_id="r", model=MODELS["demo-sage"], usage=USAGE, stream=True) as bill:
            bill.output_tokens = 4
            yield bills

    bills = Bills()
    work = interrupted(bills)
    next(work)
    assert bills.rows("r")[0].state == "open"
    assert (bills.stats()["open_streams"], bills.stats()["open_requests"], bills.stats()["billed"]) == (1, 1, 0)
    work.close()  # type: ignore[attr-defined]
    assert bills.rows("r")[0].state == "cancelled"
    assert (bills.stats()["open_streams"], bills.stats()["open_requests"], bills.stats()["billed"]) == (0, 0, 1)
    assert bills.rows("another") == []
    assert bills.rows("another", "r") == bills.rows()


# --- what it knows --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("country", ANSWERS.capitals)
def test_capitals_are_known_with_and_without_article(country: str) -> None:
    for prompt in (f"What is the capital of {country.title()}?", f"capital city of the {country}"):
        answer = fact_for(prompt, words_of(prompt))
        assert answer is not None
        assert answer.endswith(f"is **{ANSWERS.capitals[country]}**.")


def test_an_unknown_country_has_no_capital() -> None:
    assert fact_for("capital of Atlantis", {"capital", "of", "atlantis"}) is None


@pytest.mark.parametrize("known", ANSWERS.comparisons, ids=lambda known: " ".join(known.words))
def test_comparisons_are_found_either_way_round(known: Comparison) -> None:
    first, second = known.words
    assert comparison_for(f"{second.upper()} vs {first}") is known
    assert comparison_for(f"only {first}") is None
    assert all(row.count("|") == 4 for row in known.rows.splitlines())


def test_words_inside_other_words_start_no_comparison() -> None:
    assert comparison_for("is python good for going to restaurants") is None
    assert comparison_for("PostgreSQL or SQLite") is not None


def test_every_language_has_something_to_show_when_no_topic_fits() -> None:
    languages = {snippet.language for snippet in SNIPPETS.snippets}
    assert languages == {snippet.language for snippet in SNIPPETS.snippets if not snippet.topic}
    assert {named_language(f"some {language} code") for language in languages} == languages
    assert all(snippet.code.strip() == snippet.code and snippet.note for snippet in SNIPPETS.snippets)


# --- connections and the command line -------------------------------------------------------------------------


async def test_one_connection_serves_answers_errors_and_streams_in_turn(demo: Demo) -> None:
    opened: list[object] = []

    async def count_connection(*event: object) -> None:
        opened.append(event)

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(count_connection)
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        for body in ({"stream": True}, {}, {"messages": 5}, {"model": "none"}, {}):
            fields = {"model": "demo-swift", "messages": [{"role": "user", "content": "hi"}], **body}
            async with session.post(f"{demo.url}/v1/chat/completions", json=fields, headers=HEADERS) as response:
                await response.read()
    assert len(opened) == 1


async def test_two_servers_give_the_same_answer_and_ids() -> None:
    answers = []
    for _ in range(2):
        async with demo_server() as demo, demo.post_message("a poem about rain") as response:
            answers.append((response.headers["request-id"], await response.json()))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_warning(host: str) -> None:
    assert command._is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])  # noqa: S104 - never listened on
def test_other_addresses_do(host: str) -> None:
    assert not command._is_loopback(host)


@pytest.mark.parametrize("value", ["-1", "1001", "nan", "fast"])
def test_a_bad_pace_factor_is_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(["--pace-factor", value])
    assert end.value.code == 2
    assert "--pace-factor" in capsys.readouterr().err


def test_the_defaults_are_loopback_and_the_models_own_pace() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert vars(parser.parse_args([])) == {"host": "127.0.0.1", "port": 8901, "pace_factor": 1.0}


def test_the_management_command_says_that_a_port_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as end:
            call_command("demo_provider", port=port)
    assert end.value.code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err
