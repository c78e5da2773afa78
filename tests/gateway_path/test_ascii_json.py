"""JSON for clients that trip over anything but ASCII."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Struct, UnsetType

from routerplatform.doors.formats.ascii_json import encode

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
)
halves = st.text(st.characters(categories=["Cs"]) | st.characters(), max_size=12)


class Sample(Struct):
    text: str
    more: str | UnsetType = UNSET


@given(values)
def test_what_is_encoded_means_the_same_and_is_ascii(value: Any) -> None:
    encoded = encode(value)
    assert encoded.isascii()
    assert json.loads(encoded) == value
    assert msgspec.json.decode(encoded) == value


@given(halves)
def test_halves_of_characters_are_written_as_they_are(text: str) -> None:
    encoded = encode(Sample(text))
    assert encoded.isascii()
    assert json.loads(encoded) == {"text": json.loads(json.dumps(text))}


def test_plain_json_is_left_alone() -> None:
    assert encode(Sample("a\n\x7f")) == msgspec.json.encode(Sample("a\n\x7f"))


@pytest.mark.parametrize("text", ["\u2028", "\x85", "é", "🙂"])
def test_no_client_finds_a_line_end_in_it(text: str) -> None:
    assert len(encode(Sample(text)).decode().splitlines()) == 1
