"""Any text becomes buckets: the same text always the same ones, and what does not matter changes nothing."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.domain.classification.features import (
    BUCKETS,
    HEAD,
    SYSTEM,
    TAIL,
    WORDS,
    cut,
    normal,
    packed,
    read,
    unpacked,
    word_hashes,
)
from routing.domain.classification.types import PromptText

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=300)


def buckets(text: str, system: str = "") -> set[int]:
    return set(read(PromptText(text, system)).buckets.tolist())


@given(ANY_TEXT, ANY_TEXT)
def test_any_text_can_be_read(text: str, system: str) -> None:
    reading = read(PromptText(text, system))
    assert reading.buckets.dtype == np.uint32
    assert len(reading.buckets) > 0
    assert int(reading.buckets.max()) < BUCKETS
    assert not len(reading.words) or int(reading.words.max()) < WORDS


@given(st.binary(max_size=400))
def test_any_bytes_that_came_as_text_can_be_read(raw: bytes) -> None:
    assert len(read(PromptText(raw.decode("latin-1"))).buckets) > 0
    assert len(read(PromptText(raw.decode("utf-8", "surrogateescape"))).buckets) > 0


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\x00", "\ud800", "a", "é", "日", "\u2028", "🙂", "'"])
def test_the_shortest_texts_can_be_read(text: str) -> None:
    assert len(read(PromptText(text)).buckets) > 0


def test_a_megabyte_is_read_like_its_start_and_its_end() -> None:
    start, end = "s" * HEAD, "e" * TAIL
    assert buckets(start + "x" * 1_000_000 + end) == buckets(start + "y" * 1_000_000 + end)
    assert len(normal(cut("日本語" * 400_000))) <= 4 * (HEAD + TAIL) + 8


def test_a_text_of_just_the_length_is_not_cut() -> None:
    whole = "ab" * ((HEAD + TAIL) // 2)
    assert cut(whole) == whole
    assert cut(whole + "c").startswith(whole[:HEAD])


def test_buckets_ascend_and_come_once() -> None:
    found = read(PromptText("the cat and the cat and the cat")).buckets.tolist()
    assert found == sorted(set(found))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Write a POEM", "write a poem"),
        ("write   a\tpoem ", " write a poem"),
        ("add 17 and 4", "add 23 and 9"),
        ("one\r\ntwo", "one\ntwo"),
        ("one\n\n\ntwo", "one\ntwo"),
    ],
)
def test_case_white_space_and_which_digit_it_is_do_not_matter(one: str, other: str) -> None:
    assert buckets(one) == buckets(other)


@pytest.mark.parametrize(("one", "other"), [("one two", "one\ntwo"), ("ab", "abc"), ("17", "170"), ("a b", "b a")])
def test_lines_letters_numbers_of_digits_and_order_do(one: str, other: str) -> None:
    assert buckets(one) != buckets(other)


def test_the_same_words_said_by_the_system_are_other_features() -> None:
    said, told = buckets("you are a poet"), buckets("", "you are a poet") - buckets("")
    assert len(said & told) <= 2  # two may meet by chance
    assert len(told) > 20


def test_only_the_start_of_the_system_prompt_is_read() -> None:
    assert buckets("hi", "x" * SYSTEM + "more") == buckets("hi", "x" * SYSTEM + "something else")


def test_no_system_prompt_is_no_features() -> None:
    assert buckets("hi") < buckets("hi", "be kind")


def test_a_word_is_the_same_wherever_it_stands() -> None:
    first, second, third, fourth = word_hashes(normal("the cat, the dog!")).tolist()
    assert first == third
    assert len({first, second, fourth}) == 3


@given(st.lists(st.text("abcäß漢'_1", min_size=1, max_size=12), max_size=20))
def test_there_is_a_hash_for_each_word(words: list[str]) -> None:
    assert len(word_hashes(normal(" ".join(words)))) == len(words)


def test_the_system_prompt_has_no_part_in_what_is_known() -> None:
    with_system, without = (read(PromptText("hello there", system)) for system in ("you are kind", ""))
    assert with_system.words.tolist() == without.words.tolist()


def test_words_and_pairs_of_words_are_counted_for_what_is_known() -> None:
    assert len(read(PromptText("three small words")).words) == 3 + 2
    assert len(read(PromptText("?!")).words) == 0


def test_packed_buckets_compare_and_come_back() -> None:
    found = read(PromptText("write a poem")).buckets
    assert packed(found) == packed(found.copy())
    assert unpacked(packed(found)).tolist() == found.tolist()
    assert unpacked(found.tolist()).tolist() == found.tolist()
    assert unpacked(()).tolist() == []


def test_another_process_reads_the_same() -> None:
    code = (
        "import json, sys; from routing.domain.classification.features import read;"
        "from routing.domain.classification.types import PromptText;"
        "print(json.dumps(read(PromptText('Schreib ein Gedicht über 3 Katzen', 'sei nett')).buckets.tolist()))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert json.loads(told.stdout) == read(PromptText("Schreib ein Gedicht über 3 Katzen", "sei nett")).buckets.tolist()
