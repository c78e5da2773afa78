"""The bill of one request, whatever its attempts came to: what is on the record adds up, and is never counted twice."""

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.domain.usage import UsageEntry
from providers.domain.answer import Finished, FinishReason, Frame, StreamEvent, TextDelta, Usage, UsageReported
from providers.domain.conversation import EmbeddingBatch
from providers.domain.errors import Failure, FailureKind
from providers.domain.estimate import count_text, estimate_tokens
from providers.domain.pricing import cost_nano
from providers.domain.types import Price, PromptDefaults, UpstreamRequest, Wire
from routerplatform.gateway.errors import InternalError, upstream_error
from routerplatform.gateway.tally import ANSWERED, CANCELLED, Ending, Tally, failed, final_entry
from routing.domain.ladder import Step
from tests.analytics.ledger.samples import opened
from tests.routing.domain.build import DOLLAR, deployment, request

BODY = b'{"model":"swift","messages":[{"role":"user","content":"Hello"}]}'
PROMPT, BOUND = estimate_tokens(BODY), len(BODY) + 100  # what vendors may add
HALF_KNOWN = Price(id=2, input=None, output=2_000_000_000)
USAGE = Usage(input_tokens=12, output_tokens=5)
SAID: list[StreamEvent] = [TextDelta("Hello"), Finished(FinishReason.STOP)]


def tally() -> Tally:
    return Tally(request(), 1.0, BOUND)


def begin(running: Tally, price: Price | None = DOLLAR) -> None:
    running.begin(deployment(1, "swift", price=price), "swift", None, Wire.OPENAI, UpstreamRequest("/x", {}, BODY))


def see(running: Tally, *events: StreamEvent) -> None:
    running.see([Frame(b"", events)])


def on_record(running: Tally, ending: Ending) -> UsageEntry:
    running.interrupt(ending.error_code)
    return final_entry(opened(), running, ending, finished_at=2.0)


@pytest.mark.parametrize(
    ("options", "persona", "most"),
    [
        ({"max_tokens": 10}, 4_096, 10),
        ({}, 4_096, 1_000),  # what the model can write at most
        ({}, 400, 400),
        ({}, None, 1_000),
        ({"max_tokens": 10, "choices": 5}, None, 50),
        ({"max_tokens": 2**31 - 1, "choices": 128}, None, 128_000),
    ],
)
def test_the_bound_of_an_attempt_knows_the_personas_limit_and_every_choice(
    options: dict[str, int], persona: int | None, most: int
) -> None:
    asked = request(**options)
    running = Tally.of(asked, PromptDefaults(max_tokens=persona), began=1.0)
    begin(running)
    bound = running.dispatch("1", running.longest_answer(running.target))
    assert bound.output_tokens_bound == most
    assert bound.bound_nano == running.input_bound * 1_000 + most * 2_000
    assert bound.input_tokens_bound == running.input_bound >= asked.input_tokens_bound


def test_the_bound_of_the_prompt_knows_the_personas_words_in_bytes() -> None:
    bounds = [
        Tally.of(request(), PromptDefaults(system_prompt=words), 1.0).input_bound for words in ("", "abc", "日本")
    ]
    assert [bound - bounds[0] for bound in bounds] == [0, 3, 6]


def test_money_is_turned_into_the_longest_answer_that_it_pays_for_with_every_choice() -> None:
    running = Tally(request(choices=3), 1.0, BOUND)
    target = deployment(1, "swift", price=DOLLAR)
    for tokens in (1, 7, 500):
        enough = running.bound_of(target, tokens)
        assert enough == BOUND * 1_000 + 3 * tokens * 2_000
        assert running.longest_for(target, enough) == tokens
        assert running.longest_for(target, enough - 1) == tokens - 1
    assert running.longest_for(target, 0) == running.longest_for(deployment(1, "swift", price=None), 10**9) == 0


def test_a_caller_who_leaves_at_the_last_word_is_charged_by_the_vendors_final_count() -> None:
    running = tally()
    begin(running)
    see(running, *SAID, UsageReported(USAGE))
    ended = on_record(running, CANCELLED)
    assert (ended.state, ended.usage_source, ended.cost_nano) == ("cancelled", "provider", 22_000)


@pytest.mark.parametrize(
    ("events", "source"),
    [
        ([*SAID, UsageReported(USAGE)], "provider"),
        ([UsageReported(USAGE), *SAID], "counted"),
        (SAID, "counted"),
        ([*SAID, UsageReported(Usage(input_tokens=12))], "counted"),
        ([Finished(FinishReason.CONTENT_FILTER), UsageReported(Usage(input_tokens=12))], "provider"),
    ],
    ids=["at the end", "only before the end", "never", "nothing written, they say", "nothing written, indeed"],
)
def test_a_count_is_the_vendors_only_when_it_is_final(events: list[StreamEvent], source: str) -> None:
    running = tally()
    begin(running)
    see(running, *events)
    running.end()
    assert on_record(running, ANSWERED).usage_source == source


