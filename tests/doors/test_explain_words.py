"""An explanation in JSON, in words and as rows: each of its parts, without a gateway."""

from dataclasses import replace
from typing import Any

import pytest

from providers.domain.types import Deployment, Price
from routerplatform.doors.explain import explained_json, price_json, read_question, usd_text
from routerplatform.explained_page import facts, rows, side_of
from routerplatform.gateway.errors import InvalidRequest
from routerplatform.gateway.explaining import (
    ANYBODY,
    Explained,
    Looked,
    Problem,
    Question,
    Word,
    caller_with_prefix,
)
from routing.domain.classification.types import Classification, QualityEstimate
from routing.domain.config import Caller, ConfigSnapshot, Ladder, Policy, Rule, Strategy, TaskType
from routing.domain.decision import Considered, NoRoute, decide
from routing.domain.situation import Situation, Standing
from tests.routing.domain.build import alias, caller, deployment, policy, request, snapshot

SWIFT, SAGE = deployment(1, "swift"), deployment(2, "sage", expected_latency_ms=2_000)
FAST, DEEP = alias("fast", SWIFT), alias("deep", SAGE)
CODING = Classification(
    TaskType.CODING, 0.91, {TaskType.CODING: 0.91, TaskType.ANALYSIS: 0.08, TaskType.CREATIVE: 0.001}, known=0.5
)


def told(situation: Situation | None = None, **rules: Any) -> Explained:
    """What is told of a request that `rules` decide: `fast` is preferred, `deep` the fallback."""
    made: Policy = policy("careful", FAST, fallbacks=(DEEP,), **rules)
    where: ConfigSnapshot = snapshot(FAST, DEEP, policies=(made,), default=made)
    asked, now = request(), situation or Situation(seed="r", turn=3)
    plan = decide(where, caller(), asked, now)
    looked = tuple(_looked(one.deployment, plan.considered[index]) for index, one in enumerate(plan.considered))
    return Explained(Question(caller(), asked, "r"), where, now, made, plan, None, looked)


def _looked(name: str, considered: Any) -> Looked:
    found: Deployment = {one.name: one for one in (SWIFT, SAGE)}[name]
    return Looked(considered, found, QualityEstimate(0.734, 12, "task"), Standing(), "closed", "", 1, 1)


# --- JSON ---------------------------------------------------------------------------------------------------------


def test_a_fallback_of_the_policy_is_told_apart_from_what_is_preferred() -> None:
    first, second = explained_json(told())["candidates"]
    assert ("is_fallback" in first, second["is_fallback"]) == (False, True)


def test_each_candidate_has_its_quality_its_price_and_how_it_stands() -> None:
    first = explained_json(told())["candidates"][0]
    assert (first["quality"], first["quality_basis"], first["quality_samples"]) == (0.734, "task", 12)
    assert (first["in_flight"], first["headroom"], first["region"]) == (0, 1.0, None)
    assert first["price"] == {
        "input_usd_per_1m": "1.00",
        "output_usd_per_1m": "2.00",
        "cache_read_usd_per_1m": None,
        "per_request_usd": "0.00",
    }


def test_what_was_measured_is_told_before_what_is_expected() -> None:
    explained = told()
    first, second = explained.candidates
    measured = replace(first, standing=Standing(latency_ms=123.45))
    candidates = explained_json(replace(explained, candidates=(measured, second)))["candidates"]
    assert [one["latency_ms"] for one in candidates] == [123.5, 2_000]


def test_a_candidate_that_is_deployed_no_more_keeps_what_was_decided_of_it() -> None:
    explained = told()
    [gone] = explained_json(replace(explained, candidates=(Looked(explained.candidates[0].considered),)))["candidates"]
    assert (gone["deployment"], gone["verdict"], "quality" in gone) == ("alpha/swift", "chosen", False)


def test_the_kind_of_work_is_told_with_the_scores_and_the_words() -> None:
    explained = told(Situation(task=CODING), strategy=Strategy.BEST_QUALITY)
    task = explained_json(replace(explained, words=(Word("python", 0.31234567),)))["task"]
    assert (task["label"], task["words"], task["confidence"], task["known"]) == ("CODING", "Coding", 0.91, 0.5)
    assert task["scores"]["ANALYSIS"] == 0.08
    assert task["contributions"] == [{"word": "python", "contribution": 0.3123}]


def test_where_nobody_asked_for_the_kind_of_work_there_is_none() -> None:
    assert explained_json(told())["task"] is None


def test_a_problem_stands_where_the_decision_would() -> None:
    explained = replace(told(), plan=None, problem=Problem("no_eligible_model", "Nothing fits.", "model"))
    found = explained_json(explained)
    assert (found["chosen"], found["decision"]) == (None, None)
    assert found["problem"] == {"code": "no_eligible_model", "message": "Nothing fits.", "param": "model"}


def test_a_step_of_the_ladder_is_told_in_words_also_when_it_refuses() -> None:
    ladder = Ladder(cap_at=50, cap_tokens=100, refuse_at=90)
    capped = explained_json(told(Situation(budget_used=0.6), ladder=ladder))
    assert (capped["step"]["name"], capped["max_tokens"], capped["budget_used"]) == ("cap", 100, 0.6)
    with pytest.raises(NoRoute):
        told(Situation(budget_used=0.95), ladder=ladder)
    refused = replace(told(ladder=ladder), plan=None, situation=Situation(budget_used=0.95))
    assert explained_json(refused)["step"]["words"] == "95% of a budget is used: nothing is served"


