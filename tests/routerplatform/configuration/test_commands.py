"""The commands themselves: files in and out, options, refusals; and a gateway that follows."""

import asyncio
import os
from pathlib import Path

import pytest
import yaml
from asgiref.sync import sync_to_async
from django.core.management import call_command

from routerplatform.configuration.documents import TOP_LEVEL
from tests.gateway import Gateway
from tests.routerplatform.configuration.installation import file_of, run, small_installation


@pytest.mark.django_db
def test_an_export_is_written_whole_or_not_at_all(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small_installation()
    path = tmp_path / "router.yaml"
    path.write_text("mine")
    refused = run(capsys, "config_export", "--out", str(tmp_path / "no" / "router.yaml"))
    assert refused.code == 1
    assert "cannot be written: No such file or directory" in refused.out
    assert run(capsys, "config_export", "--out", str(path)).code == 0
    assert path.read_text().startswith("# Configuration of Router Platform.")
    assert os.listdir(tmp_path) == ["router.yaml"]


@pytest.mark.django_db
def test_an_export_has_its_sections_in_their_order_and_names_in_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    small_installation()
    file = yaml.safe_load(run(capsys, "config_export", "--members").out)
    sections = [name for name in TOP_LEVEL if name != "templates"]
    assert list(file) == ["format", *sections]
    assert list(file["models"]) == ["swift-1", "swift-2"]
    assert file["teams"]["support"]["members"] == {"alice": "lead"}
    assert file["providers"]["alpha"]["keys"]["old"] == {
        "api_key": "${ALPHA_OLD_API_KEY}",
        "active": False,
        "ends_with": "0000",
    }
    assert file["deployments"]["alpha/swift-2"] == {
        "rpm_limit": 60,
        "model": "swift-2",
        "breaker": "open",
        "prices": {"2030-05-01T12:30:00Z": {"input_usd": 1, "output_usd": 2, "per_request_usd": 0.000001}},
    }


@pytest.mark.django_db
def test_a_part_is_exported_by_name_and_people_only_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    small_installation()
    told = run(capsys, "config_export", "--only", "teams, personas", "--json").json
    assert list(told) == ["format", "personas", "teams"]
    assert "members" not in told["teams"]["support"]
    refused = run(capsys, "config_export", "--only", "persona")
    assert refused.out == "--only: “persona” is no section. Did you mean personas?"
    assert run(capsys, "config_export", "--format", "capabilities", "--json").code == 1


@pytest.mark.django_db
def test_files_that_cannot_be_read_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "odd.yaml").write_text("hello: 1\n")
    refused = run(capsys, "config_import", str(tmp_path / "none.yaml"), str(tmp_path / "bytes.yaml"), "--plan")
    assert refused.lines[0].endswith("none.yaml: No such file or directory.")
    assert refused.lines[1].endswith("bytes.yaml:1: is no text in UTF-8. Save it as that.")
    refused = run(capsys, "config_import", str(tmp_path / "odd.yaml"), "--plan")
    assert "odd.yaml:1: begins with no `format: 1`" in refused.lines[0]
    refused = run(capsys, "config_import", file_of(tmp_path, "format: 2\n"), "--plan")
    assert "format: must be 1: other versions are not known to this release." in refused.lines[0]


@pytest.mark.django_db
def test_who_imports_has_an_account(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    refused = run(capsys, "config_import", file_of(tmp_path, "format: 1\n"), "--plan", "--by", "nobody")
    assert refused.out == "--by: there is no active account “nobody”."


@pytest.mark.django_db
def test_several_files_are_one_configuration(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    policies = file_of(tmp_path, "format: 1\npolicies:\n  chat: {}\n", "policies.yaml")
    personas = file_of(tmp_path, "format: 1\npersonas:\n  bot: {name: Bot, policy: chat}\n", "personas.yaml")
    told = run(capsys, "config_import", personas, policies, "--plan")
    assert told.lines[:2] == ["+ policy chat", "+ persona bot"]


async def test_a_running_gateway_follows_an_import(gateway: Gateway, tmp_path: Path) -> None:
    text = "format: 1\naliases:\n  quick: {targets: [alpha/swift-1]}\n"
    await sync_to_async(call_command)("config_import", file_of(tmp_path, text), "--apply")
    async with asyncio.timeout(60):
        while (reply := await gateway.chat(model="quick")).status != 200:  # noqa: ASYNC110 - another thread
            await asyncio.sleep(0.05)
    assert reply.headers["x-router-deployment"] == "alpha/swift-1"
