"""Filling in prompt templates, for texts and values of every kind: what is sent is put in, and never read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.domain.templates import (
    KEPT_VERSIONS,
    LONGEST_RENDERED,
    LONGEST_TEMPLATE,
    LONGEST_VALUE,
    MOST_VARIABLES,
    Slot,
    TemplateDocument,
    TemplateError,
    TemplateVersion,
    UnknownTemplate,
    VariableDocument,
    VariablesError,
    compile_version,
    declared_by,
    parse_text,
    render,
    template_named,
)
from routing.domain.templates import PromptTemplate as Template
from tests.routing.prompts import says

NAMES = ("a", "b", "_c", "Name_2", "x" * 60)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
nasty = st.sampled_from(
    ["{{ a }}", "{{b}}", "}}", "{{", "\\{{", "{", "\\", '"', "\u2028", "\r\n", "{{ undeclared }}", "é", "😀"]
)
values = st.lists(texts | nasty, max_size=4).map("".join)
pieces = st.lists(st.sampled_from(NAMES).map(lambda name: Slot(name, 0)) | values, min_size=1, max_size=8)


def escaped(text: str) -> str:
    """A text as it is written to come out as it is."""
    *before, last = text.split("{{")
    doubled = (piece + "\\" * (len(piece) - len(piece.rstrip("\\"))) for piece in before)
    return "".join(f"{piece}\\{{{{" for piece in doubled) + last


def written(said: list[str | Slot]) -> str:
    """A template's text with these pieces; a backslash or a brace just before a variable would belong to its braces."""
    found = []
    for at, piece in enumerate(said):
        if isinstance(piece, Slot):
            found.append(f"{{{{ {piece.name} }}}}")
        else:
            after = said[at + 1] if at + 1 < len(said) else ""
            found.append(escaped(piece) + ("." if isinstance(after, Slot) or piece[-1:] in {"{", "\\"} else ""))
    return "".join(found)


def plain(said: list[str | Slot], given_values: dict[str, str]) -> str:
    """What it must come to, put together by hand."""
    found = []
    for at, piece in enumerate(said):
        if isinstance(piece, Slot):
            found.append(given_values[piece.name])
        else:
            after = said[at + 1] if at + 1 < len(said) else ""
            found.append(piece + ("." if isinstance(after, Slot) or piece[-1:] in {"{", "\\"} else ""))
    return "".join(found)


def joined(said: list[str | Slot]) -> list[str | Slot]:
    """Neighbouring texts as one, as they are read."""
    found: list[str | Slot] = []
    for piece in said:
        if isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += piece
        elif piece != "":
            found.append(piece)
    return found


def one(document: TemplateDocument, name: str = "t", number: int = 1) -> TemplateVersion:
    return compile_version(name, number, document)


# --- what is written, and what is sent ----------------------------------------------------------------------------


@given(said=pieces, sent=st.fixed_dictionaries(dict.fromkeys(NAMES, values)))
def test_values_come_out_just_as_they_were_sent_and_texts_just_as_they_were_meant(
    said: list[str | Slot], sent: dict[str, str]
) -> None:
    said = joined(said)
    used = {piece.name: None for piece in said if isinstance(piece, Slot)}
    text = "." + written(said)
    version = one(says(text, ("user", text), variables=tuple(used)))
    rendered = render([version], {name: sent[name] for name in used})
    assert rendered.messages == (("user", "." + plain(said, sent)),)
    assert rendered.system == "." + plain(said, sent)


@given(texts)
def test_a_text_without_two_opening_braces_says_itself(text: str) -> None:
    text = text.replace("{{", "{ {")
    assert "".join(map(str, parse_text(text))) == text


@given(st.lists(st.sampled_from(["{{ a }}", "\n", "x", "\r", "\u2028", "\\{{"]), max_size=20))
def test_a_variable_knows_its_line_whatever_stands_before_it(before: list[str]) -> None:
    text = "".join(before) + "\n{{ last }}"
    last = parse_text(text)[-1]
    assert last == Slot("last", text.count("\n") + 1)


