"""What commands say to programs (one JSON object on stdout) and to people who wait (a bar, on a terminal only)."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from pytest_django import Settings

from providers.catalogue_services import catalogue_load
from providers.management.progress import progress, steps
from routing.artefacts import DEFAULT
from tests.factories import NOON


class TerminalText(StringIO):
    """A stream that somebody looks at."""

    def isatty(self) -> bool:
        return True


def told(*arguments: str) -> dict[str, Any]:
    """The one JSON object that a command writes."""
    out = StringIO()
    call_command(*arguments, "--json", stdout=out, stderr=StringIO())
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


@pytest.mark.django_db
def test_vendor_keys_tells_who_is_there_and_who_is_new_and_no_key(settings: Settings) -> None:
    catalogue_load(now=NOON)
    settings.VENDOR_KEYS = {"openai": "sk-test-not-a-real-key-0001", "groq": ""}
    assert told("vendor_keys") == {"in_environment": ["openai"], "set_up": ["openai"]}
    assert told("vendor_keys") == {"in_environment": ["openai"], "set_up": []}


@pytest.mark.django_db
def test_an_artefact_that_is_installed_is_told_by_its_version(tmp_path: Path) -> None:
    file = tmp_path / "own.npz"
    file.write_bytes(DEFAULT.read_bytes())
    first = told("router_install", str(file), "--activate")
    assert (first["is_new"], first["in_force"], bool(first["version"])) == (True, True, True)
    again = told("router_install", str(file))
    assert (again["version"], again["is_new"], again["in_force"]) == (first["version"], False, False)
    assert told("router_install", "--shipped")["in_force"] is True


@pytest.mark.django_db
def test_examples_are_told_by_their_number(tmp_path: Path) -> None:
    file = tmp_path / "labelled.jsonl"
    assert told("router_examples", "--labelled", str(file)) == {"labelled": {"prompts": 0, "file": str(file)}}


def test_predictions_are_told_by_their_number(tmp_path: Path) -> None:
    given, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    given.write_text(json.dumps({"id": "1", "prompt": "Fix this loop."}) + "\n")
    assert told("router_predict", "task", str(given), str(out)) == {"predictions": 1, "output": str(out)}


@pytest.mark.django_db
def test_rollups_of_days_are_one_object() -> None:
    report = told("rollup_costs", "--from", "2026-03-09", "--to", "2026-03-10")
    assert [day["day"] for day in report["days"]] == ["2026-03-09", "2026-03-10"]
    assert {day["is_busy"] for day in report["days"]} == {False}


def test_a_bar_is_shown_on_a_terminal_and_nothing_elsewhere() -> None:
    shown, quiet = TerminalText(), StringIO()
    with progress(shown, "Rolling up", total=4) as tell:
        assert tell is not None
        tell(4, "Nearly")
    assert "Nearly" in shown.getvalue()
    with progress(quiet, "Rolling up", total=4) as nobody:
        assert nobody is None
    assert quiet.getvalue() == ""


def test_steps_are_lines_where_nobody_looks() -> None:
    shown, quiet = TerminalText(), StringIO()
    for stream in (shown, quiet):
        with steps(stream, "Training") as step:
            step("left out: code")
    assert quiet.getvalue() == "left out: code"
    assert "left out: code" in shown.getvalue()
