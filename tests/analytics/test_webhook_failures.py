"""From the usage records of requests that failed to what endpoints are told of them."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from analytics.domain.usage import Attempt
from analytics.ledger.shipping import SqlUsageStore
from analytics.models import FailedRequest, UsageRecord, WebhookDelivery, WebhookEvent
from analytics.services.webhook_delivery import webhooks_send
from analytics.services.webhook_failures import failures_tell
from routing.models import VirtualKey
from tests.analytics.ledger.samples import encoded, request_id, settled
from tests.analytics.webhooks import endpoint, told
from tests.factories import NOON, TeamFactory, VirtualKeyFactory
from tests.upstreams.receiver import Receiver, receiving

MINUTE = timedelta(minutes=1)
WORDS = "you said: my secret prompt"

pytestmark = pytest.mark.django_db


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as one:
        yield one


@pytest.fixture
def key() -> VirtualKey:
    made: VirtualKey = VirtualKeyFactory(name="ci")
    return made


def failed(number: int, key: VirtualKey, code: str = "upstream_failed", **changes: Any) -> bytes:
    """The journaled entry of a request that ended in an error."""
    values: dict[str, Any] = {
        "team_id": key.team_id,
        "team_name": key.team.name,
        "key_id": key.pk,
        "key_name": key.name,
        "key_prefix": key.prefix,
        "state": "released",
        "http_status": 502,
        "error_code": code,
        "attempts": (Attempt("vendor/model", "vendor", "abcd", 0.4, 8.5, "server_error", 500, WORDS),),
    }
    return encoded(settled(number, **(values | changes)))[0]


def ship(*entries: bytes) -> int:
    return SqlUsageStore().ship(entries).new


def test_a_failed_request_is_told_without_what_was_said(receiver: Receiver, key: VirtualKey) -> None:
    endpoint(receiver.url, "request.failed")
    assert ship(failed(1, key), encoded(settled(2))[0]) == 2
    assert failures_tell(now=NOON) == 1
    assert webhooks_send(now=NOON) == 1
    [call] = receiver.received
    assert WORDS not in call.body.decode()
    data = call.json["data"]
    assert data.pop("started_at") == "2026-03-10T12:00:00.123456+00:00"
    assert data.pop("finished_at") > "2026-03-10T12:00:00.9"
    assert data == {
        "object": "request",
        "request_id": request_id(1),
        "code": "upstream_failed",
        "status": 502,
        "door": "openai",
        "team": {"name": key.team.name, "slug": key.team.slug},
        "key": {"id": key.pk, "name": "ci", "prefix": key.prefix},
        "model": "code_assistant",
        "deployment": "vendor/model",
        "attempts": [
            {"deployment": "vendor/model", "failure": "server_error", "status": 500, "latency_ms": 8.5},
        ],
    }


def test_a_record_that_is_shipped_twice_is_told_once(receiver: Receiver, key: VirtualKey) -> None:
    endpoint(receiver.url, "request.failed")
    ship(failed(1, key))
    assert failures_tell(now=NOON) == 1
    assert ship(failed(1, key), failed(2, key, "budget_exceeded", http_status=402)) == 1
    assert failures_tell(now=NOON + MINUTE) == 1
    assert [one.event.payload["code"] for one in told()] == ["upstream_failed", "budget_exceeded"]


def test_whoever_left_saw_no_error(receiver: Receiver, key: VirtualKey) -> None:
    endpoint(receiver.url, "request.failed")
    ship(failed(1, key, "client_closed_request", state="cancelled", http_status=499))
    assert not FailedRequest.objects.exists()


@pytest.mark.parametrize("wanted", ["budget.threshold", ""])
def test_nothing_is_kept_while_nobody_wants_to_hear_of_failures(
    receiver: Receiver, key: VirtualKey, wanted: str
) -> None:
    if wanted:
        endpoint(receiver.url, wanted)
    assert ship(failed(1, key)) == 1
    assert not FailedRequest.objects.exists()
    assert failures_tell(now=NOON) == 0


def test_of_a_flood_so_many_are_told_one_by_one_and_the_rest_is_counted_in_one_event(
    receiver: Receiver, key: VirtualKey
) -> None:
    other: VirtualKey = VirtualKeyFactory(team=TeamFactory())
    endpoint(receiver.url, "request.failed", name="ours", team=key.team, failures_per_minute=2)
    endpoint(receiver.url, "request.failed", name="everybody's", failures_per_minute=4)
    ship(*(failed(number, key) for number in range(1, 6)))
    failures_tell(now=NOON)
    ship(failed(6, key, "rate_limited", http_status=429), failed(7, other))
    failures_tell(now=NOON + timedelta(seconds=30))

    def of(name: str) -> list[dict[str, Any]]:
        return [one.event.payload for one in told() if one.endpoint.name == name]

    assert [one["object"] for one in of("ours")] == ["request"] * 2 + ["request_summary"]
    assert of("ours")[-1] == {
        "object": "request_summary",
        "minute": "2026-03-10T12:00:00+00:00",
        "count": 4,
        "codes": {"rate_limited": 1, "upstream_failed": 3},
        "first_at": of("ours")[-1]["first_at"],
        "last_at": of("ours")[-1]["last_at"],
    }
    assert [one["object"] for one in of("everybody's")] == ["request"] * 4 + ["request_summary"]
    assert of("everybody's")[-1]["count"] == 3
    assert webhooks_send(now=NOON + timedelta(seconds=30)) == 6  # a summary waits until its minute is over
    assert webhooks_send(now=NOON + MINUTE) == 2
    assert WebhookEvent.objects.filter(payload__object="request").count() == 4  # one event, however many endpoints

    ship(failed(8, key))
    failures_tell(now=NOON + timedelta(seconds=59))  # a worker that was late: this minute has been told
    late = told()[-1]
    assert (late.event.payload["count"], late.next_attempt_at) == (1, NOON + 2 * MINUTE)
    ship(failed(9, key))
    failures_tell(now=NOON + MINUTE)
    assert WebhookDelivery.objects.filter(event__payload__request_id=request_id(9)).count() == 2


def test_more_than_a_round_takes_are_all_told(receiver: Receiver, key: VirtualKey) -> None:
    endpoint(receiver.url, "request.failed", failures_per_minute=0)
    UsageRecord.objects.all().delete()
    ship(*(failed(number, key) for number in range(1, 1101)))
    assert failures_tell(now=timezone.now()) == 1100
    assert [one.event.payload["count"] for one in told()] == [1100]
    assert not FailedRequest.objects.exists()
