"""What usage teaches: prompts that people have labelled, answers that people and judges have graded, and what is still
to be labelled."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Q, QuerySet

from analytics.domain.request_ids import came_in_within
from analytics.models import DecisionRecord, Feedback, FeedbackSource, Thumb, UsageRecord
from providers.fields import unseal
from providers.models import Deployment
from routing.domain.classification.types import PromptText
from routing.domain.config import TaskType
from routing.training.examples import GradedExample, TaskExample

OWN: Final = "own traffic"
AT_ONCE: Final = 500  # decisions whose records are looked up by one query
GRADE_OF_THUMB: Final = {Thumb.UP: 1.0, Thumb.DOWN: 0.0}


@dataclass(frozen=True, slots=True)
class Labelling:
    """How far labelling has come among the decisions whose prompts are kept."""

    labelled: int
    waiting: int

    @property
    def all(self) -> int:
        return self.labelled + self.waiting


def prompt_of(record: DecisionRecord) -> str:
    """The clear text of a kept prompt; “” where there is none, or no field key of this installation opens it."""
    if not record.prompt:
        return ""
    try:
        return unseal(record.prompt)
    except ImproperlyConfigured:
        return ""


def to_label() -> QuerySet[DecisionRecord]:
    """Decisions with a kept prompt that nobody has labelled, the least certain first."""
    waiting = DecisionRecord.objects.exclude(prompt="").filter(label="")
    return waiting.order_by("confidence", "at", "pk")


def labelling() -> Labelling:
    kept = DecisionRecord.objects.exclude(prompt="")
    return Labelling(kept.exclude(label="").count(), kept.filter(label="").count())


def labelled_examples(*, since: datetime | None = None) -> list[TaskExample]:
    """Prompts whose kind of work a person has said, the oldest first."""
    rows = DecisionRecord.objects.exclude(prompt="").exclude(label__in=["", TaskType.ANY])
    if since is not None:
        rows = rows.filter(at__gte=since)
    return [
        TaskExample(PromptText(prompt), TaskType(row.label), OWN, id=str(row.pk))
        for row in rows.order_by("at", "pk").iterator()
        if (prompt := prompt_of(row))
    ]


def graded_examples(*, since: datetime | None = None) -> list[GradedExample]:
    """Kept prompts with the grades of the models that answered them, 0 to 1, in the order of their ids."""
    return [
        GradedExample(PromptText(prompts[record.pk]), scores, record.tag, str(record.pk))
        for graded in graded_answers(since=since)
        for prompts in [_prompts(graded)]
        for record, scores in graded.values()
        if record.pk in prompts
    ]


def graded_answers(*, since: datetime | None = None) -> Iterator[dict[UUID, tuple[UsageRecord, dict[str, float]]]]:
    """Requests with what was said of their answers, by model: a thumb up is 1, a thumb down 0. Some at a time.

    Feedback that no request of the same team stands behind is left out.
    """
    said = Feedback.objects.filter(Q(grade__isnull=False) | ~Q(thumb=""))
    if since is not None:
        said = said.filter(at__gte=since)
    by_request: dict[UUID, list[Feedback]] = defaultdict(list)
    for one in said.order_by("at", "pk").iterator():
        by_request[one.decision_id].append(one)
    models, ids = models_served(), sorted(by_request)
    for start in range(0, len(ids), AT_ONCE):
        records = _records(ids[start : start + AT_ONCE])
        scored = ((record, _scores(record, by_request[record.pk], models)) for record in records)
        yield {record.pk: (record, scores) for record, scores in scored if scores}


def _prompts(request_ids: Collection[UUID]) -> dict[UUID, str]:
    kept = DecisionRecord.objects.filter(pk__in=list(request_ids)).exclude(prompt="").only("prompt")
    return {row.pk: prompt for row in kept if (prompt := prompt_of(row))}


def models_served() -> dict[str, str]:
    """The catalogue's name of the model behind each “provider/upstream-model”."""
    rows = Deployment.objects.values_list("provider__name", "upstream_model", "model__name")
    return {f"{provider}/{upstream}": model for provider, upstream, model in rows}


def _records(request_ids: Collection[UUID]) -> list[UsageRecord]:
    """One query, narrowed to the time that the ids tell, in the order of their ids."""
    within = [came_in_within(request_id) for request_id in request_ids]
    rows = UsageRecord.objects.filter(request_id__in=list(request_ids))
    if all(within):
        first, last = min(one.begins_at for one in within if one), max(one.ends_before for one in within if one)
        rows = rows.filter(started_at__gte=first, started_at__lt=last)
    return list(rows.only("team_id", "model", "deployment", "tag").order_by("request_id"))


def _scores(record: UsageRecord, said: Iterable[Feedback], models: Mapping[str, str]) -> dict[str, float]:
    """By model; what was said last of it counts."""
    scores: dict[str, float] = {}
    for one in said:
        if one.team_id != record.team_id:
            continue
        of_itself = one.deployment in {"", record.deployment}
        model = record.model if of_itself else models.get(one.deployment, one.deployment.partition("/")[2])
        if model:
            scores[model] = GRADE_OF_THUMB[Thumb(one.thumb)] if one.grade is None else one.grade
    return scores


def feedback_of(request_id: UUID) -> list[Feedback]:
    """What was said of a request's answers, people first."""
    rank = {FeedbackSource.USER: 0, FeedbackSource.JUDGE: 1}
    return sorted(Feedback.objects.filter(decision_id=request_id), key=lambda one: rank[FeedbackSource(one.source)])
