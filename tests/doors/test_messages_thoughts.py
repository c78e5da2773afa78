"""The official `anthropic` SDK at vendors that want their thoughts back: each gets its own, unchanged."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anthropic
import pytest
from asgiref.sync import sync_to_async

from routerplatform.application import Application
from tests import gateway as configure
from tests.doors.test_messages_sdk import anthropic_message, run_tools
from tests.gateway import Gateway, serving
from tests.gateway_path.test_gemini_upstream import playing as gemini_playing
from tests.gateway_path.test_responses_upstream import playing as responses_playing
from tests.providers.wires import gemini_words, responses_words
from tests.upstreams.scripted import Upstream

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def thinking(
    transactional_db: None, application: Application, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """A client of a gateway with `bard` (Gemini), `thinker` (OpenAI's Responses API) and `sage` (Anthropic)."""

    def install() -> str:
        configure.alias("bard", *configure.vendor("google", openai_upstream.url, gemini_words.THREE, kind="gemini"))
        [served] = configure.vendor("alpha", openai_upstream.url, "gpt-x-pro", kind="openai")
        served.wire = "openai-responses"
        served.save()
        configure.alias("thinker", served)
        [sage] = configure.vendor("beta", anthropic_upstream.url, "claude-haiku-4-5", kind="anthropic-compatible")
        configure.alias("sage", sage)
        return configure.key(1)

    key = await sync_to_async(install)()
    async with serving(application) as url, aiohttp.ClientSession() as session:
        gateway = Gateway(url, session, key)
        async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=key, max_retries=0) as client:
            yield client


@pytest.mark.parametrize("stream", [False, True])
async def test_gemini_gets_the_proof_of_its_call_back(
    stream: bool, thinking: anthropic.AsyncAnthropic, openai_upstream: Upstream
) -> None:
    asked: list[str] = []
    openai_upstream.play(
        gemini_playing(gemini_words.call("weather", {"city": "Bern"}, thoughtSignature="pr00f==")),
        gemini_playing(gemini_words.text("Sunny.")),
    )
    final = await run_tools(thinking, "bard", asked, stream=stream)
    assert (asked, final.content[-1].text, final.stop_reason) == (["Bern"], "Sunny.", "end_turn")
    [_, said, told] = openai_upstream.calls[1].body["contents"]
    assert [part.get("thoughtSignature") for part in said["parts"]] == ["pr00f=="]
    assert told["parts"][0]["functionResponse"]["response"] == {"output": "Sunny"}


@pytest.mark.parametrize("stream", [False, True])
async def test_openai_gets_its_encrypted_thought_back(
    stream: bool, thinking: anthropic.AsyncAnthropic, openai_upstream: Upstream
) -> None:
    asked: list[str] = []
    openai_upstream.play(
        responses_playing(
            responses_words.thought("Hm.", encrypted="gAAA-secret"),
            responses_words.call("weather", '{"city": "Bern"}'),
        ),
        responses_playing(responses_words.message("Sunny.")),
    )
    final = await run_tools(thinking, "thinker", asked, stream=stream)
    assert (asked, final.content[-1].text) == (["Bern"], "Sunny.")
    again = openai_upstream.calls[1].body["input"]
    [thought] = [item for item in again if item.get("type") == "reasoning"]
    assert (thought["encrypted_content"], thought["summary"]) == (
        "gAAA-secret", [{"type": "summary_text", "text": "Hm."}],
    )  # fmt: skip


async def test_anthropic_never_sees_what_another_vendor_thought(
    thinking: anthropic.AsyncAnthropic, openai_upstream: Upstream, anthropic_upstream: Upstream
) -> None:
    openai_upstream.play(
        responses_playing(responses_words.thought("Hm.", encrypted="gAAA-secret"), responses_words.message("Hello"))
    )
    anthropic_upstream.play(anthropic_message({"type": "text", "text": "Bonjour"}, stop_reason="end_turn"))
    question: Any = {"role": "user", "content": "Hi"}
    first = await thinking.messages.create(model="thinker", max_tokens=4_000, messages=[question])
    assert [block.type for block in first.content] == ["thinking", "text"]
    history: Any = [question, {"role": "assistant", "content": first.content}, question]
    budget: Any = {"type": "enabled", "budget_tokens": 2_000}
    await thinking.messages.create(model="sage", max_tokens=4_000, messages=history, thinking=budget)
    sent = anthropic_upstream.calls[0].body
    assert [[block["type"] for block in turn["content"]] for turn in sent["messages"][1:2]] == [["text"]]
    assert sent["thinking"] == budget
