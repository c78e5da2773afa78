"""What is written as YAML is read as what it was, by our reader and by any other."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from routerplatform.configuration.exporting import reference_for, to_yaml
from routerplatform.configuration.reading import read
from routerplatform.configuration.shapes import REFERENCE

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=60).map(
    lambda text: "".join(one for one in text if one.isprintable() or one in "\n\t")
)
SCALARS = TEXTS | st.booleans() | st.none() | st.integers(-(10**12), 10**12) | st.floats(0, 1e6, allow_nan=False)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


@given(st.dictionaries(TEXTS, TREES, max_size=4))
def test_any_values_survive_the_way_into_yaml_and_back(values: dict[str, Any]) -> None:
    text = to_yaml(values)
    assert yaml.safe_load(text) == values
    if values:
        assert read(text, "x.yaml").plain() == values


@pytest.mark.parametrize(
    "text", ["no", "1.5", "1e3", "~", "", " x ", "#x", "a: b", "- a", "2026-01-01", "<<", "0777", "é"]
)
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    assert read(to_yaml({"a": text, text: 1}), "x.yaml").plain() == {"a": text, text: 1}


def test_texts_of_several_lines_are_blocks_and_lists_are_indented() -> None:
    written = to_yaml({"prompt": "Be short.\n\nBe kind.\n", "list": ["a", {"b": 1}]}, header="")
    assert written == "prompt: |\n  Be short.\n\n  Be kind.\nlist:\n  - a\n  - b: 1\n"


def test_figures_and_moments_are_written_as_by_hand() -> None:
    values = {"a": Decimal("0.150000"), "b": Decimal("100.00"), "c": datetime(2030, 5, 1, 12, tzinfo=UTC)}
    values |= {"d": Decimal("1E-9")}
    assert to_yaml(values, header="") == "a: 0.15\nb: 100\nc: 2030-05-01T12:00:00Z\nd: 0.000000001\n"


def test_the_same_list_twice_is_no_alias() -> None:
    limits = [1, 2]
    assert "*" not in to_yaml({"a": limits, "b": limits}, header="")


@pytest.mark.parametrize(
    ("parts", "reference"),
    [
        (("openai", "production, EU", "API_KEY"), "${OPENAI_PRODUCTION__EU_API_KEY}"),
        (("4th", "ключ", "API_KEY"), "${_4TH______API_KEY}"),
    ],
)
def test_a_reference_is_a_name_that_a_shell_takes(parts: tuple[str, ...], reference: str) -> None:
    assert reference_for(*parts) == reference
    assert REFERENCE.fullmatch(reference)
