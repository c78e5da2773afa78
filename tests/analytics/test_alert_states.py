"""What becomes of an alert: moves of people and of time, each made once however many try at the same moment."""

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from analytics.models import (
    Alert,
    AlertDelivery,
    AlertEvent,
    AlertEventKind,
    AlertKind,
    AlertRule,
    AlertState,
    AlertUnit,
    Severity,
)
from analytics.services.alert_rules import Finding
from analytics.services.alerts import (
    Move,
    alert_acknowledge,
    alert_move,
    alert_resolve,
    alert_snooze,
    alerts_evaluate,
    findings_apply,
    rules_ensure,
)
from providers.models import Health
from tests.factories import NOON, AlertChannelFactory, AlertFactory, ProviderFactory, TeamFactory, UserFactory

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def trouble(**fields: Any) -> Finding:
    return Finding(
        **{
            "subject": "provider:swift",
            "subject_name": "Swift",
            "severity": Severity.CRITICAL,
            "title": "Swift is down",
            "text": "Look at its status page.",
            **fields,
        }
    )


def look(now: datetime, *findings: Finding, kind: AlertKind = AlertKind.PROVIDER_DOWN) -> int:
    """One evaluation that finds these; returns how many messages it made."""
    rule, _ = AlertRule.objects.get_or_create(kind=kind)
    return findings_apply(rule=rule, findings=findings, now=now)


def history(alert: Alert) -> list[str]:
    return list(alert.events.order_by("pk").values_list("kind", flat=True))


@pytest.mark.django_db
def test_an_alert_keeps_the_latest_figures_and_says_once_that_it_opened() -> None:
    AlertChannelFactory()
    assert look(NOON, trouble(value=3)) == 1
    assert look(NOON + MINUTE, trouble(value=5, title="Swift is still down")) == 0
    alert = Alert.objects.get()
    assert (alert.value, alert.title, alert.opened_at) == (5, "Swift is still down", NOON)
    assert alert.last_seen_at == NOON + MINUTE
    event = AlertEvent.objects.get()
    assert (event.title, event.value, event.by) == ("Swift is down", 3, None)


@pytest.mark.django_db
def test_what_comes_back_on_the_same_day_opens_the_same_alert_again() -> None:
    AlertChannelFactory()
    look(NOON, trouble())
    assert look(NOON + 5 * MINUTE) == 1
    assert look(NOON + HOUR, trouble(value=7)) == 1
    alert = Alert.objects.get()
    assert history(alert) == ["opened", "resolved", "reopened"]
    assert (alert.state, alert.opened_at, alert.resolved_at, alert.value) == (AlertState.OPEN, NOON + HOUR, None, 7)


@pytest.mark.django_db
def test_what_comes_back_on_another_day_is_a_new_alert() -> None:
    look(NOON, trouble())
    look(NOON + HOUR)
    look(NOON + DAY, trouble())
    first, second = Alert.objects.order_by("pk")
    assert (first.state, second.state) == (AlertState.RESOLVED, AlertState.OPEN)
    assert first.fingerprint != second.fingerprint


@pytest.mark.django_db
def test_a_trouble_that_lasts_over_midnight_stays_one_alert() -> None:
    for minutes in range(0, 14 * 60, 2):
        look(NOON + minutes * MINUTE, trouble())
    assert Alert.objects.count() == AlertEvent.objects.count() == 1


@pytest.mark.django_db
def test_a_trouble_that_comes_and_goes_by_the_minute_is_one_trouble() -> None:
    for minutes in range(0, 20, 2):
        look(NOON + minutes * MINUTE, trouble())
        look(NOON + (minutes + 1) * MINUTE)
    assert AlertEvent.objects.count() == 1


@pytest.mark.django_db
def test_what_is_not_bad_enough_opens_nothing_but_keeps_what_is_open() -> None:
    look(NOON, trouble(opens=False))
    assert not Alert.objects.exists()
    look(NOON, trouble())
    look(NOON + 10 * MINUTE, trouble(opens=False))
    assert Alert.objects.get().state == AlertState.OPEN


@pytest.mark.django_db
def test_the_fingerprint_is_the_same_however_the_moment_is_written() -> None:
    alert = AlertFactory(window_starts_at=datetime.fromisoformat("2026-03-01T01:00:00+01:00"))
    assert alert.fingerprint == Alert.objects.get().fingerprint
    assert len(alert.fingerprint) == 32


