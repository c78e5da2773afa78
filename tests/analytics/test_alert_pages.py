"""The incidents that team leads see: only their teams', the open ones first, and what they may do about them."""

from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from analytics.models import Alert, AlertDelivery, AlertEvent, AlertKind, AlertState, AlertUnit, DeliveryState, Severity
from analytics.services.alerts import Move
from routing.models import Team, TeamRole
from tests.factories import NOON, AlertChannelFactory, AlertFactory, MembershipFactory, TeamFactory, UserFactory

pytestmark = pytest.mark.django_db
LIST = "/dashboards/alerts/"


@pytest.fixture
def team() -> Team:
    return TeamFactory.create(name="Search", slug="search")


@pytest.fixture
def lead(client: Client, team: Team) -> Client:
    client.force_login(MembershipFactory(team=team, role=TeamRole.LEAD).user)
    return client


@pytest.fixture
def member(client: Client, team: Team) -> Client:
    client.force_login(MembershipFactory(team=team).user)
    return client


def alert_of(team: Team, **fields: Any) -> Alert:
    subject = f"team:{team.pk} {fields.get('title', '')}"
    alert: Alert = AlertFactory(**{"budget": None, "team": team, "subject": subject, **fields})
    return alert


def shown(client: Client, **query: str) -> list[str]:
    return [line.alert.title for line in client.get(LIST, query).context["lines"]]


def test_a_lead_sees_the_alerts_of_their_teams_and_no_others(lead: Client, team: Team) -> None:
    own = alert_of(team, title="Ours")
    other = alert_of(TeamFactory(), title="Theirs")
    platform = AlertFactory(kind=AlertKind.PROVIDER_DOWN, budget=None, subject="provider:swift", title="Nobody's")
    assert shown(lead) == ["Ours"]
    assert lead.get(f"{LIST}{own.pk}/").status_code == 200
    for hidden in (other, platform):
        assert lead.get(f"{LIST}{hidden.pk}/").status_code == 404
        assert lead.post(f"{LIST}{hidden.pk}/act/", {"move": "resolve"}).status_code == 404


def test_staff_who_see_all_usage_see_all_alerts(admin_client: Client) -> None:
    alert_of(TeamFactory(), title="A team's")
    AlertFactory(kind=AlertKind.PROVIDER_DOWN, budget=None, subject="provider:swift", title="Swift is down")
    assert set(shown(admin_client)) == {"A team's", "Swift is down"}


@pytest.mark.parametrize(("move", "said"), [(Move.ACKNOWLEDGE, "it is yours now"), (Move.SNOOZE_HOUR, "for an hour"),
                                            (Move.SNOOZE_DAY, "for a day"), (Move.RESOLVE, "is resolved")])  # fmt: skip
def test_a_lead_acts_and_it_is_kept_who_it_was(lead: Client, team: Team, move: Move, said: str) -> None:
    alert = alert_of(team)
    assert f'value="{move}"' in lead.get(f"{LIST}{alert.pk}/").content.decode()
    page = lead.post(f"{LIST}{alert.pk}/act/", {"move": move}, follow=True)
    assert said in page.content.decode()
    assert page.redirect_chain[-1][0] == f"{LIST}{alert.pk}/"
    assert alert.events.get().by == page.context["user"]


def test_who_comes_second_is_told_so(lead: Client, team: Team) -> None:
    alert = alert_of(team)
    for move, said in (
        ("acknowledge", "is yours"),
        ("acknowledge", "before"),
        ("resolve", "is"),
        ("resolve", "before"),
    ):
        page = lead.post(f"{LIST}{alert.pk}/act/", {"move": move}, follow=True).content.decode()
        assert said in page
    assert list(alert.events.order_by("pk").values_list("kind", flat=True)) == ["acknowledged", "resolved"]


def test_a_member_reads_and_changes_nothing(member: Client, team: Team) -> None:
    alert = alert_of(team)
    page = member.get(f"{LIST}{alert.pk}/").content.decode()
    assert alert.text in page
    assert 'name="move"' not in page + member.get(LIST).content.decode()
    assert member.post(f"{LIST}{alert.pk}/act/", {"move": "resolve"}).status_code == 403
    alert.refresh_from_db()
    assert alert.state == AlertState.OPEN


@pytest.mark.parametrize(
    ("back", "goes_to"),
    [("/dashboards/alerts/?state=open", "/dashboards/alerts/?state=open"), ("https://evil.example.com/", None),
     ("//evil.example.com", None), ("javascript:alert(1)", None), ("", None)],
)  # fmt: skip
def test_after_acting_one_comes_back_to_a_page_of_ours(
    lead: Client, team: Team, back: str, goes_to: str | None
) -> None:
    alert = alert_of(team)
    answer = lead.post(f"{LIST}{alert.pk}/act/", {"move": "acknowledge", "next": back})
    assert answer.headers["Location"] == (goes_to or f"{LIST}{alert.pk}/")


@pytest.mark.parametrize("data", [{}, {"move": "delete"}, {"move": "\x00"}])
def test_what_cannot_be_done_is_a_404(lead: Client, team: Team, data: dict[str, str]) -> None:
    assert lead.post(f"{LIST}{alert_of(team).pk}/act/", data).status_code == 404


