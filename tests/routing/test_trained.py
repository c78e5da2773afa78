"""The artefact in force is ready before the configuration that names it, and one that cannot be read stops nothing."""

from pathlib import Path

import pytest

from routing.domain.classification.artefact import ArtefactError, dump, load
from routing.domain.classification.types import PromptText, QualityQuestion
from routing.domain.config import TaskType
from routing.domain.situation import quality_by_tier
from routing.trained import KEPT, SHIPPED, SHIPPED_FILE, TrainedArtefacts, trained_from

SHIPPED_BYTES = SHIPPED_FILE.read_bytes()


def variant(number: int) -> bytes:
    """Another artefact, that says the same."""
    artefact = load(SHIPPED_BYTES)
    return dump({**artefact.settings, "variant": number}, artefact.arrays)


def prepared(version: str = SHIPPED, data: bytes | None = None) -> TrainedArtefacts:
    artefacts = TrainedArtefacts()
    artefacts.prepare(version, lambda _: data)
    return artefacts


def test_the_shipped_one_classifies_and_estimates() -> None:
    shipped = prepared().of(SHIPPED)
    assert shipped.classifier is not None
    found = shipped.classifier.classify(PromptText("Fix the bug in this Python function, it raises a TypeError"))
    assert not isinstance(found, str)
    assert found.label is TaskType.CODING
    assert 0 < shipped.quality(QualityQuestion("a-model", "premium", found)).mean < 1


def test_before_anything_is_loaded_nobody_knows_and_everything_goes_on() -> None:
    nothing = TrainedArtefacts().of(SHIPPED)
    assert nothing.classifier is None
    assert nothing.quality is quality_by_tier


def test_a_trained_one_takes_its_place_for_those_who_name_it() -> None:
    artefacts = prepared("own", variant(1))
    assert artefacts.of("own").version == load(variant(1)).version
    assert artefacts.of(SHIPPED).version == load(SHIPPED_BYTES).version
    assert artefacts.problems == ()


@pytest.mark.parametrize("data", [None, b"", b"no archive", SHIPPED_BYTES[:-100]])
def test_one_that_cannot_be_read_is_a_problem_and_the_shipped_one_stands_in(data: bytes | None) -> None:
    artefacts = prepared("own", data)
    [problem] = artefacts.problems
    assert problem.startswith("The trained artefact own is not used, the shipped one is: ")
    assert artefacts.of("own") is artefacts.of(SHIPPED)


def test_the_problem_is_over_with_the_next_that_can_be_read() -> None:
    artefacts = prepared("own", b"no archive")
    artefacts.prepare("other", lambda _: variant(2))
    assert artefacts.problems == ()
    artefacts.prepare("own", lambda _: b"no archive")
    artefacts.prepare(SHIPPED, lambda _: None)
    assert artefacts.problems == ()


def test_each_is_read_once_and_the_latest_few_are_kept() -> None:
    artefacts, asked = TrainedArtefacts(), list[str]()

    def data_of(version: str) -> bytes:
        asked.append(version)
        return variant(int(version))

    for version in ("1", "1", "2", "3", "4", "4"):
        artefacts.prepare(version, data_of)
    assert asked == ["1", "2", "3", "4"]
    ready = [version for version in "1234" if artefacts.of(version) is not artefacts.of(SHIPPED)]
    assert ready == list("1234")[-KEPT:]


def test_one_that_is_in_force_again_outlives_those_that_came_in_between() -> None:
    """Requests that began with it are still under way when the next one comes."""
    artefacts = TrainedArtefacts()
    for version in ("1", "2", "3", "1", "4"):
        artefacts.prepare(version, lambda version: variant(int(version)))
    assert artefacts.of("1") is not artefacts.of(SHIPPED)
    assert artefacts.of("4") is not artefacts.of(SHIPPED)
    assert artefacts.of("2") is artefacts.of(SHIPPED)


def test_without_the_shipped_file_only_the_kind_of_work_is_unknown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    artefacts = TrainedArtefacts(shipped=tmp_path / "default.npz")
    artefacts.prepare(SHIPPED, lambda _: None)
    assert artefacts.of(SHIPPED).classifier is None
    assert "the shipped artefact cannot be used" in caplog.text


def test_what_is_no_artefact_is_refused_in_words() -> None:
    with pytest.raises(ArtefactError, match="damaged"):
        trained_from(b"no archive")
