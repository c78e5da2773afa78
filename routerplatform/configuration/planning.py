"""What would change: a pure comparison of what the database has with what files say, in words that people read."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from routerplatform.configuration.documents import (
    BY_NAME,
    SECTIONS,
    Documents,
    Entry,
    Section,
    said,
    shown,
    split_inner,
)
from routerplatform.configuration.reading import Problem
from routerplatform.configuration.shapes import SECRETS, Parsed, moment_name, near

Action = Literal["add", "change", "remove"]
SIGNS: Final[Mapping[Action, str]] = {"add": "+", "change": "~", "remove": "-"}
UNORDERED: Final = frozenset(
    {"capabilities", "required_capabilities", "regions", "escalate_on", "scopes", "allowed_models", "kinds"}
)
FIRST: Final = {"models": " Run manage.py catalogue_load first: it brings the vendors' models."}
FOR_PEOPLE: Final = frozenset({"ends_with", "goes_to"})
LONGEST_SHOWN: Final = 60
KEPT_BEFORE: Final = 15  # signs that are alike, before the first that differs
BUDGET_OF: Final = {"team": "teams", "key": "keys", "persona": "personas", "alias": "aliases"}
BUDGET_FORM: Final = "must be called scope/subject/duration, for example team/support/1mo or alias/fast/1d."
DURATIONS: Final = ("1d", "7d", "30d", "1mo", "total")


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field of an entry; of a secret only its end is known here."""

    field: str
    before: object
    after: object

    def __str__(self) -> str:
        if isinstance(self.before, str) and isinstance(self.after, str) and "\n" in self.before + self.after:
            return f"{shown(self.field)}: {_lines(self.before)} -> {_lines(self.after)} ({_gone_and_new(self)})"
        before, after = in_words(self.before), in_words(self.after)
        if before == after:  # they are cut before they differ
            before, after = _from_where_they_differ(str(jsonable(self.before)), str(jsonable(self.after)))
        return f"{shown(self.field)} {before} -> {after}"


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one entry. `fields` is empty unless it is changed; `after` is None where it is removed."""

    action: Action
    section: str
    name: str
    after: Entry | None = None
    fields: tuple[FieldChange, ...] = ()

    def __str__(self) -> str:
        line = f"{SIGNS[self.action]} {title(self.section, self.name)}"
        return f"{line}: {', '.join(map(str, self.fields))}" if self.fields else line

    def as_json(self) -> dict[str, object]:
        fields = [
            {"field": shown(one.field), "before": jsonable(one.before), "after": jsonable(one.after)}
            for one in self.fields
        ]
        outer, own = split_inner(self.name)
        named = {"name": own or outer} | ({"of": outer} if own else {})
        return {"action": self.action, "section": self.section, **named, "fields": fields}


@dataclass(slots=True)
class Plan:
    """`changes` in the order of writing, removals last. `unmanaged` counts what only the database has, by section."""

    changes: list[Change] = field(default_factory=list)
    unmanaged: dict[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        return {action: sum(one.action == action for one in self.changes) for action in SIGNS}


def title(section: str, name: str) -> str:
    """“persona chatbot”, “price of model x from 2026-01-01T00:00:00Z”."""
    outer, own = split_inner(name)
    if not own:
        return f"{BY_NAME[section].noun} {outer}"
    joint = " from " if section.endswith("_prices") else ": "
    return f"{BY_NAME[section].noun} {outer}{joint}{own}"


def settled(entry: Entry) -> Entry:
    """`entry` with what has no order in one order, and lines that end as they do in files (a browser sends CR and LF),
    so that equal things are equal."""
    changes: dict[str, Any] = {
        name: tuple(sorted(set(getattr(entry, name)))) for name in entry.__struct_fields__ if name in UNORDERED
    }
    changes |= {
        name: _line_ends(value) for name in entry.__struct_fields__ if isinstance(value := getattr(entry, name), str)
    }
    if "messages" in entry.__struct_fields__:
        messages = getattr(entry, "messages")  # noqa: B009
        changes["messages"] = tuple(msgspec.structs.replace(one, content=_line_ends(one.content)) for one in messages)
    if "models" in entry.__struct_fields__:
        changes["models"] = tuple(sorted(getattr(entry, "models"), key=lambda one: bool(one.is_fallback)))  # noqa: B009
    return msgspec.structs.replace(entry, **changes) if changes else entry


def _line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def made_plan(current: Documents, wanted: Parsed, *, prune: bool, replaced: Mapping[tuple[str, str], set[str]]) -> Plan:
    """What makes `current` say what `wanted` says. Entries that only the database has stay, unless `prune`.

    `replaced` are secrets that have another value than the stored one, by entry: fields of it.
    """
    plan = Plan()
    for section in SECTIONS:
        there, asked = current[section.name], wanted.entries[section.name]
        for name in sorted(asked, key=lambda name: _order(section, asked[name], name)):
            change = _compared(section, name, there.get(name), asked[name], replaced.get((section.name, name), set()))
            if change:
                plan.changes.append(change)
    for section in reversed(SECTIONS):
        if section.name in wanted.managed:
            extra = sorted(set(current[section.name]) - set(wanted.entries[section.name]))
            if prune:
                plan.changes += [Change("remove", section.name, name) for name in extra]
            elif extra:
                plan.unmanaged[section.name] = len(extra)
    return plan


def _order(section: Section, entry: Entry, name: str) -> tuple[bool, str]:
    """Models that replace others come first: they are there to be pointed at."""
    return bool(section.name == "models" and getattr(entry, "replaced_by", "")), name


def _compared(section: Section, name: str, before: Entry | None, after: Entry, replaced: set[str]) -> Change | None:
    if before is None:
        return Change("add", section.name, name, after)
    fields = []
    for one in after.__struct_fields__:
        if one in SECRETS:
            if one in replaced:
                fields.append(FieldChange(one, "the stored one", "another one"))
        elif one not in FOR_PEOPLE and getattr(before, one) != getattr(after, one):
            fields.append(FieldChange(one, getattr(before, one), getattr(after, one)))
    return Change("change", section.name, name, after, tuple(fields)) if fields else None


# --- what refers to nothing -------------------------------------------------------------------------------------------


def reference_problems(current: Documents, wanted: Parsed) -> Iterator[Problem]:
    """Every name in the files that names nothing, neither in them nor in the database."""
    known = {
        section.name: {*current[section.name], *(name for of, name in wanted.places if of == section.name)}
        for section in SECTIONS
    }
    for section in SECTIONS:
        for name, entry in wanted.entries[section.name].items():
            for column, of in section.refers:
                for named, keys in _named(getattr(entry, column), shown(column)):
                    if named not in known[of]:
                        text = f"there is no {BY_NAME[of].noun} “{named}”.{near(named, known[of]) or FIRST.get(of, '')}"
                        yield wanted.place(section.name, name, *keys).problem(text)
    for name in wanted.entries["deployments"]:
        provider, slash, upstream = name.partition("/")
        place = wanted.place("deployments", name)
        if not slash or not upstream:
            yield place.problem("must be called provider/model, for example openai/gpt-4o-mini.")
        elif provider not in known["providers"]:
            yield place.problem(f"there is no provider “{provider}”.{near(provider, known['providers'])}")
    for name in wanted.entries["model_prices"]:
        if split_inner(name)[0] not in known["models"]:
            text = f"there is no model “{split_inner(name)[0]}”.{near(split_inner(name)[0], known['models'])}"
            yield wanted.place("model_prices", name).problem(text)
    yield from _key_problems(wanted, known)
    yield from _replacement_problems(current, wanted)
    yield from _budget_problems(wanted, known)
    yield from _default_problems(current, wanted)


def _named(value: Any, column: str) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """(name, keys that lead to it) of a field that names entries of another section."""
    if isinstance(value, str):
        if value:
            yield value, (column,)
        return
    for index, one in enumerate(value):
        if isinstance(one, str):
            yield one, (column, index)
        else:
            yield one.alias, (column, index, "alias")


def budget_parts(name: str) -> tuple[str, str, str] | None:
    """(scope, subject, duration) of a budget's name; None if it is none."""
    scope, _, rest = name.partition("/")
    subject, _, duration = rest.rpartition("/")
    return (scope, subject, duration) if scope in BUDGET_OF and subject and duration in DURATIONS else None


