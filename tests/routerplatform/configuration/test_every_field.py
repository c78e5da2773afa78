"""One table over all nouns and all their fields: each mistake has its file, its line and its key, and says what to do.

The files are made of the shapes themselves, so a field that comes along is tried by these tests too.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

import msgspec
import pytest
from msgspec import inspect

from routerplatform.configuration.documents import SECTIONS, TOP_LEVEL, Section
from routerplatform.configuration.reading import read
from routerplatform.configuration.shapes import NOT_LITERAL, SECRETS, Parsed, format_problem, parse_into

MOMENT: Final = "2030-01-31T00:00:00Z"
NAMES: Final = {"deployments": "acme/m", "keys": "support/bot", "budgets": "team/support/1mo", "model_prices": "m"}
WRONG: Final = "[[wrong]]"  # a list of lists: nothing has that
TOO_LONG: Final = 2_147_483_648


def required(section: Section) -> dict[str, str]:
    """The fields that an entry cannot do without, as YAML."""
    fields = {}
    for one in msgspec.structs.fields(section.shape):
        if one.required:
            kind = inspect.type_info(one.type)
            if one.name in SECRETS:
                fields[one.encode_name] = "env:HERE"
            elif isinstance(kind, inspect.LiteralType):
                fields[one.encode_name] = str(kind.values[0])
            elif isinstance(kind, inspect.DecimalType):
                fields[one.encode_name] = "5"
            else:
                fields[one.encode_name] = "text"
    return fields


def written(section: Section, fields: dict[str, str]) -> tuple[str, str]:
    """(a file with one entry, the path of that entry): a field to a line, the last one in the last line."""
    lines, steps = ["format: 1", f"{section.top}:"], [section.top]
    if section.inside:
        outer = next((one for one in SECTIONS if one.name == section.top and one.inside is None), None)
        steps.append(NAMES.get(section.top, "outer"))
        lines.append(f"  {steps[-1]}:")
        if outer:
            lines += [f"    {name}: {value}" for name, value in required(outer).items()]
        if section.inside[1]:
            steps.append(section.inside[1])
            lines.append(f"    {section.inside[1]}:")
        steps.append(MOMENT if section.name.endswith("_prices") else "inner")
    else:
        steps.append(NAMES.get(section.name, "thing"))
    deep = "  " * (len(steps) - 1)
    lines.append(f"{deep}{steps[-1]}:{'' if fields else ' {}'}")
    lines += [f"{deep}  {name}: {value}" for name, value in fields.items()]
    return "\n".join(lines) + "\n", ".".join(steps)


def told(text: str) -> list[str]:
    found = Parsed()
    parse_into(found, read(text, "file.yaml"))
    return [str(one) for one in found.problems]


def every_field() -> Iterator[Any]:
    for section in SECTIONS:
        for one in msgspec.structs.fields(section.shape):
            yield pytest.param(section, one, id=f"{section.name}-{one.encode_name}")


def every_section() -> Iterator[Any]:
    for section in SECTIONS:
        yield pytest.param(section, id=section.name)


def bounds() -> Iterator[Any]:
    """(section, field, a figure that is too small or too large)"""
    for section in SECTIONS:
        for one in msgspec.structs.fields(section.shape):
            kind = inspect.type_info(one.type)
            for inner in kind.types if isinstance(kind, inspect.UnionType) else (kind,):
                if isinstance(inner, inspect.IntType | inspect.FloatType):
                    if inner.ge is not None:
                        yield pytest.param(section, one, inner.ge - 1, id=f"{section.name}-{one.name}-less")
                    if inner.le is not None:
                        yield pytest.param(section, one, inner.le + 1, id=f"{section.name}-{one.name}-more")
                elif isinstance(inner, inspect.DecimalType):
                    yield pytest.param(section, one, Decimal("-0.01"), id=f"{section.name}-{one.name}-less")


# --- every field ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("section", "one"), list(every_field()))
def test_a_value_of_the_wrong_kind(section: Section, one: Any) -> None:
    others = {name: value for name, value in required(section).items() if name != one.encode_name}
    text, path = written(section, others | {one.encode_name: WRONG})
    line = text.count("\n")
    [problem] = told(text)
    found = re.fullmatch(rf"file\.yaml:{line}: {re.escape(path)}\.{one.encode_name}(\[0\])?: must (.+)", problem)
    assert found, problem
    assert "wrong" not in found[2]


@pytest.mark.parametrize(("section", "one"), list(every_field()))
def test_nothing_where_there_has_to_be_something(section: Section, one: Any) -> None:
    """`field:` and no more is null: it is taken where that says something, and told where it does not."""
    others = {name: value for name, value in required(section).items() if name != one.encode_name}
    text, path = written(section, others | {one.encode_name: "null"})
    kind = inspect.type_info(one.type)
    may_be_none = isinstance(kind, inspect.UnionType) and any(isinstance(x, inspect.NoneType) for x in kind.types)
    problems = told(text)
    assert len(problems) == (0 if may_be_none else 1), problems
    assert all(one.startswith(f"file.yaml:{text.count(chr(10))}: {path}.") for one in problems)


@pytest.mark.parametrize(("section", "one", "value"), list(bounds()))
def test_a_figure_out_of_its_range_is_told_with_the_bound(section: Section, one: Any, value: float | Decimal) -> None:
    others = {name: given for name, given in required(section).items() if name != one.encode_name}
    text, path = written(
        section, others | {one.encode_name: f"{value:.12g}" if isinstance(value, float) else str(value)}
    )
    [problem] = told(text)
    assert problem.startswith(f"file.yaml:{text.count(chr(10))}: {path}.{one.encode_name}: must be ")
    assert re.search(r"of at least \d|of at most \d|between \d\S* and \d|0 or more", problem), problem


def test_a_figure_that_is_too_large_is_not_told_the_lower_bound() -> None:
    text = f"aliases:\n  fast:\n    rpm_limit: {TOO_LONG}\n"
    assert told(text) == ["file.yaml:3: aliases.fast.rpm_limit: must be a whole number of at most 2147483647."]


@pytest.mark.parametrize("section", list(every_section()))
def test_a_field_that_is_missing(section: Section) -> None:
    for name in required(section):
        others = {field: value for field, value in required(section).items() if field != name}
        text, path = written(section, others)
        [problem] = told(text)
        line = text.count("\n") - len(others)  # that of the entry itself
        assert problem.startswith(f"file.yaml:{line}: {path}: {name} is missing: "), problem


@pytest.mark.parametrize("section", list(every_section()))
def test_an_unknown_field_is_told_with_those_it_is_like(section: Section) -> None:
    for one in msgspec.structs.fields(section.shape):
        text, path = written(section, required(section) | {f"{one.encode_name}z": "1"})
        [problem] = told(text)
        start = f"file.yaml:{text.count(chr(10))}: {path}.{one.encode_name}z: is no field here. Did you mean "
        assert problem.startswith(start), problem
        assert one.encode_name in problem.removeprefix(start)
    text, _ = written(section, required(section) | {"qqqqqqqqqq": "1"})
    assert ": is no field here. There are: " in told(text)[0]


@pytest.mark.parametrize("section", list(every_section()))
def test_a_field_that_stands_twice(section: Section) -> None:
    """The reader itself refuses it: nothing else of the file is looked at."""
    for name, value in required(section).items():
        text, path = written(section, required(section))
        deep = len(text.splitlines()[-1]) - len(text.splitlines()[-1].lstrip())
        [problem] = unreadable(f"{text}{' ' * deep}{name}: {value}\n")
        assert problem.startswith(f"file.yaml:{text.count(chr(10)) + 1}: {path}.{name}: stands here twice, first in ")


def unreadable(text: str) -> list[str]:
    with pytest.raises(Exception, match="stands here twice") as error:
        read(text, "file.yaml")
    return str(error.value).splitlines()


@pytest.mark.parametrize("section", list(every_section()))
def test_an_entry_that_is_no_mapping(section: Section) -> None:
    if section.short:  # there one value is an entry
        return
    for wrong in ("5", "text", "[1, 2]", "true", "null"):
        text, path = written(section, {})
        text = text.removesuffix("{}\n") + f"{wrong}\n"
        [problem] = told(text)
        assert problem.startswith(f"file.yaml:{text.count(chr(10))}: {path}: must be a mapping of fields")


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_a_section_that_is_no_mapping(name: str) -> None:
    for wrong in ("5", "text", "[1, 2]", "true"):
        assert told(f"# first\n{name}: {wrong}\n") == [f"file.yaml:2: {name}: must be a mapping of names."]
    assert told(f"{name}:\n") == []  # there is none of it
    assert told(f"{name}: {{}}\n") == []
    [problem] = told(f"{name[:-1]}: {{}}\n")
    assert problem.startswith(f"file.yaml:1: {name[:-1]}: is no section. Did you mean ")
    assert name in problem


@pytest.mark.parametrize("name", TOP_LEVEL)
@pytest.mark.parametrize("wrong", ['""', '"  "', '"two\\nlines"', '"\\t"'])
def test_a_name_is_one_line_with_something_in_it(name: str, wrong: str) -> None:
    [problem] = told(f"{name}:\n  {wrong}: {{}}\n")
    assert problem.startswith(f"file.yaml:2: {name}")
    assert problem.endswith(": is no name: write one line that is not empty.")
    assert "\n" not in problem


@pytest.mark.parametrize("section", list(every_section()))
def test_a_required_text_is_not_white_space(section: Section) -> None:
    for name, value in required(section).items():
        if value == "text":
            text, path = written(section, required(section) | {name: "'  '"})
            [problem] = told(text)
            assert f": {path}.{name}: must be text, not empty" in problem


# --- secrets ----------------------------------------------------------------------------------------------------------

LITERALS: Final = [
    "sk-S3cret-0001",
    "'!S3cret'",
    "'*S3cret'",
    "'@S3cret'",
    "'{S3cret}'",
    "$S3cret",
    "'${S3cret}tail'",
    "'env:S3cret tail'",
    "file:S3cret",
    "'ENV:S3cret'",
    '"${A}\\nS3cret"',
    "'${A} '",
    "[S3cret]",
    "{S3cret: 1}",
    "4711",
    "true",
    "https://hooks.example.com/S3cret",
]


@pytest.mark.parametrize("literal", LITERALS)
@pytest.mark.parametrize("field", sorted(SECRETS))
def test_a_literal_is_refused_wherever_a_secret_belongs_and_never_repeated(field: str, literal: str) -> None:
    [section] = [one for one in SECTIONS if field in one.shape.__struct_fields__]
    fields = {name: value for name, value in required(section).items() if name != field}
    text, path = written(section, fields | {field: literal})
    assert told(text) == [f"file.yaml:{text.count(chr(10))}: {path}.{field}: {NOT_LITERAL}"]
    assert "S3cret" not in NOT_LITERAL


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("    keys: sk-S3cret\n", 5),
        ("    keys: [sk-S3cret]\n", 5),
        ("    keys:\n      prod: sk-S3cret\n", 6),
        ("    keys:\n      prod:\n        - sk-S3cret\n", 6),
        ("    keys:\n      prod: {apikey: sk-S3cret, api_key: 'env:A'}\n", 6),
        ("    api_key: sk-S3cret\n", 5),
        ("    token: sk-S3cret\n", 5),
        ("    timeout_s: sk-S3cret\n", 5),
        ("    active: sk-S3cret\n", 5),
        ("    allowed_networks: sk-S3cret\n", 5),
        ("    key_strategy: sk-S3cret\n", 5),
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated_either(text: str, line: int) -> None:
    problems = told(f"providers:\n  acme:\n    kind: openai\n    label: A\n{text}")
    assert problems
    assert all(one.startswith(f"file.yaml:{line}: providers.acme.") for one in problems)
    assert "S3cret" not in "".join(problems)


# --- moments, figures, formats ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-10:00", "0001-01-01T00:00:00+10:00"])
def test_a_moment_that_no_clock_has_is_refused(moment: str) -> None:
    [problem] = told(f"keys:\n  support/bot:\n    expires_at: {moment}\n")
    assert problem.startswith("file.yaml:3: keys.support/bot.expires_at: must be a moment with its zone")
    [problem] = told(f"model_prices:\n  m:\n    '{moment}': {{}}\n")
    assert "must be a moment with its zone" in problem


@pytest.mark.parametrize(
    "moment", ["2030-01-01", "2030-01-01T00:00:00", "tomorrow", "1893456000", "2030-13-01T00:00:00Z"]
)
def test_a_moment_has_a_day_a_time_and_a_zone(moment: str) -> None:
    [problem] = told(f"keys:\n  support/bot:\n    expires_at: {moment}\n")
    assert problem.endswith("expires_at: must be a moment with its zone, for example 2026-01-31T00:00:00Z.")


def test_the_same_moment_in_two_zones_is_one_price() -> None:
    text = (
        "model_prices:\n  m:\n    2030-01-01T01:00:00+01:00: {input_usd: 1}\n    2030-01-01T00:00:00Z: {input_usd: 2}\n"
    )
    [problem] = told(text)
    assert problem.startswith("file.yaml:4: model_prices.m.2030-01-01T00:00:00Z: stands in file.yaml:3 too.")


@pytest.mark.parametrize("wrong", ["2", "0", "true", "yes", "1.0", "'1'", "null", "[1]", "one"])
def test_other_formats_are_not_guessed_at(wrong: str) -> None:
    from_root = read(f"format: {wrong}\n", "file.yaml")
    assert [str(one) for one in format_problems(from_root)] == [
        "file.yaml:1: format: must be 1: other versions are not known to this release."
    ]


def format_problems(tree: Any) -> list[Any]:
    problem = format_problem(tree)
    return [] if problem is None else [problem]


def test_every_mistake_of_a_file_is_told_in_the_order_of_its_lines() -> None:
    text = (
        "aliases:\n  a: {rpm_limit: 0}\n  b: {targets: x}\n"
        "policies:\n  p: {cost_weight: -1, models: [{alias: 5}, {alias: a, weight: x}, 7]}\n"
        "personas:\n  q: {name: Q}\n"
    )
    assert [one.split(": ", 2)[:2] for one in told(text)] == [
        ["file.yaml:2", "aliases.a.rpm_limit"],
        ["file.yaml:3", "aliases.b.targets"],
        ["file.yaml:5", "policies.p.cost_weight"],
        ["file.yaml:5", "policies.p.models[0].alias"],
        ["file.yaml:5", "policies.p.models[1].weight"],
        ["file.yaml:5", "policies.p.models[2]"],
        ["file.yaml:7", "personas.q"],
    ]
