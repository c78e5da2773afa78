"""What is known of failures, for people and for figures."""

from dataclasses import dataclass

from providers.domain.breaker import BreakerState
from providers.domain.types import Credential, Deployment


@dataclass(frozen=True, slots=True)
class DeploymentStanding:
    """How a deployment's breaker stands. `probe_in_s`: until somebody may try; None where that is no question of time.

    `last_failure` is the FailureKind that it last heard of; empty when nothing is wrong.
    """

    deployment: Deployment
    state: BreakerState
    is_forced: bool
    by_share: bool
    probe_in_s: float | None
    failures_in_a_row: int
    last_failure: str


@dataclass(frozen=True, slots=True)
class KeyStanding:
    """A key that rests until `until` (seconds since the epoch), at one deployment or, where that is empty, at all."""

    credential: Credential
    provider: str
    deployment: str
    until: float
    left_s: float
    kind: str


@dataclass(frozen=True, slots=True)
class FleetStates:
    """All that is known now; `resting` has the keys that rest and no others."""

    deployments: tuple[DeploymentStanding, ...]
    resting: tuple[KeyStanding, ...]
