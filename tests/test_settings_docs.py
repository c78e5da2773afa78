"""docs/settings.md lists what settings.py reads: the same names, types and defaults."""

import re
import runpy
from pathlib import Path
from typing import Any, ClassVar

import environ
import pytest

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"^\| `([A-Z0-9_]+)` \| (\w+) \| (?:`([^`]*)`)? ?\|", re.MULTILINE)
TYPES = {str: "text", bool: "boolean", int: "integer", float: "number", list: "list"}
SPECIAL = {
    "DATABASE_URL": "URL",
    "REDIS_URL": "URL",
    "DATA_DIR": "folder",
    "JOURNAL_DIR": "folder",
    "METRICS_DIR": "folder",
}
SECRETS = {"SECRET_KEY": "s" * 32, "KEY_PEPPER": "p" * 32, "FIELD_KEYS": "A" * 43 + "="}

Table = dict[str, tuple[str, str]]  # name: (type, default)


class ListeningEnv(environ.Env):  # type: ignore[misc]  # the library ships no types
    """Remembers what was asked for; knows nothing but the secrets and a folder."""

    asked: ClassVar[dict[str, tuple[Any, Any]]] = {}

    @classmethod
    def read_env(cls, *_: Any, **__: Any) -> None:
        """The developer's own .env is none of this test's business."""

    def get_value(self, var: str, cast: Any = None, default: Any = "", **options: Any) -> Any:
        self.asked[var] = (cast, default)
        return super().get_value(var, cast=cast, default=default, **options)


def documented() -> Table:
    rows = ROW.findall((ROOT / "docs" / "settings.md").read_text())
    table = {name: (kind, default) for name, kind, default in rows}
    assert len(rows) == len(table), "a setting is listed twice"
    return table


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Table:
    """Every setting that settings.py asks the environment for."""
    ListeningEnv.asked.clear()
    monkeypatch.setattr(ListeningEnv, "ENVIRON", {**SECRETS, "DATA_DIR": str(tmp_path)})
    monkeypatch.setattr(environ, "Env", ListeningEnv)
    runpy.run_path(str(ROOT / "routerplatform" / "settings.py"))
    return {
        name: (SPECIAL.get(name) or _type(cast), _text(default, tmp_path))
        for name, (cast, default) in ListeningEnv.asked.items()
    }


def _type(cast: Any) -> str:
    return "list" if isinstance(cast, list) else TYPES[cast]


def _text(default: Any, data_dir: Path) -> str:
    """A default as the table shows it; folders as they are without DATA_DIR."""
    match default:
        case bool():
            return str(default).lower()
        case float():
            return f"{default:g}"
        case list():
            return ",".join(default)
        case _:
            return str(default).replace(f"{ROOT}/", "").replace(str(data_dir), "var")


def test_every_setting_is_documented(read: Table) -> None:
    assert read.keys() - documented().keys() == set()


def test_every_documented_setting_exists(read: Table) -> None:
    assert documented().keys() - read.keys() == set()


def test_types_and_defaults_are_those_of_the_code(read: Table) -> None:
    table = documented()
    assert {name: (table.get(name), found) for name, found in read.items() if table.get(name) != found} == {}


def test_every_line_of_env_example_is_a_setting() -> None:
    names = re.findall(r"^#? ?([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert set(names) - documented().keys() == {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "NGINX_SCHEME"}
