"""What changed between two versions of a prompt template: the rule that holds for all, and texts of an odd kind."""

import time

from hypothesis import given
from hypothesis import strategies as st

from routing.domain.template_diff import DiffLine, lines_of, template_changes
from routing.domain.templates import LONGEST_TEMPLATE, TemplateDocument, VariableDocument
from tests.routing.prompts import says

lines = st.lists(st.sampled_from(["a", "b", "c", "", "  "]), max_size=25).map("\n".join)
documents = st.builds(
    lambda system, content, names: says(system, ("user", content), variables=tuple(names)),
    lines, lines, st.lists(st.sampled_from(["x", "y", "z"]), max_size=2, unique=True),
)  # fmt: skip


def sides(found: list[DiffLine], old: list[str], new: list[str]) -> tuple[list[str], list[str]]:
    """The two texts, put together again from what is told and, where lines were skipped, from themselves."""
    before: list[str] = []
    after: list[str] = []
    for line in found:
        match line.kind:
            case "same":
                before.append(line.text)
                after.append(line.text)
            case "removed":
                before.append(line.text)
            case "added":
                after.append(line.text)
            case "skipped":
                count = int(line.text.split()[0])
                before += old[len(before) : len(before) + count]
                after += new[len(after) : len(after) + count]
    return before, after


@given(documents, documents)
def test_what_is_told_leads_from_one_version_to_the_other(before: TemplateDocument, after: TemplateDocument) -> None:
    old, new = lines_of(before), lines_of(after)
    found = template_changes(before, after)
    assert bool(found) == (old != new)
    if found:
        assert sides(found, old, new) == (old, new)
        assert any(line.kind in {"added", "removed"} for line in found)


@given(documents)
def test_nothing_to_something_is_all_added_and_back_is_all_removed(document: TemplateDocument) -> None:
    nothing = TemplateDocument()
    assert {line.kind for line in template_changes(nothing, document)} == {"added"}
    assert {line.kind for line in template_changes(document, nothing)} == {"removed"}


def test_a_text_of_equal_lines_is_compared_in_no_time_and_told_whole() -> None:
    many = "a\n" * (LONGEST_TEMPLATE // 2 - 3)
    before, after = says(f"x\n{many}"), says(f"{many}y\nz")
    begun = time.process_time()
    found = template_changes(before, after)
    assert time.process_time() - begun < 20  # of processor; line by line it is half an hour
    assert sides(found, lines_of(before), lines_of(after)) == (lines_of(before), lines_of(after))


def test_one_line_in_a_very_long_text_is_still_found() -> None:
    many = ["a"] * 20_000
    before = says("\n".join([*many, "old", *many]))
    after = says("\n".join([*many, "new", *many]))
    changed = [(line.kind, line.text.strip()) for line in template_changes(before, after) if line.kind != "same"]
    assert changed == [
        ("skipped", "19998 lines are the same"), ("removed", "old"), ("added", "new"),
        ("skipped", "19997 lines are the same"),
    ]  # fmt: skip


def test_roles_order_and_variables_are_part_of_what_changes() -> None:
    before = says("", ("user", "Hi"), ("assistant", "Hello"), variables=("a",))
    after = says("", ("assistant", "Hi"), ("user", "Hello"), variables=(VariableDocument("a", "who", "Ada", 9),))
    found = [(line.kind, line.text) for line in template_changes(before, after)]
    assert ("removed", "  a: required, at most 2,000 characters.") in found
    assert ("added", "  a: optional, “Ada” if not sent, at most 9 characters. who") in found
    assert [text for kind, text in found if kind == "added" and text in {"User", "Assistant"}]


def test_line_ends_that_no_line_feed_makes_do_not_split_a_line() -> None:
    [one, *_] = [line for line in lines_of(says("a\u2028b\x0bc")) if "b" in line]
    assert one == "  a\u2028b\x0bc"
