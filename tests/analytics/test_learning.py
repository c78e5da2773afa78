"""What usage teaches: labelled and graded prompts, out of feedback of the team's own requests."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from analytics.models import Feedback
from analytics.selectors import learning
from analytics.selectors.learning import feedback_of, graded_examples, labelled_examples
from analytics.services.feedback import UnknownDecision, feedback_give, feedback_grade
from routing.domain.config import TaskType
from routing.training import datasets
from tests.analytics.learned import decided, request_at, said
from tests.factories import NOON, CatalogueModelFactory, DeploymentFactory, ProviderFactory, TeamFactory

pytestmark = pytest.mark.django_db


def test_labelled_prompts_are_examples_and_what_fits_nothing_is_none() -> None:
    late = decided("Write a poem", label="CREATIVE", at=NOON + timedelta(days=3))
    decided("Fix it", label="CODING"), decided("no label"), decided("?", label="ANY"), decided("", label="CODING")
    assert [(one.prompt.text, one.label) for one in labelled_examples()] == [
        ("Fix it", TaskType.CODING),
        ("Write a poem", TaskType.CREATIVE),
    ]
    assert [one.id for one in labelled_examples(since=NOON + timedelta(days=1))] == [str(late.pk)]


def test_thumbs_and_grades_become_scores_of_the_models_that_answered() -> None:
    other = DeploymentFactory(
        provider=ProviderFactory(name="beta"), model=CatalogueModelFactory(name="sage"), upstream_model="sage-v1"
    )
    record = decided("Why?", of_record={"model": "swift", "deployment": "alpha/swift-v1", "tag": "support"})
    said(record, thumb="up")
    said(record, source="judge", deployment=f"beta/{other.upstream_model}", grade=0.25)
    said(decided("graded twice", of_record={"model": "swift"}), thumb="down", grade=0.75)
    said(decided("only words"), text="Nice.")
    assert [(one.prompt.text, one.scores, one.tag) for one in graded_examples()] == [
        ("Why?", {"swift": 1.0, "sage": 0.25}, "support"),
        ("graded twice", {"swift": 0.75}, ""),
    ]


def test_a_judge_who_graded_the_served_answer_later_has_the_last_word() -> None:
    record = decided(of_record={"model": "swift", "deployment": "alpha/swift-v1"})
    said(record, thumb="up")
    said(record, source="judge", deployment="alpha/swift-v1", grade=0.5, at=record.at + timedelta(hours=1))
    [example] = graded_examples()
    assert example.scores == {"swift": 0.5}


def test_feedback_that_no_request_of_the_team_stands_behind_teaches_nothing() -> None:
    said(decided("somebody else's"), thumb="down", team_id=TeamFactory().pk)
    Feedback.objects.create(decision_id=request_at(NOON), team=TeamFactory(), thumb="up")
    said(decided(""), thumb="up")  # no prompt is kept
    assert graded_examples() == []


def test_many_grades_are_read_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "AT_ONCE", 2)
    for number in range(5):
        said(decided(f"prompt {number}", at=NOON + timedelta(days=number)), grade=number / 4)
    assert [list(one.scores.values()) for one in graded_examples()] == [[0.0], [0.25], [0.5], [0.75], [1.0]]
    since = NOON + timedelta(days=3)
    assert [one.prompt.text for one in graded_examples(since=since)] == ["prompt 3", "prompt 4"]


def test_the_files_are_those_that_training_reads(tmp_path: Path) -> None:
    decided("Schreib ein Gedicht", label="CREATIVE")
    said(decided("Why?", of_record={"model": "swift", "tag": "support"}), grade=0.5)
    labelled, graded = tmp_path / "labelled.jsonl", tmp_path / "graded.jsonl"
    call_command("router_examples", labelled=labelled, graded=graded)
    [task] = datasets.task_examples(labelled)
    assert (task.prompt.text, task.label, task.source) == ("Schreib ein Gedicht", TaskType.CREATIVE, "own traffic")
    [example] = datasets.graded_examples(graded)
    assert (example.prompt.text, example.scores, example.tag) == ("Why?", {"swift": 0.5}, "support")
    assert json.loads(graded.read_text())["id"] == example.id
    assert graded.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [([], "Say where to write"), (["--labelled", "/nowhere/at/all"], "Cannot write"), (["--since", "soon"], "say 7d")],
)
def test_what_cannot_be_written_is_said(options: list[str], complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint):
        call_command("router_examples", *options)


# --- feedback -------------------------------------------------------------------------------------------------------


def give(decision: Any, team: int, **fields: Any) -> tuple[Feedback, bool]:
    return feedback_give(decision_id=decision, team_id=team, now=NOON, **fields)


def test_whoever_guesses_an_id_that_is_on_its_way_does_not_take_the_place_of_its_team() -> None:
    decision, guesser = request_at(NOON), TeamFactory()
    give(decision, guesser.pk, thumb="down")
    with pytest.raises(UnknownDecision):
        give(decision, TeamFactory().pk, thumb="up")
    record = decided(at=NOON)
    Feedback.objects.update(decision_id=record.pk)
    said_of, _ = give(record.pk, record.team_id, thumb="up")  # the record tells whose it is
    assert (said_of.team_id, Feedback.objects.get().thumb) == (record.team_id, "up")


def test_a_judges_grades_stand_beside_what_people_say_one_for_each_model() -> None:
    record = decided()
    give(record.pk, record.team_id, thumb="up")
    for deployment, grade in (("a/x", 0.2), ("b/y", 0.4), ("a/x", 0.9)):
        feedback_grade(
            decision_id=record.pk, team_id=record.team_id, deployment=deployment, grade=grade, text="", now=NOON
        )
    rows = [(one.source, one.deployment, one.grade) for one in feedback_of(record.pk)]
    assert rows[0] == ("user", "", None)
    assert sorted(rows[1:]) == [("judge", "a/x", 0.9), ("judge", "b/y", 0.4)]
