"""What people say a prompt's kind of work is."""

from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError

from analytics.models import DecisionRecord
from routing.domain.config import TaskType


def label_set(*, request_id: UUID, label: str, by: User, now: datetime) -> bool:
    """Keep the label of a kept prompt; ANY says that none of the kinds fits, and takes it off the queue as well. False
    when the prompt is gone meanwhile.

    :raises ValidationError: there is no such kind of work.
    """
    if label not in set(TaskType):
        raise ValidationError(f"“{label}” is no kind of work. Choose one of: {', '.join(TaskType)}.")
    rows = DecisionRecord.objects.filter(pk=request_id).exclude(prompt="")
    return rows.update(label=label, labelled_by=by, labelled_at=now) == 1
