"""The same numbers are the same bytes; what is no artefact says so, and what to do."""

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.domain.classification.artefact import (
    MOST_BYTES,
    Artefact,
    ArtefactError,
    array_of,
    card_check,
    card_text,
    dump,
    load,
    version_of,
)

ARRAYS = {"b": np.arange(6, dtype=np.int8).reshape(2, 3), "a": np.ones(4, dtype=np.float32)}
WHOLE = dump({"reading": "x"}, ARRAYS)


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{name}.npy", content)
    return out.getvalue()


def test_what_is_written_is_read() -> None:
    found = load(WHOLE)
    assert found.settings["reading"] == "x"
    assert sorted(found.arrays) == ["a", "b"]
    assert found.arrays["b"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found.arrays["b"].dtype == np.int8


def test_the_order_of_the_input_changes_nothing() -> None:
    assert dump({"reading": "x"}, dict(reversed(ARRAYS.items()))) == WHOLE
    assert dump({"y": 1, "x": 2}, {}) == dump({"x": 2, "y": 1}, {})


def test_how_an_array_lies_in_memory_changes_nothing() -> None:
    other = {**ARRAYS, "b": np.asfortranarray(ARRAYS["b"])}
    assert dump({"reading": "x"}, other) == WHOLE


def test_there_is_no_time_in_the_file() -> None:
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_version_is_of_the_content() -> None:
    assert load(WHOLE).version == version_of(WHOLE)
    assert version_of(dump({"reading": "y"}, ARRAYS)) != version_of(WHOLE)
    assert len(version_of(WHOLE)) == 16


@pytest.mark.parametrize("data", [b"", b"no archive", WHOLE[:100], WHOLE[:-40], WHOLE[100:]])
def test_what_is_cut_or_no_archive_is_said_to_be_damaged(data: bytes) -> None:
    with pytest.raises(ArtefactError, match=r"damaged.*Restore the file, or train a new one"):
        load(data)


@settings(max_examples=60)
@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_changed_byte_never_raises_anything_else(position: int, value: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[position] = value
    try:
        assert isinstance(load(bytes(damaged)), Artefact)
    except ArtefactError:
        pass


@given(st.binary(max_size=200))
def test_nor_does_any_other_file(data: bytes) -> None:
    with pytest.raises(ArtefactError):
        load(data)


def test_an_archive_of_something_else_is_no_artefact() -> None:
    content = io.BytesIO()
    np.save(content, np.ones(3))
    with pytest.raises(ArtefactError, match="no settings"):
        load(zipped(weights=content.getvalue()))


def test_python_objects_are_not_loaded() -> None:
    content = io.BytesIO()
    np.save(content, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ArtefactError, match="damaged"):
        load(zipped(settings=content.getvalue()))


def test_an_archive_that_would_fill_the_memory_is_refused_unread() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros.npy", "w") as entry:
        for _ in range(MOST_BYTES // 1_000_000 + 1):
            entry.write(b"\0" * 1_000_000)
    with pytest.raises(ArtefactError, match="unpacks to"):
        load(out.getvalue())


def test_another_format_asks_for_a_new_training() -> None:
    told = np.frombuffer(json.dumps({"format": 99}).encode(), dtype=np.uint8)
    content = io.BytesIO()
    np.save(content, told)
    with pytest.raises(ArtefactError, match="another version"):
        load(zipped(settings=content.getvalue()))


def test_settings_that_are_no_object_are_refused() -> None:
    content = io.BytesIO()
    np.save(content, np.frombuffer(b"[1]", dtype=np.uint8))
    with pytest.raises(ArtefactError):
        load(zipped(settings=content.getvalue()))


@pytest.mark.parametrize(("shape", "kind"), [((3, 2), "int8"), ((2,), "int8"), ((2, 3), "float32")])
def test_an_array_of_another_shape_or_kind_is_refused(shape: tuple[int, ...], kind: str) -> None:
    with pytest.raises(ArtefactError, match=r"“b” of the artefact is int8\(2, 3\)"):
        array_of(load(WHOLE), "b", shape, kind)


def test_any_length_is_minus_one() -> None:
    assert array_of(load(WHOLE), "b", (-1, 3), "int8").shape == (2, 3)


def test_an_array_that_is_not_there_is_named() -> None:
    with pytest.raises(ArtefactError, match="no “weights”"):
        array_of(load(WHOLE), "weights", (1,), "int8")


def test_a_card_belongs_to_its_bytes() -> None:
    card = card_text({"version": version_of(WHOLE), "b": 1, "a": "ü"})
    assert card_check(card, WHOLE)["a"] == "ü"
    assert card.index('"a"') < card.index('"b"')
    with pytest.raises(ArtefactError, match="Install both files together"):
        card_check(card, WHOLE + b" ")


@pytest.mark.parametrize("card", ["", "{", "[]", "{}"])
def test_a_card_that_is_none_is_refused(card: str) -> None:
    with pytest.raises(ArtefactError):
        card_check(card, WHOLE)
