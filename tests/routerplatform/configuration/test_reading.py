"""YAML with lines: what is taken, and what is refused before anything is made of it."""

import pytest

from routerplatform.configuration.reading import MAX_BYTES, MAX_DEPTH, Problem, Unreadable, read

NESTED = "a: &a [x, x, x, x, x, x, x, x, x]\n"
BOMB = NESTED + "".join(f"{name}: &{name} [{', '.join(f'*{before}' for _ in range(9))}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True))  # fmt: skip  # noqa: E501


def problems(text: str) -> list[Problem]:
    with pytest.raises(Unreadable) as told:
        read(text, "x.yaml")
    return told.value.problems


def test_every_value_knows_its_line_and_its_key() -> None:
    tree = read("# a comment\npersonas:\n  chatbot:\n    models:\n      - a\n      - b\n", "x.yaml")
    assert tree.at("personas", "chatbot", "models", 1).line == 6
    assert tree.at("personas", "chatbot", "models", 1).path == "personas.chatbot.models[1]"
    assert tree.at("personas", "chatbot", "gone").line == 3  # as near as there is something
    assert tree.plain() == {"personas": {"chatbot": {"models": ["a", "b"]}}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("1_000", 1000),
        ("-0.5", -0.5),
        ("0", 0),
        ("yes", True),
        ("false", False),
        ("~", None),
        ("'no'", "no"),
        ("2026-01-31T00:00:00Z", "2026-01-31T00:00:00Z"),
        ("|\n  two\n  lines\n", "two\nlines\n"),
        ("1:30", "1:30"),  # YAML 1.1 would take it for 90
        ("0x1f", "0x1f"),
        (".nan", ".nan"),
        ("1e-5", 0.00001),  # as JSON has it: text in YAML 1.1
        ("1E3", 1000.0),
        ("'1e-5'", "1e-5"),
        ("1.5e+2", 150.0),
        ("0o17", "0o17"),
        ("null", None),
        ("''", ""),
        ("on", True),
        ("2026-01-31", "2026-01-31"),
        (">\n  folded\n  text\n", "folded text\n"),
        ("|-\n  no end\n", "no end"),
        ("|2\n    two before\n", "  two before\n"),
        ('"\\u00e9\\U0001F600"', "é😀"),
    ],
)
def test_a_scalar_is_what_a_reader_takes_it_for(text: str, value: object) -> None:
    assert read(f"a: {text}", "x.yaml").plain() == {"a": value}


@pytest.mark.parametrize("text", ["0777", "9" * 60, "1e999", "-0123", "1.0e+999"])
def test_a_number_that_means_something_else_elsewhere_is_refused(text: str) -> None:
    [problem] = problems(f"a: {text}")
    assert str(problem) == "x.yaml:1: a: is no ordinary number. Put it in quotes if it is text."


def test_a_key_that_stands_twice_is_refused_with_both_lines() -> None:
    [problem] = problems("personas:\n  chatbot: {name: A}\n  analyst: {name: B}\n  chatbot: {name: C}\n")
    assert str(problem) == "x.yaml:4: personas.chatbot: stands here twice, first in line 2. Keep one of the two."


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "!!python/object/new:os.system [x]",
        "!S3cret",
        "!S3cret x",
        "!<tag:example.com,2026:S3cret> x",
        "!!binary aGk=",
        "!!set {x, y}",
        "!!omap [a: 1]",
        "!!int '5'x",
    ],
)
def test_tags_are_not_taken_and_not_repeated(text: str) -> None:
    """A password may begin with ! too."""
    [problem] = problems(f"b: 1\na: {text}\n")
    assert (problem.line, "S3cret" in str(problem)) == (2, False)
    assert "is no YAML" in problem.text or problem.text == (
        "has a tag (!...): tags are not taken. Text that begins with ! is put in quotes."
    )


@pytest.mark.parametrize(
    "text", ["*S3cret", "@S3cret", "%S3cret", "`S3cret", "S3cret: x: y", "'S3cret", "[S3cret", "{S3cret"]
)
def test_a_secret_that_is_no_yaml_is_not_repeated(text: str) -> None:
    [problem] = problems(f"b: 1\napi_key: {text}\n")
    assert problem.line >= 2
    assert problem.text.startswith("is no YAML: ")
    assert "S3cret" not in str(problem)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a:\n\tb: 1\n", "Indent with spaces"),
        ("a: 1\n---\nb: 2\n", "has a second document (---). Put it into a file of its own"),
        ("a: 1\n...\n---\n", "has a second document"),
        ("a: *b\n", "names an anchor that is not there"),
    ],
)
def test_frequent_slips_are_told_with_what_to_do(text: str, said: str) -> None:
    assert said in problems(text)[0].text


