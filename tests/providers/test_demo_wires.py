"""The demo provider says the same over every wire it speaks: content, markers, faults, usage, bills."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from providers.demo.exchange import count
from tests.providers.demo_client import Demo, demo_server
from tests.providers.demo_speakers import CITY, SPEAKERS, Question, Told, hear, post
from tests.stalls import PATIENCE_S

WIRES = list(SPEAKERS)
WITH_TOOLS = [name for name in WIRES if name != "completions"]
WITH_PROOF = ["responses", "messages", "gemini"]
LENGTHS = {"Paris": {"city": "Paris"}, "Rome": {"city": "Rome"}}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


@pytest.fixture
async def demo() -> AsyncIterator[Demo]:
    async with demo_server() as server:
        yield server


async def both(demo: Demo, name: str, asked: Question) -> Told:
    """The answer, after checking that a stream tells the same as a whole one and is billed the same."""
    whole = await hear(demo.session, demo.url, name, asked, stream=False)
    streamed = await hear(demo.session, demo.url, name, asked, stream=True)
    assert streamed.is_over
    assert (streamed.text, streamed.thought, streamed.calls) == (whole.text, whole.thought, whole.calls)
    assert (streamed.proof, streamed.finish, streamed.usage) == (whole.proof, whole.finish, whole.usage)
    for bill in (await demo.bills())[-2:]:
        billed = bill["input_tokens"] + bill["cache_read_input_tokens"] + bill["cache_creation_input_tokens"]
        assert SPEAKERS[name].tokens(whole.usage) == (billed, bill["output_tokens"])
        assert bill["state"] == "completed"
    return whole


@pytest.mark.parametrize("name", WIRES)
async def test_a_text_is_told_whole_and_streamed_alike(demo: Demo, name: str) -> None:
    told = await both(demo, name, Question("[[say=Grüße, 你好, 🙂]]"))
    assert told.text == "Grüße, 你好, 🙂"
    assert told.finish in {"stop", "end_turn", "STOP", "COMPLETE"}
    assert not told.calls
    assert SPEAKERS[name].tokens(told.usage)[1] == count(told.text)


@pytest.mark.parametrize("name", WITH_TOOLS)
async def test_the_system_prompt_is_heard(demo: Demo, name: str) -> None:
    told = await both(demo, name, Question("a story about rain", system="You are a pirate."))
    assert "As a pirate, " in told.text


@pytest.mark.parametrize("name", WIRES)
async def test_a_limit_cuts_the_answer(demo: Demo, name: str) -> None:
    told = await both(demo, name, Question("[[tokens=90]] more", limit=20))
    assert told.finish == SPEAKERS[name].limit_word
    assert SPEAKERS[name].tokens(told.usage)[1] == count(told.text) == 20


@pytest.mark.parametrize("name", [name for name in WIRES if name != "responses"])
async def test_a_stop_sequence_ends_the_answer_before_it(demo: Demo, name: str) -> None:
    told = await both(demo, name, Question("[[say=one two three]]", stop=" three"))
    assert told.text == "one two"
    assert told.finish in {"stop", "stop_sequence", "STOP", "STOP_SEQUENCE"}


@pytest.mark.parametrize("name", WITH_TOOLS)
async def test_tools_are_called_in_parallel_and_without_arguments(demo: Demo, name: str) -> None:
    told = await both(demo, name, Question("What is the weather in Paris and Rome?", tools=("get_weather",)))
    assert told.calls == [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]
    assert told.text == ""
    told = await both(demo, name, Question("[[tool=get_time]]", tools=("get_weather",)))
    assert told.calls == [("get_time", {})]
    assert told.finish in {"tool_calls", "tool_use", "TOOL_CALL", "STOP", "stop"}


@pytest.mark.parametrize("name", WITH_TOOLS)
async def test_text_stands_beside_calls(demo: Demo, name: str) -> None:
    told = await both(demo, name, Question("[[say=Let me look.]] [[tool=get_weather]] Oslo?", tools=("get_weather",)))
    assert told.text == "Let me look."
    assert [call for call, _ in told.calls] == ["get_weather"]


@pytest.mark.parametrize("name", [name for name in WITH_TOOLS if name != "ollama"])
async def test_a_call_can_be_required_or_forbidden(demo: Demo, name: str) -> None:
    told = await both(demo, name, Question("Hello", tools=("get_weather",), choice="required"))
    assert len(told.calls) == 1
    told = await both(demo, name, Question("What is the weather in Paris?", tools=("get_weather",), choice="none"))
    assert not told.calls
    assert "demo provider" in told.text


@pytest.mark.parametrize("name", WITH_TOOLS)
async def test_an_answer_follows_a_schema(demo: Demo, name: str) -> None:
    told = await both(demo, name, Question("A city, in Rome", schema=CITY))
    assert json.loads(told.text) == {"city": "Rome"}


@pytest.mark.parametrize("name", WITH_TOOLS)
async def test_pictures_are_mentioned_and_counted(demo: Demo, name: str) -> None:
    plain = await both(demo, name, Question("What is this?"))
    told = await both(demo, name, Question("What is this?", image=PIXEL))
    assert "an image" in told.text
    assert SPEAKERS[name].tokens(told.usage)[0] == SPEAKERS[name].tokens(plain.usage)[0] + 85


@pytest.mark.parametrize("name", WITH_TOOLS)
async def test_a_thought_is_shown_to_whoever_may_read_it(demo: Demo, name: str) -> None:
    told = await both(demo, name, Question("[[thought=Warm there, surely.]] [[say=Warm]]", thinks=True))
    assert (told.thought, told.text) == ("Warm there, surely.", "Warm")
    assert SPEAKERS[name].tokens(told.usage)[1] == count("Warm there, surely.") + 1


@pytest.mark.parametrize("name", ["responses", "messages", "gemini", "completions"])
async def test_a_thought_that_nobody_asked_for_is_hidden_but_billed(demo: Demo, name: str) -> None:
    told = await both(demo, name, Question("[[thought=Warm there, surely.]] [[say=Warm]]"))
    assert (told.thought, told.text) == ("", "Warm")
    assert SPEAKERS[name].tokens(told.usage)[1] == count("Warm there, surely.") + 1


@pytest.mark.parametrize("name", WITH_PROOF)
async def test_a_thought_before_a_call_is_proven(demo: Demo, name: str) -> None:
    asked = Question("[[thought=I look.]] [[tool=get_weather]] Oslo?", tools=("get_weather",), thinks=True)
    assert (await both(demo, name, asked)).proof


@pytest.mark.parametrize("name", WIRES)
async def test_hidden_reasoning_is_part_of_the_output(demo: Demo, name: str) -> None:
    told = await both(demo, name, Question("[[reasoning=30]] [[say=Done]]"))
    assert SPEAKERS[name].tokens(told.usage)[1] == 31


@pytest.mark.parametrize(
    ("name", "cached"),
    [
        ("chat", lambda usage: usage["prompt_tokens_details"]["cached_tokens"]),
        ("completions", lambda usage: usage["prompt_tokens_details"]["cached_tokens"]),
        ("responses", lambda usage: usage["input_tokens_details"]["cached_tokens"]),
        ("messages", lambda usage: usage["cache_read_input_tokens"]),
        ("gemini", lambda usage: usage["cachedContentTokenCount"]),
        ("cohere", lambda usage: usage["cached_tokens"]),
        ("ollama", lambda usage: 5),
    ],
)
async def test_cached_tokens_stand_where_the_vendor_has_them(demo: Demo, name: str, cached: Any) -> None:
    told = await both(demo, name, Question("[[cached=5]] [[cache_write=3]] [[say=Yes]] " + "again " * 10))
    assert cached(told.usage) == 5
    bill = (await demo.bills())[-1]
    assert bill["cache_read_input_tokens"] == (0 if name == "ollama" else 5)
    assert bill["cache_creation_input_tokens"] == (3 if name in {"chat", "completions", "responses", "messages"} else 0)


@pytest.mark.parametrize("name", WIRES)
async def test_a_refusal_is_told_in_the_vendors_way(demo: Demo, name: str) -> None:
    told = await both(demo, name, Question("[[refusal=I will not.]]"))
    assert told.text == "I will not."
    assert told.finish == {"messages": "refusal", "gemini": "STOP", "cohere": "COMPLETE"}.get(name, "stop")


@pytest.mark.parametrize("name", WIRES)
async def test_a_filter_is_told_in_the_vendors_way(demo: Demo, name: str) -> None:
    told = await both(demo, name, Question("[[finish=content_filter]] [[say=Up to]]"))
    words = {"messages": "refusal", "gemini": "SAFETY", "cohere": "COMPLETE", "ollama": "stop"}
    assert told.finish == words.get(name, "content_filter")


# --- faults -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", WIRES)
async def test_a_status_comes_in_the_vendors_own_shape(demo: Demo, name: str, stream: bool) -> None:
    asked = Question("[[status=429]] [[retry_after=7]] Hi")
    async with post(demo.session, demo.url, name, asked, stream=stream) as response:
        assert response.status == 429
        error = await response.json()
        assert SPEAKERS[name].message_of(error)
        assert response.headers.get("retry-after") == (None if name == "gemini" else "7")
        assert name != "gemini" or error["error"]["details"][0]["retryDelay"] == "7s"
    async with post(demo.session, demo.url, name, Question("[[status=502]] [[html]]"), stream=stream) as response:
        assert (response.status, response.content_type) == (502, "text/html")
    assert await demo.bills() == []


@pytest.mark.parametrize("name", WIRES)
async def test_a_bad_marker_is_refused_over_every_wire(demo: Demo, name: str) -> None:
    async with post(demo.session, demo.url, name, Question("[[speed=9]]"), stream=True) as response:
        assert response.status == 400
        assert "[[speed=9]]" in SPEAKERS[name].message_of(await response.json())


@pytest.mark.parametrize("name", WIRES)
async def test_a_blocked_prompt_has_no_answer(demo: Demo, name: str) -> None:
    for stream in (False, True):
        async with post(demo.session, demo.url, name, Question("[[blocked]] Hi"), stream=stream) as response:
            assert response.status == SPEAKERS[name].blocked_status
            body = await response.text()
        assert "candidates" not in body
        assert ("blockReason" in body) is (name == "gemini")
    assert await demo.bills() == []


async def broken(demo: Demo, name: str, marker: str) -> bytes:
    """The bytes of a stream with a fault; where the connection drops, those before it."""
    data = b""
    async with post(demo.session, demo.url, name, Question(f"[[tokens=40]] [[{marker}]]"), stream=True) as response:
        assert response.status == 200
        try:
            async for piece in response.content.iter_any():
                data += piece
        except aiohttp.ClientPayloadError:
            assert "cut" in marker
    return data


def told_until_broken(name: str, data: bytes) -> Told:
    """What a client makes of whole events before the break."""
    end = b"\n" if name == "ollama" else b"\n\n"
    return SPEAKERS[name].streamed(data.replace(b"\r\n", b"\n")[: data.replace(b"\r\n", b"\n").rfind(end) + len(end)])


@pytest.mark.parametrize("name", WIRES)
async def test_a_cut_drops_the_connection_after_so_many_tokens(demo: Demo, name: str) -> None:
    told = told_until_broken(name, await broken(demo, name, "cut=5"))
    assert count(told.text) == 5
    assert not told.is_over
    bill = await demo.last_bill()
    assert (bill["state"], bill["output_tokens"]) == ("cut", 5)


@pytest.mark.parametrize("name", WIRES)
async def test_without_a_finish_the_stream_ends_but_not_the_answer(demo: Demo, name: str) -> None:
    told = told_until_broken(name, await broken(demo, name, "no_finish"))
    assert count(told.text) == 40
    assert (told.is_over, told.finish) == (False, None)


@pytest.mark.parametrize("name", WIRES)
async def test_garbage_is_no_json(demo: Demo, name: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        SPEAKERS[name].streamed(await broken(demo, name, "garbage=5"))


@pytest.mark.parametrize("name", WIRES)
async def test_an_error_in_the_stream_is_the_last_that_comes(demo: Demo, name: str) -> None:
    data = await broken(demo, name, "error_in_stream=5")
    assert b'"error' in data.rstrip().rsplit(b"\n", 1)[-1]
    assert (await demo.last_bill())["state"] == "failed"
    asked = Question("[[error_in_stream=5]]")
    async with post(demo.session, demo.url, name, asked, stream=False) as response:
        assert response.status == {"messages": 529, "gemini": 503}.get(name, 500)


@pytest.mark.parametrize("name", WIRES)
async def test_without_usage_no_tokens_are_told(demo: Demo, name: str) -> None:
    for stream in (False, True):
        told = await hear(demo.session, demo.url, name, Question("[[no_usage]] [[say=Hi]]"), stream=stream)
        assert told.text == "Hi"
        assert told.usage == {}
    assert (await demo.last_bill())["output_tokens"] == 1


@pytest.mark.parametrize("name", WIRES)
async def test_a_hang_says_nothing_more(demo: Demo, name: str) -> None:
    async with post(demo.session, demo.url, name, Question("[[tokens=40]] [[hang=5]]"), stream=True) as response:
        reading = asyncio.create_task(response.read())
        async with asyncio.timeout(PATIENCE_S):
            while (await demo.bills())[-1]["output_tokens"] < 5:  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)
        assert not reading.done()
        reading.cancel()
    assert (await demo.bills())[-1]["output_tokens"] == 5


async def test_a_fault_inside_a_call_that_comes_whole_drops_it(demo: Demo) -> None:
    """Gemini and Ollama send a call in one piece: a fault in the middle of it stands behind it."""
    for name in ("gemini", "ollama"):
        asked = Question("[[cut=2]] What is the weather in Paris and Rome?", tools=("get_weather",))
        async with post(demo.session, demo.url, name, asked, stream=True) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        assert (await demo.last_bill())["state"] == "cut"


# --- keys, addresses, lists ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "headers", "status"),
    [
        ("chat", {"api-key": "azure"}, 200),
        ("chat", {"x-goog-api-key": "k"}, 401),
        ("responses", {"authorization": "Bearer k"}, 200),
        ("messages", {"authorization": "Bearer k", "anthropic-version": "2023-06-01"}, 200),
        ("gemini", {"authorization": "Bearer k"}, 403),
        ("gemini", {"x-goog-api-key": "demo-invalid"}, 400),
        ("gemini", {"x-goog-api-key": "k"}, 200),
        ("cohere", {"x-api-key": "k"}, 401),
        ("cohere", {"authorization": "Bearer demo-invalid"}, 401),
        ("ollama", {}, 200),
    ],
)
async def test_a_key_stands_where_the_vendor_takes_it_from(
    demo: Demo, name: str, headers: dict[str, str], status: int
) -> None:
    speaker = SPEAKERS[name]
    body = speaker.body(Question("Hi"), stream=False)
    url = demo.url + speaker.path(stream=False)
    async with demo.session.post(url, json=body, headers=headers) as response:
        assert response.status == status, await response.text()


async def test_googles_key_may_stand_in_the_address(demo: Demo) -> None:
    speaker = SPEAKERS["gemini"]
    url = demo.url + speaker.path(stream=False) + "?key=any"
    async with demo.session.post(url, json=speaker.body(Question("Hi"), stream=False)) as response:
        assert response.status == 200


@pytest.mark.parametrize("prefix", ["", "/v1", "/openai/v1", "/api/v1", "/inference/v1", "/v1beta/openai"])
async def test_an_address_may_stand_below_any_prefix(demo: Demo, prefix: str) -> None:
    speaker = SPEAKERS["chat"]
    body = speaker.body(Question("[[say=Here]]"), stream=False)
    url = f"{demo.url}{prefix}/chat/completions"
    async with demo.session.post(url, json=body, headers=speaker.headers) as response:
        assert speaker.whole(await response.json()).text == "Here"


@pytest.mark.parametrize(
    ("path", "headers", "key", "name"),
    [
        ("/v1beta/models?pageSize=1000", {"x-goog-api-key": "k"}, "name", "models/demo-sage"),
        ("/v1/models?page_size=1000", {"authorization": "Bearer k"}, "name", "demo-sage"),
        ("/cohere/v1/models", {"authorization": "Bearer k"}, "name", "demo-sage"),
        ("/api/tags", {}, "model", "demo-sage:latest"),
    ],
)
async def test_each_vendor_lists_its_models(
    demo: Demo, path: str, headers: dict[str, str], key: str, name: str
) -> None:
    status, body = await demo.get(path, **headers)
    assert status == 200
    assert name in [row[key] for row in body["models"]]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1beta/models/demo-swift", {"x-goog-api-key": "k"}, 200),
        ("/v1beta/models/none", {"x-goog-api-key": "k"}, 404),
        ("/cohere/v1/models/demo-embed", {"authorization": "Bearer k"}, 200),
        ("/v1/models/demo-embed", {"authorization": "Bearer k"}, 200),
    ],
)
async def test_one_model_can_be_asked_for(demo: Demo, path: str, headers: dict[str, str], status: int) -> None:
    assert (await demo.get(path, **headers))[0] == status


async def test_anthropics_tokens_are_counted_as_its_messages_are(demo: Demo) -> None:
    speaker, asked = SPEAKERS["messages"], Question("How many are these?", system="Be brief.")
    body = speaker.body(asked, stream=False)
    told = await hear(demo.session, demo.url, "messages", asked, stream=False)
    del body["max_tokens"], body["stream"]
    url = f"{demo.url}/v1/messages/count_tokens"
    async with demo.session.post(url, json=body, headers=speaker.headers) as response:
        assert (await response.json())["input_tokens"] == told.usage["input_tokens"]
    async with demo.session.post(url, data=b"{", headers=speaker.headers) as response:
        assert response.status == 400
