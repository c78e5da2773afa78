"""What a check-up finds. Free of Django, so that broken settings can be told in the same way."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """`FAIL`: something that callers or figures need does not work. `WARN`: it works, and should be looked at."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `fix` is one sentence: what to do; empty where nothing is to be done."""

    area: str
    state: State
    text: str
    fix: str = ""


def ok(area: str, text: str) -> Finding:
    return Finding(area, State.OK, text)


def warn(area: str, text: str, fix: str) -> Finding:
    return Finding(area, State.WARN, text, fix)


def fail(area: str, text: str, fix: str) -> Finding:
    return Finding(area, State.FAIL, text, fix)


def is_healthy(findings: Iterable[Finding]) -> bool:
    return all(finding.state is not State.FAIL for finding in findings)


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    counts = {state.value: sum(finding.state is state for finding in findings) for state in State}
    return {
        "object": "checkup",
        "healthy": is_healthy(findings),
        "counts": counts,
        "findings": [asdict(finding) for finding in findings],
    }


def settings_refused(reason: str) -> list[Finding]:
    """Nothing else can be looked at."""
    return [fail("settings", reason, "Mend .env or the environment; docs/settings.md lists every setting.")]


def settings_report(reason: str, *, for_programs: bool) -> str:
    """What `manage.py doctor` says when there are no settings."""
    findings = settings_refused(reason)
    if for_programs:
        return json.dumps(as_json(findings))
    return "\n".join(f"{one.state}  {one.area}  {one.text}\n      {one.fix}" for one in findings)
