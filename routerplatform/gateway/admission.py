"""Let a decided request in: what it may cost is put on record before anything is sent upstream."""

from dataclasses import dataclass
from datetime import datetime

from analytics.domain.usage import UsageEntry
from analytics.ledger.ledger import Ledger
from providers.domain.types import ChatRequest
from routing.domain.config import Caller
from routing.domain.decision import RoutePlan, explanation


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that is in; `draft` becomes its usage record."""

    draft: UsageEntry


def admit(
    ledger: Ledger, caller: Caller, plan: RoutePlan, *, request: ChatRequest, request_id: str, door: str, now: datetime,
    config_revision: int,
) -> Admission:  # fmt: skip
    """Open the request's record in the journal."""
    draft = UsageEntry(
        request_id=request_id,
        started_at=now.timestamp(),
        door=door,
        team_id=caller.team_id,
        team_name=caller.team_name,
        key_id=caller.key_id,
        key_name=caller.key_name,
        key_prefix=caller.key_prefix,
        requested_model=plan.requested,
        config_revision=config_revision,
        is_stream=request.stream,
        persona=plan.persona,
        policy=plan.policy,
        decision=explanation(plan),
    )
    ledger.reserve(draft)
    return Admission(draft)
