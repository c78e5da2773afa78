"""Where secrets come from, and what is said when they are not there: never a word of them."""

from pathlib import Path

import pytest

from routerplatform.configuration.secret_values import MAX_SECRET_BYTES, NotThere, resolved

HERE = {"ACME_KEY": " sk-test-1234\n", "EMPTY": "  "}


@pytest.mark.parametrize("reference", ["${ACME_KEY}", "env:ACME_KEY"])
def test_a_variable_is_looked_up_without_the_space_around_it(reference: str) -> None:
    assert resolved(reference, HERE) == "sk-test-1234"


@pytest.mark.parametrize("reference", ["${OTHER}", "env:EMPTY"])
def test_a_variable_that_is_not_set_or_empty_is_named(reference: str) -> None:
    name = reference.strip("${}").removeprefix("env:")
    with pytest.raises(NotThere, match=f"the environment variable {name} is not set here"):
        resolved(reference, HERE)


def test_a_file_is_read_without_the_space_around_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("sk-test-1234\n")
    assert resolved(f"file:{path}", {}) == "sk-test-1234"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"\xff\xfe", "is no text"),
        (b"k" * (MAX_SECRET_BYTES + 1), "is too large for a secret"),
    ],
)
def test_a_file_without_a_secret_in_it_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(NotThere, match=f"{path} {said}"):
        resolved(f"file:{path}", {})


def test_a_folder_is_no_secret(tmp_path: Path) -> None:
    with pytest.raises(NotThere, match="cannot be read: Is a directory"):
        resolved(f"file:{tmp_path}", {})


def test_what_is_no_reference_leads_nowhere() -> None:
    with pytest.raises(NotThere):
        resolved("sk-test-1234", HERE)
