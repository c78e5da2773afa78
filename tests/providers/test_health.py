"""The judgement alone: no database, no network."""

import pytest

from providers.domain.errors import FailureKind
from providers.domain.health import (
    HealthState,
    ProbeOutcome,
    Traffic,
    judge_probe,
    judge_traffic,
    traffic_note,
)
from providers.models import Health


def traffic(*failures: FailureKind, good: int = 0) -> Traffic:
    return Traffic((*failures, *[""] * good))


def test_the_states_are_those_that_the_model_stores() -> None:
    assert {state.value for state in HealthState} == set(Health.values)


@pytest.mark.parametrize("previous", list(HealthState))
def test_an_answered_probe_is_healthy_whatever_was_before(previous: HealthState) -> None:
    assert judge_probe(ProbeOutcome.ANSWERED, previous=previous) is HealthState.HEALTHY


@pytest.mark.parametrize("previous", list(HealthState))
def test_a_probe_that_could_not_be_made_blames_nobody(previous: HealthState) -> None:
    assert judge_probe(ProbeOutcome.IMPOSSIBLE, previous=previous) is HealthState.UNKNOWN


@pytest.mark.parametrize(
    ("previous", "expected"),
    [
        (HealthState.UNKNOWN, HealthState.DEGRADED),
        (HealthState.HEALTHY, HealthState.DEGRADED),
        (HealthState.DEGRADED, HealthState.DOWN),
        (HealthState.DOWN, HealthState.DOWN),
    ],
)
def test_the_second_failed_probe_in_a_row_means_down(previous: HealthState, expected: HealthState) -> None:
    assert judge_probe(ProbeOutcome.FAILED, previous=previous) is expected


@pytest.mark.parametrize(
    ("failed", "good", "expected"),
    [
        (0, 4, None),
        (4, 0, None),
        (0, 5, HealthState.HEALTHY),
        (1, 9, HealthState.HEALTHY),
        (2, 8, HealthState.DEGRADED),
        (5, 5, HealthState.DEGRADED),
        (6, 4, HealthState.DOWN),
        (5, 0, HealthState.DOWN),
    ],
)
def test_traffic_is_judged_by_its_share_of_good_attempts(failed: int, good: int, expected: HealthState | None) -> None:
    assert judge_traffic(traffic(*[FailureKind.TIMEOUT] * failed, good=good)) is expected


def test_a_request_that_was_at_fault_itself_does_not_speak_against_the_provider() -> None:
    faulty = traffic(FailureKind.BAD_REQUEST, FailureKind.CONTEXT_TOO_LONG, FailureKind.CONTENT_FILTERED, good=2)

    assert judge_traffic(faulty) is HealthState.HEALTHY
    assert traffic_note(faulty) == "5 recent attempts, none failed"


def test_the_note_names_the_most_frequent_reason() -> None:
    failing = traffic(FailureKind.RATE_LIMITED, FailureKind.SERVER_ERROR, FailureKind.RATE_LIMITED, good=3)

    assert traffic_note(failing) == "3 of 6 recent attempts failed, most often: rate limited"
