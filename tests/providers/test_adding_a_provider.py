"""docs/adding-a-provider.md, followed to the letter: in a copy of the source, and in a process of its own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "docs" / "adding-a-provider.md"
BLOCK = re.compile(r"^```python\n# (?P<path>\S+?\.py)(?:, below “(?P<below>[^”]+)”)?\n(?P<text>.*?)^```$", re.M | re.S)
COPIED = ("analytics", "providers", "routerplatform", "routing", "static", "templates", "tests", "pyproject.toml")
TESTS = ["tests/providers/test_acme.py", "tests/providers/test_zenith.py"]


def blocks() -> list[re.Match[str]]:
    return list(BLOCK.finditer(RECIPE.read_text()))


def put_below(source: str, anchor: str, text: str) -> str:
    """`text` behind the first line that begins with `anchor`, as far to the right as the line that follows."""
    lines = source.splitlines(keepends=True)
    place = next(number for number, line in enumerate(lines) if line.lstrip().startswith(anchor)) + 1
    if place < len(lines) and lines[place].strip():
        indent = re.match(r" *", lines[place])
    else:
        indent = re.match(r" *", lines[place - 1])
    assert indent is not None
    added = [f"{indent[0]}{line}" for line in text.splitlines(keepends=True)]
    return "".join([*lines[:place], *added, *lines[place:]])


def follow(folder: Path) -> None:
    for block in blocks():
        file = folder / block["path"]
        if block["below"]:
            file.write_text(put_below(file.read_text(), block["below"], block["text"]))
        else:
            assert not file.exists(), f"the recipe would overwrite {block['path']}"
            file.write_text(block["text"])


def test_every_line_of_code_in_the_recipe_says_where_it_goes() -> None:
    assert len(blocks()) == RECIPE.read_text().count("```python\n") == 9
    for block in blocks():
        if block["below"]:
            lines = [line.lstrip() for line in (ROOT / block["path"]).read_text().splitlines()]
            assert [line for line in lines if line.startswith(block["below"])], block["below"]


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_the_recipe_adds_a_vendor_by_a_row_and_another_by_an_api_of_its_own(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    copy.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    follow(copy)
    env = {
        **os.environ,
        "DATABASE_URL": f"sqlite:///{tmp_path / 'copy.sqlite3'}",
        "ROUTER_EXPECT_DB_VENDOR": "sqlite",
        "DATA_DIR": str(tmp_path / "data"),
        "JOURNAL_DIR": str(tmp_path / "journal"),
        "REDIS_URL": "",
    }
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *TESTS]
    done = subprocess.run(argv, cwd=copy, env=env, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
    assert "2 passed" in done.stdout
