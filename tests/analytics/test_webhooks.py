"""Facts become events, and events reach the programs that want them: signed, again after failures, once they count."""

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from analytics.domain.webhooks import EventKind, Failure, summary_data, usd_text
from analytics.models import DeliveryState, WebhookDelivery, WebhookEndpoint, WebhookEvent
from analytics.services.alerts import alerts_evaluate
from analytics.services.messengers import DeliveryError
from analytics.services.webhook_delivery import delivery_post, webhooks_send
from analytics.services.webhook_endpoints import endpoint_secret_rotate
from analytics.services.webhooks import breakers_tell, delivery_again, event_record, events_expire, keys_expired_tell
from providers.breaker_services import breaker_force
from providers.domain.health import HealthState
from providers.health_checks import health_record
from providers.models import BreakerOverride
from routing.services import key_revoke
from routing.services.rollouts import draft_abort, draft_advance, draft_publish
from tests.analytics.webhooks import endpoint, is_signed_with, told
from tests.factories import (
    NOON,
    BudgetFactory,
    DeploymentFactory,
    ProviderFactory,
    TeamFactory,
    UsageRecordFactory,
    UserFactory,
    VirtualKeyFactory,
    mark_hour,
)
from tests.routing.lifecycles import alias, approved, everyday, person
from tests.upstreams.receiver import Receiver, receiving

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

pytestmark = pytest.mark.django_db


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as one:
        yield one


def half() -> float:
    return 0.5


def something(team_id: int | None = None, **fields: Any) -> int:
    """An event like any other."""
    wanted: dict[str, Any] = {"kind": EventKind.KEY_REVOKED, "data": {"object": "key"}, "at": NOON, "team_id": team_id}
    return event_record(**(wanted | fields))


# --- the whole way --------------------------------------------------------------------------------------------------


def test_a_revoked_key_is_told_signed_and_without_the_key(receiver: Receiver) -> None:
    row, secret = endpoint(f"{receiver.url}/in?for=security")
    key, by = VirtualKeyFactory(name="ci"), UserFactory(username="ada")
    assert key_revoke(key=key, by=by)
    assert not key_revoke(key=key, by=by)  # nothing happened, so there is nothing to tell
    now = timezone.now()
    assert webhooks_send(now=now) == 1
    [call] = receiver.received
    assert is_signed_with(call, secret, now=now)
    assert call.path == "/in?for=security"
    said = call.json
    assert said["id"] == call.headers["webhook-id"] == str(WebhookEvent.objects.get().pk)
    assert (said["type"], said["version"]) == ("key.revoked", 1)
    assert said["data"] == {
        "object": "key",
        "key": {"id": key.pk, "name": "ci", "prefix": key.prefix},
        "team": {"name": key.team.name, "slug": key.team.slug},
        "reason": "revoked",
        "by": "ada",
        "at": said["created_at"],
    }
    assert key.digest not in call.body.decode()
    [delivery] = told()
    assert (delivery.state, delivery.note, delivery.attempts) == (DeliveryState.SENT, "it answered 204", 1)
    assert webhooks_send(now=now + MINUTE) == 0
    assert row.target not in call.body.decode()


def test_a_budget_that_passes_its_thresholds_is_told_of_each_once(receiver: Receiver) -> None:
    endpoint(receiver.url, "budget.threshold")
    budget = BudgetFactory(max_budget=Decimal(100), soft_budget=Decimal(70))
    record = UsageRecordFactory(at=NOON, team=budget.team, cost_nano=80_000_000_000)
    mark_hour(record.started_at)
    for _ in range(2):
        alerts_evaluate(now=NOON + MINUTE)
    events = [delivery.event.payload for delivery in told()]
    assert {(one["threshold"], one["percent"]) for one in events} == {("percent", 50), ("percent", 80), ("soft", None)}
    assert len(events) == 3
    soft = next(one for one in events if one["threshold"] == "soft")
    assert (soft["spent_usd"], soft["limit_usd"]) == ("80.000000000", "100.000000000")
    assert (soft["soft_limit_usd"], soft["spent_percent"]) == ("70.000000000", 80.0)
    assert soft["team"]["name"] == budget.team.name
    assert soft["window_starts_at"] == "2026-03-01T00:00:00+00:00"
    assert webhooks_send(now=NOON + MINUTE) == 3


