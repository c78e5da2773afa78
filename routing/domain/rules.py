"""Operators' rules: compiled from rows, and matched against a request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import re2

from routing.domain.config import Rule, RuleMatch, RuleSubject, TaskType
from routing.domain.documents import ConfigError, task_type_named

LONGEST_PATTERN: Final = 500
MAX_MEMORY: Final = 1 << 20  # bytes that a compiled expression may take


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A row of `routing.models.RoutingRule`, the alias by its name."""

    name: str
    subject: RuleSubject
    header: str
    match: RuleMatch
    pattern: str
    task_type: str = ""
    tier: str = ""
    alias: str = ""


def compile_rule(row: RuleRow) -> Rule:
    """Raises ConfigError for a pattern that RE2 refuses and for an unknown task type."""
    task: TaskType | None = task_type_named(row.task_type, f"Rule “{row.name}”") if row.task_type else None
    fits = _fits(row.match, row.pattern, f"Rule “{row.name}”")
    return Rule(row.name, row.subject, row.header.lower(), fits, task, row.tier, row.alias)


def matching_rule(
    rules: Sequence[Rule], *, text: Callable[[], str], tag: str, persona: str, hint: Callable[[str], str]
) -> Rule | None:
    """The first that fits. `text` is asked for when a rule looks at it; `hint` gives a header's value, “” if none."""
    for rule in rules:
        subject = ""
        match rule.subject:
            case "tag":
                subject = tag
            case "persona":
                subject = persona
            case "header":
                subject = hint(rule.header)
            case "text":
                subject = text()
        if subject and rule.fits(subject):
            return rule
    return None


def complaint_about_regex(pattern: str) -> str:
    """What RE2 says against a regular expression, with the place, in words; empty when it takes it."""
    try:
        re2.compile(pattern, _options())
    except re2.error as error:
        said, _, fragment = _said(error).partition(": ")
        place = _place(pattern, fragment)
        quoted = f" in “{fragment}”" if fragment else ""
        here = f"{pattern[:place]}▸{pattern[place:]}"
        return f"RE2 does not take this, at character {place + 1} ({here}): {said}{quoted}."
    return ""


def _place(pattern: str, fragment: str) -> int:
    """Where RE2 stumbled: it quotes the part that it stumbled over, all of it where a bracket is not closed."""
    if fragment and fragment != pattern and fragment in pattern:
        return pattern.index(fragment)
    unclosed: list[int] = []
    for index, character in enumerate(pattern):
        if character in "([" and pattern[max(0, index - 1) : index] != "\\":
            unclosed.append(index)
        elif character in ")]" and unclosed:
            unclosed.pop()
    return unclosed[-1] if unclosed else 0


def _fits(match: RuleMatch, pattern: str, where: str) -> Callable[[str], bool]:
    wanted = pattern.casefold()
    match match:
        case "contains":
            return lambda value: wanted in value.casefold()
        case "equals":
            return lambda value: wanted == value.casefold()
    try:
        expression = re2.compile(pattern, _options())
    except re2.error as error:
        raise ConfigError(f"{where}: {_said(error)}") from error
    search = cast(Callable[[str], Any], expression.search)
    return lambda value: search(value) is not None


def _options() -> Any:
    options = re2.Options()
    options.max_mem = MAX_MEMORY
    options.log_errors = False
    return options


def _said(error: Exception) -> str:
    text = error.args[0] if error.args else str(error)
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
