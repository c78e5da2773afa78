"""docs/operations.md lists the jobs and commands that there are; no page links to what is not there."""

import re
from pathlib import Path

import pytest
from django.core.management import get_commands

from analytics.schedule import JOBS
from tests.test_tooling import texts

ROOT = Path(__file__).resolve().parent.parent
OURS = {"providers", "routing", "analytics", "routerplatform"}
PAGES = sorted(name for name, _ in texts() if name.endswith(".md"))
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([\w-]+))?\)")


def operations() -> str:
    return (ROOT / "docs" / "operations.md").read_text()


def test_every_job_is_listed_with_its_time() -> None:
    rows = re.findall(r"^\| ([A-Z][\w ]+) \| (\d+) s \|", operations(), re.MULTILINE)
    assert set(rows) == {(job.name, str(job.every_s)) for job in JOBS}


def test_every_command_of_ours_is_listed() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", operations().partition("\n## Commands\n")[2], re.MULTILINE)
    assert sorted(listed) == sorted(name for name, app in get_commands().items() if app in OURS)


def test_every_log_line_to_watch_for_exists() -> None:
    code = "\n".join(text for name, text in texts() if name.endswith(".py") and not name.startswith("tests/"))
    lines = re.findall(r"^- `([^`…]+?):? ?…?`", operations().partition("\nWorth an alert:\n")[2], re.MULTILINE)
    assert len(lines) == 8
    assert [line for line in lines if f'"{line}' not in code] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    here = ROOT / page
    links = [(target, anchor) for target, anchor in LINK.findall(here.read_text()) if "://" not in target]
    broken = [target for target, _ in links if not (here.parent / target).exists()]
    lost = [
        f"{target}#{anchor}"
        for target, anchor in links
        if anchor and anchor not in anchors(here.parent / target if target else here)
    ]
    assert (broken, lost) == ([], [])


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as a link writes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}