def test_health_is_told_when_it_changes(receiver: Receiver) -> None:
    endpoint(receiver.url)
    provider = ProviderFactory(health=HealthState.HEALTHY)
    fields: dict[str, Any] = {"provider": provider, "note": "it answered 503", "latency_ms": None, "is_passive": True}
    for after, health in enumerate((HealthState.HEALTHY, HealthState.DOWN, HealthState.DOWN, HealthState.DEGRADED)):
        health_record(health=health, now=NOON + after * MINUTE, **fields)
    health_record(health=HealthState.HEALTHY, now=NOON - MINUTE, **fields)  # late, and shown nowhere
    turns = [(one.event.payload["previous_state"], one.event.payload["state"]) for one in told()]
    assert turns == [("healthy", "down"), ("down", "degraded")]
    assert told()[0].event.payload["note"] == "it answered 503"


def test_a_breaker_is_told_when_it_is_forced_and_when_its_failures_turn_it(receiver: Receiver) -> None:
    endpoint(receiver.url, "provider.state")
    deployment = DeploymentFactory()
    breaker_force(deployment=deployment, override=BreakerOverride.OPEN)
    breaker_force(deployment=deployment, override=BreakerOverride.AUTOMATIC)
    deployment.refresh_from_db()
    deployment.save()  # a form that changes something else
    for seen in ({deployment.pk: "server_error"}, {deployment.pk: "server_error"}, {}):
        breakers_tell(is_open=seen, known=[deployment.pk], at=NOON + DAY)
    breakers_tell(is_open={deployment.pk: ""}, known=[], at=NOON + 2 * DAY)
    breakers_tell(is_open={}, known=[], at=NOON + 3 * DAY)  # Redis did not answer: nobody knows
    events = [event.payload for event in WebhookEvent.objects.all()]
    assert sorted(one["state"] for one in events) == ["closed", "forced_open", "opened", "opened", "released"]
    assert {one["object"] for one in events} == {"breaker"}
    assert {one["deployment"] for one in events} == {str(deployment)}


def test_an_expired_key_is_told_once(receiver: Receiver) -> None:
    endpoint(receiver.url)
    key = VirtualKeyFactory(expires_at=NOON)
    VirtualKeyFactory(expires_at=NOON + DAY)
    VirtualKeyFactory(expires_at=NOON - 2 * DAY)  # long ago
    assert keys_expired_tell(now=NOON - MINUTE) == 0
    assert [keys_expired_tell(now=NOON + MINUTE) for _ in range(2)] == [1, 0]
    [delivery] = told()
    data = delivery.event.payload
    assert (data["reason"], data["key"]["prefix"], data["by"]) == ("expired", key.prefix, "")


def test_a_policys_way_into_force_is_told_stage_by_stage(receiver: Receiver) -> None:
    endpoint(receiver.url, "policy.published")
    for name in ("first", "second"):
        alias(name)
    policy, ann, ben = everyday(), person("ann"), person("ben")
    WebhookEvent.objects.all().delete()
    draft = approved(policy, ann, ben)
    known = set(WebhookEvent.objects.values_list("pk", flat=True))  # that the policy has a first version
    now = timezone.now()
    draft_publish(draft=draft, stages=[10, 50, 100], now=now)
    draft_abort(draft=draft, note="too dear")
    draft_publish(draft=draft, stages=[10, 50, 100], now=now)
    for minute in (1, 2):
        draft_advance(draft=draft, now=now + timedelta(minutes=minute))
    events = [one.payload for one in WebhookEvent.objects.exclude(pk__in=known)]
    assert sorted((one["stage"], one["percent"]) for one in events) == [
        ("in_force", 100), ("rolling_out", 10), ("rolling_out", 10), ("rolling_out", 50), ("stopped", 0),
    ]  # fmt: skip
    last = next(one for one in events if one["stage"] == "in_force")
    draft.refresh_from_db()
    assert (last["policy"], last["version"], last["title"]) == (policy.name, draft.version, "take turns")
    assert (last["author"], last["approved_by"]) == ("ann", "ben")