def test_looking_at_the_address_of_an_act_does_nothing(lead: Client, team: Team) -> None:
    assert lead.get(f"{LIST}{alert_of(team).pk}/act/").status_code == 405


def test_the_open_and_worst_come_first_and_filters_are_in_the_address(admin_client: Client, team: Team) -> None:
    alert_of(team, title="over", state=AlertState.RESOLVED, severity=Severity.CRITICAL, resolved_at=NOON)
    alert_of(team, title="info", severity=Severity.INFO)
    alert_of(team, title="critical", severity=Severity.CRITICAL)
    alert_of(TeamFactory(slug="other"), title="snoozed", state=AlertState.SNOOZED, snoozed_until=NOON)
    AlertFactory(kind=AlertKind.LEDGER, budget=None, subject="ledger", title="ledger", severity=Severity.CRITICAL)
    assert shown(admin_client) == ["ledger", "critical", "info", "snoozed", "over"]
    assert shown(admin_client, state="unresolved") == ["ledger", "critical", "info", "snoozed"]
    assert shown(admin_client, state="resolved") == ["over"]
    assert shown(admin_client, severity="critical", state="open") == ["ledger", "critical"]
    assert shown(admin_client, kind="ledger") == ["ledger"]
    assert shown(admin_client, team="search") == ["critical", "info", "over"]
    assert shown(admin_client, state="no", severity="such", kind="filter", page="x") == shown(admin_client)
    assert "No alert is like that" in admin_client.get(LIST, {"kind": "error_rate"}).content.decode()
    assert admin_client.get(LIST, {"team": "nowhere"}).status_code == 404


@pytest.mark.parametrize(
    ("role", "said"), [(None, "You are in no team yet"), (TeamRole.LEAD, "No alert has opened yet")]
)
def test_an_empty_page_says_what_will_be_there(client: Client, team: Team, role: TeamRole | None, said: str) -> None:
    client.force_login(MembershipFactory(team=team, role=role).user if role else UserFactory())
    assert said in client.get(LIST).content.decode()


def test_staff_are_led_to_the_channels_while_there_is_no_alert(admin_client: Client) -> None:
    assert "Choose who is told" in admin_client.get(LIST).content.decode()


def test_the_page_of_an_alert_has_its_timeline_and_staff_see_what_was_sent(
    admin_client: Client, client: Client, team: Team
) -> None:
    alert = alert_of(team, text="Look <i>at</i> it.", link="/admin/analytics/budget/1/change/")
    event = AlertEvent.objects.create(alert=alert, kind="opened", at=NOON, title="Began", text=alert.text)
    AlertDelivery.objects.create(event=event, channel=AlertChannelFactory(name="Pager"), state=DeliveryState.FAILED)
    page = admin_client.get(f"{LIST}{alert.pk}/").content.decode()
    for said in ("Look &lt;i&gt;at&lt;/i&gt; it.", "Began", "Pager", "given up", "/admin/analytics/budget/1/change/"):
        assert said in page
    client.force_login(MembershipFactory(team=team).user)
    page = client.get(f"{LIST}{alert.pk}/").content.decode()
    assert "Began" in page
    assert "Pager" not in page  # whom the platform tells is not a member's business
    assert "/admin/" not in page


@pytest.mark.parametrize(
    ("fields", "figures"),
    [
        ({"value": 80 * 10**9, "limit": 10**11, "unit": AlertUnit.NANO_USD}, "$80.00 of $100.00"),
        ({"value": 5 * 10**9, "limit": None, "unit": AlertUnit.NANO_USD}, "$5.00"),
        ({"value": 37, "limit": 25, "unit": AlertUnit.PERCENT}, "37\N{NO-BREAK SPACE}%, above 25\N{NO-BREAK SPACE}%"),
        ({"value": 1, "limit": None, "unit": AlertUnit.REQUESTS}, "1 request"),
        ({"value": 1200, "limit": None, "unit": AlertUnit.REQUESTS}, "1,200 requests"),
        ({"value": 2, "limit": None, "unit": AlertUnit.DIFFERENCES}, "2 differences"),
        ({"value": 0, "limit": None, "unit": AlertUnit.NONE}, "–"),
    ],
)
def test_figures_have_their_unit(admin_client: Client, fields: dict[str, Any], figures: str) -> None:
    AlertFactory(**fields)
    page = admin_client.get(LIST).content.decode()
    assert f'<td class="num figures">{figures}</td>' in page


def test_many_alerts_are_as_many_queries_as_one_and_come_in_pages(
    admin_client: Client, team: Team, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    alert_of(team)
    admin_client.get(LIST)
    with django_assert_num_queries(6):
        admin_client.get(LIST)
    for number in range(60):
        alert_of(team, threshold=str(number), subject=f"budget:{number}")
    with django_assert_num_queries(6):
        page = admin_client.get(LIST)
    assert len(page.context["lines"]) == 50
    assert len(shown(admin_client, page="2")) == 11
