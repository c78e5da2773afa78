"""What holds for differences and rebases whatever the rules are."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from routing.domain.documents import (
    CandidateDocument,
    PolicyDocument,
    document_from_json,
    document_to_json,
    same_rules,
)
from routing.domain.policy_diff import FIELDS, LABELS, Change, Collision, as_json, policy_changes, rebased
from routing.domain.policy_words import rules_in_words
from tests.routing.domain.policy_documents import VALUES, changed, documents, in_order, models, one_of


def touched(before: PolicyDocument, after: PolicyDocument) -> set[str]:
    return {change.field for change in policy_changes(before, after)}


def merge(base: PolicyDocument, theirs: PolicyDocument, ours: PolicyDocument) -> PolicyDocument | list[str]:
    """What comes of a rebase, or the labels that collide."""
    try:
        return rebased(base, theirs, ours)
    except Collision as error:
        return error.labels


def test_every_field_of_the_rules_is_drawn() -> None:
    assert set(VALUES) == set(PolicyDocument.__struct_fields__)


# --- differences ----------------------------------------------------------------------------------------------------


@given(documents, documents)
def test_there_is_no_difference_exactly_when_the_rules_are_the_same(one: PolicyDocument, other: PolicyDocument) -> None:
    assert (policy_changes(one, other) == []) == same_rules(one, other)


@given(documents, st.data())
def test_the_order_in_which_names_were_written_down_is_neither_a_difference_nor_another_rule(
    document: PolicyDocument, data: st.DataObject
) -> None:
    shuffled = {name: tuple(data.draw(st.permutations(getattr(document, name)))) for name in ("regions", "required")}
    other = changed(document, shuffled)
    assert same_rules(document, other)
    assert policy_changes(document, other) == []
    assert not isinstance(merge(document, other, document), list)


@given(documents, documents)
def test_a_difference_and_the_way_back_are_about_the_same_fields(one: PolicyDocument, other: PolicyDocument) -> None:
    assert touched(one, other) == touched(other, one)


@given(documents, documents)
def test_every_change_names_its_field_and_says_something(one: PolicyDocument, other: PolicyDocument) -> None:
    known = {field.name for field in FIELDS} | {"candidates"}
    for change in policy_changes(one, other):
        assert change.field in known
        assert change.label
        assert change.before or change.after
        assert change.before != change.after
        assert "None" not in str(change)
    assert [row["text"] for row in as_json(policy_changes(one, other))] == [
        str(change) for change in policy_changes(one, other)
    ]


@given(documents, st.data())
def test_a_change_of_one_field_is_said_about_that_field_alone(document: PolicyDocument, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(set(VALUES) - {"ladder"})))
    other = changed(document, {name: data.draw(VALUES[name])})
    assert touched(document, other) <= {name}
    assert bool(touched(document, other)) != same_rules(document, other)


@given(documents, models)
def test_two_orders_of_the_same_models_are_told_apart(document: PolicyDocument, drawn: Any) -> None:
    one, other = changed(document, {"candidates": drawn}), changed(document, {"candidates": in_order(drawn[::-1])})
    assert (policy_changes(one, other) == []) == (one.candidates == other.candidates)


@given(models, models)
def test_a_reader_of_the_differences_knows_the_new_order(before: Any, after: Any) -> None:
    """Either the order is said, or it follows: what stays keeps its order in its part, what is new goes behind it."""
    changes = policy_changes(PolicyDocument(candidates=before), PolicyDocument(candidates=after))
    said = [change.after for change in changes if change.label == "tried in the order"]
    if said:
        assert said == [", then ".join(one.alias for one in after)]
        return
    kept = [one.alias for one in before if one.alias in {each.alias for each in after}]
    new = [one.alias for one in after if one.alias not in kept]
    part = {one.alias: one.is_fallback for one in after}
    assert sorted([*kept, *new], key=lambda name: part[name]) == [one.alias for one in after]


def test_a_new_model_that_goes_first_is_said_to_go_first() -> None:
    before = PolicyDocument(candidates=(CandidateDocument("fast"), CandidateDocument("smart")))
    after = changed(before, {"candidates": (CandidateDocument("deep"), *before.candidates)})
    assert [str(change) for change in policy_changes(before, after)] == [
        "model: adds deep as preferred",
        "tried in the order: fast, then smart → deep, then fast, then smart",
    ]
    behind = changed(before, {"candidates": (*before.candidates, CandidateDocument("deep"))})
    assert [str(change) for change in policy_changes(before, behind)] == ["model: adds deep as preferred"]


@given(documents)
def test_a_document_that_a_column_kept_has_no_difference_to_itself(document: PolicyDocument) -> None:
    assert policy_changes(document, document_from_json(document_to_json(document))) == []


def test_a_change_reads_as_a_sentence_whichever_side_is_empty() -> None:
    assert str(Change("candidates", "model", "", "adds deep as fallback")) == "model: adds deep as fallback"
    assert str(Change("candidates", "model", "removes deep", "")) == "model: removes deep"


# --- rebases --------------------------------------------------------------------------------------------------------


@given(documents, documents)
def test_a_rebase_on_what_it_was_made_from_changes_nothing(base: PolicyDocument, ours: PolicyDocument) -> None:
    assert same_rules(rebased(base, base, ours), ours)


@given(documents, documents)
def test_a_draft_without_a_change_becomes_what_is_in_force(base: PolicyDocument, theirs: PolicyDocument) -> None:
    assert same_rules(rebased(base, theirs, base), theirs)


@given(documents, documents)
def test_two_who_made_the_same_change_agree(base: PolicyDocument, both: PolicyDocument) -> None:
    assert same_rules(rebased(base, both, both), both)


@given(documents, documents, documents)
@settings(max_examples=200)
def test_a_rebase_has_both_changes_or_names_exactly_the_fields_that_collide(
    base: PolicyDocument, theirs: PolicyDocument, ours: PolicyDocument
) -> None:
    there, here = touched(base, theirs), touched(base, ours)
    disputed = there & here & touched(theirs, ours)
    merged = merge(base, theirs, ours)
    if disputed:
        assert isinstance(merged, list)
        assert sorted(merged) == sorted({LABELS[name] for name in disputed})
        return
    assert isinstance(merged, PolicyDocument)
    assert touched(theirs, merged) == here - there  # ours, on top of theirs
    assert touched(ours, merged) == there - here
    assert touched(base, merged) == there | here


@given(documents, st.sets(st.sampled_from(sorted(VALUES))), st.data())
def test_changes_of_different_fields_never_collide(base: PolicyDocument, mine: set[str], data: st.DataObject) -> None:
    ours = changed(base, data.draw(one_of(mine)))
    theirs = changed(base, data.draw(one_of(set(VALUES) - mine)))
    merged = rebased(base, theirs, ours)
    for name in VALUES:
        assert getattr(merged, name) is not None or getattr(ours if name in mine else theirs, name) is None
    assert same_rules(merged, rebased(base, ours, theirs))  # whoever is first


@given(documents, documents, documents)
def test_who_was_first_makes_no_difference(base: PolicyDocument, one: PolicyDocument, other: PolicyDocument) -> None:
    first, second = merge(base, one, other), merge(base, other, one)
    if isinstance(first, PolicyDocument) and isinstance(second, PolicyDocument):
        assert same_rules(first, second)
    else:
        assert first == second


# --- words ----------------------------------------------------------------------------------------------------------


@given(documents)
def test_the_words_are_whole_sentences_and_name_every_model_that_is_tried(document: PolicyDocument) -> None:
    said = rules_in_words(document)
    assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in said)
    assert "None" not in " ".join(said)
    assert all(one.alias in said[0] for one in document.candidates)


@given(documents)
def test_the_words_are_the_same_in_whatever_order_a_form_was_filled_in(document: PolicyDocument) -> None:
    assert rules_in_words(document) == rules_in_words(document_from_json(document_to_json(document)))
