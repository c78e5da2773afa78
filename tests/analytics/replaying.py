"""What tests of replays have in common: two models, a policy that prefers the dear one, and a draft that does not."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User

from analytics.models import DecisionRecord, Replay
from analytics.services.replays import replay_request
from routing.domain.documents import CandidateDocument, PolicyDocument
from routing.domain.recording import Outcome, RecordedCandidate, RecordedInputs, write_inputs
from routing.models import PolicyDraft, RoutingPolicy, Team
from routing.services.lifecycle import draft_create
from tests import gateway as configure
from tests.factories import PriceFactory, TeamFactory, UserFactory

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
SINCE, UNTIL = NOON - timedelta(hours=24), NOON


@dataclass
class Scene:
    """Whom a test has to do with. `author` wrote the draft."""

    policy: RoutingPolicy
    draft: PolicyDraft
    team: Team
    author: User


def scene(**rules: Any) -> Scene:
    """$10 and $1 per million tokens, in and out. `rules` are those of the draft, which has the cheap model first."""
    [dear] = configure.vendor("alpha", "http://127.0.0.1:9", "dear", priced=False)
    [cheap] = configure.vendor("beta", "http://127.0.0.1:9", "cheap", priced=False)
    for deployment, usd in ((dear, 10), (cheap, 1)):
        PriceFactory(model=deployment.model, input_usd=Decimal(usd), output_usd=Decimal(usd))
    aliases = [configure.alias("dear", dear), configure.alias("cheap", cheap)]
    policy = configure.policy("default", preferred=aliases, is_default=True)
    author = UserFactory(is_staff=True, is_superuser=True)
    document = PolicyDocument((CandidateDocument("cheap"), CandidateDocument("dear")), **rules)
    draft = draft_create(policy=policy, by=author, title="Cheap first", document=document)
    policy.refresh_from_db()
    return Scene(policy, draft, TeamFactory(name="Search"), author)


def inputs(number: int, team: Team, **changes: Any) -> RecordedInputs:
    """1,000 tokens in, 100 out, answered by the dear model for 1.1 cents."""
    values: dict[str, Any] = {
        "seed": f"0198-{number}", "turn": number, "requested": "auto", "persona": "", "entry": "default",
        "policy": "default", "policy_version": 1, "key_id": 1, "team_id": team.pk, "allowed": (), "needs": (),
        "is_embedding": False, "input_tokens": 1_000, "max_tokens": 200, "choices": 1, "is_stream": False,
        "only_at": "", "task": None, "rule": None, "tag": "", "conversation": "", "pinned": "", "cached_input": 0,
        "is_tool_loop": False, "usual_output": None, "budget_used": 0.0,
        "candidates": (RecordedCandidate("alpha/dear", 2_000.0), RecordedCandidate("beta/cheap", 300.0)),
        "outcome": Outcome("alpha/dear", 200, "", 1_000, 0, 0, 100, 11_000_000, 2_100.0),
    }  # fmt: skip
    return RecordedInputs(**(values | changes))


def keep(count: int, team: Team, *, at: datetime = UNTIL - timedelta(hours=1), **changes: Any) -> None:
    """So many decisions, a millisecond apart."""
    DecisionRecord.objects.bulk_create(
        DecisionRecord(
            request_id=uuid.uuid4(),
            at=at + timedelta(milliseconds=number),
            policy=changes.get("policy", "default"),
            policy_version=1,
            team=team,
            inputs=write_inputs(inputs(number, team, **changes)),
        )
        for number in range(count)
    )


def asked(place: Scene, **changes: Any) -> Replay:
    """A replay of the day before noon by the draft's rules, that waits."""
    values: dict[str, Any] = {"draft": place.draft, "since": SINCE, "until": UNTIL, "by": place.author}
    return replay_request(policy=place.policy, **(values | changes))