def _key_problems(wanted: Parsed, known: Mapping[str, Iterable[str]]) -> Iterator[Problem]:
    for name in wanted.entries["keys"]:
        team, slash, own = name.partition("/")
        if not slash or not own:
            yield wanted.place("keys", name).problem("must be called team/name, for example support/bot.")
        elif team not in known["teams"]:
            yield wanted.place("keys", name).problem(f"there is no team “{team}”.{near(team, known['teams'])}")


def _replacement_problems(current: Documents, wanted: Parsed) -> Iterator[Problem]:
    """Whoever follows what replaces a model has to arrive somewhere."""
    models = {**current["models"], **wanted.entries["models"]}
    for name, entry in wanted.entries["models"].items():
        way = [name]
        while (following := getattr(models.get(way[-1]), "replaced_by", "")) and following not in way:
            way.append(following)
        if following == name and getattr(entry, "replaced_by"):  # noqa: B009
            text = f"leads back here: {' -> '.join([*way, name])}. Name a model that is current."
            yield wanted.place("models", name, "replaced_by").problem(text)


def _budget_problems(wanted: Parsed, known: Mapping[str, Iterable[str]]) -> Iterator[Problem]:
    for name in wanted.entries["budgets"]:
        place, parts = wanted.place("budgets", name), budget_parts(name)
        if parts is None:
            yield place.problem(f"{BUDGET_FORM} Durations: {', '.join(DURATIONS)}.")
            continue
        scope, subject, _ = parts
        of = BUDGET_OF[scope]
        if subject not in known[of]:
            yield place.problem(f"there is no {BY_NAME[of].noun} “{subject}”.{near(subject, known[of])}")


