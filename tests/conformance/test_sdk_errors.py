"""What the official clients make of vendors' faults through the gateway: their own exceptions, over every wire."""

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest
import pytest_asyncio

from tests.conformance.installation import ONE_OF_EACH, Grid

pytestmark = pytest.mark.asyncio(loop_scope="module")

KINDS = [kind for kind in ONE_OF_EACH if kind != "vllm"]  # it chats as openai-compatible does
FAULTS = ["cut=5", "error_in_stream=5", "garbage=5", "no_finish"]
ERRORS: list[tuple[str, type[openai.APIStatusError], type[anthropic.APIStatusError], str]] = [
    ("[[status=400]]", openai.BadRequestError, anthropic.BadRequestError, "upstream_rejected"),
    ("[[status=401]]", openai.InternalServerError, anthropic.InternalServerError, "upstream_credentials"),
    ("[[status=403]]", openai.InternalServerError, anthropic.InternalServerError, "upstream_credentials"),
    ("[[status=429]]", openai.RateLimitError, anthropic.RateLimitError, "upstream_rate_limited"),
    ("[[status=500]]", openai.InternalServerError, anthropic.InternalServerError, "upstream_failed"),
    ("[[status=503]]", openai.InternalServerError, anthropic.APIStatusError, "upstream_overloaded"),
]


@pytest_asyncio.fixture(loop_scope="module")
async def openai_client(grid: Grid) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{grid.url}/v1", api_key=grid.key, max_retries=0) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def anthropic_client(grid: Grid) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=grid.url, api_key=grid.key, max_retries=0) as client:
        yield client


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_vendors_error_is_raised_as_the_openai_sdks_own(openai_client: openai.AsyncOpenAI, kind: str) -> None:
    for prompt, error, _, code in ERRORS:
        for stream in (False, True):
            with pytest.raises(error) as raised:
                await openai_client.chat.completions.create(model=kind, messages=user(prompt), stream=stream)
            assert (raised.value.code, bool(raised.value.request_id)) == (code, True)
            with pytest.raises(error) as raised:
                await openai_client.responses.create(model=kind, input=prompt, stream=stream)
            assert raised.value.code == code


@pytest.mark.parametrize("kind", KINDS)
async def test_a_vendors_error_is_raised_as_the_anthropic_sdks_own(
    anthropic_client: anthropic.AsyncAnthropic, kind: str
) -> None:
    for prompt, _, error, code in ERRORS:
        for stream in (False, True):
            with pytest.raises(error) as raised:
                await anthropic_client.messages.create(model=kind, max_tokens=100, messages=user(prompt), stream=stream)
            body: Any = raised.value.body
            assert (body["type"], body["error"]["details"]["error_code"]) == ("error", code)
            assert raised.value.request_id == body["request_id"]


@pytest.mark.parametrize("kind", ["mistral", "anthropic-compatible"])
async def test_the_time_to_wait_reaches_the_sdk(openai_client: openai.AsyncOpenAI, kind: str) -> None:
    with pytest.raises(openai.RateLimitError) as raised:
        await openai_client.chat.completions.create(model=kind, messages=user("[[status=429]] [[retry_after=7]]"))
    assert raised.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_chat_that_breaks_raises_after_what_came(
    openai_client: openai.AsyncOpenAI, kind: str, fault: str
) -> None:
    pieces: list[str] = []

    async def listen() -> None:
        prompt = user(f"[[{fault}]] [[tokens=12]] Explain caching")
        async for chunk in await openai_client.chat.completions.create(model=kind, messages=prompt, stream=True):
            pieces.extend(choice.delta.content or "" for choice in chunk.choices)

    with pytest.raises(openai.APIError) as raised:
        await listen()
    assert "".join(pieces)
    assert raised.value.code


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_response_that_breaks_never_completes(openai_client: openai.AsyncOpenAI, kind: str, fault: str) -> None:
    """The client passes a failed response on, and raises what is no response."""
    prompt, kinds = f"[[{fault}]] [[tokens=12]] Explain caching", []
    try:
        async for event in await openai_client.responses.create(model=kind, input=prompt, stream=True):
            kinds.append(event.type)
    except openai.APIError:
        kinds.append("error")
    assert "response.output_text.delta" in kinds
    assert kinds[-1] in {"response.failed", "error"}
    assert not {"response.completed", "response.incomplete"} & set(kinds)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_that_breaks_raises_after_what_came(
    anthropic_client: anthropic.AsyncAnthropic, kind: str, fault: str
) -> None:
    pieces: list[str] = []

    async def listen() -> None:
        prompt = user(f"[[{fault}]] [[tokens=12]] Explain caching")
        async with anthropic_client.messages.stream(model=kind, max_tokens=100, messages=prompt) as stream:
            async for piece in stream.text_stream:
                pieces.append(piece)

    with pytest.raises(anthropic.APIError):
        await listen()
    assert "".join(pieces)