def test_what_an_earlier_attempt_had_counted_is_forgotten() -> None:
    running = tally()
    begin(running)
    see(running, UsageReported(Usage(input_tokens=900, output_tokens=1)))
    running.end(Failure(FailureKind.OVERLOADED, "busy"))
    begin(running)
    see(running, *SAID)
    running.end()
    ended = on_record(running, ANSWERED)
    assert (ended.input_tokens, ended.output_tokens) == (PROMPT, count_text("Hello"))


def test_a_request_that_ended_between_two_attempts_is_charged_for_what_is_in_doubt() -> None:
    running = tally()
    begin(running)
    running.end(Failure(FailureKind.TIMEOUT, "silence"))
    ended = on_record(running, CANCELLED)
    assert (ended.state, ended.usage_source, ended.cost_nano) == ("cancelled", "bound", BOUND * 1_000)
    assert [attempt.failure for attempt in ended.attempts] == ["timeout"]


def test_a_fault_of_ours_is_free_until_there_was_content() -> None:
    for events, state, cost in ([], "released", 0), (SAID[:1], "settled", PROMPT * 1_000 + count_text("Hello") * 2_000):
        running = tally()
        begin(running)
        see(running, *events)
        ended = on_record(running, failed(InternalError(), running))
        assert (ended.state, ended.cost_nano, ended.error_code) == (state, cost, "internal_error")


def test_without_an_attempt_there_is_nothing_to_pay() -> None:
    ended = on_record(tally(), failed(InternalError(), tally()))
    assert (ended.state, ended.cost_nano, ended.usage_source, ended.attempts) == ("released", 0, "none", ())
    assert (ended.provider, ended.deployment, ended.price) == ("", "", None)


# --- any course that a request can take ---------------------------------------------------------------------------


class Broken(NamedTuple):
    """An attempt that failed before content."""

    price: Price | None
    failure: Failure

    @property
    def is_in_doubt(self) -> bool:
        doubtful = {FailureKind.TIMEOUT, FailureKind.STREAM_BROKEN, FailureKind.MALFORMED}
        status = self.failure.http_status
        return self.failure.dispatched and self.failure.kind in doubtful and (status is None or status >= 500)


prices = st.sampled_from([DOLLAR, HALF_KNOWN, None])
failures = st.builds(
    lambda kind, status, dispatched: Failure(kind, "no", http_status=status, dispatched=dispatched),
    st.sampled_from(FailureKind),
    st.sampled_from([None, 302, 400, 408, 429, 500, 504]),
    st.booleans(),
)
endings = st.sampled_from(["answered", "answered uncounted", "cut", "left", "left early", "exhausted"])


def _finish(running: Tally, how: str, price: Price | None, last: Broken | None) -> Ending:
    """The last attempt, and how the request ended with it."""
    if how == "exhausted":
        return failed(upstream_error(last.failure), running) if last else CANCELLED
    begin(running, price)
    if how != "left early":
        see(running, *SAID[: 1 if how in {"cut", "left"} else 2])
    if how == "answered":
        see(running, UsageReported(USAGE))
    if how.startswith("answered"):
        running.end()
        return ANSWERED
    if how == "cut":
        broke = Failure(FailureKind.STREAM_BROKEN, "cut")
        running.end(broke)
        return failed(upstream_error(broke), running)
    return CANCELLED


@given(st.lists(st.builds(Broken, prices, failures), max_size=4), endings, prices)
def test_tokens_at_their_price_and_what_stands_beside_the_attempts_are_the_cost(
    broken: list[Broken], how: str, price: Price | None
) -> None:
    running = tally()
    for attempt in broken:
        begin(running, attempt.price)
        running.end(attempt.failure)
    ended = on_record(running, _finish(running, how, price, broken[-1] if broken else None))
    doubts = [attempt for attempt in broken if attempt.is_in_doubt]
    usage = Usage(input_tokens=ended.input_tokens, output_tokens=ended.output_tokens)
    served = 0 if how == "exhausted" else cost_nano(usage, price) if price else None
    if served is None or any(attempt.price is not DOLLAR for attempt in doubts):
        assert ended.cost_nano is None
    else:
        assert ended.cost_nano == served + len(doubts) * BOUND * 1_000
        assert sum(attempt.billed_nano or 0 for attempt in ended.attempts) == len(doubts) * BOUND * 1_000
    assert (usage == Usage()) is (how == "exhausted")
    assert _is_charged(ended) is (bool(doubts) or how != "exhausted")
    assert len(ended.attempts) == len(broken) + (how != "exhausted")


