"""Prompt templates: texts with `{{ name }}` in them, checked when they are saved, filled in when they are asked for.

There is nothing to run in a template: no conditions, no loops, no attributes. A value is put in as it is and never
read again, so what a caller sends cannot become part of the template. `\\{{` stands for the two braces themselves; of
several backslashes before them, each pair is one backslash.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

import msgspec
from msgspec import Struct

MessageRole = Literal["user", "assistant"]
ROLES: Final[tuple[MessageRole, ...]] = ("user", "assistant")

USUAL_VALUE: Final = 2_000  # characters
LONGEST_VALUE: Final = 100_000
LONGEST_TEMPLATE: Final = 100_000  # all texts of a version together
LONGEST_RENDERED: Final = 1_000_000  # all texts of a request's templates together, with the values in
MOST_MESSAGES: Final = 50
MOST_VARIABLES: Final = 50
LONGEST_DESCRIPTION: Final = 300
KEPT_VERSIONS: Final = 50  # the newest of each template; gateways also have those in force and those of personas

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")
_VARIABLE: Final = re.compile(r"\{\{[ \t]*([A-Za-z_][A-Za-z0-9_]{0,59})[ \t]*\}\}")
_HALF_PAIR: Final = re.compile(r"[\ud800-\udfff]")
_SHOWN: Final = 40  # characters of what is wrong


# --- as it is stored ----------------------------------------------------------------------------------------------


class VariableDocument(Struct, frozen=True):
    """What a caller fills in: a text of at most `max_length` characters. Without a `default` it is required."""

    name: str
    description: str = ""
    default: str | None = None
    max_length: int = USUAL_VALUE


class MessageDocument(Struct, frozen=True):
    """A message that goes before the caller's own; `role` is “user” or “assistant”."""

    role: str
    content: str


class TemplateDocument(Struct, frozen=True):
    """All that a version of a template says."""

    system: str = ""
    messages: tuple[MessageDocument, ...] = ()
    variables: tuple[VariableDocument, ...] = ()


StoredVersion = tuple[str, Any, Any]  # the columns: system text, messages, variables


def document_of(system: str, messages: Any, variables: Any) -> TemplateDocument:
    """A version's columns as one value.

    :raises TemplateError: one of them has another shape.
    """
    try:
        return TemplateDocument(
            system,
            msgspec.convert(messages, tuple[MessageDocument, ...]),
            msgspec.convert(variables, tuple[VariableDocument, ...]),
        )
    except msgspec.ValidationError as error:
        raise TemplateError([Complaint("", 0, 0, f"It cannot be read: {error}.")]) from error


# --- as it is used ------------------------------------------------------------------------------------------------


class Slot(Struct, frozen=True):
    """Where a variable stands; lines count from 1."""

    name: str
    line: int


Text = tuple[str | Slot, ...]


@dataclass(frozen=True, slots=True)
class TemplateVersion:
    """A checked version. `label` is what records call it: “welcome@3”. An empty `system` is no system text."""

    name: str
    number: int
    system: Text
    messages: tuple[tuple[MessageRole, Text], ...]
    variables: Mapping[str, VariableDocument]

    @property
    def label(self) -> str:
        return f"{self.name}@{self.number}"


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A template that can be asked for: `versions` by their number; `current` is used when none is named, 0 is none."""

    name: str
    description: str
    current: int
    versions: Mapping[int, TemplateVersion]


@dataclass(frozen=True, slots=True)
class Rendered:
    """What templates say once their variables are filled in."""

    system: str
    messages: tuple[tuple[MessageRole, str], ...]


# --- checking -----------------------------------------------------------------------------------------------------


Part = Literal["", "system", "messages", "variables"]
PARTS: Final[tuple[Part, ...]] = ("", "system", "messages", "variables")


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with a version: in which part of it, in which of several (`index` from 0), in which line of the
    text. 0 is no line."""

    part: Part
    index: int
    line: int
    text: str

    @property
    def in_words(self) -> str:
        where = {"messages": f"Message {self.index + 1}", "variables": f"Variable {self.index + 1}"}.get(self.part)
        where = where or ("System text" if self.part else "")
        place = ", ".join(one for one in (where, f"line {self.line}" if self.line else "") if one)
        return f"{place}: {self.text}" if place else self.text


