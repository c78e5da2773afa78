"""Estimates of quality are made once for each classification and model."""

from routerplatform.gateway.quality_memo import MOST_EACH, QualityMemo
from routing.domain.classification.types import Classification, QualityEstimate, QualityQuestion
from routing.domain.config import TaskType
from routing.trained import Trained

ASKED: list[QualityQuestion] = []


def estimate(question: QualityQuestion) -> QualityEstimate:
    ASKED.append(question)
    return QualityEstimate(0.5 + len(ASKED) / 1_000, 0, "counted")


def question(model: str, task: Classification | None, tag: str = "") -> QualityQuestion:
    return QualityQuestion(model, "standard", task, tag)


def test_a_question_that_was_asked_has_its_answer() -> None:
    ASKED.clear()
    memo, trained = QualityMemo(), Trained("one", about=lambda task: estimate)
    coding, poem = Classification(TaskType.CODING), Classification(TaskType.CREATIVE)
    for task in (coding, coding, poem, None, None):
        for model in ("swift", "sage"):
            memo.reader(trained, task)(question(model, task))
    assert [(one.model, one.task) for one in ASKED] == [
        ("swift", coding), ("sage", coding), ("swift", poem), ("sage", poem), ("swift", None), ("sage", None),
    ]  # fmt: skip


def test_another_artefact_another_tier_and_another_tag_are_other_questions() -> None:
    ASKED.clear()
    memo, task = QualityMemo(), Classification(TaskType.CODING)
    for version in ("one", "two"):
        reader = memo.reader(Trained(version, about=lambda task: estimate), task)
        for tag in ("", "search"):
            assert reader(question("swift", task, tag)) is reader(question("swift", task, tag))
    assert len(ASKED) == 4


def test_equal_classifications_of_different_texts_are_not_mixed_up() -> None:
    """They may have the same label, and their features differ."""
    ASKED.clear()
    memo, trained = QualityMemo(), Trained("one", about=lambda task: estimate)
    for features in ((1, 2), (1, 2), (3, 4)):
        task = Classification(TaskType.CODING, features=features)
        memo.reader(trained, task)(question("swift", task))
    assert len(ASKED) == 3


def test_callers_cannot_fill_the_memory_with_tags_and_texts() -> None:
    memo, task = QualityMemo(most=2), Classification(TaskType.CODING)
    trained = Trained("one", about=lambda task: estimate)
    reader = memo.reader(trained, task)
    for number in range(3 * MOST_EACH):
        reader(question("swift", task, f"tag-{number}"))
    for _ in range(10):
        memo.reader(trained, Classification(TaskType.CODING))
    assert len(memo._known) == 2
    assert all(len(estimates) <= MOST_EACH for _, estimates in (held for _, held in memo._known._held.values()))
