"""POST /v1/completions from outside: to a server that continues texts, and to models that chat."""

import json
from typing import Any

import openai
import pytest

from providers.domain.types import Wire
from routing.models import RoutingPolicy
from tests import gateway as configure
from tests.factories import PersonaFactory
from tests.gateway import Gateway, Reply, records
from tests.gateway_path.changes import changed
from tests.upstreams.scripted import Upstream, anthropic_stream, frames, hang, sse, status

USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}


def piece(text: str = "", finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
    return {"id": "cmpl-up", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], **more}


@pytest.fixture
async def continuing(gateway: Gateway, openai_upstream: Upstream) -> Gateway:
    """Beside `swift` and `sage`, which chat, there is `base`: a vLLM server that continues texts too."""

    def install() -> None:
        [base] = configure.vendor("gamma", openai_upstream.url, "base-1", kind="vllm")
        configure.alias("base", base)

    await changed(gateway, install)
    return gateway


async def complete(gateway: Gateway, **body: Any) -> Reply:
    return await gateway.post("/v1/completions", {"prompt": "Once upon", **body})


def text_of(reply: Reply) -> str:
    return "".join(choice["text"] for event in reply.events for choice in event["choices"])


# --- a server that continues texts --------------------------------------------------------------------------------


async def test_a_whole_answer_passes_byte_for_byte(continuing: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(status(200, {**piece(" a time", "stop"), "usage": USAGE, "kept": [1]}))
    reply = await complete(continuing, model="base", suffix="end", echo=True, logprobs=0, prompt=[1, 2, 3])
    assert reply.status == 200
    assert reply.json["kept"] == [1]
    [call] = openai_upstream.calls
    assert call.path == "/v1/completions"
    assert call.body == {"model": "base-1", "prompt": [1, 2, 3], "suffix": "end", "echo": True, "logprobs": 0}
    [record] = await records()
    assert (record.door, record.state, record.usage_source) == ("completions", "settled", "provider")
    assert record.cost_nano == 12 * 1_000 + 5 * 2_000


async def test_a_stream_passes_byte_for_byte_and_is_billed(continuing: Gateway, openai_upstream: Upstream) -> None:
    sent = sse(
        piece(" a"), piece(" time"), piece(finish="length"), {**piece(), "choices": [], "usage": USAGE}, "[DONE]"
    )
    openai_upstream.play(frames(*sent))
    reply = await complete(continuing, model="base", stream=True, stream_options={"include_usage": True})
    assert reply.body == b"".join(sent)
    assert openai_upstream.calls[0].body["stream_options"] == {"include_usage": True}
    [record] = await records()
    assert record.cost_nano == 12 * 1_000 + 5 * 2_000


async def test_a_stream_that_breaks_never_ends_cleanly(continuing: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(frames(*sse(piece(" a"), piece(" time")), end="cut"))
    reply = await complete(continuing, model="base", stream=True)
    assert text_of(Reply(200, {}, b"", reply.events[:-1])) == " a time"
    assert reply.error["code"] == "upstream_failed"
    assert not reply.done


# --- models that chat ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "text"), [("swift", "Hello"), ("sage", "Bonjour")])
async def test_for_a_model_that_chats_the_prompt_is_what_its_user_says(
    continuing: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream, model: str, text: str
) -> None:
    reply = await complete(continuing, model=model, max_tokens=9, stop=["END"])
    answer = reply.json
    assert answer["id"] == f"cmpl-{reply.headers['x-request-id']}"
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [{"text": text, "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert answer["usage"]["total_tokens"] == 17
    [call] = openai_upstream.calls + anthropic_upstream.calls
    assert call.body["messages"] == [{"role": "user", "content": "Once upon"}]
    assert call.body["max_tokens"] == 9
    [record] = await records()
    assert record.cost_nano == 12 * 1_000 + 5 * 2_000


async def test_a_streamed_answer_of_a_model_that_chats(continuing: Gateway) -> None:
    reply = await complete(continuing, model="sage", stream=True, stream_options={"include_usage": True})
    assert text_of(reply) == "Bonjour"
    assert reply.done
    assert {(event["id"], event["object"]) for event in reply.events} == {
        (f"cmpl-{reply.headers['x-request-id']}", "text_completion")
    }
    assert reply.events[-1]["usage"]["prompt_tokens"] == 12
    assert all(event["usage"] is None for event in reply.events[:-1])
    assert [choice["finish_reason"] for event in reply.events for choice in event["choices"]][-1] == "stop"


async def test_a_translated_stream_that_breaks_never_ends_cleanly(
    continuing: Gateway, anthropic_upstream: Upstream
) -> None:
    async def cut(request: Any, body: dict[str, Any]) -> Any:
        request.loop.call_later(0.1, request.transport.abort)
        return await anthropic_stream("Bon", "jour", pause_s=0.04)(request, body)

    anthropic_upstream.play(cut)
    reply = await complete(continuing, model="sage", stream=True)
    assert reply.error["code"] == "upstream_failed"
    assert not reply.done


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ["a", "b"]}, "a prompt of tokens, or several prompts"),
        ({"prompt": [1, 2]}, "a prompt of tokens, or several prompts"),
        ({"suffix": "end"}, "suffix"),
        ({"echo": True}, "echo"),
        ({"best_of": 3}, "best_of"),
        ({"logprobs": 0}, "logprobs"),
        ({"n": 2}, "n"),
    ],
)
async def test_what_only_a_server_of_texts_can_do_is_refused_by_name_elsewhere(
    continuing: Gateway, fields: dict[str, Any], param: str
) -> None:
    reply = await complete(continuing, model="sage", **fields)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "no_eligible_model", param)