class TemplateError(Exception):
    """A version that cannot be used; `complaints` are all that is wrong with it, in the order of its parts."""

    def __init__(self, complaints: Sequence[Complaint]) -> None:
        super().__init__(" ".join(one.in_words for one in complaints))
        self.complaints = tuple(complaints)


class TextError(Exception):
    """Braces that are neither a variable nor escaped. `line` counts from 1."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


def parse_text(text: str) -> Text:
    """The text in pieces: what stands there, and where variables stand.

    :raises TextError: at the first braces that open no variable.
    """
    pieces: list[str | Slot] = []
    literal: list[str] = []
    at = 0
    while (braces := text.find("{{", at)) >= 0:
        before = text[at:braces]
        backslashes = len(before) - len(before.rstrip("\\"))
        literal.append(before[: len(before) - (backslashes + 1) // 2])
        if backslashes % 2:
            literal.append("{{")
            at = braces + 2
            continue
        variable = _VARIABLE.match(text, braces)
        if variable is None:
            raise TextError(_no_variable(text[braces:]), _line(text, braces))
        if said := "".join(literal):
            pieces.append(said)
        pieces.append(Slot(variable[1], _line(text, braces)))
        literal, at = [], variable.end()
    if rest := "".join(literal) + text[at:]:
        pieces.append(rest)
    return tuple(pieces)


def compile_version(name: str, number: int, document: TemplateDocument) -> TemplateVersion:
    """Check a version and make it ready to be rendered.

    :raises TemplateError: with everything that is wrong with it.
    """
    reading = _Reading({one.name: one for one in document.variables})
    system = reading.read(document.system, "system") if document.system.strip() else ()
    messages = [(one.role, reading.read(one.content, "messages", i)) for i, one in enumerate(document.messages)]
    complaints = [
        *_size_complaints(document),
        *_message_complaints(document),
        *_variable_complaints(document.variables),
        *reading.complaints,
        *(reading.unused() if not reading.complaints else ()),  # else it may stand in what cannot be read
    ]
    if complaints:
        raise TemplateError(sorted(complaints, key=lambda one: (PARTS.index(one.part), one.index)))
    checked = cast(tuple[tuple[MessageRole, Text], ...], tuple(messages))
    return TemplateVersion(name, number, system, checked, reading.declared)


@dataclass(slots=True)
class _Reading:
    """The texts of one version: what is wrong with them, and which variables they use."""

    declared: Mapping[str, VariableDocument]
    used: set[str] = field(default_factory=set)
    complaints: list[Complaint] = field(default_factory=list)

    def read(self, text: str, part: Part, index: int = 0) -> Text:
        if what := _not_storable(text):
            self.complaints.append(Complaint(part, index, 0, f"It holds {what}, which cannot be stored."))
        try:
            pieces = parse_text(text)
        except TextError as error:
            self.complaints.append(Complaint(part, index, error.line, str(error)))
            return ()
        for slot in pieces:
            if isinstance(slot, Slot):
                self.used.add(slot.name)
                if slot.name not in self.declared:
                    self.complaints.append(Complaint(part, index, slot.line, _undeclared(slot.name, self.declared)))
        return pieces

    def unused(self) -> Iterable[Complaint]:
        for index, name in enumerate(self.declared):
            if name not in self.used:
                text = f"“{name[:_SHOWN]}” is declared, and no text uses it. Use it, or take it out."
                yield Complaint("variables", index, 0, text)


def _size_complaints(document: TemplateDocument) -> Iterable[Complaint]:
    if not document.system.strip() and not document.messages:
        yield Complaint("", 0, 0, "It says nothing: write a system text, or a message.")
    length = len(document.system) + sum(len(one.content) for one in document.messages)
    if length > LONGEST_TEMPLATE:
        yield Complaint("", 0, 0, f"Its texts have {length:,} characters together; {LONGEST_TEMPLATE:,} are possible.")
    for what, number, most in (
        ("messages", len(document.messages), MOST_MESSAGES),
        ("variables", len(document.variables), MOST_VARIABLES),
    ):
        if number > most:
            yield Complaint("", 0, 0, f"It has {number} {what}; {most} are possible.")


def _message_complaints(document: TemplateDocument) -> Iterable[Complaint]:
    for index, one in enumerate(document.messages):
        if one.role not in ROLES:
            text = f"“{one.role[:_SHOWN]}” is no role: user or assistant. What the system says has a text of its own."
            yield Complaint("messages", index, 0, text)
        if not one.content.strip():
            yield Complaint("messages", index, 0, "It is empty: write what it says, or take it out.")


def _variable_complaints(variables: Sequence[VariableDocument]) -> Iterable[Complaint]:
    seen: set[str] = set()
    for index, one in enumerate(variables):
        for text in _wrong_with(one, seen):
            yield Complaint("variables", index, 0, text)
        seen.add(one.name)


def _wrong_with(one: VariableDocument, seen: set[str]) -> Iterable[str]:
    shown = f"“{one.name[:_SHOWN]}”"
    if not _NAME.fullmatch(one.name):
        yield f"{shown} is no name: letters, digits and underscores, 60 at most; it begins with a letter."
    if one.name in seen:
        yield f"{shown} is declared twice."
    if not 1 <= one.max_length <= LONGEST_VALUE:
        yield f"The longest value of {shown} is 1 to {LONGEST_VALUE:,} characters."
    elif one.default is not None and len(one.default) > one.max_length:
        yield f"The default of {shown} has {len(one.default):,} characters, more than its longest value."
    if what := _not_storable(f"{one.description}{one.default}"):
        yield f"{shown} holds {what}, which cannot be stored."
    if len(one.description) > LONGEST_DESCRIPTION:
        yield f"The description of {shown} has more than {LONGEST_DESCRIPTION} characters."


def _not_storable(text: str) -> str:
    """What no database keeps and no model gets, in words; “” for a text without it."""
    if "\x00" in text:
        return "a NUL"
    return "half of a surrogate pair" if _HALF_PAIR.search(text) else ""


def _undeclared(name: str, declared: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, declared, n=1)
    return f"“{name}” is not declared. " + (f"Is it “{near[0]}”?" if near else "Declare it as a variable.")


def _no_variable(text: str) -> str:
    shown = text.splitlines()[0]
    end = shown.find("}}")
    shown = shown[: end + 2] if 0 <= end < _SHOWN else shown[:_SHOWN]
    return f"“{shown}” is no variable. Write {{{{ name }}}}, or \\{{{{ for the braces themselves."


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


# --- naming -------------------------------------------------------------------------------------------------------


class UnknownTemplate(Exception):
    """There is no such template or version; the text names what comes near."""


def template_named(templates: Mapping[str, PromptTemplate], reference: str) -> TemplateVersion:
    """What “welcome” (its current version) or “welcome@3” stands for.

    :raises UnknownTemplate:
    """
    name, pinned, number = reference.partition("@")
    template = templates.get(name)
    if template is None:
        near = difflib.get_close_matches(name[:80], templates, n=3)
        hint = f" Do you mean {' or '.join(f'“{one}”' for one in near)}?" if near else ""
        raise UnknownTemplate(f"There is no template “{name[:80]}”.{hint}")
    if not pinned and not template.current:
        raise UnknownTemplate(f"The template “{name}” has no version in force yet.")
    wanted = template.current
    if pinned:
        wanted = int(number) if number.isascii() and number.isdecimal() and len(number) < 10 else 0
    found = template.versions.get(wanted)
    if found is None:
        newest = max(template.versions, default=0)
        if pinned and 0 < wanted <= newest - KEPT_VERSIONS:
            raise UnknownTemplate(
                f"“{name}@{wanted}” is not at hand any more: of each template the newest {KEPT_VERSIONS} versions are, "
                f"the one in force, and those that personas keep to. The newest is “{name}@{newest}”."
            )
        has = f"Its newest is “{name}@{newest}”." if newest else "It has none yet."
        raise UnknownTemplate(
            f"The template “{name}” has no version “{(number if pinned else str(wanted))[:_SHOWN]}”. {has}"
        )
    return found


# --- filling in ---------------------------------------------------------------------------------------------------


class VariablesError(Exception):
    """Values that do not fit; `name` is the variable's, “” where it is about all of them."""

    def __init__(self, text: str, name: str = "") -> None:
        super().__init__(text)
        self.name = name


