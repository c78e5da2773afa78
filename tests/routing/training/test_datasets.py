"""Files are read whole or refused with the line that is wrong."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from routing.domain.config import TaskType
from routing.training.datasets import DatasetError, fingerprint, graded_examples, rows, task_examples
from tests.routing.training import data


def test_labelled_prompts_are_read(tmp_path: Path) -> None:
    path = data.write(
        tmp_path / "some.jsonl",
        [{"id": "a", "prompt": "hi", "system": "be kind", "label": "SIMPLE_QA", "source": "s", "licence": "CC0"}],
    )
    [found] = task_examples(path)
    assert (found.prompt.text, found.prompt.system) == ("hi", "be kind")
    assert (found.label, found.source, found.licence, found.id) == (TaskType.SIMPLE_QA, "s", "CC0", "a")


def test_a_file_without_sources_is_one_source(tmp_path: Path) -> None:
    path = data.write(tmp_path / "mine.jsonl", [{"prompt": "hi", "label": "CODING"}])
    assert task_examples(path)[0].source == "mine"


def test_a_gzipped_file_is_read_alike(tmp_path: Path) -> None:
    plain = data.write(tmp_path / "a.jsonl", data.task_rows())
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert [one.prompt for one in task_examples(packed)] == [one.prompt for one in task_examples(plain)]


def test_empty_lines_and_separators_inside_of_texts_do_not_split(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    line = json.dumps({"prompt": "one\u2028two\x85three", "label": "CODING"}, ensure_ascii=False)
    path.write_text(f"\n{line}\n\n", encoding="utf-8")
    assert [one.prompt.text for one in task_examples(path)] == ["one\u2028two\x85three"]


def test_grades_of_many_models_are_read(tmp_path: Path) -> None:
    path = data.write(tmp_path / "g.jsonl", [{"prompt": "hi", "scores": {"a": 1, "b": 0.5}, "source": "chat"}])
    [found] = graded_examples(path)
    assert found.scores == {"a": 1.0, "b": 0.5}
    assert found.tag == "chat"


def test_grades_of_a_pair_are_read(tmp_path: Path) -> None:
    path = data.write(
        tmp_path / "g.jsonl", [{"prompt": "hi", "strong": 1.0, "weak": 0, "domain": "law", "source": "x"}]
    )
    [found] = graded_examples(path)
    assert found.scores == {"strong": 1.0, "weak": 0.0}
    assert found.tag == "law"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "hi", "label": "POETRY"}, "row 1: label 'POETRY' is none of ANALYSIS"),
        ({"prompt": "hi", "label": "ANY"}, "is none of"),
        ({"prompt": "hi"}, "label None"),
    ],
)
def test_a_label_that_there_is_not_is_named(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    with pytest.raises(DatasetError, match=told):
        task_examples(data.write(tmp_path / "a.jsonl", [row]))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "hi"},
        {"prompt": "hi", "scores": {}},
        {"prompt": "hi", "scores": {"a": 1.5}},
        {"prompt": "hi", "scores": {"a": float("nan")}},
        {"prompt": "hi", "scores": {"a": "good"}},
        {"prompt": "hi", "scores": [1]},
        {"prompt": "hi", "scores": {"a": None}},
    ],
)
def test_grades_that_are_none_are_refused(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match="row 1"):
        graded_examples(data.write(tmp_path / "a.jsonl", [row]))


@pytest.mark.parametrize("line", ["{", "[]", "1", '{"prompt": 5}', '{"text": "hi"}', "hello"])
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"prompt": "fine"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(DatasetError, match=r"a\.jsonl, line 2"):
        list(rows(path))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x1f\x8b\x08\x00cut"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=name):
        list(rows(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere"):
        list(rows(tmp_path / "nowhere.jsonl"))


def test_the_card_tells_which_files_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"abc")
    assert fingerprint([path]) == {"a.jsonl": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