# --- people ---------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_acknowledging_is_done_once_and_remembers_who() -> None:
    first, second = UserFactory(), UserFactory()
    alert = AlertFactory()
    assert alert_acknowledge(alert=alert, by=first, now=NOON)
    assert not alert_acknowledge(alert=alert, by=second, now=NOON + HOUR)
    alert.refresh_from_db()
    assert (alert.state, alert.acknowledged_by, alert.acknowledged_at) == (AlertState.ACKNOWLEDGED, first, NOON)
    assert [(event.kind, event.by) for event in alert.events.all()] == [(AlertEventKind.ACKNOWLEDGED, first)]


@pytest.mark.django_db
def test_an_acknowledged_alert_stays_so_while_the_trouble_goes_on_and_resolves_with_it() -> None:
    look(NOON, trouble())
    alert = Alert.objects.get()
    alert_acknowledge(alert=alert, by=UserFactory(), now=NOON)
    look(NOON + MINUTE, trouble())
    alert.refresh_from_db()
    assert alert.state == AlertState.ACKNOWLEDGED
    look(NOON + HOUR)
    alert.refresh_from_db()
    assert alert.state == AlertState.RESOLVED


@pytest.mark.django_db
def test_a_snooze_is_silent_until_it_is_over_and_then_tells_again() -> None:
    AlertChannelFactory()
    look(NOON, trouble())
    alert = Alert.objects.get()
    assert alert_snooze(alert=alert, by=UserFactory(), until=NOON + HOUR, now=NOON)
    assert [look(NOON + minutes * MINUTE, trouble()) for minutes in (1, 30, 59)] == [0, 0, 0]
    assert look(NOON + HOUR, trouble()) == 1
    assert look(NOON + HOUR + MINUTE, trouble()) == 0
    alert.refresh_from_db()
    assert (alert.state, alert.snoozed_until) == (AlertState.OPEN, None)
    assert history(alert) == ["opened", "snoozed", "woken"]


@pytest.mark.django_db
def test_a_snoozed_alert_whose_trouble_is_over_resolves_without_waking_anybody() -> None:
    look(NOON, trouble())
    alert = Alert.objects.get()
    alert_snooze(alert=alert, by=UserFactory(), until=NOON + DAY, now=NOON)
    look(NOON + HOUR)
    alert.refresh_from_db()
    assert (alert.state, alert.snoozed_until) == (AlertState.RESOLVED, None)
    assert history(alert) == ["opened", "snoozed", "resolved"]


@pytest.mark.django_db
def test_what_a_person_resolved_stays_so_while_it_goes_on_also_over_midnight() -> None:
    look(NOON, trouble())
    alert = Alert.objects.get()
    assert alert_resolve(alert=alert, by=UserFactory(), now=NOON + MINUTE)
    for minutes in range(2, 14 * 60, 5):
        look(NOON + minutes * MINUTE, trouble())
    assert list(Alert.objects.values_list("state", flat=True)) == [AlertState.RESOLVED]
    later = NOON + 15 * HOUR
    look(later, trouble())  # it had been away
    assert Alert.objects.exclude(state=AlertState.RESOLVED).get().opened_at == later


@pytest.mark.django_db
def test_a_resolved_window_does_not_silence_the_next_one() -> None:
    window = {"window_starts_at": NOON.replace(hour=0), "threshold": "80"}
    look(NOON, trouble(**window))
    alert_resolve(alert=Alert.objects.get(), by=UserFactory(), now=NOON)
    look(NOON + MINUTE, trouble(**window))
    assert Alert.objects.get().state == AlertState.RESOLVED
    look(NOON + 2 * MINUTE, trouble(window_starts_at=NOON + DAY, threshold="80"))
    assert Alert.objects.filter(state=AlertState.OPEN).count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("move", Move)