def render(versions: Sequence[TemplateVersion], given: Mapping[str, str]) -> Rendered:
    """The texts of `versions`, one after the other, with the values of `given`, which are for all of them together.

    :raises VariablesError: a value is missing, too long, or for a variable that none of them has; a message becomes
        empty; all texts together become too long.
    """
    _check(versions, given)
    filled = [(version, _values(version, given)) for version in versions]
    length = sum(_length(text, values) for version, values in filled for text in _texts(version))
    if length > LONGEST_RENDERED:
        raise VariablesError(
            f"With these values the template has {length:,} characters; {LONGEST_RENDERED:,} are possible."
        )
    systems = [_filled(version.system, values) for version, values in filled if version.system]
    messages = [(role, _filled(text, values)) for version, values in filled for role, text in version.messages]
    for index, (_, content) in enumerate(messages):
        if not content.strip():
            raise VariablesError(f"With these values message {index + 1} of the template is empty.")
    return Rendered("\n\n".join(one for one in systems if one.strip()), tuple(messages))


def declared_by(versions: Sequence[TemplateVersion]) -> dict[str, VariableDocument]:
    """The variables that can be sent, in order. Of two of one name it is the stricter: required if either is."""
    found: dict[str, VariableDocument] = {}
    for version in versions:
        for name, one in version.variables.items():
            other = found.get(name)
            if other is not None:
                default = None if other.default is None or one.default is None else one.default
                length = min(other.max_length, one.max_length)
                found[name] = VariableDocument(name, other.description or one.description, default, length)
            else:
                found[name] = one
    return found


