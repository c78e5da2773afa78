"""How well a provider is: judged from its recent traffic, or from a free probe when there is too little of it."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from providers.domain.errors import FailureKind

NOTE_CHARS = 300
MIN_ATTEMPTS = 5
HEALTHY_SHARE = 0.9
DEGRADED_SHARE = 0.5

# The provider answered properly; the request was at fault.
CALLERS_FAULT = frozenset(
    {
        FailureKind.BAD_REQUEST,
        FailureKind.UNSUPPORTED,
        FailureKind.CONTEXT_TOO_LONG,
        FailureKind.CONTENT_FILTERED,
        FailureKind.MODEL_NOT_FOUND,
    }
)


class HealthState(StrEnum):
    """The values of `providers.models.Health`."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"


class ProbeOutcome(StrEnum):
    """`IMPOSSIBLE`: nothing was learned about the provider, so it is not blamed."""

    ANSWERED = "answered"
    FAILED = "failed"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True)
class Traffic:
    """Attempts at one provider in a short while; `failures` holds a FailureKind, empty when it answered, of each."""

    failures: tuple[str, ...]

    @property
    def blamed(self) -> tuple[str, ...]:
        """The failures that speak against the provider or against our key there."""
        return tuple(kind for kind in self.failures if kind and kind not in CALLERS_FAULT)


def judge_probe(outcome: ProbeOutcome, *, previous: HealthState) -> HealthState:
    """One failure is degraded, the second in a row is down. `previous` is the last state that was not unknown."""
    match outcome:
        case ProbeOutcome.ANSWERED:
            return HealthState.HEALTHY
        case ProbeOutcome.IMPOSSIBLE:
            return HealthState.UNKNOWN
        case ProbeOutcome.FAILED:
            failed_before = previous in {HealthState.DEGRADED, HealthState.DOWN}
            return HealthState.DOWN if failed_before else HealthState.DEGRADED


def judge_traffic(traffic: Traffic) -> HealthState | None:
    """Healthy from 90 % good attempts on, down below 50 %; None when there are too few to tell."""
    attempts = len(traffic.failures)
    if attempts < MIN_ATTEMPTS:
        return None
    share = 1 - len(traffic.blamed) / attempts
    if share >= HEALTHY_SHARE:
        return HealthState.HEALTHY
    return HealthState.DEGRADED if share >= DEGRADED_SHARE else HealthState.DOWN


def traffic_note(traffic: Traffic) -> str:
    """One line for people: how many attempts failed, and the most frequent reason."""
    attempts, blamed = len(traffic.failures), traffic.blamed
    if not blamed:
        return f"{attempts} recent attempts, none failed"
    reason, _ = Counter(blamed).most_common(1)[0]
    return f"{len(blamed)} of {attempts} recent attempts failed, most often: {reason.replace('_', ' ')}"