def test_nothing_is_done_about_what_is_resolved(move: Move) -> None:
    alert = AlertFactory(state=AlertState.RESOLVED, resolved_at=NOON)
    assert not alert_move(alert=alert, move=move, by=UserFactory(), now=NOON)
    alert.refresh_from_db()
    assert (alert.state, alert.resolved_at, alert.events.count()) == (AlertState.RESOLVED, NOON, 0)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("move", "state", "until"),
    [
        (Move.ACKNOWLEDGE, AlertState.ACKNOWLEDGED, None),
        (Move.SNOOZE_HOUR, AlertState.SNOOZED, NOON + HOUR),
        (Move.SNOOZE_DAY, AlertState.SNOOZED, NOON + DAY),
        (Move.RESOLVE, AlertState.RESOLVED, None),
    ],
)
def test_each_move_leads_to_its_state(move: Move, state: AlertState, until: datetime | None) -> None:
    alert, by = AlertFactory(), UserFactory()
    assert alert_move(alert=alert, move=move, by=by, now=NOON)
    alert.refresh_from_db()
    assert (alert.state, alert.snoozed_until) == (state, until)
    assert [(event.by, event.at, event.until) for event in alert.events.all()] == [(by, NOON, until)]


# --- who is told ----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "is_told"),
    [
        ({}, True),
        ({"minimum_severity": Severity.CRITICAL}, False),
        ({"minimum_severity": Severity.INFO}, True),
        ({"is_active": False}, False),
        ({"kinds": [AlertKind.PROVIDER_DOWN]}, True),
        ({"kinds": [AlertKind.LEDGER]}, False),
    ],
)
def test_a_channel_is_told_what_it_wants_to_hear(fields: dict[str, Any], is_told: bool) -> None:
    channel = AlertChannelFactory(**fields)
    look(NOON, trouble(severity=Severity.WARNING))
    assert list(AlertDelivery.objects.values_list("channel", flat=True)) == ([channel.pk] if is_told else [])


@pytest.mark.django_db
def test_a_channel_of_a_team_hears_of_its_team_only() -> None:
    team = TeamFactory()
    AlertChannelFactory(name="Its own", team=team)
    AlertChannelFactory(name="Another's", team=TeamFactory())
    AlertChannelFactory(name="All")
    look(NOON, trouble(team_id=team.pk), trouble(subject="ledger", unit=AlertUnit.NONE))
    told = AlertDelivery.objects.order_by("pk").values_list("event__alert__team", "channel__name")
    assert set(told) == {(team.pk, "Its own"), (team.pk, "All"), (None, "All")}


@pytest.mark.django_db
def test_that_it_is_over_is_told_to_those_who_heard_that_it_began() -> None:
    early = AlertChannelFactory()
    look(NOON, trouble())
    AlertChannelFactory()
    look(NOON + HOUR)
    told = AlertDelivery.objects.order_by("created_at").values_list("event__kind", "channel")
    assert list(told) == [("opened", early.pk), ("resolved", early.pk)]


# --- at once --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_workers_that_look_at_once_open_one_alert_and_make_one_message() -> None:
    rules_ensure()
    AlertChannelFactory()
    ProviderFactory(health=Health.DOWN)
    for now in (NOON, NOON + HOUR):  # to open, then to resolve
        _at_once(lambda now=now: alerts_evaluate(now=now))  # type: ignore[misc]
        ProviderFactory._meta.model.objects.update(health=Health.HEALTHY)
    alert = Alert.objects.get()
    assert alert.state == AlertState.RESOLVED
    assert history(alert) == ["opened", "resolved"]
    assert AlertDelivery.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_people_who_act_at_once_do_it_once() -> None:
    alert = AlertFactory()
    people = iter([UserFactory() for _ in range(4)])
    _at_once(lambda: alert_acknowledge(alert=alert, by=next(people), now=NOON), times=4)
    assert history(alert) == ["acknowledged"]
    assert alert.events.get().by == Alert.objects.get().acknowledged_by


def _at_once(act: Any, times: int = 4) -> None:
    ready, failed = threading.Barrier(times), []

    def run() -> None:
        ready.wait()
        try:
            act()
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


@pytest.mark.django_db
@pytest.mark.parametrize("other", [{}, {"window_starts_at": NOON}])
def test_the_database_itself_refuses_a_second_alert_about_the_same_trouble(other: dict[str, Any]) -> None:
    alert = AlertFactory()
    same = {"rule": alert.rule, "budget": alert.budget, "subject": alert.subject, "threshold": alert.threshold}
    with pytest.raises(IntegrityError), transaction.atomic():
        AlertFactory(**same, **other)
    AlertFactory(**same, state=AlertState.RESOLVED, window_starts_at=NOON)
    assert Alert.objects.count() == 2
