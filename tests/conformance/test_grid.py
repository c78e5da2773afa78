"""Every scenario over every kind of provider for every caller's format, whole and streamed.

No client notices which vendor answers. The upstream is the demo provider at each kind's own path, with its own way to
send a key. A cell asserts the content, the finish reason, the usage, that a stream says the same as a whole answer, and
that the record has the vendor's own figures at the model's prices. A test walks all scenarios of one kind and format
and names every cell that fails.
"""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from analytics.models import UsageRecord
from providers.domain.types import Wire
from providers.registry import PROVIDER_KINDS
from tests.conformance.callers import CALLERS, Answer, Caller
from tests.conformance.installation import FAILURES, Grid, brief, chat_wire
from tests.conformance.scenarios import SCENARIOS, Scenario
from tests.gateway import Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_FILTER = {Wire.COHERE, Wire.OLLAMA}  # wires without a word for an answer that was filtered
OWN_WIRE = {
    "chat": Wire.OPENAI,
    "rest": Wire.OPENAI,
    "completions": Wire.OPENAI_COMPLETIONS,
    "responses": Wire.OPENAI_RESPONSES,
    "messages": Wire.ANTHROPIC,
}
BUCKETS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")


@dataclass(frozen=True)
class Cell:
    """One scenario of one kind, asked in one format."""

    kind: str
    format: str
    name: str

    @property
    def caller(self) -> Caller:
        return CALLERS[self.format]

    @property
    def scenario(self) -> Scenario:
        return SCENARIOS[self.name]

    @property
    def wire(self) -> Wire | None:
        """The API that the gateway speaks to the vendor here."""
        own = OWN_WIRE[self.format]
        return own if own in PROVIDER_KINDS[self.kind].wires else chat_wire(self.kind)

    @property
    def finishes(self) -> set[str]:
        """The finish reasons that are right: a vendor may have no word for what happened."""
        match self.scenario.finish:
            case "refused":
                return {"refused", "refusal", "stop", "content_filter"}
            case "content_filter":
                return {"stop"} if self.wire in NO_FILTER else {"content_filter", "refusal"}
        return {self.scenario.finish}


async def post(grid: Grid, cell: Cell, body: dict[str, object]) -> Reply:
    return await grid.post(cell.caller.path, body)


async def ask(grid: Grid, cell: Cell, *, stream: bool) -> list[tuple[Reply, Answer]]:
    """The replies of one cell: two where the first one's tools are answered, none where it is rightly refused."""
    scenario, caller = cell.scenario, cell.caller
    body = caller.body(cell.kind, scenario, stream=stream)
    reply = await post(grid, cell, body)
    if cell.wire in scenario.refused_by:
        assert reply.status == 400, f"{reply.status} where a clear 400 was due"
        assert caller.error_of(reply)["message"]
        return []
    answer = read(cell, reply)
    check(cell, answer)
    if not scenario.answers:
        return [(reply, answer)]
    again = await post(grid, cell, caller.continued(body, answer, scenario.answers))
    final = read(cell, again)
    assert scenario.then_says in final.text, final.text
    return [(reply, answer), (again, final)]


def read(cell: Cell, reply: Reply) -> Answer:
    assert reply.status == 200, f"{reply.status}: {reply.body.decode()[:400]}"
    answer = cell.caller.read(reply)
    assert answer.is_over
    return answer


def check(cell: Cell, answer: Answer) -> None:
    """What the scenario fixes of its first answer."""
    scenario = cell.scenario
    assert scenario.says is None or answer.text == scenario.says, f"said {answer.text!r}"
    assert scenario.speaks_of in answer.text, f"said {answer.text!r}"
    assert answer.finish in cell.finishes, f"finished with {answer.finish!r}"
    assert tuple(call.name for call in answer.calls) == scenario.calls, f"called {answer.calls}"
    assert all(call.id and isinstance(json.loads(call.arguments), dict) for call in answer.calls), answer.calls
    assert len({call.id for call in answer.calls}) == len(answer.calls), "each call has an id of its own"
    if cell.format != "completions":
        assert answer.thought == scenario.thinks, f"thought {answer.thought!r}"
    if scenario.json:
        assert isinstance(json.loads(answer.text), dict)


async def walk(grid: Grid, cell: Cell) -> list[tuple[Reply, Answer]]:
    """Both ways to ask."""
    whole = await ask(grid, cell, stream=False)
    streamed = await ask(grid, cell, stream=True)
    for (_, one), (_, other) in zip(whole, streamed, strict=True):
        assert other.essence() == one.essence(), f"streamed {other.essence()}, whole {one.essence()}"
    return whole + streamed


def check_bill(cell: Cell, answer: Answer, record: UsageRecord, bills: list[dict[str, Any]]) -> None:
    """The record has what the vendor billed, the caller was told the same, and it costs what the model costs."""
    [bill] = bills
    told = answer.input_tokens, answer.output_tokens
    buckets = {name: getattr(record, name) for name in BUCKETS}
    assert (record.state, record.usage_source, record.error_code) == ("settled", "provider", "")
    assert buckets == {name: bill[name] for name in BUCKETS}, f"recorded {buckets}, billed {bill}"
    prompt = sum(buckets[name] for name in BUCKETS[:3])
    assert told == (prompt, bill["output_tokens"]), f"told {told}, billed {bill}"
    assert answer.cached_tokens in {None, bill["cache_read_input_tokens"]}
    assert record.cost_nano == prompt * 1_000 + bill["output_tokens"] * 2_000
    assert bill["output_tokens"] > 0
    if cell.scenario.cached and cell.wire is not Wire.OLLAMA:
        assert bill["cache_read_input_tokens"] == 20


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("kind", PROVIDER_KINDS)
async def test_a_client_does_not_notice_which_vendor_answers(grid: Grid, kind: str, caller: str) -> None:
    failed: dict[str, str] = {}
    answered: dict[str, tuple[Cell, Answer]] = {}  # by request id
    for name, scenario in SCENARIOS.items():
        if not CALLERS[caller].can_ask(scenario):
            continue
        cell = Cell(kind, caller, name)
        try:
            answered |= {reply.headers["x-request-id"]: (cell, answer) for reply, answer in await walk(grid, cell)}
        except FAILURES as error:
            failed[name] = brief(error)
    records, billed = await grid.records(set(answered)), await grid.bills(*answered)
    for request_id, (cell, answer) in answered.items():
        bills = [bill for bill in billed if bill["request_id"] == request_id]
        try:
            check_bill(cell, answer, records[request_id], bills)
        except FAILURES as error:
            failed[f"{cell.name} (bill)"] = brief(error)
    assert not failed, "\n" + "\n".join(f"{kind} / {caller} / {name}: {what}" for name, what in failed.items())
