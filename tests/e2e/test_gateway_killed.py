"""`kill -9` of gateways that serve: no answer without its record, no bill without its record, nothing twice."""

import asyncio
import json
import random
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

import aiohttp
import pytest

from routerplatform.demo_content import DEMO_MODELS
from tests.e2e.processes import DemoProvider, GatewayProcess, Platform, Record, wait_until
from tests.gateway import Gateway

pytestmark = pytest.mark.e2e

PRICES = {model.name: model.prices for model in DEMO_MODELS}
MODELS = ("demo-swift", "demo-sage-mini", "chatbot")  # OpenAI's wire, Anthropic's wire, a persona with a long prompt
REQUESTS = 200


@dataclass
class Asked:
    """What a caller has got. `request_id` is empty while no header came; `is_whole` only with the last byte."""

    request_id: str = ""
    is_whole: bool = False
    cost_usd: str = ""  # as the headers of a whole answer say


class Crowd:
    """Callers that all ask at once, half of them for streams, of answers that take from no time to three seconds."""

    def __init__(self, gateway: Gateway, rng: random.Random) -> None:
        self._gateway = gateway
        self._rng = rng
        self.asked = [Asked() for _ in range(REQUESTS)]

    @property
    def answered(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.is_whole]

    def start(self) -> list[asyncio.Task[None]]:
        return [
            asyncio.create_task(self._ask(asked, self._body(number, stream=number % 2 == 0)))
            for number, asked in enumerate(self.asked)
        ]

    def _body(self, number: int, *, stream: bool) -> dict[str, Any]:
        tokens, delay_s = self._rng.randint(1, 40), self._rng.choice([0, self._rng.uniform(0, 2)])
        pace_ms = self._rng.choice([0, 0, 25])
        text = f"Question {number} [[tokens={tokens}]] [[delay={delay_s:.3f}]] [[pace={pace_ms}]]"
        messages = [{"role": "user", "content": text}]
        return {"model": self._rng.choice(MODELS), "messages": messages, "stream": stream, "max_tokens": 50}

    async def _ask(self, asked: Asked, body: dict[str, Any]) -> None:
        data, headers = json.dumps(body), self._gateway.headers()
        url = f"{self._gateway.url}/v1/chat/completions"
        try:
            async with self._gateway.session.post(url, data=data, headers=headers) as response:
                assert response.status == 200, await response.text()
                asked.request_id = response.headers["x-request-id"]
                asked.cost_usd = response.headers.get("x-router-cost-usd", "")
                if body["stream"]:
                    async for line in response.content:
                        asked.is_whole |= line == b"data: [DONE]\n"
                else:
                    asked.is_whole = bool((await response.json())["choices"])
        except aiohttp.ClientError:
            pass  # the gateway is dead


def cost_nano(bill: dict[str, Any]) -> int:
    """The price of a provider's bill, calculated here and now."""
    input_usd, output_usd, *_ = map(Decimal, PRICES[bill["model"]])
    cost = (bill["input_tokens"] * input_usd + bill["output_tokens"] * output_usd) * 1000
    return int(cost.to_integral_value(ROUND_CEILING))


def check_books(records: dict[str, Record], bills: dict[str, dict[str, Any]], crowd: Crowd) -> None:
    """What must hold for the requests of one crowd, once everything is in the database."""
    answered = {asked.request_id: asked.cost_usd for asked in crowd.answered}
    assert len(answered) == len(crowd.answered)
    for request_id, told in answered.items():
        record = records[request_id]
        assert (record.state, record.usage_source) == ("settled", "provider")
        assert record.cost_nano == cost_nano(bills[request_id])
        assert not told or Decimal(told) == Decimal(cost_nano(bills[request_id])) / 10**9
    for request_id in bills.keys() - answered.keys():
        record, bill = records[request_id], bills[request_id]
        assert record.state in {"settled", "expired"}, "billed, even if nobody was told"
        assert record.cost_nano is not None
        assert record.cost_nano >= cost_nano(bill)
        assert record.input_tokens >= bill["input_tokens"]
        assert record.output_tokens >= bill["output_tokens"]
    for request_id in records.keys() - bills.keys():
        assert records[request_id].state in {"expired", "released"}, "the provider knows nothing of it"
    assert "expired" in {record.state for record in records.values()}, "nothing was in flight"
    assert len(records) <= len(crowd.asked)


async def reached(crowd: Crowd, answers: int, tasks: list[asyncio.Task[None]]) -> None:
    while len(crowd.answered) < answers:
        done = [task for task in tasks if task.done()]
        for task in done:
            task.result()  # raises what a caller was told
        assert len(done) < REQUESTS, f"{len(crowd.answered)} answers in all"
        await asyncio.sleep(0.005)


async def killed_among_answers(
    gateway: GatewayProcess, provider: DemoProvider, crowd: Crowd, *, answers: int, then_s: float
) -> dict[str, dict[str, Any]]:
    """Let a crowd ask, kill the gateway `then_s` after so many answers; the provider's bills for the crowd."""
    billed_before = provider.bills().keys()
    tasks = crowd.start()
    await reached(crowd, answers, tasks)
    await asyncio.sleep(then_s)
    gateway.kill()
    await asyncio.gather(*tasks)
    assert 0 < len(crowd.answered) < REQUESTS
    return {key: bill for key, bill in provider.bills().items() if key not in billed_before}


def seconds_until_on_record(platform: Platform, crowd: Crowd, bills: dict[str, dict[str, Any]]) -> float:
    expected = bills.keys() | {asked.request_id for asked in crowd.answered}
    return wait_until(lambda: expected <= platform.database.records().keys(), what="all records")


async def test_every_answer_and_every_bill_has_one_right_record_after_a_kill_and_a_restart(
    platform: Platform, demo_provider: DemoProvider, session: aiohttp.ClientSession
) -> None:
    rng = random.Random(20261107)
    gateway = platform.gateway()
    known: set[str] = set()
    for _ in range(3):
        crowd = Crowd(Gateway(gateway.url, session, platform.key), rng)
        answers, then_s = rng.randint(5, 120), rng.uniform(0, 0.05)
        bills = await killed_among_answers(gateway, demo_provider, crowd, answers=answers, then_s=then_s)
        gateway = platform.gateway()
        seconds = seconds_until_on_record(platform, crowd, bills)
        records = {key: record for key, record in platform.database.records().items() if key not in known}
        known |= records.keys()
        check_books(records, bills, crowd)
        print(f"{len(crowd.answered)} answers, {len(bills)} bills, all on record {seconds:.2f} s after the restart")
    wait_until(lambda: len(platform.journal_files()) == 1, what="only the living gateway's journal")
    assert not (platform.journal / "rejected").exists()