def test_who_would_be_asked_now_is_the_first_that_is_in_service() -> None:
    explained = told()
    first, second = explained.candidates
    away = replace(first, out_of_service="its circuit breaker is open")
    assert replace(explained, candidates=(away, second)).asked_first == "alpha/sage"
    assert replace(explained, candidates=(away, replace(second, out_of_service="its key rests"))).asked_first == ""


@pytest.mark.parametrize(
    ("nano", "text"),
    [(None, None), (0, "0.00"), (1, "0.000000001"), (39_000, "0.000039"), (10**9, "1.00"), (1_250_000_000, "1.25")],
)
def test_money_is_exact_and_never_in_exponents(nano: int | None, text: str | None) -> None:
    assert usd_text(nano) == text


def test_an_unknown_price_is_no_price_of_nothing() -> None:
    assert price_json(None) is None
    known = price_json(Price(id=1, input=None, output=0))
    assert known is not None
    assert (known["input_usd_per_1m"], known["output_usd_per_1m"]) == (None, "0.00")


# --- the question -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["policy", "tag", "request_id", "key"])
def test_names_have_a_bound(field: str) -> None:
    body = b'{"messages": [{"role": "user", "content": "x"}], "%s": "%s"}'
    read_question(body % (field.encode(), b"y" * 200))
    with pytest.raises(InvalidRequest) as refusal:
        read_question(body % (field.encode(), b"y" * 201))
    assert refusal.value.param == field


@pytest.mark.parametrize("text", ["aaaaaaab", "rp_aaaaaaab", "aaaaaaab…"])
def test_a_key_is_found_by_its_prefix_however_it_was_copied(text: str) -> None:
    key: Caller = caller(key_prefix="aaaaaaab")
    assert caller_with_prefix(snapshot(callers={"digest": key}), text) is key


@pytest.mark.parametrize("text", ["", "rp_", "aaaa", "…"])
def test_half_a_prefix_is_no_key(text: str) -> None:
    assert caller_with_prefix(snapshot(callers={"digest": caller(key_prefix="aaaaaaab")}), text) is None


# --- in words -----------------------------------------------------------------------------------------------------


def facts_of(explained: Explained) -> dict[str, str]:
    return dict(facts(explained))


def test_the_likeliest_kind_of_work_comes_first_and_what_hardly_counts_is_left_out() -> None:
    found = facts_of(told(Situation(task=CODING), strategy=Strategy.BEST_QUALITY))
    assert found["Kind of work"].replace("\N{NO-BREAK SPACE}", " ") == "Coding, 91.0 % sure; then Analysis 8.0 %"


def test_a_classifier_that_is_not_sure_says_so() -> None:
    unsure = Classification(TaskType.ANY, 0.4, {TaskType.CODING: 0.4, TaskType.ANALYSIS: 0.35})
    found = facts_of(told(Situation(task=unsure)))["Kind of work"].replace("\N{NO-BREAK SPACE}", " ")
    assert found == "not sure enough to say: Coding 40.0 %, Analysis 35.0 %"


def test_a_rule_that_names_the_kind_of_work_is_told_as_the_one_who_says_it() -> None:
    rule = Rule("code-is-code", "text", "", lambda text: True, task_type=TaskType.CODING)
    found = facts_of(told(Situation(rule=rule)))
    assert (found["Operator’s rule"], found["Kind of work"]) == ("code-is-code", "Coding, says the rule")


def test_who_asks_and_what_answers_usually_are_is_told() -> None:
    found = facts_of(told(Situation(usual_output=240)))
    assert (found["Asked by"], found["Usual answer"]) == ("app, Search", "240 tokens")
    assert ANYBODY.allowed_aliases == frozenset()


def test_rows_are_counted_in_the_order_of_asking_and_the_skipped_have_no_place() -> None:
    explained = told()
    first, second = explained.candidates
    skipped = replace(second, considered=Considered("alpha/sage", "deep", "skipped", "too dear", None))
    [row, other] = rows(replace(explained, candidates=(first, skipped)))
    assert (row.rank, row.notes, row.quality_percent) == (1, (), 73)
    assert (other.rank, other.notes) == (0, ("too dear",))


def test_what_speaks_against_a_candidate_now_stands_under_its_name() -> None:
    explained = told()
    first, second = explained.candidates
    away, tired = replace(first, out_of_service="its key rests"), replace(second, keys=3, keys_awake=1)
    found = [row.notes for row in rows(replace(explained, candidates=(away, tired)))]
    assert found == [("passed over now: its key rests",), ("fallback", "1 of 3 keys usable")]


def test_a_side_says_when_its_first_choice_is_passed_over() -> None:
    explained = told()
    first, second = explained.candidates
    away = replace(explained, candidates=(replace(first, out_of_service="x"), second))
    assert (side_of("now", explained, "hm").is_passed_over, side_of("now", away, "hm").is_passed_over) == (False, True)


def test_a_long_prompt_is_marked_at_its_beginning_only() -> None:
    explained = replace(told(), words=(Word("list", 0.5),))
    side = side_of("now", explained, "list " * 2_000)
    assert len("".join(piece.text for piece in side.pieces)) == 4_000