def _check(versions: Sequence[TemplateVersion], given: Mapping[str, str]) -> None:
    declared = declared_by(versions)
    has = _in_words(declared, " and ".join(f"“{version.label}”" for version in versions))
    for name, value in given.items():
        one = declared.get(name)
        if one is None:
            raise VariablesError(f"“{name[:_SHOWN]}” is no variable. {has}", name)
        if len(value) > one.max_length:
            raise VariablesError(
                f"“{name}” has {len(value):,} characters; {one.max_length:,} are possible. {has}", name
            )
    for name, one in declared.items():
        if one.default is None and name not in given:
            raise VariablesError(f"“{name}” is missing. {has}", name)


def _in_words(declared: Mapping[str, VariableDocument], labels: str) -> str:
    if not declared:
        return f"{labels} has no variables."
    told = ", ".join(f"{one.name} ({'required' if one.default is None else 'optional'})" for one in declared.values())
    return f"The variables of {labels}: {told}."


def _values(version: TemplateVersion, given: Mapping[str, str]) -> dict[str, str]:
    return {name: given.get(name, one.default or "") for name, one in version.variables.items()}


def _texts(version: TemplateVersion) -> Iterable[Text]:
    yield version.system
    for _, text in version.messages:
        yield text


def _length(text: Text, values: Mapping[str, str]) -> int:
    return sum(len(piece) if isinstance(piece, str) else len(values[piece.name]) for piece in text)


def _filled(text: Text, values: Mapping[str, str]) -> str:
    return "".join(piece if isinstance(piece, str) else values[piece.name] for piece in text)