def test_merge_keys_and_keys_that_are_no_text_are_refused() -> None:
    first, second = problems("base: &base {a: 1}\nb:\n  <<: *base\nc:\n  [1, 2]: x\n")
    assert (first.line, first.text) == (3, "is a merge key (<<): write its fields out.")
    assert (second.line, second.text) == (5, "is no plain key.")


def test_an_alias_stands_for_what_it_names() -> None:
    tree = read("a: &limits {rpm_limit: 5}\nb: *limits\n", "x.yaml")
    assert tree.plain() == {"a": {"rpm_limit": 5}, "b": {"rpm_limit": 5}}


def test_aliases_that_grow_without_end_are_refused() -> None:
    [problem] = problems(BOMB)
    assert "becomes too large" in problem.text


def test_an_alias_of_itself_is_refused() -> None:
    [problem] = problems("a: &a [*a]\n")
    assert "refers to itself" in problem.text


def test_what_nests_too_deeply_is_refused_before_it_is_built() -> None:
    [problem] = problems("a: " + "[" * 100_000)
    assert problem.text == f"is nested more than {MAX_DEPTH} levels deep."


def test_a_file_that_is_too_large_or_empty_is_refused() -> None:
    assert problems("a" * (MAX_BYTES + 1))[0].text == "is larger than 8 MiB. Split it."
    assert problems("# nothing\n")[0].text == "is empty."


def test_what_is_no_yaml_is_refused_with_its_line_and_without_its_text() -> None:
    [problem] = problems("a: 1\napi_key: sk-test-1234: [\n")
    assert problem.line == 2
    assert problem.text.startswith("is no YAML: ")
    assert "sk-test" not in str(problem)


@pytest.mark.parametrize("text", ['"a\\0b"', '"\\x7f"', '"\\ud800"', '"a\\rb"'])
def test_characters_that_no_database_keeps_are_refused(text: str) -> None:
    [problem] = problems(f"a: {text}")
    assert "which cannot be kept" in problem.text or "is no YAML" in problem.text


@pytest.mark.parametrize("odd", ["\x00", "\x07", "\x1b", "\x7f", "\x9f", "\ufffe", "\ud800"])
def test_a_character_that_no_text_has_is_told_with_its_line(odd: str) -> None:
    [problem] = problems(f"a: 1\nb: x{odd}y\n")
    assert str(problem) == f"x.yaml:2: has the character U+{ord(odd):04X}. Remove it."


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_whatever_they_end_with(end: str) -> None:
    tree = read(f"# one{end}a:{end}  b: |{end}    x{end}    y{end}  c: 1{end}", "x.yaml")
    assert tree.at("a", "c").line == 6
    assert tree.plain() == {"a": {"b": "x\ny\n", "c": 1}}


def test_a_mark_at_the_beginning_is_no_part_of_the_text() -> None:
    assert read("\ufeffa: 1\n", "x.yaml").plain() == {"a": 1}


def test_the_lines_of_a_problem_are_its_own() -> None:
    """A key of several lines does not make a second line of a report."""
    assert str(Problem("x.yaml", 3, "a\nb.c", "is wrong.")) == "x.yaml:3: a\\nb.c: is wrong."
    assert str(Problem("x.yaml", 0, "", "is empty.")) == "x.yaml: is empty."


def test_a_value_in_a_list_that_is_not_there_is_looked_for_as_near_as_can_be() -> None:
    tree = read("a:\n  - b\n  - c:\n      d: 1\n", "x.yaml")
    assert tree.at("a", 1, "c", "d").line == 4
    assert tree.at("a", 7).path == "a"
    assert tree.at("a", "x").path == "a"
    assert tree.at().path == ""


def test_all_problems_are_told_at_once() -> None:
    found = problems("a: 0777\nb: !x 1\nb: 2\n")
    assert [one.line for one in found] == [1, 2, 3]


def test_documents_after_the_first_are_refused() -> None:
    [problem] = problems("a: 1\n---\nb: 2\n")
    assert "is no YAML" in problem.text
