"""What is gathered before a decision: only what the policy looks at, and never at the price of a failed request."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from providers.domain.answer import FinishReason, Usage
from providers.domain.errors import Failure, FailureKind
from providers.domain.types import ChatRequest, Price
from providers.wires import UnsupportedFeature
from routerplatform.doors.formats import anthropic_messages, openai_chat, openai_embeddings, openai_responses
from routerplatform.gateway.errors import InvalidRequest
from routerplatform.gateway.prompt_reading import PromptReading
from routing.domain.config import Ladder, Rule, Strategy, TaskType, Variant
from routing.domain.decision import decide
from routing.domain.rules import RuleRow, compile_rule
from routing.domain.situation import NO_SITUATION
from tests.gateway_path.situation_parts import (
    SAGE,
    SWIFT,
    answered,
    config_of,
    parts,
    rules_of,
    says,
    tool_loop,
    unread,
)
from tests.routing.domain.build import alias, caller, persona, policy, request


def rule(subject: str, pattern: str, **outcome: str) -> Rule:
    values: dict[str, Any] = {"header": "", "match": "contains", **(outcome or {"tier": "premium"})}
    return compile_rule(RuleRow(name="own", subject=subject, pattern=pattern, **values))  # type: ignore[arg-type]


# --- only what is asked for -----------------------------------------------------------------------------------------


async def test_a_request_that_names_a_model_has_no_situation() -> None:
    assert await parts().of(config_of(rules_of()), request("swift", conversation=unread)) is NO_SITUATION


async def test_its_tag_goes_on_record_all_the_same() -> None:
    found = await parts().of(config_of(rules_of()), request("swift"), hints={"x-router-tag": "search"})
    assert found.tag == "search"


@pytest.mark.parametrize(
    "strategy",
    [Strategy.PRIORITY, Strategy.WEIGHTED, Strategy.ROUND_ROBIN, Strategy.LEAST_BUSY, Strategy.LOWEST_LATENCY],
)
async def test_nothing_is_read_for_a_policy_that_does_not_look_at_words(strategy: Strategy) -> None:
    own = parts()
    found = await own.of(config_of(rules_of(strategy=strategy), classifier="Raising"), request(conversation=unread))
    assert (found.seed, found.task, found.conversation, found.budget_used) == ("request-1", None, "", 0.0)
    assert own.asked_budgets == []


async def test_an_unknown_persona_is_for_the_decision_to_complain_about() -> None:
    assert await parts().of(config_of(rules_of()), request("auto", persona="nobody")) is NO_SITUATION


async def test_a_conversation_that_cannot_be_read_has_no_words_and_is_served() -> None:
    for error in (InvalidRequest("no"), UnsupportedFeature("audio"), msgspec.ValidationError("no"), RecursionError()):

        def unreadable(error: Exception = error) -> Any:
            raise error

        own, asked = parts(), request(conversation=unreadable)
        config = config_of(rules_of(strategy=Strategy.BEST_QUALITY, is_sticky=True), classifier="Raising")
        found = await own.of(config, asked)
        assert (found.task, found.conversation) == (None, "")
        assert decide(config, caller(), asked, found).targets


# --- words ----------------------------------------------------------------------------------------------------------


def chat(*messages: dict[str, Any]) -> ChatRequest:
    return openai_chat.parse(_json({"model": "auto", "messages": list(messages)}))


def _json(body: dict[str, Any]) -> bytes:
    return msgspec.json.encode(body)


CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
LOOPS = {
    "openai": lambda: chat(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Is it sunny?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "Sunny"},
    ),
    "anthropic": lambda: anthropic_messages.parse(
        _json({
            "model": "auto", "max_tokens": 10, "system": "Be brief.",
            "messages": [
                {"role": "user", "content": "Is it sunny?"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "weather", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "Sunny"}]},
            ],
        })
    ),
    "responses": lambda: openai_responses.spoken(
        _json({
            "model": "auto", "instructions": "Be brief.",
            "input": [
                {"role": "user", "content": "Is it sunny?"},
                {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "Sunny"},
            ],
        })
    ).request,
}  # fmt: skip


@pytest.mark.parametrize("format_", LOOPS)
def test_the_last_human_turn_is_no_tools_answer_in_any_format(format_: str) -> None:
    reading = PromptReading(LOOPS[format_]())
    assert (reading.last_turn(), reading.first_turn(), reading.system()) == (
        "Is it sunny?",
        "Is it sunny?",
        "Be brief.",
    )
    assert reading.is_tool_loop()


def test_the_turns_of_a_conversation_are_told_apart() -> None:
    reading = PromptReading(says("First", "Second", "Third", system="Be brief."))
    assert (reading.first_turn(), reading.last_turn(), reading.is_tool_loop()) == ("First", "Third", False)


def test_of_a_text_of_millions_only_its_ends_are_looked_at() -> None:
    reading = PromptReading(says(f"begin{'x' * 3_000_000}end", system="y" * 100_000))
    assert len(reading.last_turn()) + len(reading.first_turn()) + len(reading.system()) < 200_000
    assert (reading.last_turn()[:5], reading.last_turn()[-3:]) == ("begin", "end")


def test_a_request_for_embeddings_says_nothing() -> None:
    reading = PromptReading(openai_embeddings.parse(b'{"model":"auto","input":"Hello"}'))
    assert (reading.last_turn(), reading.system(), reading.is_tool_loop()) == ("", "", False)


# --- rules and kinds of work ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "pattern", "header", "fits"),
    [
        ("text", "invoice", "", True),
        ("text", "greeting", "", False),
        ("tag", "billing", "", True),
        ("header", "eu", "x-region", True),
        ("header", "us", "x-region", False),
        ("persona", "clerk", "", True),
    ],
)
async def test_an_operators_rule_is_found(subject: str, pattern: str, header: str, fits: bool) -> None:
    rules = rules_of()
    config = replace(
        config_of(rules, personas=(persona("clerk", rules),)),
        rules=(rule(subject, pattern, header=header, tier="premium"),),
    )
    hints = {"x-router-tag": "billing", "x-region": "eu-west"}
    found = await parts().of(config, says("A greeting", "Where is my invoice?", persona="clerk"), hints=hints)
    assert (found.rule is not None) is fits


async def test_the_text_is_not_read_for_rules_that_look_elsewhere() -> None:
    config = replace(config_of(rules_of()), rules=(rule("tag", "billing"),))
    found = await parts().of(config, request(conversation=unread), hints={"x-router-tag": "billing"})
    assert found.rule is not None


async def test_what_a_rule_says_needs_no_classifier() -> None:
    own = parts()
    config = replace(
        config_of(rules_of(strategy=Strategy.BEST_QUALITY), classifier="Raising"),
        rules=(rule("text", "poem", task_type="CREATIVE"),),
    )
    asked = says("Write a poem about code.")
    found = await own.of(config, asked)
    assert found.task is not None
    assert (found.task.label, found.task.source, own.failures) == (TaskType.CREATIVE, "rule", [])
    assert decide(config, caller(), asked, found).task_type is TaskType.CREATIVE


@pytest.mark.parametrize(
    "strategy", [Strategy.LOWEST_COST, Strategy.TASK_BASED, Strategy.BEST_QUALITY, Strategy.BALANCED]
)
async def test_a_policy_that_looks_at_quality_asks_what_kind_of_work_it_is(strategy: Strategy) -> None:
    found = await parts().of(config_of(rules_of(strategy=strategy), classifier="Sync"), says("Fix my code"))
    assert found.task is not None
    assert (found.task.label, found.task.source) == (TaskType.CODING, "own")


async def test_so_does_one_of_which_a_rollout_does() -> None:
    drafted = rules_of(strategy=Strategy.BEST_QUALITY)
    rollout = Variant("rollout", "v2", "", 50, "seed", "conversation", drafted)
    found = await parts().of(config_of(rules_of(variants=(rollout,)), classifier="Sync"), says("Fix my code"))
    assert found.task is not None
    assert found.conversation


async def test_the_policy_that_is_handed_over_to_counts_its_own_turns_and_keeps_its_own_habits() -> None:
    code = replace(policy("code", alias("sage", SAGE), task_type=TaskType.CODING, is_sticky=True), id=2)
    first = rules_of(strategy=Strategy.TASK_BASED)
    config = replace(config_of(first, classifier="Sync"), task_policies={TaskType.CODING: code})
    own = parts()
    found = [await own.of(config, says(text)) for text in ("code", "code", "a poem", "code")]
    assert [one.turn for one in found] == [0, 1, 0, 2]
    assert [bool(one.conversation) for one in found] == [True, True, False, True]


async def test_turns_are_counted_and_a_rehearsal_takes_none() -> None:
    own, config = parts(), config_of(rules_of())
    turns = [(await own.of(config, request(), is_rehearsal=rehearsal)).turn for rehearsal in (False, True, True, False)]
    assert turns == [0, 1, 1, 1]
    assert (await own.of(config, request())).turn == 2


# --- conversations --------------------------------------------------------------------------------------------------


async def test_a_sticky_policy_knows_who_has_answered_the_conversation_and_what_that_has_read() -> None:
    own, config = parts(), config_of(rules_of(is_sticky=True))
    first = await own.of(config, says("Hello", system="Be brief."))
    assert (first.pinned, first.cached_input) == ("", 0)
    own.ended(config, request(), first, answered(SAGE, input_tokens=40))
    again = await own.of(config, says("Hello", "And then?", system="Be brief."))
    assert (again.conversation, again.pinned, again.cached_input) == (first.conversation, SAGE.name, 40)
    assert decide(config, caller(), request(), again).targets[0] is SAGE
    other = await own.of(config, says("Hello there", system="Be brief."))
    assert other.pinned == ""


async def test_another_teams_equal_conversation_is_another_one() -> None:
    own, config = parts(), config_of(rules_of(is_sticky=True))
    mine = await own.of(config, says("Hello"))
    own.ended(config, request(), mine, answered(SAGE))
    theirs = await own.of(config, says("Hello"), caller(team_id=2))
    assert theirs.conversation != mine.conversation
    assert theirs.pinned == ""


async def test_an_id_that_the_caller_gives_a_conversation_goes_before_its_words() -> None:
    own, config, hints = parts(), config_of(rules_of(is_sticky=True)), {"x-router-conversation": "42"}
    first = await own.of(config, request(conversation=unread), hints=hints)
    own.ended(config, request(), first, answered(SAGE))
    again = await own.of(config, request(conversation=unread), hints=hints)
    assert again.pinned == SAGE.name
    assert (await own.of(config, says("Hello"), hints={"x-router-conversation": "43"})).pinned == ""


async def test_a_loop_of_tools_is_known_and_stays_where_it_is() -> None:
    own, config = parts(), config_of(rules_of(strategy=Strategy.ROUND_ROBIN))
    first = await own.of(config, says("Is it sunny?", tools=True))
    assert (first.is_tool_loop, first.turn) == (False, 0)
    own.ended(config, request(), first, answered(SAGE, finish=FinishReason.TOOL_CALLS))
    loop = await own.of(config, tool_loop("Is it sunny?"))
    assert (loop.is_tool_loop, loop.pinned) == (True, SAGE.name)
    assert decide(config, caller(), tool_loop("Is it sunny?"), loop).sticks


async def test_who_has_the_conversation_is_forgotten_after_an_hour() -> None:
    own, config = parts(), config_of(rules_of(is_sticky=True))
    own.ended(config, request(), await own.of(config, says("Hello")), answered(SAGE))
    own.clock.now += 3599
    assert (await own.of(config, says("Hello"))).pinned == SAGE.name
    own.clock.now += 2
    assert (await own.of(config, says("Hello"))).pinned == ""


async def test_an_answer_that_broke_off_pins_nothing() -> None:
    own, config = parts(), config_of(rules_of(is_sticky=True))
    found = await own.of(config, says("Hello"))
    broken = answered(SAGE)
    broken.finish = None
    own.ended(config, request(), found, broken)
    assert (await own.of(config, says("Hello"))).pinned == ""


# --- figures --------------------------------------------------------------------------------------------------------


async def test_a_budget_is_looked_at_only_for_a_ladder() -> None:
    own = parts(budget_used=0.83)
    assert (await own.of(config_of(rules_of()), request())).budget_used == 0.0
    climbing = rules_of(ladder=Ladder(cheaper_at=80))
    config = config_of(climbing, personas=(persona("clerk", climbing),))
    assert (await own.of(config, request(persona="clerk"))).budget_used == 0.83
    assert own.asked_budgets == [(1, "clerk")]


async def test_after_five_answers_it_is_known_how_long_they_usually_are() -> None:
    own, config = parts(), config_of(rules_of())
    for tokens in (10, 20, 30, 40):
        own.ended(config, request(), await own.of(config, request()), answered(SWIFT, output_tokens=tokens))
    assert (await own.of(config, request())).usual_output is None
    own.ended(config, request(), await own.of(config, request()), answered(SWIFT, output_tokens=50))
    assert (await own.of(config, request())).usual_output == 30


@pytest.mark.parametrize(
    ("hints", "slug"), [({"x-router-tag": "search"}, ""), ({"x-router-tag": "search"}, "clerk"), ({}, "clerk")]
)
async def test_each_kind_of_traffic_has_a_length_of_its_own(hints: dict[str, str], slug: str) -> None:
    rules = rules_of()
    own, config = parts(), config_of(rules, personas=(persona("clerk", rules),))
    asked = request(persona=slug, choices=2)
    for _ in range(5):
        own.ended(
            config, asked, await own.of(config, asked, hints=hints), answered(SWIFT, asked=asked, output_tokens=80)
        )
    assert (await own.of(config, asked, hints=hints)).usual_output == 40  # of each choice
    assert (await own.of(config, request())).usual_output is None


async def test_a_kept_answer_that_is_given_again_teaches_nothing() -> None:
    own, config = parts(), config_of(rules_of(is_sticky=True))
    found = await own.of(config, says("Hello"))
    kept = answered(SAGE)
    kept.attempts.clear()
    own.ended(config, request(), found, kept)
    assert (await own.of(config, says("Hello"))).pinned == ""


async def test_the_present_latency_follows_what_is_measured_and_is_forgotten() -> None:
    own, config = parts(), config_of(rules_of(strategy=Strategy.LOWEST_LATENCY))
    found = await own.of(config, request())
    assert found.standing(SWIFT).latency_ms is None
    for deployment, latency_ms in ((SWIFT, 900.0), (SAGE, 300.0), (SWIFT, 400.0)):
        own.ended(config, request(), found, _took(answered(deployment), latency_ms))
    assert found.standing(SWIFT).latency_ms == pytest.approx(900 - 0.2 * 500)
    assert decide(config, caller(), request(), found).targets == (SAGE, SWIFT)
    own.clock.now += 601
    assert found.standing(SWIFT).latency_ms is None


async def test_a_stream_is_timed_until_its_first_content_and_apart_from_whole_answers() -> None:
    own, config = parts(), config_of(rules_of())
    asked = request(stream=True)
    streamed = _took(answered(SWIFT, asked=asked), 5_000.0)
    streamed.first_content_at = streamed.began + 0.25  # the attempt began 0.05 s after the request
    streamed.attempts[0] = _with(streamed.attempts[0], started_ms=50.0)
    own.ended(config, asked, await own.of(config, asked), streamed)
    assert (await own.of(config, asked)).standing(SWIFT).latency_ms == pytest.approx(200)
    assert (await own.of(config, request())).standing(SWIFT).latency_ms is None


async def test_a_time_out_counts_as_slow_and_a_refusal_does_not_count() -> None:
    own, config = parts(), config_of(rules_of())
    tally = _took(answered(SWIFT), 100.0)
    late = _with(tally.attempts[0], deployment=SAGE.name, failure=FailureKind.TIMEOUT, latency_ms=30_000.0)
    refused = _with(tally.attempts[0], deployment="alpha/other", failure=FailureKind.SERVER_ERROR, latency_ms=1.0)
    tally.attempts[:0] = [late, refused]
    own.ended(config, request(), await own.of(config, request()), tally)
    standing = (await own.of(config, request())).standing
    assert (standing(SWIFT).latency_ms, standing(SAGE).latency_ms) == (100.0, 30_000.0)


async def test_attempts_under_way_are_counted() -> None:
    own, config = parts(), config_of(rules_of(strategy=Strategy.LEAST_BUSY))
    found = await own.of(config, request())
    with await own.health.enter(SWIFT), await own.health.enter(SWIFT), await own.health.enter(SAGE):
        assert (found.standing(SWIFT).in_flight, found.standing(SAGE).in_flight) == (2, 1)
        assert decide(config, caller(), request(), found).targets[0] is SAGE
    assert found.standing(SWIFT).in_flight == 0


async def test_a_deployment_that_is_not_asked_says_why() -> None:
    own, found = parts(), await parts().of(config_of(rules_of()), request())
    assert found.standing(SWIFT).out_of_service == ""
    found = await own.of(config_of(rules_of()), request())
    for _ in range(5):
        with await own.health.enter(SWIFT) as trial:
            trial.failed(Failure(FailureKind.SERVER_ERROR, "down", http_status=500))
    assert "circuit breaker is open" in found.standing(SWIFT).out_of_service


async def test_a_price_that_nobody_knows_and_no_usage_at_all_do_not_stop_learning() -> None:
    own, config = parts(), config_of(rules_of(is_sticky=True))
    free = replace(SWIFT, price=Price(id=9, input=None, output=None))
    tally = answered(free, output_tokens=0)
    tally.usage = Usage()
    own.ended(config, request(), await own.of(config, says("Hello")), tally)
    assert (await own.of(config, says("Hello"))).pinned == SWIFT.name


def _took(tally: Any, latency_ms: float) -> Any:
    tally.attempts[-1] = _with(tally.attempts[-1], latency_ms=latency_ms)
    return tally


def _with(attempt: Any, **values: Any) -> Any:
    return msgspec.structs.replace(attempt, **values)
