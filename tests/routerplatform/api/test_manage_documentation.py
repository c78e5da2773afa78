"""docs/management-api.md and the OpenAPI document say what the management API is."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.urls import get_resolver
from drf_spectacular.generators import SchemaGenerator

from routerplatform.api.management.urls import router
from routerplatform.api.management.views import VERBS

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "management-api.md").read_text()
NAMES = {noun: views for noun, views, _ in router.registry}


def row_of(noun: str) -> list[str]:
    [row] = re.findall(rf"^\| `{noun}` \|(.*)\|$", TEXT, re.MULTILINE)
    return [cell.strip() for cell in row.split("|")]


def test_every_noun_is_documented_with_what_can_be_done() -> None:
    for noun, views in NAMES.items():
        done = [bool(cell) for cell in row_of(noun)[:4]]
        assert done == [hasattr(views, name) for name in ("list", "create", "partial_update", "destroy")], noun


def test_every_filter_is_documented() -> None:
    for noun, views in NAMES.items():
        assert set(re.findall(r"`(\w+)`", row_of(noun)[4])) == set(views.filterset_class.base_filters), noun


def test_every_action_is_documented() -> None:
    named: set[str] = set()
    for line in re.findall(r"`[\w-]+/\{id\}/[^|]*", TEXT):
        noun = line.split("/")[0].strip("`")
        named |= {f"{noun}/{action}" for action in re.findall(r"(?:\{id\}|…)/([\w-]+)", line)}
    found = {f"{noun}/{one.url_path}" for noun, views in NAMES.items() for one in views.get_extra_actions()}
    assert named == found


@cache
def schema() -> dict[str, Any]:
    made: dict[str, Any] = SchemaGenerator(patterns=get_resolver().url_patterns).get_schema(public=True)
    return made


@pytest.mark.django_db
def test_every_operation_is_in_the_openapi_document_with_its_errors_and_credentials() -> None:
    paths = {path: about for path, about in schema()["paths"].items() if path.startswith("/api/v1/manage/")}
    operations = [one for about in paths.values() for one in about.values()]
    assert {path.split("/")[4] for path in paths} == set(NAMES)
    for one in operations:
        assert one["operationId"].startswith("manage_")
        assert one["summary"], one["operationId"]
        assert {"400", "401", "403", "404"} <= one["responses"].keys(), one["operationId"]
        assert one["security"] == [{"accessToken": []}, {"cookieAuth": []}]
    assert len({one["operationId"] for one in operations}) == len(operations)


@pytest.mark.django_db
def test_the_openapi_document_is_made_without_a_warning_and_is_valid(tmp_path: Path) -> None:
    """What a generator of clients gets: no name that was invented to tell two apart."""
    kept = tmp_path / "schema.yml"
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(kept))
    text = kept.read_text()
    assert re.findall(r"^    (\w*[0-9a-f]{3}Enum):", text, re.MULTILINE) == []
    assert text.count("operationId: ") == len(set(re.findall(r"operationId: (\w+)", text)))


@pytest.mark.django_db
def test_no_secret_and_no_digest_is_described_as_an_answer() -> None:
    shapes = schema()["components"]["schemas"]
    assert shapes["ProviderKeyRequest" if "ProviderKeyRequest" in shapes else "ProviderKey"]["properties"]["secret"][
        "writeOnly"
    ]
    assert "secret" not in shapes["VirtualKey"]["properties"]
    assert shapes["IssuedKey"]["properties"]["secret"]["readOnly"]
    assert not [name for name, shape in shapes.items() if {"digest", "sealed"} & shape.get("properties", {}).keys()]


def test_an_action_that_nobody_thought_about_takes_the_right_to_change() -> None:
    """Closed by default: what is not named in `verbs` needs the permission to change such rows."""
    for views in NAMES.values():
        for one in views.get_extra_actions():
            assert views.verbs.get(one.__name__, "change") in {"change", "view", None}
        open_to_teams = {name for name, verb in views.verbs.items() if verb is None}
        assert open_to_teams <= {"list", "retrieve", "create", "revoke"}
        assert open_to_teams == set() or views.__name__ in {
            "TeamViews", "MembershipViews", "VirtualKeyViews", "BudgetViews", "UsageViews", "AccessTokenViews",
        }  # fmt: skip
    assert set(VERBS.values()) == {"view", "add", "change", "delete"}
