"""Alerts, rules and channels in the admin: what may be done, by whom, and what is refused in which words."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from analytics.models import (
    Alert,
    AlertChannel,
    AlertDelivery,
    AlertEvent,
    AlertKind,
    AlertRule,
    AlertState,
    ChannelKind,
    DeliveryState,
    Severity,
)
from analytics.services.alert_channels import signing_secret_new
from analytics.services.alerts import alert_acknowledge
from providers.admin.pages import change_url, list_url
from providers.fields import seal, unseal
from providers.services import secrets_reseal
from tests.admin_pages import errors_of, page_of, submit, submit_new
from tests.factories import NOON, AlertChannelFactory, AlertFactory, TeamFactory, UserFactory
from tests.upstreams.receiver import Receiver, receiving

pytestmark = pytest.mark.django_db
ADD = "/admin/analytics/alertchannel/add/"
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
MOVES = {
    "acknowledge": AlertState.ACKNOWLEDGED,
    "snooze-hour": AlertState.SNOOZED,
    "snooze-day": AlertState.SNOOZED,
    "resolve": AlertState.RESOLVED,
}


def staff_with(*codenames: str) -> User:
    user: User = UserFactory(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


# --- alerts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("move", "state"), MOVES.items())
def test_an_alert_is_moved_from_the_list_and_from_its_own_page(
    client: Client, admin_user: User, move: str, state: AlertState
) -> None:
    client.force_login(admin_user)
    first, second = AlertFactory(), AlertFactory()
    chosen = {"action": move.replace("-", "_"), "_selected_action": [first.pk]}
    assert "1 " in client.post(list_url(Alert), chosen, follow=True).content.decode()
    assert client.post(page_of(second, "move"), {"move": move}).status_code == 302
    for alert in (first, second):
        alert.refresh_from_db()
        assert (alert.state, alert.events.get().by) == (state, admin_user)


def test_a_second_move_is_told_to_be_late_and_changes_nothing(admin_client: Client) -> None:
    alert = AlertFactory()
    first = UserFactory()
    alert_acknowledge(alert=alert, by=first, now=NOON)
    page = admin_client.post(page_of(alert, "move"), {"move": "acknowledge"}, follow=True).content.decode()
    assert "0 acknowledged. Somebody was faster" in page
    alert.refresh_from_db()
    assert (alert.acknowledged_by, alert.acknowledged_at) == (first, NOON)


@pytest.mark.parametrize(("codenames", "may"), [(["view_alert"], False), (["view_alert", "change_alert"], True)])
def test_who_may_only_look_sees_no_buttons_and_moves_nothing(client: Client, codenames: list[str], may: bool) -> None:
    client.force_login(staff_with(*codenames))
    alert = AlertFactory()
    assert ('value="acknowledge"' in client.get(change_url(alert)).content.decode()) is may
    client.post(list_url(Alert), {"action": "acknowledge", "_selected_action": [alert.pk]})
    assert client.post(page_of(alert, "move"), {"move": "resolve"}).status_code == (302 if may else 403)
    alert.refresh_from_db()
    assert (alert.state == AlertState.OPEN) is not may


@pytest.mark.parametrize("data", [{}, {"move": "delete"}, {"move": "__class__"}])
def test_what_is_no_move_is_a_404(admin_client: Client, data: dict[str, str]) -> None:
    alert = AlertFactory()
    assert admin_client.post(page_of(alert, "move"), data).status_code == 404
    assert admin_client.get(page_of(alert, "move")).status_code == 404
    assert admin_client.post("/admin/analytics/alert/999999/move/", {"move": "resolve"}).status_code == 404


def test_a_resolved_alert_has_no_buttons(admin_client: Client) -> None:
    alert = AlertFactory(state=AlertState.RESOLVED, resolved_at=NOON)
    assert 'name="move"' not in admin_client.get(change_url(alert)).content.decode()


def test_the_page_of_an_alert_tells_what_happened_to_whom_it_was_told_and_what_came_of_that(
    admin_client: Client,
) -> None:
    alert = AlertFactory(text="Look <b>here</b>.", link="/dashboards/")
    event = AlertEvent.objects.create(alert=alert, kind="opened", at=NOON, title=alert.title, text=alert.text)
    for name, state, note in (
        ("Slack", DeliveryState.SENT, "taken"),
        ("Pager", DeliveryState.FAILED, "it answered 500"),
    ):
        AlertDelivery.objects.create(event=event, channel=AlertChannelFactory(name=name), state=state, note=note)
    page = admin_client.get(change_url(alert)).content.decode()
    for said in ("Look &lt;b&gt;here&lt;/b&gt;.", "$80.00 of $100.00", "Slack", "it answered 500", alert.fingerprint):
        assert said in page
    assert "<b>here</b>" not in page


def test_the_open_and_worst_alerts_come_first(admin_client: Client) -> None:
    for title, state, severity in (
        ("over", AlertState.RESOLVED, Severity.CRITICAL),
        ("small", AlertState.OPEN, Severity.INFO),
        ("taken", AlertState.ACKNOWLEDGED, Severity.CRITICAL),
        ("big", AlertState.OPEN, Severity.CRITICAL),
    ):
        AlertFactory(title=title, state=state, severity=severity)
    page: Any = admin_client.get(list_url(Alert))
    assert [alert.title for alert in page.context["cl"].result_list] == ["big", "small", "taken", "over"]
    page = admin_client.get(list_url(Alert), {"state__in": "open"})
    assert {alert.title for alert in page.context["cl"].result_list} == {"big", "small"}


# --- rules ----------------------------------------------------------------------------------------------------------


def rule(kind: AlertKind) -> AlertRule:
    return AlertRule.objects.get(kind=kind)


def test_a_rule_keeps_what_differs_from_its_defaults(admin_client: Client) -> None:
    url = change_url(rule(AlertKind.BUDGET_THRESHOLD))
    assert 'value="50, 80, 100"' in admin_client.get(url).content.decode()
    assert submit(admin_client, url, percents="25, 75,100").status_code == 302
    assert rule(AlertKind.BUDGET_THRESHOLD).parameters == {"percents": [25, 75, 100]}
    assert rule(AlertKind.BUDGET_THRESHOLD).history.first().parameters == {"percents": [25, 75, 100]}
    submit(admin_client, url, percents="50,80,100")
    assert rule(AlertKind.BUDGET_THRESHOLD).parameters == {}


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        (AlertKind.BUDGET_THRESHOLD, {"percents": "fifty"}, "Whole numbers with commas between them"),
        (AlertKind.BUDGET_THRESHOLD, {"percents": "80, 50"}, "the smallest first"),
        (AlertKind.BUDGET_THRESHOLD, {"percents": ""}, "This field is required"),
        (AlertKind.ERROR_RATE, {"percent": "0"}, "from 1 to 99"),
        (AlertKind.ERROR_RATE, {"percent": "many"}, "Enter a whole number"),
        (AlertKind.ERROR_RATE, {"attempts": "9999"}, "from 1 to 2,000"),
        (AlertKind.SPEND_ANOMALY, {"minimum_usd": "0"}, "from 0.01"),
        (AlertKind.SPEND_ANOMALY, {"minimum_usd": "nan"}, "Enter a number"),
    ],
)
def test_a_rule_is_refused_in_words(admin_client: Client, kind: AlertKind, fields: dict[str, str], said: str) -> None:
    answer = submit(admin_client, change_url(rule(kind)), **fields)
    assert said in errors_of(answer)
    assert rule(kind).parameters == {}


@pytest.mark.parametrize("kind", AlertKind)
def test_every_rule_has_a_page_and_can_be_switched_off(admin_client: Client, kind: AlertKind) -> None:
    url = change_url(rule(kind))
    data = {name: value for name, value in _form(admin_client, url).items() if name != "is_active"}
    assert admin_client.post(url, data).status_code == 302
    assert not rule(kind).is_active
    assert rule(kind).parameters == {}


def _form(client: Client, url: str) -> dict[str, Any]:
    form = client.get(url).context["adminform"].form
    return {name: form[name].value() if name != "percents" else "50, 80, 100" for name in form.fields}


def test_rules_are_neither_added_nor_deleted(admin_client: Client) -> None:
    assert admin_client.get("/admin/analytics/alertrule/add/").status_code == 403
    assert admin_client.post(page_of(rule(AlertKind.LEDGER), "delete"), {"post": "yes"}).status_code == 403


def test_who_may_only_look_reads_a_rule(client: Client) -> None:
    client.force_login(staff_with("view_alertrule"))
    page = client.get(change_url(rule(AlertKind.ERROR_RATE)))
    assert page.status_code == 200
    assert b'name="percent"' not in page.content


# --- channels -------------------------------------------------------------------------------------------------------


def test_a_channel_is_sealed_and_shown_by_its_end_only(admin_client: Client) -> None:
    assert submit_new(admin_client, ADD, name="Slack", kind="apprise", address=f"  {SLACK} ").status_code == 302
    channel = AlertChannel.objects.get()
    assert unseal(channel.target) == SLACK
    assert (channel.hint, channel.signing_secret) == ("slack://…i7FQ", "")
    pages = [admin_client.get(url).content.decode() for url in (change_url(channel), list_url(AlertChannel))]
    pages.append(admin_client.get(page_of(channel, "history")).content.decode())
    assert all("slack://…i7FQ" in page for page in pages[:2])
    assert not any("A1BRTD4JD" in page or channel.target in page for page in pages)
    assert {field.name for field in AlertChannel.history.model._meta.fields} & {"target", "signing_secret"} == set()


def test_a_new_webhook_is_offered_a_secret_of_its_own_each_time(admin_client: Client) -> None:
    offered = [re.search(r"whsec_[\w+/=]{44}", admin_client.get(ADD).content.decode()) for _ in range(2)]
    assert offered[0]
    assert offered[1]
    assert offered[0][0] != offered[1][0]
    fields = {"name": "Hook", "kind": "webhook", "address": "https://hooks.example.com/in/abcdefgh"}
    assert submit(admin_client, ADD, **fields, secret=offered[0][0]).status_code == 302
    channel = AlertChannel.objects.get()
    assert unseal(channel.signing_secret) == offered[0][0]
    assert channel.hint == "https://hooks.example.com/…efgh"
    assert offered[0][0] not in admin_client.get(change_url(channel)).content.decode()


def test_mail_addresses_may_be_written_as_people_write_them(admin_client: Client) -> None:
    submit_new(
        admin_client, ADD, name="Mail", kind="email", address="ops@example.com; night@example.com ops@example.com"
    )
    channel = AlertChannel.objects.get()
    assert unseal(channel.target) == "ops@example.com,night@example.com"
    assert channel.hint == "ops@example.com, night@example.com"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"address": ""}, "This field is required"),
        ({"name": ""}, "This field is required"),
        ({"kind": "pigeon"}, "Select a valid choice"),
        ({"address": "ops"}, "“ops” is no mail address."),
        ({"address": ", ;"}, "At least one mail address."),
        ({"address": "ops@example.com\x07"}, "One line of at most"),
        ({"kind": "apprise", "address": "json://10.0.0.1"}, "begins with one of: discord://"),
        ({"kind": "apprise", "address": f"{SLACK}?verify=no"}, "may not be set in the address: verify"),
        ({"kind": "webhook", "address": "ftp://example.com"}, "begins with https://"),
        ({"kind": "webhook", "address": "https://"}, "begins with https://"),
        ({"kind": "webhook", "address": "https://["}, "This is no address."),
        ({"kind": "webhook", "address": "https://me:pw@example.com/"}, "no user name, password"),
        ({"kind": "webhook", "address": "http://example.com/"}, "Use https://"),
        ({"kind": "webhook", "address": "https://127.0.0.1/"}, "127.0.0.1 may not be called"),
        ({"kind": "webhook", "address": "https://169.254.169.254/latest"}, "may not be called"),
        (
            {"kind": "webhook", "address": "http://8.8.8.8/", "allowed_networks": "10.0.0.0/8"},
            "8.8.8.8 may not be called",
        ),
        ({"kind": "webhook", "address": "https://example.com/", "secret": ""}, "A webhook needs one."),
        ({"kind": "webhook", "address": "https://example.com/", "secret": "short"}, "24 to 64 random bytes"),
        ({"kind": "webhook", "address": "https://example.com/", "secret": "whsec_ä"}, "24 to 64 random bytes"),
        ({"allowed_networks": "10.0.0.1/8"}, "One network per line"),
    ],
)
def test_a_channel_is_refused_in_words(admin_client: Client, fields: dict[str, str], said: str) -> None:
    answer = submit_new(admin_client, ADD, **({"name": "New", "kind": "email", "address": "ops@example.com"} | fields))
    assert said in errors_of(answer)
    assert not AlertChannel.objects.exists()
    if fields.get("address"):
        assert f'value="{fields["address"]}"' not in answer.content.decode()  # it is never given back


def test_a_webhook_may_be_called_by_http_where_its_network_is_listed(admin_client: Client) -> None:
    fields = {"name": "In house", "kind": "webhook", "allowed_networks": "10.0.0.0/8"}
    assert submit_new(admin_client, ADD, **fields, address="http://10.1.2.3:9000/hook").status_code == 302


def test_an_edit_without_an_address_keeps_the_one_that_is_there(admin_client: Client) -> None:
    channel = AlertChannelFactory(kind=ChannelKind.APPRISE, clear=SLACK)
    team = TeamFactory()
    changes = {"name": "Renamed", "team": team.pk, "kinds": ["ledger"], "minimum_severity": "30"}
    assert submit(admin_client, change_url(channel), **changes).status_code == 302
    channel.refresh_from_db()
    assert (channel.name, channel.team, channel.kinds, unseal(channel.target)) == ("Renamed", team, ["ledger"], SLACK)
    answer = submit(admin_client, change_url(channel), kind="email")
    assert "Another kind needs another address." in errors_of(answer)
    submit(admin_client, change_url(channel), kind="email", address="ops@example.com")
    channel.refresh_from_db()
    assert (channel.kind, channel.hint) == (ChannelKind.EMAIL, "ops@example.com")


def test_clear_text_cannot_be_saved_into_a_channel_by_mistake() -> None:
    channel = AlertChannelFactory()
    channel.target = SLACK
    with pytest.raises(ValueError, match="sealed text only"):
        channel.save()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as one:
        yield one


@pytest.mark.parametrize(
    ("status", "state", "said"),
    [(200, DeliveryState.SENT, "The other side has it: it answered 200"),
     (500, DeliveryState.FAILED, "It did not arrive: it answered 500")],
)  # fmt: skip
def test_a_test_is_sent_on_a_click_and_its_result_is_shown_at_once(
    admin_client: Client, receiver: Receiver, status: int, state: DeliveryState, said: str
) -> None:
    receiver.statuses = [status]
    secret = signing_secret_new()
    channel = AlertChannelFactory(
        kind=ChannelKind.WEBHOOK, clear=receiver.url, secret=secret, allowed_networks="127.0.0.1/32"
    )
    url = page_of(channel, "test")
    assert "Send a test" in admin_client.get(url).content.decode()
    assert receiver.received == []  # looking sends nothing
    assert said in admin_client.post(url).content.decode()
    assert len(receiver.received) == 1
    delivery = AlertDelivery.objects.get()
    assert (delivery.state, delivery.event) == (state, None)
    assert "A test" in admin_client.get(list_url(AlertDelivery)).content.decode()


def test_a_test_needs_the_right_to_change_the_channel(client: Client, receiver: Receiver) -> None:
    channel = AlertChannelFactory(target=seal(receiver.url))
    client.force_login(staff_with("view_alertchannel"))
    assert client.post(page_of(channel, "test")).status_code == 403
    client.force_login(staff_with("change_alertchannel", "view_alertchannel"))
    assert client.get(page_of(channel, "test")).status_code == 200
    assert client.get("/admin/analytics/alertchannel/999999/test/").status_code == 404
    assert not AlertDelivery.objects.exists()


def test_the_list_of_channels_says_how_the_last_message_fared(admin_client: Client) -> None:
    channel = AlertChannelFactory()
    assert "None yet" in admin_client.get(list_url(AlertChannel)).content.decode()
    for hour, state in enumerate((DeliveryState.SENT, DeliveryState.FAILED)):
        at = timezone.now() + timedelta(hours=hour)
        AlertDelivery.objects.create(channel=channel, state=state, created_at=at, note="it answered 404")
    page = admin_client.get(list_url(AlertChannel)).content.decode()
    assert "Given up" in page
    assert "it answered 404" in page


def test_channels_are_sealed_anew_with_the_provider_keys(settings: Settings) -> None:
    secret = signing_secret_new()
    channel = AlertChannelFactory(kind=ChannelKind.WEBHOOK, clear="https://hooks.example.com/", secret=secret)
    AlertChannelFactory()
    settings.FIELD_KEYS = [Fernet.generate_key().decode(), *settings.FIELD_KEYS]
    assert secrets_reseal().resealed == 3
    settings.FIELD_KEYS = settings.FIELD_KEYS[:1]
    channel.refresh_from_db()
    assert (unseal(channel.target), unseal(channel.signing_secret)) == ("https://hooks.example.com/", secret)
