"""Decisions whose prompts are kept, and what people say of the answers."""

import itertools
import uuid
from datetime import datetime, timedelta
from typing import Any

from analytics.models import DecisionRecord, Feedback, UsageRecord
from providers.fields import seal
from tests.factories import NOON, UsageRecordFactory

_number = itertools.count(1)


def request_at(at: datetime) -> uuid.UUID:
    """An id as gateways make them: it tells when the request came in."""
    return uuid.UUID(int=(int(at.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | next(_number))


def decided(prompt: str = "Fix this function", *, at: datetime = NOON, **fields: Any) -> DecisionRecord:
    """A decision with its usage record. `of_record` are fields of that."""
    of_record = fields.pop("of_record", {})
    record: UsageRecord = UsageRecordFactory.create(request_id=request_at(at), at=at, **of_record)
    values = {"policy": "default", "task_type": "CODING", "confidence": 0.5, "inputs": b"", **fields}
    made: DecisionRecord = DecisionRecord.objects.create(
        request_id=record.pk, at=at, team_id=record.team_id, prompt=seal(prompt) if prompt else "", **values
    )
    return made


def said(record: DecisionRecord, **fields: Any) -> Feedback:
    """Feedback of the request's own team, a minute later."""
    values = {"decision_id": record.pk, "team_id": record.team_id, "at": record.at + timedelta(minutes=1), **fields}
    made: Feedback = Feedback.objects.create(**values)
    return made