def _is_charged(ended: UsageEntry) -> bool:
    """A record that costs something says who counted; one without a count costs nothing."""
    told: dict[str, Any] = {"released": False, "settled": True, "cancelled": ended.usage_source != "none"}
    assert (ended.usage_source != "none") is told[ended.state]
    assert ended.usage_source != "none" or ended.cost_nano == 0
    return bool(told[ended.state])


# --- answers that are not given -------------------------------------------------------------------------------------


def whole_answer(running: Tally, *, output_tokens: int = 5) -> None:
    begin(running)
    see(running, *SAID, UsageReported(Usage(input_tokens=12, output_tokens=output_tokens)))


@given(lengths=st.lists(st.integers(1, 10_000), min_size=1, max_size=5))
def test_answers_that_were_set_aside_stand_beside_and_the_sum_is_the_bill(lengths: list[int]) -> None:
    running = tally()
    for length in lengths[:-1]:
        whole_answer(running, output_tokens=length)
        running.set_aside("empty")
    whole_answer(running, output_tokens=lengths[-1])
    running.end()
    entry = on_record(running, ANSWERED)
    costs = [cost_nano(Usage(input_tokens=12, output_tokens=length), DOLLAR) for length in lengths]
    assert entry.cost_nano == sum(costs)
    assert [attempt.billed_nano for attempt in entry.attempts] == [*costs[:-1], None]
    assert (entry.input_tokens, entry.output_tokens, entry.usage_source) == (12, lengths[-1], "provider")
    assert running.tokens_used == sum(lengths) + 12 * len(lengths)
    assert running.cost_by_alias == {"swift": sum(costs)}


def test_an_answer_that_is_taken_back_is_the_records_own() -> None:
    running = tally()
    whole_answer(running, output_tokens=7)
    aside = running.set_aside("refusal")
    begin(running)
    running.end(Failure(FailureKind.BAD_REQUEST, "no", http_status=400), is_aside=True)
    running.take_back(aside)
    entry = on_record(running, ANSWERED)
    assert [(one.failure, one.message, one.billed_nano) for one in entry.attempts] == [
        ("", "refusal", None),
        ("bad_request", "no", None),
    ]
    assert (entry.output_tokens, entry.cost_nano) == (7, cost_nano(Usage(input_tokens=12, output_tokens=7), DOLLAR))
    assert (running.finish, running.attempts_made, running.tokens_used) == (FinishReason.STOP, 2, 19)
    assert running.answer_text == "Hello"


def test_what_broke_off_unseen_is_billed_beside_and_its_tokens_stand_nowhere() -> None:
    running = tally()
    begin(running)
    see(running, TextDelta("Hel"))
    running.end(Failure(FailureKind.STREAM_BROKEN, "cut"), is_aside=True)
    entry = on_record(running, failed(upstream_error(Failure(FailureKind.STREAM_BROKEN, "cut")), running))
    assert entry.cost_nano == entry.attempts[0].billed_nano
    assert entry.cost_nano is not None
    assert (entry.input_tokens, entry.output_tokens, entry.state) == (0, 0, "settled")


def test_who_leaves_after_an_escalation_pays_for_both() -> None:
    running = tally()
    whole_answer(running)
    running.set_aside("empty")
    begin(running)
    see(running, TextDelta("Bon"))
    entry = on_record(running, CANCELLED)
    assert [attempt.failure for attempt in entry.attempts] == ["escalated", "cancelled"]
    assert entry.cost_nano == cost_nano(USAGE, DOLLAR) + (
        cost_nano(Usage(input_tokens=entry.input_tokens, output_tokens=entry.output_tokens), DOLLAR) or 0
    )


@pytest.mark.parametrize(
    ("asked", "persona", "limit", "is_capped"),
    [
        (None, None, 100, True),
        (500, None, 100, True),
        (None, 300, 100, True),
        (80, 300, 80, False),
        (100, None, 100, False),
    ],
)
def test_a_step_of_the_ladder_shortens_what_caller_and_persona_allow(
    asked: int | None, persona: int | None, limit: int, is_capped: bool
) -> None:
    step = Step("cap", 100)
    running = Tally.of(request(max_tokens=asked), PromptDefaults(max_tokens=persona), 1.0, step)
    assert (running.limit, running.is_capped) == (limit, is_capped)
    vectors = Tally.of(request(embeddings=lambda: EmbeddingBatch(("a",))), PromptDefaults(), 1.0, step)
    assert (vectors.limit, vectors.is_capped) == (None, False)
