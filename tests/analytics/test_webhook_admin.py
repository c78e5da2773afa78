"""Webhooks in the admin: what is shown once, what never, who may do what, and in which words it is refused."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from analytics.domain.webhooks import EventKind
from analytics.models import DeliveryState, WebhookDelivery, WebhookEndpoint, WebhookEvent
from analytics.services.webhook_delivery import webhooks_send
from analytics.services.webhooks import event_record
from providers.admin.pages import change_url, list_url
from providers.fields import unseal
from tests.admin_pages import errors_of, page_of, queries_of, submit, submit_new
from tests.analytics.webhooks import endpoint, is_signed_with, told
from tests.factories import NOON, TeamFactory, UserFactory
from tests.upstreams.receiver import Receiver, receiving

pytestmark = pytest.mark.django_db
ADD = "/admin/analytics/webhookendpoint/add/"
URL = "https://hooks.example.com/in?token=very-hidden"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as one:
        yield one


def add(client: Client, **changes: Any) -> Any:
    wanted = {"name": "Billing", "address": URL, "events": ["key.revoked"]}
    return submit_new(client, ADD, **(wanted | changes))


def something() -> None:
    event_record(kind=EventKind.KEY_REVOKED, data={"object": "key"}, at=NOON)


def secret_in(page: Any) -> str:
    found = re.search(r"whsec_[A-Za-z0-9+/=]+", page.content.decode())
    assert found is not None
    return found[0]


def test_the_secret_of_a_new_endpoint_is_shown_once_and_its_address_never(admin_client: Client) -> None:
    page = add(admin_client)
    row = WebhookEndpoint.objects.get()
    secret = secret_in(page)
    assert "no-store" in page["Cache-Control"]
    assert (unseal(row.signing_secret), unseal(row.target)) == (secret, URL)
    for url in (change_url(row), list_url(WebhookEndpoint), page_of(row, "history")):
        shown = admin_client.get(url).content.decode()
        assert secret not in shown
        assert "very-hidden" not in shown
        assert "whsec_" not in shown
    assert "https://hooks.example.com/…" in admin_client.get(change_url(row)).content.decode()
    assert submit(admin_client, change_url(row), name="Billing, new").status_code == 302
    row.refresh_from_db()
    assert (row.name, unseal(row.signing_secret), unseal(row.target)) == ("Billing, new", secret, URL)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"address": "ftp://example.com"}, "begins with https://"),
        ({"address": "http://example.com/in"}, "Use https://"),
        ({"address": "https://10.0.0.7/in"}, "list its network"),
        ({"address": "https://ann:pw@example.com"}, "no user name"),
        ({"address": ""}, "This field is required"),
        ({"events": []}, "This field is required"),
        ({"events": ["no.such"]}, "no.such is not one of"),
        ({"allowed_networks": "10.0.0.0/99"}, "One network per line"),
        ({"failures_per_minute": "601"}, "less than or equal to 600"),
    ],
)
def test_what_is_no_endpoint_is_refused_in_words(admin_client: Client, changes: dict[str, Any], said: str) -> None:
    page = add(admin_client, **changes)
    assert said in errors_of(page)
    assert "very-hidden" not in page.content.decode()
    assert not WebhookEndpoint.objects.exists()


def test_a_teams_endpoint_cannot_ask_for_what_is_no_teams(admin_client: Client) -> None:
    wanted = {"team": TeamFactory().pk, "events": ["key.revoked", "provider.state", "policy.published"]}
    assert "No team&#x27;s own: policy.published, provider.state." in errors_of(add(admin_client, **wanted))


def test_a_test_and_a_new_secret_are_asked_for_and_said_at_once(admin_client: Client, receiver: Receiver) -> None:
    row, old = endpoint(receiver.url)
    assert "at once and once" in admin_client.get(page_of(row, "test")).content.decode()
    assert receiver.received == []
    assert "The other side has it" in admin_client.post(page_of(row, "test")).content.decode()
    fresh = secret_in(admin_client.post(page_of(row, "new-secret")))
    receiver.statuses = [500]
    assert "It did not arrive: it answered 500" in admin_client.post(page_of(row, "test")).content.decode()
    first, second = receiver.received
    now = timezone.now()
    assert first.json["type"] == "endpoint.test"
    assert is_signed_with(first, old, now=now)
    assert not is_signed_with(first, fresh, now=now)
    assert is_signed_with(second, old, now=now)
    assert is_signed_with(second, fresh, now=now)
    assert fresh not in admin_client.get(page_of(row, "new-secret")).content.decode()


def test_messages_are_listed_with_what_was_said_and_sent_again(admin_client: Client, receiver: Receiver) -> None:
    receiver.statuses = [503, 204]
    endpoint(receiver.url)
    something()
    webhooks_send(now=NOON)
    [delivery] = told()
    assert "it answered 503" in admin_client.get(list_url(WebhookDelivery)).content.decode()
    assert "key.revoked" in admin_client.get(change_url(delivery)).content.decode()
    WebhookDelivery.objects.update(state=DeliveryState.FAILED)
    chosen = {"action": "again", "_selected_action": [str(delivery.pk)]}
    assert "1 sent again." in admin_client.post(list_url(WebhookDelivery), chosen, follow=True).content.decode()
    assert webhooks_send(now=timezone.now()) == 1
    assert "Failing" not in admin_client.get(list_url(WebhookEndpoint)).content.decode()


def test_switching_off_drops_what_waits_and_switching_on_forgets_why(admin_client: Client, receiver: Receiver) -> None:
    row, _ = endpoint(receiver.url)
    something()
    url = list_url(WebhookEndpoint)
    admin_client.post(url, {"action": "switch_off", "_selected_action": [row.pk]})
    assert told()[0].note == "the endpoint was switched off"
    WebhookEndpoint.objects.update(switched_off="it has taken nothing", failing_since=NOON)
    assert "Given up" in admin_client.get(url).content.decode()
    admin_client.post(url, {"action": "switch_on", "_selected_action": [row.pk]})
    row.refresh_from_db()
    assert (row.is_active, row.switched_off, row.failing_since) == (True, "", None)


def test_whoever_may_only_look_makes_no_secret_and_sends_nothing(client: Client, receiver: Receiver) -> None:
    row, _ = endpoint(receiver.url)
    something()
    looker: User = UserFactory(is_staff=True)
    names = ["view_webhookendpoint", "view_webhookdelivery"]
    looker.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(looker)
    assert client.get(change_url(row)).status_code == 200
    for name in ("new-secret", "test"):
        assert client.post(page_of(row, name)).status_code in {403, 404}
    WebhookDelivery.objects.update(state=DeliveryState.FAILED)
    client.post(list_url(WebhookDelivery), {"action": "again", "_selected_action": [str(told()[0].pk)]})
    assert told()[0].state == DeliveryState.FAILED
    assert receiver.received == []


@pytest.mark.parametrize("model", [WebhookEndpoint, WebhookDelivery])
def test_lists_take_as_many_queries_for_one_row_as_for_many(
    admin_client: Client, receiver: Receiver, model: type[WebhookEndpoint | WebhookDelivery]
) -> None:
    def row() -> None:
        endpoint(receiver.url, "key.revoked", team=TeamFactory())
        event = WebhookEvent.objects.create(kind="key.revoked", at=NOON)
        WebhookDelivery.objects.create(event=event, endpoint=WebhookEndpoint.objects.latest("pk"))

    row()
    once = queries_of(admin_client, list_url(model))
    for _ in range(3):
        row()
    assert queries_of(admin_client, list_url(model)) == once