def test_a_default_is_no_template_either() -> None:
    version = one(says("{{ a }}/{{ b }}", variables=(VariableDocument("a", default="{{ b }}"), "b")))
    assert render([version], {"b": "{{ a }}"}).system == "{{ b }}/{{ a }}"


def test_an_empty_value_is_a_value_and_no_default() -> None:
    version = one(says("<{{ a }}{{ b }}>", variables=(VariableDocument("a", default="usual"), "b")))
    assert render([version], {"a": "", "b": ""}).system == "<>"
    assert render([version], {"b": ""}).system == "<usual>"


def test_a_system_text_that_comes_to_blanks_is_none() -> None:
    version = one(says("{{ a }}\n", ("user", "Hi"), variables=(VariableDocument("a", default=""),)))
    assert render([version], {}).system == ""
    kind = one(says("Be kind."))
    assert render([version, kind, version], {}).system == "Be kind."


# --- sizes --------------------------------------------------------------------------------------------------------


def test_lengths_are_counted_in_characters_and_not_in_bytes() -> None:
    version = one(says("{{ a }}", variables=(VariableDocument("a", max_length=3),)))
    assert render([version], {"a": "😀é字"}).system == "😀é字"
    with pytest.raises(VariablesError, match="“a” has 4 characters; 3 are possible"):
        render([version], {"a": "😀é字!"})


def test_a_template_may_be_as_long_as_it_says_and_no_longer() -> None:
    half = "x" * (LONGEST_TEMPLATE // 2)
    one(says(half, ("user", half)))
    with pytest.raises(TemplateError, match="100,001 characters together"):
        one(says(half, ("user", half + "x")))
    one(says("".join(f"{{{{ v{n} }}}}" for n in range(MOST_VARIABLES)),
             variables=tuple(f"v{n}" for n in range(MOST_VARIABLES))))  # fmt: skip
    with pytest.raises(TemplateError, match="It has 51 variables; 50 are possible"):
        one(says("".join(f"{{{{ v{n} }}}}" for n in range(51)), variables=tuple(f"v{n}" for n in range(51))))


def test_what_all_templates_of_a_request_come_to_is_bounded_together() -> None:
    wide = one(says("{{ a }}" * 5, variables=(VariableDocument("a", max_length=LONGEST_VALUE),)), "wide")
    value = "x" * LONGEST_VALUE
    assert len(render([wide, wide], {"a": value}).system) == LONGEST_RENDERED + 2  # and a blank line between them
    more = one(says("!"), "more")
    with pytest.raises(VariablesError, match="1,000,001 characters; 1,000,000 are possible") as caught:
        render([wide, wide, more], {"a": value})
    assert caught.value.name == ""


@pytest.mark.parametrize("length", [1, LONGEST_VALUE])
def test_a_longest_value_is_from_one_character_to_a_hundred_thousand(length: int) -> None:
    version = one(says("{{ a }}", variables=(VariableDocument("a", default="x" * length, max_length=length),)))
    assert render([version], {}).system == "x" * length


@pytest.mark.parametrize("length", [0, -1, LONGEST_VALUE + 1, 2**70])
def test_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(TemplateError, match="The longest value of “a” is 1 to 100,000 characters"):
        one(says("{{ a }}", variables=(VariableDocument("a", max_length=length),)))


# --- what cannot be kept ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "part"),
    [
        (says("Hi \ud83d"), "System text"),
        (says("", ("user", "Hi \udc00")), "Message 1"),
        (says("{{ a }}", variables=(VariableDocument("a", "about \ud800"),)), "Variable 1"),
        (says("{{ a }}", variables=(VariableDocument("a", default="\udfff"),)), "Variable 1"),
    ],
)
def test_half_of_a_character_is_refused_where_it_stands(document: TemplateDocument, part: str) -> None:
    with pytest.raises(TemplateError) as caught:
        one(document)
    [complaint] = caught.value.complaints
    assert complaint.in_words.startswith(part)
    assert "half of a surrogate pair, which cannot be stored" in complaint.text


