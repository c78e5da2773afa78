"""YAML as a tree that knows its lines. Nothing of it is executed: no tags, no merge keys, all of it bounded."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_BYTES: Final = 8 * 1024 * 1024
MAX_DEPTH: Final = 16
MAX_NODES: Final = 500_000  # aliases written out
MAX_PROBLEMS: Final = 20
LONGEST_NUMBER: Final = 40
TAG: Final = "tag:yaml.org,2002:"
NUMBERS: Final = (f"{TAG}int", f"{TAG}float")
PLAIN: Final = frozenset(TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq"))
OCTAL: Final = re.compile(r"[-+]?0[0-9]+")
EXPONENT: Final = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")  # as JSON writes figures: text in YAML 1.1
LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ODD: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
NO_YAML: Final = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
QUOTED: Final = re.compile(r" '[^\n]*'|\"[^\n]*\"")
SAID_OTHERWISE: Final = {
    "but found another document": "has a second document (---). Put it into a file of its own",
    "found character that cannot start any token": "a tab, or a sign such as @ or %, begins something here. Indent "
    "with spaces, and put text into quotes",
    "did not find expected whitespace or line break": "a tag (!) is not taken. Put text in quotes",
    "found undefined alias": "names an anchor that is not there. Text that begins with * or & is put in quotes",
}
TRUE: Final = frozenset({"true", "yes", "on"})

Plain = Any  # str, int, float, bool, None, lists and mappings of them


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something wrong in a file: where, and what to do about it. `key` is the path of keys; `line` 0: all of it."""

    file: str
    line: int
    key: str
    text: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        key = self.key.replace("\n", "\\n")
        return f"{where}: {key}: {self.text}" if key else f"{where}: {self.text}"


class Unreadable(Exception):
    """What is wrong with files, all of it. Nothing of them was used."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems[:MAX_PROBLEMS])))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Value:
    """A piece of a file. `data` is a scalar, a list of values or a mapping to values; `line` is that of its key."""

    data: "str | int | float | bool | list[Value] | dict[str, Value] | None"
    file: str
    line: int
    path: str = ""

    def problem(self, text: str) -> Problem:
        return Problem(self.file, self.line, self.path, text)

    def plain(self) -> Plain:
        """Without lines."""
        if isinstance(self.data, dict):
            return {name: value.plain() for name, value in self.data.items()}
        if isinstance(self.data, list):
            return [value.plain() for value in self.data]
        return self.data

    def at(self, *keys: str | int) -> "Value":
        """What lies at `keys`, or as near to it as there is something."""
        if not keys:
            return self
        first, *rest = keys
        if isinstance(self.data, dict) and isinstance(first, str) and first in self.data:
            return self.data[first].at(*rest)
        if isinstance(self.data, list) and isinstance(first, int) and first < len(self.data):
            return self.data[first].at(*rest)
        return self


def read(text: str, file: str) -> Value:
    """The document in `text`.

    :raises Unreadable: it is no YAML, or YAML that is not taken; with every such place.
    """
    if len(text) > MAX_BYTES:
        raise Unreadable([Problem(file, 0, "", f"is larger than {MAX_BYTES // 1024 // 1024} MiB. Split it.")])
    if odd := NO_YAML.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        raise Unreadable([Problem(file, line, "", f"has the character U+{ord(odd.group()):04X}. Remove it.")])
    try:
        _check_depth(text, file)
        node = LOADER(text).get_single_node()
    except yaml.YAMLError as error:
        raise Unreadable([_syntax(error, file)]) from None
    if node is None:
        raise Unreadable([Problem(file, 0, "", "is empty.")])
    reader = _Reader(file)
    value = reader.value(node, "", node.start_mark.line + 1)
    if reader.problems:
        raise Unreadable(reader.problems)
    return value


def _check_depth(text: str, file: str) -> None:
    """Before anything is built: what nests too deeply ends here, not in a stack that overflows."""
    depth = 0
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = _line(event)
                raise Unreadable([Problem(file, line, "", f"is nested more than {MAX_DEPTH} levels deep.")])
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _syntax(error: Exception, file: str) -> Problem:
    """Where YAML breaks off. Nothing of the file is quoted: it may hold what nobody should see."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = QUOTED.sub("", getattr(error, "problem", None) or "has characters that YAML does not know")
    said = SAID_OTHERWISE.get(said, said)
    return Problem(file, mark.line + 1 if mark else 0, "", f"is no YAML: {said}.")


