"""Operators' rules: what fits, which of several decides, what a bad pattern gets."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.domain.config import Rule, TaskType
from routing.domain.documents import ConfigError
from routing.domain.rules import RuleRow, compile_rule, complaint_about_regex, matching_rule


def rule(pattern: str, **options: Any) -> Rule:
    values: dict[str, Any] = {"name": pattern, "subject": "text", "header": "", "match": "contains", "tier": "economy"}
    return compile_rule(RuleRow(pattern=pattern, **{**values, **options}))


def first_fit(*rules: Rule, text: str = "", tag: str = "", persona: str = "", **headers: str) -> str:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    found = matching_rule(rules, text=lambda: text, tag=tag, persona=persona, hint=lambda header: named.get(header, ""))
    return found.name if found else ""


@pytest.mark.parametrize(
    ("match", "pattern", "fits", "misses"),
    [
        ("contains", "Traceback", "a traceBACK here", "track"),
        ("contains", "straße", "Die STRASSE", "Stra"),
        ("equals", "Billing", "billing", "billing team"),
        ("regex", r"^/(sql|query)\b", "/sql select 1", "use /sql"),
        ("regex", r"(?i)\bselect\b.+\bfrom\b", "SELECT a FROM b", "selected"),
    ],
)
def test_a_pattern_fits_what_it_should(match: str, pattern: str, fits: str, misses: str) -> None:
    one = rule(pattern, match=match)
    assert first_fit(one, text=fits) == pattern
    assert first_fit(one, text=misses) == ""


def test_a_rule_looks_at_its_own_subject_only() -> None:
    assert first_fit(rule("x", subject="tag"), text="x", persona="x", tag="y") == ""
    assert first_fit(rule("x", subject="tag"), tag="x") == "x"
    assert first_fit(rule("x", subject="persona"), persona="x") == "x"
    assert first_fit(rule("x", subject="header", header="X-App"), x_app="x") == "x"
    assert first_fit(rule("x", subject="header", header="x-app"), x_other="x") == ""


def test_the_first_that_fits_decides() -> None:
    rules = [rule("b", subject="tag"), rule("a"), rule("c")]
    assert first_fit(*rules, text="a c", tag="q") == "a"
    assert first_fit(*rules, text="a c", tag="b") == "b"
    assert first_fit(text="a") == ""


def test_an_empty_subject_fits_nothing() -> None:
    assert first_fit(rule(".*", match="regex", subject="tag"), text="x") == ""


def test_the_text_is_only_read_when_a_rule_looks_at_it() -> None:
    def must_not_be_read() -> str:
        raise AssertionError

    by_tag = rule("x", subject="tag")
    assert matching_rule([by_tag], text=must_not_be_read, tag="x", persona="", hint=lambda name: "") is by_tag


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("a(b", "missing )"), (r"(a)\1", r"\1"), ("(?=x)", "(?="), ("[z-a]", "z-a"), ("*", "*"), ("a{2000}", "2000")],
)
def test_a_regular_expression_that_re2_refuses_is_refused_in_its_words(pattern: str, said: str) -> None:
    assert said in complaint_about_regex(pattern)
    with pytest.raises(ConfigError, match="Rule “"):
        rule(pattern, match="regex")


def test_a_good_regular_expression_gets_no_complaint() -> None:
    assert complaint_about_regex(r"^\d{3}-\d{4}$") == ""


def test_a_rule_for_a_kind_of_work_that_does_not_exist_is_refused() -> None:
    assert rule("x", tier="", task_type="CODING").task_type is TaskType.CODING
    with pytest.raises(ConfigError, match="Rule “x” has the unknown task type “GARDENING”"):
        rule("x", task_type="GARDENING")


@given(text=st.text(), pattern=st.text(min_size=1, max_size=20))
def test_any_text_can_be_looked_at(text: str, pattern: str) -> None:
    assert first_fit(rule(pattern), text=text + pattern) == pattern
    assert first_fit(rule("(a+)+$", match="regex"), text=text) in {"", "(a+)+$"}


def test_an_expression_that_would_take_for_ever_elsewhere_takes_no_time() -> None:
    """RE2 is linear in the text: no pattern of an operator can stop the gateway."""
    assert first_fit(rule("(a+)+$", match="regex"), text="a" * 50_000 + "b") == ""
