"""The outbox, through real servers: signed webhooks, mail, apprise; tries, pauses, and when it is given up."""

import base64
import hashlib
import hmac
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from django.core import mail
from django.utils import timezone
from pytest_django import Settings

from analytics.domain.alert_messages import secret_key
from analytics.models import Alert, AlertChannel, AlertDelivery, AlertState, ChannelKind, DeliveryState, Severity
from analytics.services import messengers
from analytics.services.alert_delivery import channel_test, deliveries_send, message_of
from analytics.services.alerts import alerts_evaluate
from analytics.services.messengers import (
    APPRISE_SCHEMES,
    DeliveryError,
    apprise_problem,
    apprise_send,
    webhook_endpoint,
    webhook_send,
)
from providers.models import Health, Provider
from tests.factories import NOON, AlertChannelFactory, ProviderFactory
from tests.upstreams.receiver import Received, Receiver, receiving

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
LOOPBACK = "127.0.0.1/32"
MINUTE = timedelta(minutes=1)

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),  # of a plugin of apprise
]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as one:
        yield one


def webhook(url: str, **fields: Any) -> AlertChannel:
    channel: AlertChannel = AlertChannelFactory(
        kind=ChannelKind.WEBHOOK, clear=url, secret=SECRET, allowed_networks=LOOPBACK, **fields
    )
    return channel


def open_one() -> Alert:
    """An alert with a message for each channel."""
    ProviderFactory(label="Swift", health=Health.DOWN, health_note="connection refused")
    alerts_evaluate(now=NOON)
    return Alert.objects.get()


def only() -> AlertDelivery:
    return AlertDelivery.objects.get()


def half() -> float:
    return 0.5


def verify(call: Received, secret: str, *, now: datetime) -> None:
    """As docs/alerts.md tells receivers to do."""
    age_s = abs(now.timestamp() - int(call.headers["webhook-timestamp"]))
    assert age_s < 300
    signed = f"{call.headers['webhook-id']}.{call.headers['webhook-timestamp']}.".encode() + call.body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert hmac.compare_digest(call.headers["webhook-signature"], f"v1,{expected}")


# --- webhooks -------------------------------------------------------------------------------------------------------


def test_a_webhook_gets_a_signed_message_that_says_everything(receiver: Receiver, settings: Settings) -> None:
    settings.PUBLIC_URL = "https://router.example.com"
    webhook(f"{receiver.url}/in?for=ops")
    alert = open_one()
    assert deliveries_send(now=NOON) == 1
    [call] = receiver.received
    verify(call, SECRET, now=NOON)
    assert (call.path, call.headers["content-type"]) == ("/in?for=ops", "application/json")
    assert UUID(call.headers["webhook-id"]) == only().pk
    assert call.json["type"] == "alert.opened"
    assert call.json["timestamp"] == "2026-03-10T12:00:00+00:00"
    data = call.json["data"]
    assert data["url"] == f"https://router.example.com/dashboards/alerts/{alert.pk}/"
    assert (data["severity"], data["rule"], data["subject"]) == ("critical", "provider_down", "Swift")
    assert (data["fingerprint"], data["id"]) == (alert.fingerprint, alert.pk)
    assert "connection refused" in data["text"]
    assert (only().state, only().sent_at, only().note) == (DeliveryState.SENT, NOON, "it answered 204")
    assert deliveries_send(now=NOON + MINUTE) == 0
    assert len(receiver.received) == 1


def test_a_forged_or_changed_message_does_not_verify(receiver: Receiver) -> None:
    webhook(receiver.url)
    open_one()
    deliveries_send(now=NOON)
    [call] = receiver.received
    for forged in (
        call._replace(body=call.body.replace(b"Swift", b"Other")),
        call._replace(headers={**call.headers, "webhook-id": "another"}),
        call._replace(headers={**call.headers, "webhook-timestamp": str(int(NOON.timestamp()) + 1)}),
    ):
        with pytest.raises(AssertionError):
            verify(forged, SECRET, now=NOON)
    with pytest.raises(AssertionError):
        verify(call, SECRET, now=NOON + 6 * MINUTE)