@pytest.mark.parametrize("name", ["", " ", "a b", "1a", "a.b", "größe", "a-b", "a\n", "\ud800", "x" * 61, "{{"])
def test_what_is_no_name_is_no_variable(name: str) -> None:
    with pytest.raises(TemplateError) as caught:
        one(says("Hi", variables=(name,)))
    assert "is no name: letters, digits and underscores, 60 at most" in caught.value.complaints[0].text


# --- several templates, and names ---------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.none() | st.text("xy", max_size=3), st.integers(3, 9)), min_size=1, max_size=4))
def test_of_variables_of_one_name_the_strictest_is_told_and_holds(rows: list[tuple[str | None, int]]) -> None:
    versions = [
        one(says(f"{at}={{{{ a }}}}", variables=(VariableDocument("a", f"{at}", default, length),)), f"t{at}")
        for at, (default, length) in enumerate(rows)
    ]
    told = declared_by(versions)["a"]
    assert told.max_length == min(length for _, length in rows)
    assert (told.default is None) == any(default is None for default, _ in rows)
    assert told.description == "0"
    longest = "v" * told.max_length
    assert render(versions, {"a": longest}).system == "\n\n".join(f"{at}={longest}" for at in range(len(rows)))
    with pytest.raises(VariablesError, match="are possible"):
        render(versions, {"a": longest + "v"})
    if told.default is None:
        with pytest.raises(VariablesError, match="“a” is missing"):
            render(versions, {})
    else:
        usual = "\n\n".join(f"{at}={default}" for at, (default, _) in enumerate(rows))
        assert render(versions, {}).system == usual


def test_a_value_for_nothing_is_refused_with_what_there_is() -> None:
    empty = one(says("Hi"), "hi")
    with pytest.raises(VariablesError, match=r"“a” is no variable\. “hi@1” has no variables\.") as caught:
        render([empty], {"a": "x"})
    assert caught.value.name == "a"
    with pytest.raises(VariablesError) as caught:
        render([empty], {"z" * 500: "x"})
    assert len(str(caught.value)) < 120


def test_messages_are_counted_over_all_templates_when_one_comes_to_nothing() -> None:
    ask = one(says("", ("user", "{{ a }}"), variables=("a",)))
    with pytest.raises(VariablesError, match="With these values message 2 of the template is empty"):
        render([one(says("", ("assistant", "Hello"))), ask], {"a": " \n"})


@pytest.mark.parametrize("number", range(1, 61))
def test_a_version_that_gateways_do_not_hold_any_more_is_told_apart_from_one_that_never_was(number: int) -> None:
    newest = 60
    kept = {at: one(says("Hi"), "t", at) for at in (3, *range(newest - KEPT_VERSIONS + 1, newest + 1))}
    templates = {"t": Template("t", "", 3, kept)}
    if number in kept:
        assert template_named(templates, f"t@{number}").number == number
        return
    with pytest.raises(UnknownTemplate, match=f"“t@{number}” is not at hand any more") as caught:
        template_named(templates, f"t@{number}")
    assert "the newest 50 versions are, the one in force" in str(caught.value)
    assert "The newest is “t@60”." in str(caught.value)


@pytest.mark.parametrize("reference", ["t@61", "t@0", "t@-1", "t@+1", "t@ 1", "t@1 ", "t@1.0", "t@latest", "T", "t "])
def test_what_never_was_is_not_there(reference: str) -> None:
    templates = {"t": Template("t", "", 60, {60: one(says("Hi"), "t", 60)})}
    with pytest.raises(UnknownTemplate, match=r"has no version|There is no template"):
        template_named(templates, reference)
