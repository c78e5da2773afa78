from typing import Any

import pytest

from routing.domain.config import BY_QUALITY, Strategy
from routing.domain.documents import CandidateDocument as Model
from routing.domain.documents import LadderDocument, PolicyDocument
from routing.domain.policy_words import STRATEGY_HELP, rules_in_words

TWO = (Model("fast", weight=3), Model("smart"), Model("spare", is_fallback=True))


def said(**rules: Any) -> list[str]:
    return rules_in_words(PolicyDocument(**{"candidates": TWO} | rules))


@pytest.mark.parametrize(
    ("strategy", "rules", "expected"),
    [
        ("priority", {}, "Tries fast, then smart."),
        ("weighted", {}, "Shares requests out by weight: fast (75%), smart (25%)."),
        ("round_robin", {}, "Tries fast and smart in turn."),
        ("least_busy", {}, "Tries the least busy of fast and smart first."),
        ("lowest_cost", {}, "Tries the cheapest of fast and smart first."),
        (
            "lowest_cost",
            {"quality_floor": 0.8, "within_of_best": 0.05},
            "Tries the cheapest of fast and smart that has an expected quality of at least 0.8 and is at most 0.05 "
            "worse than the best first.",
        ),
        ("lowest_latency", {}, "Tries the quickest of fast and smart first."),
        ("usage_based", {}, "Tries the one of fast and smart with the most room under its rate limits first."),
        ("best_quality", {}, "Tries the one of fast and smart that is expected to answer best first."),
        (
            "balanced",
            {"cost_weight": 0.2},
            "Tries the one of fast and smart first whose expected quality is the highest, less 0.2 per cent and 0.01 "
            "per second.",
        ),
    ],
)
def test_each_order_is_said_in_words(strategy: str, rules: dict[str, Any], expected: str) -> None:
    assert said(strategy=strategy, **rules) == [f"{expected} When these fail: spare."]


def test_by_kind_of_work_names_who_is_preferred_for_what() -> None:
    models = (Model("coder", task_type="CODING"), Model("fast"), Model("smart", task_type="ANALYSIS"))
    assert said(strategy="task_based", candidates=models, quality_floor=0.8) == [
        "For coding prefers coder; for analysis prefers smart; then, and for all else, the cheapest of coder, fast and "
        "smart that has an expected quality of at least 0.8."
    ]
    assert "hands kinds of work over" in said(strategy="task_based")[0]


def test_weights_of_zero_are_said() -> None:
    assert "all weights are 0" in said(strategy="weighted", candidates=(Model("a", weight=0), Model("b", weight=0)))[0]
    last = said(strategy="weighted", candidates=(Model("a"), Model("b", weight=0)))
    assert last == ["Shares requests out by weight: a (100%). Only when these fail: b."]


def test_one_model_is_one_model_whatever_the_order() -> None:
    for strategy in Strategy:
        [text] = said(strategy=strategy.value, candidates=(Model("only"),))
        assert "only" in text


def test_without_models_it_says_so() -> None:
    assert said(candidates=()) == ["It has no models, so it can serve nothing: add one below."]
    assert said(candidates=(Model("spare", is_fallback=True),)) == ["Tries spare."]


def test_ceilings_ladder_and_second_tries_are_said_where_they_are_not_usual() -> None:
    rules: dict[str, Any] = {
        "max_cost_nano": 50_000_000,
        "max_latency_ms": 4000,
        "required": ("json_schema",),
        "regions": ("eu", "ch"),
        "ladder": LadderDocument(cap_at=80, cap_tokens=256, cheaper_at=90, cache_only_at=95, refuse_at=99),
        "escalate_on": ("refusal", "invalid_json"),
        "is_sticky": True,
        "cache_mode": "always",
        "cache_ttl_s": 60,
        "sample_percent": 10,
        "keeps_prompts": True,
    }
    assert said(**rules)[1:] == [
        "Skips a model that would cost more than $0.05 or has no known price, or is expected to take longer than "
        "4,000 ms, or lacks JSON schema, or is not served in eu or ch.",
        "As a budget fills: at 80 % shortens answers to 256 tokens, at 90 % tries cheaper models first, at 95 % gives "
        "kept answers only, at 99 % refuses.",
        "Asks the next model when an answer refuses or is no valid JSON.",
        "A conversation stays with the model that has answered it, unless that cannot go on.",
        "Keeps every answer for 60 s and gives it again to equal requests of the team.",
        "Of 10 % of the requests the decision is kept for replays and learning.",
        "The last human turn is kept with the decision, encrypted.",
    ]


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_conversation_stays_unless_its_model_is_not_good_enough_where_quality_counts(strategy: Strategy) -> None:
    sticky = said(strategy=strategy.value, is_sticky=True, quality_floor=0.8)[-1]
    floor = " or has an expected quality below 0.8" if strategy in BY_QUALITY else ""
    assert sticky == (f"A conversation stays with the model that has answered it, unless that cannot go on{floor}.")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"max_cost_nano": 1_000}, "Skips a model that would cost more than $0.000001 or has no known price."),
        ({"max_cost_nano": 0}, "Skips a model that would cost more than $0.00 or has no known price."),
        ({"max_latency_ms": 12_000}, "Skips a model that is expected to take longer than 12,000 ms."),
        ({"required": ("tool_calling", "vision")}, "Skips a model that lacks tool calling, vision."),
        ({"regions": ("eu",)}, "Skips a model that is not served in eu."),
        ({"ladder": LadderDocument(refuse_at=100)}, "As a budget fills: at 100 % refuses."),
        ({"ladder": LadderDocument(cap_tokens=64)}, ""),  # no step, so nothing happens
        ({"escalate_on": ("low_logprob",)}, "Asks the next model when an answer is unsure."),
        ({"cache_mode": "never", "cache_ttl_s": 60}, "Keeps no answer, whatever a request asks for."),
        ({"cache_ttl_s": 60}, "Keeps answers at temperature 0 for 60 s."),
        ({"cache_mode": "always"}, "Keeps every answer and gives it again to equal requests of the team."),
        ({"sample_percent": 0}, "Of 0 % of the requests the decision is kept for replays and learning."),
        ({"keeps_prompts": True}, "The last human turn is kept with the decision, encrypted."),
    ],
)
def test_each_rule_by_itself_is_a_sentence_and_what_is_usual_is_none(rules: dict[str, Any], expected: str) -> None:
    assert said(**rules)[1:] == ([expected] if expected else [])


def test_a_share_of_next_to_nothing_is_not_said_to_be_nothing() -> None:
    [text] = said(strategy="weighted", candidates=(Model("fast", weight=999), Model("smart", weight=1)))
    assert text == "Shares requests out by weight: fast (over 99%), smart (under 1%)."


def test_every_order_has_a_help() -> None:
    assert set(STRATEGY_HELP) == set(Strategy)
