"""The language of prompt templates, what is refused when one is saved, and what changed between two versions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.domain.template_diff import template_changes
from routing.domain.templates import (
    MessageDocument,
    Slot,
    TemplateDocument,
    TemplateError,
    TextError,
    UnknownTemplate,
    VariableDocument,
    compile_version,
    declared_by,
    document_of,
    parse_text,
    render,
    template_named,
)
from routing.domain.templates import PromptTemplate as Template
from tests.routing.prompts import says

A = VariableDocument("a")


def complaints(document: TemplateDocument) -> list[str]:
    with pytest.raises(TemplateError) as caught:
        compile_version("welcome", 1, document)
    return [one.in_words for one in caught.value.complaints]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", ()),
        ("plain } }} {", ("plain } }} {",)),
        ("Hello {{ name }}!", ("Hello ", Slot("name", 1), "!")),
        ("{{name}}{{ _n2 }}", (Slot("name", 1), Slot("_n2", 1))),
        ("one\n\n{{\tname }}\n", ("one\n\n", Slot("name", 3), "\n")),
        (r"\{{ name }}", ("{{ name }}",)),
        (r"\\{{ name }}", ("\\", Slot("name", 1))),
        (r"\\\{{ name }} \n", ("\\{{ name }} \\n",)),
        ("{{a}}}", (Slot("a", 1), "}")),
        ('{"a": {"b": 1}}', ('{"a": {"b": 1}}',)),
    ],
)
def test_braces_are_a_variable_or_escaped(text: str, pieces: tuple[str | Slot, ...]) -> None:
    assert parse_text(text) == pieces


@pytest.mark.parametrize(
    ("text", "line", "shown"),
    [
        ("{{", 1, "“{{”"),
        ("one\n{{ }}", 2, "“{{ }}”"),
        ("{{ a.b }}", 1, "“{{ a.b }}”"),
        ("{{ a|upper }}", 1, "“{{ a|upper }}”"),
        ("{{#if a}}", 1, "“{{#if a}}”"),
        ("{{{ a }}}", 1, "“{{{ a }}”"),
        ("a\nb\n{{ 1a }} {{", 3, "“{{ 1a }}”"),
        ("{{ a\n}}", 1, "“{{ a”"),
        ("{{ größe }}", 1, "“{{ größe }}”"),
        ("{{" + "a" * 61 + "}}", 1, "“{{" + "a" * 38 + "”"),
    ],
)
def test_what_is_no_variable_is_refused_with_its_line(text: str, line: int, shown: str) -> None:
    with pytest.raises(TextError) as caught:
        parse_text(text)
    assert caught.value.line == line
    assert f"{shown} is no variable. Write {{{{ name }}}}, or \\{{{{" in str(caught.value)


@given(st.text(alphabet="{}\\a ", max_size=40))
def test_every_text_can_be_said_with_its_braces_escaped(text: str) -> None:
    *before, last = text.split("{{")
    doubled = [piece + "\\" * (len(piece) - len(piece.rstrip("\\"))) for piece in before]
    escaped = "".join(f"{piece}\\{{{{" for piece in doubled) + last
    assert "".join(map(str, parse_text(escaped))) == text


def test_a_long_row_of_backslashes_is_read_once() -> None:
    assert parse_text("\\" * 99_998 + "{{ a }}") == ("\\" * 49_999, Slot("a", 1))


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (says(""), ["It says nothing: write a system text, or a message."]),
        (says("Hi\n{{ nmae }}", variables=("name",)), ["System text, line 2: “nmae” is not declared. Is it “name”?"]),
        (says("", ("user", "{{ a }}")), ["Message 1, line 1: “a” is not declared. Declare it as a variable."]),
        (says("Hi", variables=("a",)), ["Variable 1: “a” is declared, and no text uses it. Use it, or take it out."]),
        (says("{{", variables=("a",)), ["System text, line 1: “{{” is no variable. Write {{ name }}, or \\{{ for the "
         "braces themselves."]),
        (says("Hi", ("system", "x")), ["Message 1: “system” is no role: user or assistant. What the system says has a "
         "text of its own."]),
        (says("Hi", ("user", " ")), ["Message 1: It is empty: write what it says, or take it out."]),
        (says("{{ a }}", variables=("a", "a")), ["Variable 2: “a” is declared twice."]),
        (says("Hi", variables=("a-b",)), ["Variable 1: “a-b” is no name: letters, digits and underscores, 60 at most; "
         "it begins with a letter.", "Variable 1: “a-b” is declared, and no text uses it. Use it, or take it out."]),
        (says("{{ a }}", variables=(VariableDocument("a", max_length=0),)),
         ["Variable 1: The longest value of “a” is 1 to 100,000 characters."]),
        (says("{{ a }}", variables=(VariableDocument("a", "d" * 301, "abc", 2),)),
         ["Variable 1: The default of “a” has 3 characters, more than its longest value.",
          "Variable 1: The description of “a” has more than 300 characters."]),
        (says("x" * 100_001), ["Its texts have 100,001 characters together; 100,000 are possible."]),
        (says("", *[("user", "x")] * 51), ["It has 51 messages; 50 are possible."]),
        (says("Hi\x00"), ["System text: It holds a NUL, which cannot be stored."]),
    ],
)  # fmt: skip
def test_a_version_that_cannot_be_used_is_refused_with_every_reason(
    document: TemplateDocument, told: list[str]
) -> None:
    assert complaints(document) == told


def test_all_complaints_come_at_once_in_the_order_of_the_parts() -> None:
    document = says("{{ x }}", ("user", "{{ y }}"), ("bot", "z"), variables=("a", "a"))
    assert [one.split(",")[0].split(":")[0] for one in complaints(document)] == [
        "System text", "Message 1", "Message 2", "Variable 2",
    ]  # fmt: skip


def test_what_is_stored_in_another_shape_is_refused_in_words() -> None:
    with pytest.raises(TemplateError, match="It cannot be read"):
        document_of("Hi", [{"role": "user"}], [])
    assert document_of("Hi", [{"role": "user", "content": "x"}], [{"name": "a"}]) == TemplateDocument(
        "Hi", (MessageDocument("user", "x"),), (A,)
    )


def test_templates_are_told_one_after_the_other_with_values_for_all_of_them() -> None:
    first = compile_version("house", 1, says("In {{ a }}.", variables=(VariableDocument("a", "", "any", 9),)))
    second = compile_version("ask", 2, says("As {{ a }} {{ b }}.", ("user", "{{ b }}"), variables=("a", "b")))
    rendered = render([first, second], {"a": "{{ b }}", "b": "\\{{"})
    assert rendered.system == "In {{ b }}.\n\nAs {{ b }} \\{{."
    assert rendered.messages == (("user", "\\{{"),)
    merged = declared_by([first, second])["a"]
    assert (merged.default, merged.max_length) == (None, 9)  # the stricter of the two


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("welcom", "There is no template “welcom”. Do you mean “welcome”?"),
        ("other", "There is no template “other”."),
        ("fresh", "The template “fresh” has no version in force yet."),
        ("fresh@1", "The template “fresh” has no version “1”. It has none yet."),
        ("welcome@", "The template “welcome” has no version “”. Its newest is “welcome@1”."),
        ("welcome@0", "The template “welcome” has no version “0”. Its newest is “welcome@1”."),
        ("welcome@٣", "The template “welcome” has no version “٣”"),
        ("welcome@1@1", "The template “welcome” has no version “1@1”"),
        ("welcome@99999999999", "The template “welcome” has no version “99999999999”"),
    ],
)
def test_a_name_that_means_nothing_is_told_with_what_comes_near(reference: str, told: str) -> None:
    version = compile_version("welcome", 1, says("Hi"))
    templates = {"welcome": Template("welcome", "", 1, {1: version}), "fresh": Template("fresh", "", 0, {})}
    assert template_named(templates, "welcome@1") is template_named(templates, "welcome") is version
    with pytest.raises(UnknownTemplate) as caught:
        template_named(templates, reference)
    assert told in str(caught.value)


def test_what_changed_is_told_line_by_line_with_a_little_around_it() -> None:
    before = says("\n".join(f"line {n}" for n in range(20)), variables=("a",))
    after = says(
        "\n".join(f"line {n}" if n != 10 else "another" for n in range(20)), variables=(VariableDocument("a", "", ""),)
    )
    told = [(one.kind[0], one.text.strip()) for one in template_changes(before, after)]
    assert told == [
        ("s", "8 lines are the same"), ("s", "line 7"), ("s", "line 8"), ("s", "line 9"),
        ("r", "line 10"), ("a", "another"),
        ("s", "line 11"), ("s", "line 12"), ("s", "line 13"), ("s", "4 lines are the same"),
        ("s", "line 18"), ("s", "line 19"), ("s", "Variables"),
        ("r", "a: required, at most 2,000 characters."),
        ("a", "a: optional, empty if not sent, at most 2,000 characters."),
    ]  # fmt: skip
    assert template_changes(before, before) == []
