"""What people say of answers."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction

from analytics.domain.request_ids import came_in_at
from analytics.models import Feedback, FeedbackSource, UsageRecord
from analytics.selectors.requests import with_id

ON_ITS_WAY: Final = timedelta(minutes=1)  # a record is shipped within seconds; feedback may be quicker
LONGEST_TEXT: Final = 4_000


class UnknownDecision(Exception):
    """The team has made no such request."""


@transaction.atomic
def feedback_give(
    *, decision_id: UUID, team_id: int, thumb: str = "", grade: float | None = None, text: str = "", now: datetime
) -> tuple[Feedback, bool]:
    """Keep what a person says of the answer to a request of the team, in place of what was said before; whether it is
    the first.

    A request that came in a moment ago may not be on record yet: it is believed, and whoever learns from feedback
    leaves out what no record of the same team stands behind.

    :raises UnknownDecision: the team has made no such request.
    :raises ValidationError: nothing is said, or nothing that can be kept.
    """
    if not thumb and grade is None and not text:
        raise ValidationError("Say something: a thumb, a grade or a text.")
    record = with_id(UsageRecord.objects.all(), decision_id).values_list("team_id", flat=True).first()
    came_in = came_in_at(decision_id)
    is_on_its_way = record is None and came_in is not None and now - ON_ITS_WAY <= came_in <= now + ON_ITS_WAY
    others = Feedback.objects.filter(decision_id=decision_id).exclude(team_id=team_id)
    if record != team_id and not (is_on_its_way and not others.exists()):
        raise UnknownDecision
    said = Feedback(
        decision_id=decision_id,
        team_id=team_id,
        source=FeedbackSource.USER,
        thumb=thumb,
        grade=grade,
        text=text,
        at=now,
    )
    unsaid = ["grade"] if grade is None else []
    said.full_clean(exclude=["team", *unsaid], validate_unique=False, validate_constraints=False)
    return Feedback.objects.update_or_create(
        decision_id=decision_id,
        source=FeedbackSource.USER,
        deployment="",
        defaults={"team_id": team_id, "thumb": thumb, "grade": grade, "text": text, "at": now},
    )


def feedback_grade(
    *, decision_id: UUID, team_id: int, deployment: str, grade: float, text: str, now: datetime
) -> Feedback:
    """Keep what a judge says of the answer that `deployment` (“provider/upstream-model”) gave to a kept prompt.
    `team_id` is that of the request.

    :raises ValidationError: the grade is not from 0 to 1.
    """
    said: dict[str, Any] = {"team_id": team_id, "thumb": "", "grade": grade, "text": text[:LONGEST_TEXT], "at": now}
    of: dict[str, Any] = {"decision_id": decision_id, "source": FeedbackSource.JUDGE, "deployment": deployment}
    Feedback(**of, **said).full_clean(exclude=["team"], validate_unique=False, validate_constraints=False)
    return Feedback.objects.update_or_create(**of, defaults=said)[0]
