"""How deployments do at present, as this process sees it: how long they take, what they have under way, what is left of
their limits, and whether they are asked at all."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from analytics.domain.usage import Attempt
from providers.domain.errors import FailureKind
from providers.domain.out_of_service import OutOfService
from providers.domain.types import Deployment
from providers.fleet.health import FleetHealth
from routerplatform.gateway.rate_limits import RateLimits
from routerplatform.gateway.tally import Tally
from routing.domain.situation import Standing

NEWEST_WEIGHS: Final = 0.2  # of the latest answer in the average
FORGOTTEN_AFTER_S: Final = 600.0  # a deployment that nobody asks is tried again as if nothing was known of it


@dataclass(slots=True)
class Pace:
    """An average of milliseconds in which what is older counts less and less; `at` is when it last changed."""

    average_ms: float
    at: float

    def saw(self, latency_ms: float, at: float) -> None:
        self.average_ms += NEWEST_WEIGHS * (latency_ms - self.average_ms)
        self.at = at


class DeploymentStandings:
    """Belongs to one event loop. Holds two figures for each deployment that was ever asked."""

    def __init__(
        self, health: FleetHealth, rate_limits: RateLimits, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._health = health
        self._rate_limits = rate_limits
        self._clock = clock
        self._paces: dict[tuple[str, bool], Pace] = {}  # by deployment, and whether it was a stream

    def reader(self, *, is_stream: bool) -> Callable[[Deployment], Standing]:
        """How each deployment stands for a request of this kind, asked one by one as a strategy needs them."""
        return lambda deployment: self.of(deployment, is_stream=is_stream)

    def of(self, deployment: Deployment, *, is_stream: bool) -> Standing:
        """In flight is what this process has under way, headroom what `RateLimits.headroom` says."""
        return Standing(
            latency_ms=self._latency_ms(deployment.name, is_stream=is_stream),
            in_flight=self._health.in_flight(deployment),
            headroom=1.0 if deployment.rate_limit is None else self._rate_limits.headroom(deployment),
            out_of_service=self._out_of_service(deployment),
        )

    def saw(self, tally: Tally) -> None:
        """Learn from the attempts of a request. A time-out took at least as long as it took."""
        for attempt in tally.attempts:
            if not attempt.failure or attempt.failure == FailureKind.TIMEOUT:
                self._saw(attempt, _took_ms(attempt, tally), is_stream=tally.request.stream)

    def _saw(self, attempt: Attempt, latency_ms: float, *, is_stream: bool) -> None:
        name, now = (attempt.deployment, is_stream), self._clock()
        pace = self._paces.get(name)
        if pace is None or now - pace.at > FORGOTTEN_AFTER_S:
            self._paces[name] = Pace(latency_ms, now)
        else:
            pace.saw(latency_ms, now)

    def _latency_ms(self, name: str, *, is_stream: bool) -> float | None:
        pace = self._paces.get((name, is_stream))
        if pace is None or self._clock() - pace.at > FORGOTTEN_AFTER_S:
            return None
        return pace.average_ms

    def _out_of_service(self, deployment: Deployment) -> str:
        try:
            self._health.look(deployment)
        except OutOfService as error:
            return error.reason
        return ""


def _took_ms(attempt: Attempt, tally: Tally) -> float:
    """Until the first content of a stream, else until the whole answer. The content is that of the last attempt."""
    if not tally.request.stream or tally.first_content_at is None or attempt is not tally.attempts[-1]:
        return attempt.latency_ms
    return (tally.first_content_at - tally.began) * 1000 - attempt.started_ms
