"""Files as they come: from a pipe, from Windows, far too large, no file at all; and what is said never has a secret."""

import io
import logging
import os
import stat
import sys
import threading
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from pytest_django import Settings

from providers.fields import unseal
from providers.models import ProviderKey
from routerplatform.configuration.files import texts_of
from routerplatform.configuration.reading import MAX_BYTES, Unreadable
from routing.models import Team
from tests.factories import ProviderKeyFactory
from tests.routerplatform.configuration.installation import Ran, file_of, run, small_installation

TEAM = "format: 1\nteams:\n  support: {name: Support}\n"


def refusal(*names: str) -> list[str]:
    with pytest.raises(Unreadable) as told:
        texts_of(names)
    return [str(one) for one in told.value.problems]


def from_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


# --- where a file comes from ------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_dash_is_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from_stdin(monkeypatch, TEAM.encode())
    assert run(capsys, "config_import", "-", "--apply").code == 0
    assert Team.objects.get().slug == "support"
    from_stdin(monkeypatch, TEAM.replace("name", "nmae").encode())
    told = run(capsys, "config_import", "-", "--plan")
    assert told.lines[1] == "standard input:3: teams.support.nmae: is no field here. Did you mean name?"


def test_standard_input_is_bounded_and_has_to_be_text(monkeypatch: pytest.MonkeyPatch) -> None:
    from_stdin(monkeypatch, b"#" * (MAX_BYTES + 5))
    assert refusal("-") == ["-: is larger than 8 MiB. Split it."]
    from_stdin(monkeypatch, b"a: 1\nb: \xff\n")
    assert refusal("-") == ["-:2: is no text in UTF-8. Save it as that."]


def test_a_device_without_an_end_is_not_read_to_its_end() -> None:
    assert refusal("/dev/zero") == ["/dev/zero: is larger than 8 MiB. Split it."]
    assert texts_of(["/dev/null"]) == {"/dev/null": ""}


def test_a_link_is_followed_and_one_that_leads_nowhere_told(tmp_path: Path) -> None:
    (tmp_path / "link.yaml").symlink_to(file_of(tmp_path, TEAM))
    assert texts_of([str(tmp_path / "link.yaml")]) == {str(tmp_path / "link.yaml"): TEAM}
    (tmp_path / "nowhere.yaml").symlink_to(tmp_path / "gone.yaml")
    (tmp_path / "self.yaml").symlink_to(tmp_path / "self.yaml")
    first, second, third = refusal(*(str(tmp_path / name) for name in ("nowhere.yaml", "self.yaml", "")))
    assert first.endswith("nowhere.yaml: No such file or directory.")
    assert second.endswith("self.yaml: Too many levels of symbolic links.")
    assert third.endswith(": Is a directory.")


