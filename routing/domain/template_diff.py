"""What changes from one version of a prompt template to another, line by line."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final, Literal

from routing.domain.templates import TemplateDocument, VariableDocument

MOST_PAIRS: Final = 100_000  # equal lines of two versions, each with each: about a second
Opcode = tuple[str, int, int, int, int]

AROUND: Final = 3  # lines that are the same and stand beside a change


@dataclass(frozen=True, slots=True)
class DiffLine:
    """`kind` “skipped” stands for lines that are the same and far from any change; its text says how many."""

    kind: Literal["same", "added", "removed", "skipped"]
    text: str


def template_changes(before: TemplateDocument, after: TemplateDocument) -> list[DiffLine]:
    """Every line that differs, with some around it; empty when the two say the same."""
    old, new = lines_of(before), lines_of(after)
    if old == new:
        return []
    found: list[DiffLine] = []
    for kind, a, b, c, d in _opcodes(old, new):
        if kind == "equal":
            found.extend(_same(old[a:b], is_first=a == 0, is_last=b == len(old)))
        else:
            found.extend(DiffLine("removed", line) for line in old[a:b])
            found.extend(DiffLine("added", line) for line in new[c:d])
    return found


def lines_of(document: TemplateDocument) -> list[str]:
    """A version as text: each part below its title."""
    return list(_lines(document))


def variable_in_words(one: VariableDocument) -> str:
    """“city: optional, “Rome” if not sent, at most 200 characters. Where the caller is”."""
    usual = f"“{one.default}”" if one.default else "empty"
    need = "required" if one.default is None else f"optional, {usual} if not sent"
    return f"{one.name}: {need}, at most {one.max_length:,} characters. {one.description}".rstrip()


def _lines(document: TemplateDocument) -> Iterator[str]:
    if document.system:
        yield "System"
        yield from (f"  {line}" for line in document.system.split("\n"))
    for message in document.messages:
        yield message.role.capitalize()
        yield from (f"  {line}" for line in message.content.split("\n"))
    if document.variables:
        yield "Variables"
        yield from (f"  {variable_in_words(one)}" for one in document.variables)


def _opcodes(old: list[str], new: list[str]) -> list[Opcode]:
    """As of `SequenceMatcher`. Lines that come again and again are looked at in pairs: where there are too many, all
    between the first change and the last is one change."""
    first = _same_at_start(old, new)
    last = _same_at_start(old[first:][::-1], new[first:][::-1])
    a, b = old[first : len(old) - last], new[first : len(new) - last]
    many = Counter(b)
    if sum(many[line] for line in a) <= MOST_PAIRS:
        between: Sequence[Opcode] = SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    else:
        between = [("replace", 0, len(a), 0, len(b))]
    return [
        *([("equal", 0, first, 0, first)] if first else []),
        *((kind, i + first, j + first, k + first, n + first) for kind, i, j, k, n in between),
        *([("equal", len(old) - last, len(old), len(new) - last, len(new))] if last else []),
    ]


def _same_at_start(old: list[str], new: list[str]) -> int:
    pairs = enumerate(zip(old, new, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(old), len(new)))


def _same(lines: list[str], *, is_first: bool, is_last: bool) -> Iterator[DiffLine]:
    head = 0 if is_first else AROUND
    tail = 0 if is_last else AROUND
    left_out = len(lines) - head - tail
    if left_out < 2:
        yield from (DiffLine("same", line) for line in lines)
        return
    yield from (DiffLine("same", line) for line in lines[:head])
    yield DiffLine("skipped", f"{left_out} lines are the same")
    yield from (DiffLine("same", line) for line in lines[len(lines) - tail :])