async def test_features_that_are_switched_off_are_not_missed(continuing: Gateway) -> None:
    reply = await complete(continuing, model="sage", echo=False, suffix="", best_of=1, logprobs=None, prompt=["Once"])
    assert reply.status == 200


async def test_knobs_that_a_model_has_no_word_for_are_named(continuing: Gateway) -> None:
    reply = await complete(continuing, model="sage", logit_bias={"50256": -100})
    assert "logit_bias" in reply.headers["x-router-dropped-params"].split(",")


async def test_a_persona_speaks_first_in_either_case(
    continuing: Gateway, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    def create() -> None:
        PersonaFactory(slug="terse", system_prompt="Be terse.", policy=RoutingPolicy.objects.get())

    await changed(continuing, create)
    openai_upstream.play(status(200, {**piece("x", "stop"), "usage": USAGE}))
    assert (await complete(continuing, model="base", persona="terse")).status == 200
    assert openai_upstream.calls[0].body["prompt"] == "Be terse.\n\nOnce upon"
    assert (await complete(continuing, model="sage", persona="terse")).status == 200
    assert anthropic_upstream.calls[0].body["system"] == "Be terse."


# --- bad input, and the official client ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model": "base"}', "prompt"),
        (b'{"prompt": null}', "prompt"),
        (b'{"prompt": []}', "prompt"),
        (b'{"prompt": ["a", 1]}', "prompt"),
        (b'{"prompt": {"id": 1}}', "prompt"),
        (b'{"prompt": [[1, "a"]]}', "prompt[0][1]"),
        (b'{"prompt": "x", "max_tokens": 0}', "max_tokens"),
        (b'{"prompt": "x", "n": 0}', "n"),
        (b'{"prompt": "x", "best_of": 1000}', "best_of"),
        (b'{"prompt": "x", "temperature": 3}', "temperature"),
        (b'{"prompt": "x", "stream": "yes"}', "stream"),
        (b'{"prompt": "x"', None),
        (json.dumps({"prompt": ["x"] * 2_049}).encode(), "prompt"),
    ],
)
async def test_a_bad_body_is_a_400_that_names_the_field(gateway: Gateway, body: bytes, param: str | None) -> None:
    reply = await gateway.post("/v1/completions", body)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "invalid_request", param)
    assert reply.error["message"]


async def test_a_vendors_error_has_openais_shape(continuing: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(status(400, {"error": {"message": "No.", "type": "invalid_request_error"}}))
    reply = await complete(continuing, model="base", stream=True)
    assert (reply.status, reply.error["code"]) == (400, "upstream_rejected")


async def test_every_prompt_and_every_try_counts_towards_what_an_answer_may_cost(
    continuing: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(hang(0.3))
    await complete(continuing, model="base", prompt=["a", "b"], n=2, best_of=3, max_tokens=100)
    [record] = await records()
    assert record.decision["candidates"][0]["estimated_cost_nano"] >= 2 * 3 * 100 * 2_000


@pytest.mark.parametrize("model", ["swift", "sage"])
async def test_the_official_client_reads_whole_answers_and_streams(continuing: Gateway, model: str) -> None:
    client = openai.AsyncOpenAI(base_url=f"{continuing.url}/v1", api_key=continuing.key, max_retries=0)
    async with client:
        whole = await client.completions.create(model=model, prompt="Once upon")
        stream = await client.completions.create(model=model, prompt="Once upon", stream=True)
        told = "".join([part.choices[0].text async for part in stream])
    assert told == whole.choices[0].text != ""
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == 12


def test_the_wire_is_one_of_chat() -> None:
    assert Wire.OPENAI_COMPLETIONS.operation is Wire.OPENAI.operation