# --- who is told ----------------------------------------------------------------------------------------------------


def test_a_teams_endpoint_is_told_of_its_team_and_of_nothing_else(receiver: Receiver) -> None:
    team, other = TeamFactory(), TeamFactory()
    ours, _ = endpoint(receiver.url, "key.revoked", team=team)
    everybodys, _ = endpoint(receiver.url, "key.revoked")
    endpoint(receiver.url, "budget.threshold")
    endpoint(receiver.url, "key.revoked", is_active=False)
    assert [something(team.pk), something(other.pk), something(None)] == [2, 1, 1]
    assert WebhookDelivery.objects.filter(endpoint=ours).get().event.team == team
    assert WebhookDelivery.objects.filter(endpoint=everybodys).count() == 3


def test_an_event_is_there_if_and_only_if_the_fact_is(receiver: Receiver) -> None:
    endpoint(receiver.url)
    key = VirtualKeyFactory()
    with transaction.atomic():
        key_revoke(key=key, by=None)
        assert WebhookEvent.objects.count() == 1
        transaction.set_rollback(True)
    key.refresh_from_db()
    assert key.revoked_at is None
    assert WebhookEvent.objects.count() == 0


# --- when it does not arrive ----------------------------------------------------------------------------------------


def test_what_fails_is_tried_again_with_the_same_id_and_body(receiver: Receiver) -> None:
    receiver.statuses = [500, 204]
    row, secret = endpoint(receiver.url)
    something()
    assert webhooks_send(now=NOON, rng=half) == 0
    row.refresh_from_db()
    assert row.failing_since == NOON
    assert (told()[0].state, told()[0].note) == (DeliveryState.WAITING, "it answered 500")
    again_at = told()[0].next_attempt_at
    assert again_at == NOON + timedelta(seconds=15)
    assert webhooks_send(now=again_at, rng=half) == 1
    row.refresh_from_db()
    assert row.failing_since is None
    first, second = receiver.received
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert is_signed_with(second, secret, now=again_at)


def test_an_endpoint_that_fails_costs_the_others_one_try(receiver: Receiver) -> None:
    with receiving(Receiver(500)) as broken:
        endpoint(broken.url, name="A")
        endpoint(receiver.url, name="B")
        for _ in range(3):
            something()
        assert webhooks_send(now=NOON, rng=half) == 3
    assert (len(broken.received), len(receiver.received)) == (1, 3)


def test_an_endpoint_that_takes_nothing_for_days_is_switched_off_and_says_why(receiver: Receiver) -> None:
    receiver.statuses = [500]
    row, _ = endpoint(receiver.url)
    for day in range(4):
        something(at=NOON + day * DAY)
        webhooks_send(now=NOON + day * DAY, rng=half)
    row.refresh_from_db()
    assert not row.is_active
    assert row.switched_off == "it has taken nothing since 10 Mar 2026 12:00 UTC; at last: it answered 500"
    assert {delivery.state for delivery in told()} == {DeliveryState.FAILED}
    assert something() == 0


def test_an_endpoint_that_says_that_it_is_gone_is_switched_off_at_once() -> None:
    with receiving(Receiver(410)) as gone:
        row, _ = endpoint(gone.url)
        something()
        webhooks_send(now=NOON)
    row.refresh_from_db()
    assert not row.is_active
    assert row.switched_off.startswith("it answered 410")
    assert told()[0].state == DeliveryState.FAILED


@pytest.mark.parametrize("networks", ["", "10.0.0.0/8"])
def test_an_address_that_is_not_allowed_is_never_called(receiver: Receiver, networks: str) -> None:
    row, _ = endpoint(receiver.url)
    WebhookEndpoint.objects.filter(pk=row.pk).update(allowed_networks=networks)
    something()
    assert webhooks_send(now=NOON) == 0
    assert receiver.received == []
    assert "has no public address" in told()[0].note


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    with receiving(Receiver(307, location=f"{receiver.url}/stolen")) as first:
        endpoint(first.url)
        something()
        assert webhooks_send(now=NOON) == 0
    assert receiver.received == []
    assert told()[0].note == "it answered 307, and redirects are not followed"