class _Reader:
    """From nodes to values. An alias is written out wherever it stands, so a bomb ends at `MAX_NODES`."""

    def __init__(self, file: str) -> None:
        self.file, self.problems, self.nodes = file, list[Problem](), 0

    def value(self, node: Node, path: str, line: int, depth: int = 0) -> Value:
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            text = "refers to itself, or becomes too large when its aliases (*name) are written out."
            raise Unreadable([Problem(self.file, line, path, text)])
        if node.tag not in PLAIN:
            self._complain(
                line, path, "has a tag (!...): tags are not taken. Text that begins with ! is put in quotes."
            )
            return Value(None, self.file, line, path)
        if isinstance(node, MappingNode):
            return Value(dict(self._entries(node, path, depth)), self.file, line, path)
        if isinstance(node, SequenceNode):
            items = [
                self.value(one, f"{path}[{index}]", one.start_mark.line + 1, depth + 1)
                for index, one in enumerate(node.value)
            ]
            return Value(items, self.file, line, path)
        return Value(self._scalar(cast(ScalarNode, node), path, line), self.file, line, path)

    def _entries(self, node: MappingNode, path: str, depth: int) -> Iterator[tuple[str, Value]]:
        seen: dict[str, int] = {}
        for key, node_of in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode) or key.tag not in PLAIN:
                said = "is a merge key (<<): write its fields out." if key.tag == f"{TAG}merge" else "is no plain key."
                self._complain(line, path, said)
                continue
            name = key.value
            here = f"{path}.{name}" if path else name
            if name in seen:
                self._complain(line, here, f"stands here twice, first in line {seen[name]}. Keep one of the two.")
                continue
            if complaint := _unkeepable(name):
                self._complain(line, path, f"has a key that {complaint}")
                continue
            seen[name] = line
            yield name, self.value(node_of, here, line, depth + 1)

    def _scalar(self, node: ScalarNode, path: str, line: int) -> str | int | float | bool | None:
        text: str = node.value
        if node.tag == f"{TAG}null":
            return None
        if node.tag == f"{TAG}bool":
            return text.lower() in TRUE
        if node.tag in NUMBERS:
            return self._number(node, path, line)
        if not node.style and EXPONENT.fullmatch(text):
            return self._number(node, path, line)
        if complaint := _unkeepable(text):
            self._complain(line, path, complaint)
        return text

    def _number(self, node: ScalarNode, path: str, line: int) -> int | float | str:
        """Decimal ones only: YAML 1.1 would take 1:30 for 90, and 0777 for 511."""
        text = node.value.replace("_", "")
        try:
            number = int(text) if node.tag == f"{TAG}int" else float(text)
        except ValueError:
            return str(node.value)
        if len(text) > LONGEST_NUMBER or not math.isfinite(number) or OCTAL.fullmatch(text):
            self._complain(line, path, "is no ordinary number. Put it in quotes if it is text.")
            return 0
        return number

    def _complain(self, line: int, path: str, text: str) -> None:
        self.problems.append(Problem(self.file, line, path, text))


def _unkeepable(text: str) -> str:
    """What no database takes, or nobody can see; empty when there is nothing."""
    odd = ODD.search(text)
    return f"has the character U+{ord(odd.group()):04X} in it, which cannot be kept. Remove it." if odd else ""
