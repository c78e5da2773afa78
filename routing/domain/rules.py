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
    """What RE2 says against a regular expression, in words; empty when it takes it."""
    try:
        re2.compile(pattern, _options())
    except re2.error as error:
        return _said(error)
    return ""


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
