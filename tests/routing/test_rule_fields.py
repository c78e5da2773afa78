"""Fields of rules in the admin's forms, and rows whose order is the rule."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from routing.admin.ordering import renumber
from routing.admin.rule_fields import (
    CONDITIONS,
    RELEVANT,
    RULE_SECTIONS,
    SHOWN,
    NamesField,
    StagesField,
    list_field,
    sections_for,
    strategy_help,
)
from routing.domain.config import Strategy
from routing.domain.policy_words import STRATEGY_HELP
from routing.models import PolicyDraft, RoutingPolicy
from routing.services.policy_rules import RULE_COLUMNS
from tests.factories import AliasTargetFactory, ModelAliasFactory, PolicyCandidateFactory, RoutingPolicyFactory


def shown(sections: list[tuple[str, dict[str, Any]]]) -> set[str]:
    rows = [row if isinstance(row, tuple) else (row,) for _, options in sections for row in options["fields"]]
    return {name for row in rows for name in row}


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("", []), (None, []), ("  ", []), (",,", []), ("eu", ["eu"]), (" eu ,us-east,", ["eu", "us-east"]),
        (["eu"], ["eu"]),
    ],
)  # fmt: skip
def test_names_are_typed_with_commas(typed: Any, names: list[str]) -> None:
    assert NamesField(required=False).to_python(typed) == names


def test_names_are_shown_as_they_are_typed_and_nonsense_as_it_was() -> None:
    field = NamesField()
    assert field.prepare_value(["eu", "us"]) == "eu, us"
    assert field.prepare_value("eu,, us") == "eu,, us"


@pytest.mark.parametrize(("typed", "is_other"), [("eu, us", False), ("eu,us,", False), ("us, eu", True), ("", True)])
def test_names_have_changed_when_they_say_something_else(typed: str, is_other: bool) -> None:
    assert NamesField().has_changed(["eu", "us"], typed) is is_other


@pytest.mark.parametrize(
    ("typed", "stages"), [("5, 25 %,100%", [5, 25, 100]), ("", []), ("100", [100]), ([5, 100], [5, 100])]
)
def test_stages_are_percentages(typed: Any, stages: list[int]) -> None:
    assert StagesField().to_python(typed) == stages


@pytest.mark.parametrize("typed", ["five", "5; 100", "5.5, 100", "5, x"])
def test_what_is_no_percentage_is_refused_with_an_example(typed: str) -> None:
    with pytest.raises(ValidationError, match="for example 5, 25, 100"):
        StagesField().to_python(typed)
    assert StagesField().has_changed([100], typed)


def test_columns_that_are_lists_of_names_get_a_field_of_their_own() -> None:
    regions = list_field(RoutingPolicy._meta.get_field("regions"))
    stages = list_field(PolicyDraft._meta.get_field("stages"))
    assert isinstance(regions, NamesField)
    assert isinstance(stages, StagesField)
    assert (regions.required, stages.required) == (False, True)
    assert regions.label == "Allowed regions"
    assert list_field(RoutingPolicy._meta.get_field("name")) is None
    with pytest.raises(ValidationError, match="lower case"):
        regions.clean("EU")
    with pytest.raises(ValidationError, match="end with 100"):
        stages.clean("5, 25")


def test_every_rule_has_its_place_on_the_page() -> None:
    """A column that is forgotten here could be set by nobody."""
    assert shown(RULE_SECTIONS) - {"strategy_help"} == set(RULE_COLUMNS)


@pytest.mark.parametrize("strategy", Strategy)
def test_a_page_to_look_at_shows_what_the_strategy_looks_at(strategy: Strategy) -> None:
    names = shown(sections_for(strategy.value))
    for field, strategies in RELEVANT.items():
        assert (field in names) == (strategy in strategies)
    assert "strategy_help" not in names
    originals = set(RULE_COLUMNS) - RELEVANT.keys()
    assert {SHOWN.get(name, name) for name in originals} <= names


def test_a_form_shows_a_field_by_the_strategy_that_is_chosen_in_it() -> None:
    assert CONDITIONS.keys() == RELEVANT.keys()
    assert CONDITIONS["cost_weight"] == "typeof strategy === 'undefined' || strategy === 'balanced'"


def test_each_strategy_is_explained_once() -> None:
    text = strategy_help()
    for strategy in Strategy:
        assert text.count(f'data-strategy="{strategy.value}"') == 1
    assert STRATEGY_HELP.keys() == set(Strategy)


# --- order --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_rows_are_counted_anew_in_each_group() -> None:
    policy = RoutingPolicyFactory()
    for group, position in (("preferred", 1_000_001), ("fallback", 7), ("preferred", 3), ("fallback", 7)):
        PolicyCandidateFactory(policy=policy, group=group, position=position)
    other = PolicyCandidateFactory(position=9)
    renumber(policy, "candidates")
    rows = policy.candidates.order_by("pk").values_list("group", "position")
    assert list(rows) == [("preferred", 1), ("fallback", 0), ("preferred", 0), ("fallback", 1)]
    other.refresh_from_db()
    assert other.position == 9


@pytest.mark.django_db
def test_rows_that_stand_right_are_not_written(django_assert_num_queries: Any) -> None:
    alias = ModelAliasFactory()
    for position in range(3):
        AliasTargetFactory(alias=alias, position=position)
    with django_assert_num_queries(1):
        renumber(alias, "targets")
    assert [row.history.count() for row in alias.targets.all()] == [1, 1, 1]