def test_a_pipe_is_a_file(tmp_path: Path) -> None:
    """As `config_import <(sops -d router.yaml)` gives one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(TEAM))
    writer.start()
    assert texts_of([str(pipe)]) == {str(pipe): TEAM}
    writer.join(60)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbfformat: 1\n", "format: 1\n"),
        ("format: 1 # é\n".encode(), "format: 1 # é\n"),
        (b"format: 1\r\nteams: {}\r\n", "format: 1\r\nteams: {}\r\n"),
    ],
)
def test_marks_and_ends_of_lines_of_other_systems_are_taken(tmp_path: Path, data: bytes, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    assert texts_of([str(path)]) == {str(path): text}


@pytest.mark.parametrize(
    ("data", "line"),
    [("a: 1\nb: é\n".encode("latin-1"), 2), ("a: 1\n".encode("utf-16"), 1), (b"a: 1\nb: 2\nc: \xed\xa0\x80\n", 3)],
)
def test_other_encodings_are_refused_with_the_line(tmp_path: Path, data: bytes, line: int) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    assert refusal(str(path)) == [f"{path}:{line}: is no text in UTF-8. Save it as that."]


def test_the_largest_file_that_is_taken_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"#" * MAX_BYTES)
    assert len(texts_of([str(path)])[str(path)]) == MAX_BYTES
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    assert refusal(str(path)) == [f"{path}: is larger than 8 MiB. Split it."]


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "[]\n", "hello\n", "5\n", "format: 1\n---\n"])
def test_a_file_that_says_nothing_is_not_taken_for_an_empty_configuration(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    """With --prune that would be the end of everything."""
    small_installation()
    told = run(capsys, "config_import", file_of(tmp_path, text), "--apply", "--prune")
    assert told.code == 1, told.out
    assert Team.objects.exists()


@pytest.mark.django_db
def test_a_file_of_windows_is_imported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + TEAM.replace("\n", "\r\n").encode())
    assert run(capsys, "config_import", str(path), "--apply").lines[0] == "+ team support"
    path.write_bytes(b"\xef\xbb\xbf" + TEAM.replace("Support}", "5}").replace("\n", "\r\n").encode())
    assert f"{path}:3: teams.support.name: " in run(capsys, "config_import", str(path), "--plan").out


@pytest.mark.django_db
def test_the_same_file_twice_is_read_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = file_of(tmp_path, TEAM)
    assert run(capsys, "config_import", file, file, "--apply").code == 0


# --- where a file goes ------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_export_goes_to_standard_output_for_a_dash(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "config_export", "--out", "-").out == run(capsys, "config_export").out
    assert os.listdir(tmp_path) == []


@pytest.mark.django_db
def test_an_export_writes_what_a_link_leads_to_and_keeps_who_may_read_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    file, link = Path(file_of(tmp_path / "real", "old")), tmp_path / "link.yaml"
    file.chmod(0o600)
    link.symlink_to(file)
    assert run(capsys, "config_export", "--out", str(link)).code == 0
    assert link.is_symlink()
    assert file.read_text().startswith("# Configuration")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path / "real") == ["router.yaml"]


@pytest.mark.django_db
def test_an_export_never_puts_a_file_where_a_device_or_a_pipe_was(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(capsys, "config_export", "--out", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()
    pipe, got = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    assert run(capsys, "config_export", "--out", str(pipe)).code == 0
    reader.join(60)
    assert got[0].startswith("# Configuration")
    assert pipe.is_fifo()


@pytest.mark.django_db
def test_an_export_that_cannot_be_written_says_why(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    for name in (loop, tmp_path, tmp_path / "none" / "x.yaml", Path(file_of(tmp_path, "x")) / "x.yaml"):
        told = run(capsys, "config_export", "--out", str(name))
        assert told.code == 1
        assert told.out.startswith(f"{name} cannot be written: "), told.out
    assert sorted(os.listdir(tmp_path)) == ["loop.yaml", "router.yaml"]


# --- secrets are never said -------------------------------------------------------------------------------------------

SECRET = "sk-test-S3cret-0123456789"
KEYED = (
    "format: 1\nproviders:\n  acme:\n    kind: openai-compatible\n    label: Acme\n"
    "    base_url: https://acme.example.com/v1\n    keys:\n      prod: {api_key: '%s'}\n"
)


def all_that_is_said(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, *arguments: str
) -> tuple[Ran, str]:
    with caplog.at_level(logging.DEBUG):
        told = run(capsys, *arguments)
    assert SECRET not in caplog.text
    assert "S3cret" not in told.out
    return told, told.out


@pytest.mark.django_db
@pytest.mark.parametrize("how", ["--plan", "--apply"])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_literal_secret_is_in_no_output_and_no_log(
    how: str,
    form: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    told, said = all_that_is_said(capsys, caplog, "config_import", file_of(tmp_path, KEYED % SECRET), how, *form)
    assert told.code == 1
    assert "must say where the secret is" in said


@pytest.mark.django_db
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_secret_that_a_reference_leads_to_is_stored_and_in_no_output(
    form: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACME_KEY", SECRET)
    file = file_of(tmp_path, KEYED % "env:ACME_KEY")
    assert all_that_is_said(capsys, caplog, "config_import", file, "--apply", *form)[0].code == 0
    assert unseal(ProviderKey.objects.get().sealed) == SECRET
    monkeypatch.setenv("ACME_KEY", SECRET + "-other")
    told, said = all_that_is_said(capsys, caplog, "config_import", file, "--plan", *form)
    assert told.code == 2
    assert "another one" in said
    all_that_is_said(capsys, caplog, "config_export", *form)


@pytest.mark.django_db
def test_a_secret_that_no_header_carries_is_refused_and_not_repeated(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n{SECRET}\n")
    file = file_of(tmp_path, KEYED % f"file:{secret}")
    _, said = all_that_is_said(capsys, caplog, "config_import", file, "--apply")
    assert "A key has letters, digits and signs only" in said
    assert f"{file}:8: providers.acme.keys.prod" in said


@pytest.mark.django_db
def test_a_traceback_has_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--traceback` raises what was refused, with all that led to it."""
    with pytest.raises(CommandError) as told:
        call_command("config_import", file_of(tmp_path, KEYED % SECRET), "--apply", traceback=True)
    chain: BaseException | None = told.value
    while chain is not None:
        assert "S3cret" not in f"{chain} {chain.args}"
        chain = chain.__cause__ or chain.__context__


@pytest.mark.django_db
def test_an_address_with_a_token_is_in_no_output(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "format: 1\nalert_channels:\n  Ops: {kind: %s, address: 'env:OPS'}\n"
    for kind, address in (("email", SECRET), ("apprise", f"nosuch://{SECRET}"), ("apprise", SECRET)):
        monkeypatch.setenv("OPS", address)
        told, said = all_that_is_said(capsys, caplog, "config_import", file_of(tmp_path, text % kind), "--apply")
        assert told.code == 1, said
        assert "router.yaml:3: alert_channels.Ops" in said


@pytest.mark.django_db
def test_a_stored_key_that_nothing_here_opens_is_replaced_by_what_its_reference_leads_to(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """After a lost field key the file is the way back."""
    key = ProviderKeyFactory.create(provider__name="acme", label="prod", secret="sk-test-old")
    settings.FIELD_KEYS = [Fernet.generate_key().decode()]
    monkeypatch.setenv("ACME_KEY", "sk-test-new-1234")
    file = file_of(tmp_path, KEYED % "env:ACME_KEY")
    assert any(
        "api_key the stored one -> another one" in line for line in run(capsys, "config_import", file, "--plan").lines
    )
    assert run(capsys, "config_import", file, "--apply").code == 0
    key.refresh_from_db()
    assert unseal(key.sealed) == "sk-test-new-1234"