def test_what_was_given_up_is_sent_again_when_somebody_says_so(receiver: Receiver) -> None:
    row, _ = endpoint(receiver.url)
    something()
    assert not delivery_again(delivery=told()[0], now=NOON)  # it waits anyway
    WebhookDelivery.objects.update(state=DeliveryState.FAILED, attempts=20)
    assert delivery_again(delivery=told()[0], now=NOON + DAY)
    assert webhooks_send(now=NOON + DAY) == 1
    WebhookEndpoint.objects.filter(pk=row.pk).update(is_active=False)
    assert not delivery_again(delivery=told()[0], now=NOON + DAY)


# --- secrets --------------------------------------------------------------------------------------------------------


def test_for_a_day_after_a_rotation_both_secrets_verify(receiver: Receiver) -> None:
    row, old = endpoint(receiver.url)
    fresh = endpoint_secret_rotate(endpoint=row, now=NOON)
    assert fresh.old_until == NOON + DAY
    assert fresh.secret not in repr(fresh)
    for now in (NOON, NOON + DAY):
        something(at=now)
        assert webhooks_send(now=now) == 1
    during, after = receiver.received
    assert is_signed_with(during, old, now=NOON)
    assert is_signed_with(during, fresh.secret, now=NOON)
    assert not is_signed_with(after, old, now=NOON + DAY)
    assert is_signed_with(after, fresh.secret, now=NOON + DAY)
    assert not is_signed_with(during, fresh.secret, now=NOON + DAY)  # too old: somebody may be repeating it
    assert not is_signed_with(during._replace(body=b"{}"), fresh.secret, now=NOON)


def test_a_secret_that_no_field_key_opens_is_told_and_waits(receiver: Receiver) -> None:
    row, _ = endpoint(receiver.url)
    WebhookEndpoint.objects.filter(pk=row.pk).update(target="00000000:gAAAAnone")
    something()
    with pytest.raises(DeliveryError, match="cannot be decrypted"):
        delivery_post(told()[0], now=NOON)
    assert webhooks_send(now=NOON) == 0
    assert told()[0].state == DeliveryState.WAITING


# --- tidying, and the rules alone -----------------------------------------------------------------------------------


def test_old_events_go_and_those_that_wait_stay(receiver: Receiver) -> None:
    endpoint(receiver.url)
    for at in (NOON - 3 * DAY, NOON - 2 * DAY, NOON):
        something(at=at)
    WebhookDelivery.objects.filter(event__at=NOON - 3 * DAY).update(state=DeliveryState.SENT)
    assert events_expire(now=NOON, days=0) == 0
    assert events_expire(now=NOON, days=1) == 1
    assert WebhookEvent.objects.filter(at__lt=NOON).get().at == NOON - 2 * DAY
    assert WebhookDelivery.objects.count() == 2


@pytest.mark.parametrize(("nano", "text"), [(0, "0.000000000"), (1, "0.000000001"), (-1_500_000_000, "-1.500000000")])
def test_money_is_exact_text(nano: int, text: str) -> None:
    assert usd_text(nano) == text


def test_a_summary_counts_on() -> None:
    def failure(code: str, second: int) -> Failure:
        return Failure(WebhookEvent().pk, code, NOON + timedelta(seconds=second))

    first = summary_data(NOON, [failure("budget_exceeded", 3), failure("upstream_failed", 1)], None)
    both = summary_data(NOON, [failure("budget_exceeded", 9)], json.loads(json.dumps(first)))
    assert (both["count"], both["codes"]) == (3, {"budget_exceeded": 2, "upstream_failed": 1})
    assert (both["first_at"], both["last_at"]) == ("2026-03-10T12:00:01+00:00", "2026-03-10T12:00:09+00:00")
