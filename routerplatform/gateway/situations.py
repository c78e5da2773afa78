"""What is true when a request comes in and no configuration says: gathered here, so that the decision is pure.

Only what the request's policy looks at is looked at. A request that names a model costs nothing here.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Final

from providers.domain.types import ChatRequest
from routerplatform.gateway.tally import Tally
from routing.domain.config import Caller, ConfigSnapshot
from routing.domain.decision import NoRoute, RoutePlan, policy_named
from routing.domain.situation import NO_SITUATION, Situation

TAG: Final = "x-router-tag"


class Situations:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._turns: defaultdict[int, Iterator[int]] = defaultdict(count)  # by policy

    async def of(
        self, snapshot: ConfigSnapshot, caller: Caller, request: ChatRequest, hints: Mapping[str, str], request_id: str
    ) -> Situation:
        """The situation of a request that begins; its turn is taken."""
        try:
            policy, _ = policy_named(snapshot, request)
        except NoRoute:  # the decision says so
            return NO_SITUATION
        if policy is None:
            return NO_SITUATION
        return Situation(seed=request_id, turn=next(self._turns[policy.id]), tag=hints.get(TAG, ""))

    def ended(self, plan: RoutePlan, situation: Situation, tally: Tally) -> None:
        """Learn from a request that is over."""
