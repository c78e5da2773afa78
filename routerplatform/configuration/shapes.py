"""From a tree with lines to typed entries: unknown keys, wrong types and literal secrets are found, all of them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import Final

import msgspec
from msgspec import inspect

from routerplatform.configuration.documents import (
    FORMAT,
    SECTIONS,
    TOP_LEVEL,
    Entry,
    Moment,
    Name,
    Section,
    inner_name,
)
from routerplatform.configuration.reading import Problem, Value

SECRETS: Final = frozenset({"api_key", "address", "signing_secret"})
REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}|env:([A-Za-z_][A-Za-z0-9_]*)|file:(/[^\n]+)")
OTHER_KEYS: Final = ("format",)
PATH_STEP: Final = re.compile(r"\.([A-Za-z0-9_]+)|\[(\d+|\.\.\.)\]")
TOLD_BELOW: Final = 1_000_000  # a bound that nobody meets needs no telling
NO_FIELDS: Final = "must be a mapping of fields; {} has all their defaults."
NOT_LITERAL: Final = (
    "must say where the secret is, and not be the secret: ${NAME} or env:NAME for an environment variable, "
    "file:/run/secrets/name for a file."
)


@dataclass(slots=True)
class Parsed:
    """What files say. `places` has where each entry stands; `managed` the sections that files have at all."""

    entries: dict[str, dict[str, Entry]] = field(default_factory=lambda: {section.name: {} for section in SECTIONS})
    places: dict[tuple[str, str], Value] = field(default_factory=dict)
    managed: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def place(self, section: str, name: str, *keys: str | int) -> Value:
        """Where an entry, or a field of it, stands."""
        return self.places[section, name].at(*keys)

    def add(self, section: str, name: str, entry: Entry, place: Value) -> None:
        if (section, name) in self.places:
            first = self.places[section, name]
            self.problems.append(place.problem(f"stands in {first.file}:{first.line} too. Keep one of the two."))
            return
        self.entries[section][name] = entry
        self.places[section, name] = place


def near(name: str, known: Iterable[str]) -> str:
    """“ Did you mean x?”, or the names that there are; empty where there is none."""
    names = sorted(known)
    if close := get_close_matches(name, names, n=2, cutoff=0.6):
        return f" Did you mean {' or '.join(close)}?"
    some = ", ".join(names[:12])
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f" There are: {some}{more}." if names else ""


def parse_into(parsed: Parsed, tree: Value) -> None:
    """Add what a file says. Its `format` has been looked at."""
    if not isinstance(tree.data, dict):
        parsed.problems.append(tree.problem("must be a mapping of sections."))
        return
    for key, value in tree.data.items():
        if key in OTHER_KEYS:
            continue
        if key not in TOP_LEVEL:
            parsed.problems.append(value.problem(f"is no section.{near(key, TOP_LEVEL)}"))
            continue
        for section in SECTIONS:
            if section.top == key and not section.is_optional:
                parsed.managed.add(section.name)
        _read_section(parsed, key, value)


def format_problem(tree: Value) -> Problem | None:
    value = tree.data.get("format") if isinstance(tree.data, dict) else None
    if value is None or (value.data == FORMAT and isinstance(value.data, int) and value.data is not True):
        return None
    return value.problem(f"must be {FORMAT}: other versions are not known to this release.")


def _read_section(parsed: Parsed, key: str, value: Value) -> None:
    outer = next((section for section in SECTIONS if section.name == key and section.inside is None), None)
    inner = {section.inside[1]: section for section in SECTIONS if section.inside and section.inside[0] == key}
    for name, entry in _mapping(parsed, value):
        if outer is None:  # nothing but entries inside
            _read_inner(parsed, inner[""], name, entry)
        elif isinstance(entry.data, dict):
            rest = {field: one for field, one in entry.data.items() if field not in inner}
            own = Value(rest, entry.file, entry.line, entry.path)
            _read_entry(parsed, outer, name, own, also=inner)
            for field, section in inner.items():
                if field in entry.data:
                    parsed.managed.add(section.name)
                    _read_inner(parsed, section, name, entry.data[field])
        else:
            parsed.problems.append(entry.problem(NO_FIELDS))


def _read_inner(parsed: Parsed, section: Section, outer: str, value: Value) -> None:
    for name, entry in _mapping(parsed, value):
        if section.short and not isinstance(entry.data, dict):
            entry = Value({section.short: entry}, entry.file, entry.line, entry.path)  # noqa: PLW2901
        key = moment_text(name) if section.name.endswith("_prices") else name
        if key is None:
            parsed.problems.append(entry.problem("must be a moment with its zone, for example 2026-01-31T00:00:00Z."))
            continue
        _read_entry(parsed, section, inner_name(outer, key), entry)


def _mapping(parsed: Parsed, value: Value) -> Iterator[tuple[str, Value]]:
    if isinstance(value.data, dict):
        for name, entry in value.data.items():
            if name.strip() and "\n" not in name:
                yield name, entry
            else:
                parsed.problems.append(entry.problem("is no name: write one line that is not empty."))
    elif value.data is not None:
        parsed.problems.append(value.problem("must be a mapping of names."))


def moment_text(text: str) -> str | None:
    """A moment as names have it; None if it is none."""
    try:
        return moment_name(msgspec.convert(text, Moment))
    except (msgspec.ValidationError, OverflowError):
        return None


def moment_name(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _read_entry(
    parsed: Parsed, section: Section, name: str, value: Value, also: Mapping[str, Section] | None = None
) -> None:
    problems = list(complaints(section.shape, value, also or ()))
    if problems:
        parsed.problems += problems
        parsed.places.setdefault((section.name, name), value)  # what refers to it is not complained about too
        return
    parsed.add(section.name, name, msgspec.convert(value.plain(), section.shape), value)


def complaints(shape: type[msgspec.Struct], value: Value, also: Iterable[str] = ()) -> Iterator[Problem]:
    """All that keeps `value` from being of `shape`. `also` are keys that somebody else reads."""
    if not isinstance(value.data, dict):
        yield value.problem(NO_FIELDS)
        return
    fields = {one.encode_name: one for one in msgspec.structs.fields(shape)}
    for key, one in value.data.items():
        if key not in fields:
            yield one.problem(f"is no field here.{near(key, [*fields, *also])}")
        else:
            yield from _field_complaints(fields[key], one)
    for key, described in fields.items():
        if described.required and key not in value.data:
            yield value.problem(f"{key} is missing: {wanted(inspect.type_info(described.type))}.")


def _field_complaints(described: msgspec.structs.FieldInfo, value: Value) -> Iterator[Problem]:
    if described.name in SECRETS and value.data:
        if not isinstance(value.data, str) or not REFERENCE.fullmatch(value.data):
            yield value.problem(NOT_LITERAL)
        return
    kind = inspect.type_info(described.type)
    if isinstance(kind, inspect.StructType):
        yield from complaints(kind.cls, value)
        return
    if isinstance(kind, inspect.VarTupleType) and isinstance(kind.item_type, inspect.StructType):
        if isinstance(value.data, list):
            for one in value.data:
                yield from complaints(kind.item_type.cls, one)
            return
    try:
        found = msgspec.convert(value.plain(), described.type)
    except (msgspec.ValidationError, OverflowError) as error:
        place, kind = _deeper(value, kind, str(error))
        yield place.problem(f"must be {_most(kind, place.data) or wanted(kind)}.")
    else:
        if not _is_usable(found, described):
            yield value.problem(f"must be {wanted(kind)}.")


def _is_usable(found: object, described: msgspec.structs.FieldInfo) -> bool:
    """What msgspec has no bounds for."""
    match found:
        case Decimal():
            return found.is_finite() and found >= 0
        case datetime():
            return moment_text(found.isoformat()) is not None
        case str():
            return bool(found.strip()) or described.type != Name
        case _:
            return True


def _deeper(value: Value, kind: inspect.Type, said: str) -> tuple[Value, inspect.Type]:
    """The item of a list that is wrong, and what it has to be."""
    _, _, path = said.rpartition(" - at `$")
    steps = [int(index) for _, index in PATH_STEP.findall(path) if index.isdigit()]
    if steps and isinstance(kind, inspect.VarTupleType):
        return value.at(steps[0]), kind.item_type
    return value, kind


def _most(kind: inspect.Type, data: object) -> str:
    """The bound that a figure is above, where `wanted` would not tell it; else empty."""
    types = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    for one in types:
        if (
            isinstance(one, inspect.IntType)
            and one.le
            and one.le >= TOLD_BELOW
            and isinstance(data, int)
            and data > one.le
        ):
            return f"a whole number of at most {one.le}"
    return ""


def wanted(kind: inspect.Type) -> str:  # noqa: PLR0911 - a sentence for each type
    """A type in words: what a value has to be."""
    match kind:
        case inspect.UnionType(types=types):
            named = [one for one in types if not isinstance(one, inspect.NoneType)]
            return wanted(named[0])
        case inspect.StrType():
            return f"text{', not empty' if kind.min_length else ''} (in quotes, if it looks like something else)"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number{_bounds(kind.ge, kind.le)}"
        case inspect.FloatType():
            bounds = _bounds(kind.ge, kind.le)
            return bounds.strip() if kind.le is not None else f"a number{bounds}"
        case inspect.DecimalType():
            return "a number, 0 or more"
        case inspect.DateTimeType():
            return "a moment with its zone, for example 2026-01-31T00:00:00Z"
        case inspect.LiteralType(values=values):
            return f"one of: {', '.join(str(value) or '“” (empty)' for value in values)}"
        case inspect.VarTupleType():
            return "a list"
        case _:
            return "a mapping"


def _bounds(least: float | None, most: float | None) -> str:
    if least is not None and most is not None and most < TOLD_BELOW:
        return f" between {least:g} and {most:g}"
    return f" of at least {least:g}" if least is not None else ""