def test_what_fails_is_tried_again_with_growing_pauses_and_the_same_id(receiver: Receiver) -> None:
    receiver.statuses = [500, 503, 200]
    webhook(receiver.url)
    open_one()
    pauses = []
    now = NOON
    for _ in range(2):
        assert deliveries_send(now=now, rng=half) == 0
        assert only().state == DeliveryState.WAITING
        pauses.append((only().next_attempt_at - now).total_seconds())
        assert deliveries_send(now=only().next_attempt_at - timedelta(seconds=1)) == 0
        now = only().next_attempt_at
    assert only().note == "it answered 503"
    assert deliveries_send(now=now) == 1
    assert pauses == [15, 30]
    assert (only().state, only().attempts) == (DeliveryState.SENT, 3)
    assert len({call.headers["webhook-id"] for call in receiver.received}) == 1
    assert len({call.body for call in receiver.received}) == 1
    stamps = [int(call.headers["webhook-timestamp"]) for call in receiver.received]
    assert stamps == sorted(set(stamps))
    for call in receiver.received:
        verify(call, SECRET, now=datetime.fromtimestamp(int(call.headers["webhook-timestamp"]), tz=NOON.tzinfo))


def test_after_a_day_it_is_given_up_and_that_is_an_error_in_the_log(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [500]
    webhook(receiver.url, name="Pager")
    open_one()
    now = NOON
    while only().state == DeliveryState.WAITING:
        deliveries_send(now=now, rng=half)
        now = only().next_attempt_at
    assert only().state == DeliveryState.FAILED
    assert 15 <= only().attempts <= 25
    assert now - NOON > timedelta(hours=22)
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == [
        "an alert could not be delivered to Pager: it answered 500"
    ]
    assert deliveries_send(now=now + MINUTE) == 0


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    with receiving(Receiver(status, location=f"{receiver.url}/stolen")) as first:
        webhook(first.url)
        open_one()
        assert deliveries_send(now=NOON) == 0
    assert receiver.received == []
    assert only().note == f"it answered {status}, and redirects are not followed"


def test_a_webhook_that_hangs_costs_its_time_and_no_more() -> None:
    with receiving(Receiver(silent_s=5)) as slow:
        channel = webhook(slow.url)
        endpoint = webhook_endpoint(slow.url, channel.allowed_networks)
        open_one()
        message = message_of(only(), only().event)  # type: ignore[arg-type]
        began = timezone.now()
        with pytest.raises(DeliveryError, match="within its time"):
            webhook_send(endpoint, secret_key(SECRET), message, now=NOON, timeout_s=0.3)
        assert timezone.now() - began < timedelta(seconds=3)


def test_a_huge_answer_is_not_read() -> None:
    with receiving(Receiver(200, body=b"x" * 8_000_000)) as talker:
        webhook(talker.url)
        open_one()
        assert deliveries_send(now=NOON) == 1


@pytest.mark.parametrize(
    ("networks", "scheme", "host"),
    [
        ("", "http", "127.0.0.1"),
        ("10.0.0.0/8", "http", "127.0.0.1"),
        ("10.0.0.0/8", "http", "localhost"),
        ("10.0.0.0/8", "https", "localhost"),
        ("", "https", "127.0.0.1"),
        ("", "https", "169.254.169.254"),
        (LOOPBACK, "http", "8.8.8.8"),  # public, and yet only https may go there
    ],
)
def test_an_address_that_is_not_allowed_is_never_called(
    receiver: Receiver, networks: str, scheme: str, host: str
) -> None:
    port = receiver.url.rpartition(":")[2]
    channel = webhook(f"{scheme}://{host}:{port}/")
    AlertChannel.objects.filter(pk=channel.pk).update(allowed_networks=networks)
    open_one()
    assert deliveries_send(now=NOON) == 0
    assert receiver.received == []
    assert "has no public address" in only().note


def test_nobody_listening_is_told_and_tried_again() -> None:
    with receiving(Receiver()) as gone:
        url = gone.url
    webhook(url)
    open_one()
    assert deliveries_send(now=NOON) == 0
    assert only().state == DeliveryState.WAITING
    assert "could not connect to the webhook" in only().note


# --- claims ---------------------------------------------------------------------------------------------------------


def test_what_another_worker_has_claimed_is_left_to_it_until_it_is_overdue(receiver: Receiver) -> None:
    webhook(receiver.url)
    open_one()
    AlertDelivery.objects.update(next_attempt_at=NOON + 5 * MINUTE, attempts=1)  # its worker has just begun
    assert deliveries_send(now=NOON) == 0
    assert receiver.received == []
    assert deliveries_send(now=NOON + 5 * MINUTE) == 1  # its worker has died
    assert only().attempts == 2


def test_one_channel_that_fails_keeps_no_other_waiting(receiver: Receiver) -> None:
    with receiving(Receiver(500)) as broken:
        webhook(broken.url)
        webhook(receiver.url)
        open_one()
        assert deliveries_send(now=NOON) == 1
    assert sorted(AlertDelivery.objects.values_list("state", flat=True)) == ["sent", "waiting"]


def test_a_channel_that_was_switched_off_meanwhile_gets_nothing(receiver: Receiver) -> None:
    channel = webhook(receiver.url)
    open_one()
    AlertChannel.objects.filter(pk=channel.pk).update(is_active=False)
    assert deliveries_send(now=NOON) == 0
    assert receiver.received == []
    assert (only().state, only().note) == (DeliveryState.FAILED, "the channel was switched off")


def test_a_secret_that_cannot_be_decrypted_is_told_without_it(receiver: Receiver, settings: Settings) -> None:
    webhook(receiver.url)
    open_one()
    settings.FIELD_KEYS = [base64.urlsafe_b64encode(b"n" * 32).decode()]
    assert deliveries_send(now=NOON) == 0
    assert "cannot be decrypted" in only().note
    assert receiver.url not in only().note


# --- mail -----------------------------------------------------------------------------------------------------------


def test_mail_goes_to_every_address_with_the_words_and_the_link(settings: Settings) -> None:
    settings.EMAIL_URL, settings.ENVIRONMENT = "smtp://mail.example.com", "Production"
    AlertChannelFactory(clear="ops@example.com,night@example.com")
    alert = open_one()
    assert deliveries_send(now=NOON) == 1
    [message] = mail.outbox
    assert message.to == ["ops@example.com", "night@example.com"]
    assert message.subject == "[Production] Critical: Swift is down"
    assert "connection refused" in message.body
    assert f"/dashboards/alerts/{alert.pk}/" in message.body
    assert message.extra_headers["Message-ID"] == f"<{only().pk}@router-platform>"
    assert only().note == "taken by the mail server for 2 addresses"


def test_mail_says_that_it_is_over(settings: Settings) -> None:
    settings.EMAIL_URL = "smtp://mail.example.com"
    AlertChannelFactory()
    open_one()
    Provider.objects.update(health=Health.HEALTHY)
    alerts_evaluate(now=NOON + 5 * MINUTE)
    assert deliveries_send(now=NOON + 5 * MINUTE) == 2
    assert [message.subject.partition("] ")[2] for message in mail.outbox] == [
        "Critical: Swift is down",
        "Resolved: Swift is down",
    ]


def test_without_a_mail_server_the_channel_says_which_setting_is_missing(settings: Settings) -> None:
    settings.EMAIL_URL = ""
    AlertChannelFactory()
    open_one()
    assert deliveries_send(now=NOON) == 0
    assert only().note == "no mail server is known: set EMAIL_URL"
    assert mail.outbox == []


def test_a_mail_server_that_is_not_there_is_tried_again(settings: Settings) -> None:
    with receiving(Receiver()) as gone:
        port = int(gone.url.rpartition(":")[2])
    settings.EMAIL_URL, settings.EMAIL_BACKEND = "smtp://127.0.0.1", "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    AlertChannelFactory()
    open_one()
    assert deliveries_send(now=NOON) == 0
    assert only().note == "the mail server did not take it: ConnectionRefusedError"


# --- apprise --------------------------------------------------------------------------------------------------------

LOCAL_SCHEMES = {"json": "A local server"}  # what apprise calls JSON over HTTP: refused outside of tests


@pytest.mark.parametrize("event", ["opened", "resolved"])
def test_apprise_hands_over_the_words(receiver: Receiver, event: str) -> None:
    AlertChannelFactory()
    open_one()
    if event == "resolved":
        Provider.objects.update(health=Health.HEALTHY)
        alerts_evaluate(now=NOON + 5 * MINUTE)
    delivery = AlertDelivery.objects.get(event__kind=event)
    assert delivery.event is not None
    said = apprise_send(receiver.url.replace("http://", "json://"), message_of(delivery, delivery.event), LOCAL_SCHEMES)
    assert said == "taken by A local server"
    [call] = receiver.received
    assert call.json["title"].endswith(": Swift is down")
    assert "connection refused" in call.json["message"]
    assert call.json["type"] == ("success" if event == "resolved" else "failure")


@pytest.mark.parametrize("status", [403, 500, 302])
def test_what_apprise_could_not_deliver_is_told_by_its_status(receiver: Receiver, status: int) -> None:
    receiver.statuses, receiver.location = [status], f"{receiver.url}/stolen"
    AlertChannelFactory()
    open_one()
    message = message_of(only(), only().event)  # type: ignore[arg-type]
    with pytest.raises(DeliveryError, match=f"A local server answered {status}"):
        apprise_send(receiver.url.replace("http://", "json://") + "/secret-token", message, LOCAL_SCHEMES)
    assert [call.path for call in receiver.received] == ["/secret-token"]  # a redirect is not followed


@pytest.mark.parametrize(
    "target",
    [
        "json://127.0.0.1/", "jsons://example.com/", "xml://example.com", "form://example.com", "ntfy://host/topic",
        "mattermost://host/token", "apprise://host/key", "mailto://user:pw@example.com", "syslog://", "dbus://",
        "windows://", "file:///etc/passwd", "https://hooks.slack.com/services/T/B/X", "slack", "", "://", "http://[",
        "SLACK", "matrixs://host", "rsyslog://10.0.0.1", "gotify://10.0.0.1/token", "signal://10.0.0.1/1",
    ],
)  # fmt: skip
def test_apprise_calls_no_host_that_somebody_chose(target: str) -> None:
    assert apprise_problem(target) != ""
    with pytest.raises(DeliveryError):
        apprise_send(target, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "option", ["verify=no", "redirect=yes", "template=/etc/passwd", "rto=900", "cto=1&format=html"]
)
def test_apprise_takes_no_option_that_opens_something(option: str) -> None:
    assert "may not be set" in apprise_problem(f"slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?{option}")


@pytest.mark.parametrize(
    ("target", "is_fine"),
    [
        ("workflows://prod-1.westeurope.logic.azure.com:443/643e69f83c8944/438a61ff?pa=no", True),
        ("workflows://x.api.powerplatform.com/643e69f83c8944/438a61ff", True),
        ("workflows://10.0.0.1/643e69f83c8944/438a61ff", False),
        ("workflows://logic.azure.com.example.com/643e69f83c8944/438a61ff", False),
        ("workflows://evil.example.com#.logic.azure.com/a/b", False),
        ("workflows://evil.example.com?x=.logic.azure.com", False),
        ("workflows://prod-1.logic.azure.com:22/a/b", False),
        ("workflows://me@prod-1.logic.azure.com/a/b", False),
        ("pagerduty://A1BRTD4JD@TIiajkdnlazkcOXrIdevi7FQ?region=eu", True),
    ],
)
def test_a_teams_workflow_lies_at_microsoft(target: str, is_fine: bool) -> None:
    assert (apprise_problem(target) == "") is is_fine


@pytest.fixture(scope="module")
def apprise() -> ModuleType:
    return messengers._apprise()


SAMPLES = {
    "discord": "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    "gchat": "gchat://workspace/key/token",
    "opsgenie": "opsgenie://106b637e-a42d-4b1e-a5ad-a5ad2db2db2d",
    "pagerduty": "pagerduty://A1BRTD4JD@TIiajkdnlazkcOXrIdevi7FQ",
    "pover": "pover://uQiRzpo4DXghDmr9QzzfQu27cmVRsG@gznej3rKEVAvPUxu9vvNnqpmZpokzF",
    "slack": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    "splunk": "splunk://db3a3bd2@84c4aea0-7d5b-4a8b-9d0f-1b9d5a4bf8a1",
    "tgram": "tgram://123456789:ABCdefghijkl123456789opqyz/12315544/",
    "workflows": "workflows://prod-1.westeurope.logic.azure.com:443/643e69f83c8944/438a61ff",
    "wxteams": "wxteams://Y2lzY29zcGFyazovL3VzL1dFQkhPT0svMDk2OWIxMDYtZjVjNi00ZjZm/",
}


@pytest.mark.parametrize("scheme", APPRISE_SCHEMES)
def test_every_service_that_is_allowed_exists_in_apprise(apprise: ModuleType, scheme: str) -> None:
    assert apprise_problem(SAMPLES[scheme]) == ""
    assert apprise.Apprise.instantiate(SAMPLES[scheme]) is not None


# --- a test from the admin ------------------------------------------------------------------------------------------


def test_a_test_is_sent_at_once_and_says_that_it_is_one(receiver: Receiver) -> None:
    channel = webhook(receiver.url, minimum_severity=Severity.CRITICAL)
    delivery = channel_test(channel=channel, by="ann", now=NOON)
    [call] = receiver.received
    verify(call, SECRET, now=NOON)
    assert call.json["type"] == "alert.test"
    assert "ann has sent it" in call.json["data"]["text"]
    assert (delivery.state, only().note) == (DeliveryState.SENT, "it answered 204")


def test_a_test_that_fails_is_not_tried_again(receiver: Receiver) -> None:
    receiver.statuses = [404]
    delivery = channel_test(channel=webhook(receiver.url), by="ann", now=NOON)
    assert (delivery.state, delivery.note) == (DeliveryState.FAILED, "it answered 404")
    assert deliveries_send(now=NOON + MINUTE) == 0
    assert len(receiver.received) == 1
    assert not Alert.objects.filter(state=AlertState.OPEN).exists()