def _default_problems(current: Documents, wanted: Parsed) -> Iterator[Problem]:
    """There is one default policy; it stops being it only when another becomes it."""
    asked = wanted.entries["policies"]
    claims = [name for name, entry in asked.items() if getattr(entry, "is_default")]  # noqa: B009
    for name in claims[1:]:
        yield wanted.place("policies", name, "default").problem(f"“{claims[0]}” is to be the default too. Keep one.")
    for name, entry in current["policies"].items():
        if getattr(entry, "is_default") and name in asked and not claims:  # noqa: B009
            text = "is the default policy, and stays it until a file says `default: true` of another."
            yield wanted.place("policies", name, "default").problem(text)


# --- words ------------------------------------------------------------------------------------------------------------


def in_words(value: object) -> str:
    """A value as a diff shows it."""
    match value:
        case None | "" | ():
            return "none"
        case dict() if not value:
            return "none"
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return decimal_text(value)
        case tuple() | dict():
            text = _listed(value)
        case Entry():  # one inside another, for example a ladder
            text = _fields(said(value)) or "none"
        case _:
            text = str(jsonable(value))
    return _cut(text)


def _cut(text: str) -> str:
    """What fits on a line, without signs that a terminal would act upon."""
    text = text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"
    return "".join(one if one.isprintable() else "�" for one in text)


def _from_where_they_differ(before: str, after: str) -> tuple[str, str]:
    alike = next((at for at, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), len(before))
    start = max(0, min(alike, len(before), len(after)) - KEPT_BEFORE)
    return _cut(f"…{before[start:]}"), _cut(f"…{after[start:]}")


def _listed(value: tuple[object, ...] | dict[str, object]) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={in_words(one)}" for name, one in sorted(value.items()))
    return ", ".join(_short(one) for one in value)


def _short(value: object) -> str:
    if isinstance(value, Entry):
        (_, first), *rest = said(value).items()
        return f"{in_words(first)}{f' ({_fields(dict(rest))})' if rest else ''}"
    return str(jsonable(value))


def _fields(said: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {in_words(one)}" for name, one in said.items())


def _lines(text: str) -> str:
    lines = len(text.splitlines())
    return f"{lines} line{'' if lines == 1 else 's'}" if text else "none"


def _gone_and_new(change: FieldChange) -> str:
    """How many lines go and come."""
    before, after = (Counter(str(text).splitlines(keepends=True)) for text in (change.before, change.after))
    gone, new = (before - after).total(), (after - before).total()
    return " ".join([*([f"-{gone}"] if gone else []), *([f"+{new}"] if new else [])]) or "in another order"


def jsonable(value: object) -> object:
    """A value as JSON and files have it: decimals as plain numbers in text, moments by name."""
    return (
        msgspec.to_builtins(value, enc_hook=str, builtin_types=())
        if not isinstance(value, Decimal | datetime)
        else (decimal_text(value) if isinstance(value, Decimal) else moment_name(value))
    )


def decimal_text(value: Decimal) -> str:
    """Without an exponent and without zeros at its end."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
