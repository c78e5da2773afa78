"""Alerts: what the rules find becomes one row per trouble, which people and time move from state to state.

    open -> acknowledged | snoozed -> resolved        (a snooze that is over is open again)

Every move is a compare-and-set on the row, and makes its event and the messages about it in the same transaction: two
workers that look at the same trouble at once open one alert and send one message.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connections, transaction
from django.db.models import Q

from analytics.domain.rollup import day_begins
from analytics.models import (
    Alert,
    AlertChannel,
    AlertDelivery,
    AlertEvent,
    AlertEventKind,
    AlertKind,
    AlertRule,
    AlertState,
)
from analytics.services.alert_rules import FINDERS, Finding, ledger_findings
from analytics.services.webhooks import budget_threshold_tell

logger = logging.getLogger(__name__)

QUIET_FOR = timedelta(minutes=3)  # a trouble that comes and goes every minute is one trouble
SEEN_WITHIN = timedelta(minutes=10)  # a trouble that was not seen for longer has been away
RULE_FAILURES = (DatabaseError, ValidationError, ArithmeticError, LookupError, TypeError, ValueError)
UNRESOLVED = (AlertState.OPEN, AlertState.ACKNOWLEDGED, AlertState.SNOOZED)
NOTIFIED = {AlertEventKind.OPENED, AlertEventKind.REOPENED, AlertEventKind.WOKEN, AlertEventKind.RESOLVED}


def rules_ensure() -> int:
    """Add the rules that are not there yet; returns how many."""
    present = set(AlertRule.objects.values_list("kind", flat=True))
    missing = [AlertRule(kind=kind) for kind in AlertKind.values if kind not in present]
    return len(AlertRule.objects.bulk_create(missing, ignore_conflicts=True))


def ensure_after_migrate(using: str, **_: Any) -> None:
    """Receives `post_migrate`; does nothing when the migrations stopped before these tables."""
    if AlertRule._meta.db_table in connections[using].introspection.table_names():
        rules_ensure()


def alerts_evaluate(*, now: datetime) -> int:
    """Ask every rule, open what it finds, resolve what is over; returns how many messages have to be sent.

    A rule that fails is logged and changes nothing; the others go on.
    """
    waiting = 0
    for rule in AlertRule.objects.exclude(kind=AlertKind.LEDGER):
        try:
            rule.clean()
            findings = FINDERS[AlertKind(rule.kind)](rule.parameters_now(), now) if rule.is_active else ()
            waiting += findings_apply(rule=rule, findings=list(findings), now=now)
        except RULE_FAILURES:
            logger.exception("the alert rule %s failed", rule.kind)
    return waiting


def ledger_alert(*, differences: Sequence[str], is_whole: bool, now: datetime) -> int:
    """Open an alert about a ledger that is not in order, or resolve it when there are no `differences`, in words.

    Returns how many messages have to be sent. For those who have just checked it: the rule looks at nothing by itself.
    A check of a part of it (`is_whole` False) does not resolve what a check of all of it has found: they have an alert
    each, but never both at a time.
    """
    rule = AlertRule.objects.get_or_create(kind=AlertKind.LEDGER)[0]
    subject = "ledger" if is_whole else "ledger:lately"
    is_told = Alert.objects.filter(rule=rule, state__in=UNRESOLVED).exclude(subject=subject).exists()
    findings = ledger_findings(differences, subject=subject, opens=not is_told) if rule.is_active else []
    return findings_apply(rule=rule, findings=findings, now=now, quiet_for=timedelta(0), subject=subject)


def findings_apply(
    *, rule: AlertRule, findings: Sequence[Finding], now: datetime, quiet_for: timedelta = QUIET_FOR, subject: str = ""
) -> int:
    """Make the rule's alerts say what was found now; returns how many messages have to be sent.

    What was not found is resolved after `quiet_for`; with `subject`, only alerts about that are.
    """
    unresolved, dismissed = _known(rule, now, subject)
    waiting = 0
    for finding in findings:
        alert = unresolved.pop((finding.subject, finding.threshold), None)
        if alert and finding.window_starts_at not in {None, alert.window_starts_at}:
            waiting += _resolve(alert, now)  # its period is over
            alert = None
        if alert:
            waiting += _see(alert, finding, now)
        elif closed := dismissed.get((finding.subject, finding.threshold)):
            if finding.window_starts_at in {None, closed.window_starts_at}:
                Alert.objects.filter(pk=closed.pk).update(last_seen_at=now)  # somebody has said that it is over
                continue
        if alert is None and finding.opens:
            waiting += _open(rule, finding, now)
    over = [alert for alert in unresolved.values() if alert.last_seen_at <= now - quiet_for]
    return waiting + sum(_resolve(alert, now) for alert in over)


_Known = dict[tuple[str, str], Alert]


def _known(rule: AlertRule, now: datetime, subject: str) -> tuple[_Known, _Known]:
    """The rule's alerts that are not resolved, and those that a person resolved while the trouble goes on."""
    dismissed = Q(state=AlertState.RESOLVED, resolved_by__isnull=False, last_seen_at__gt=now - SEEN_WITHIN)
    found = Alert.objects.filter(Q(state__in=UNRESOLVED) | dismissed, rule=rule).select_related("rule")
    rows = list((found.filter(subject=subject) if subject else found).order_by("last_seen_at"))
    return (
        {(alert.subject, alert.threshold): alert for alert in rows if not alert.is_resolved},
        {(alert.subject, alert.threshold): alert for alert in rows if alert.is_resolved},
    )


# --- moves of the platform itself -----------------------------------------------------------------------------------


@transaction.atomic
def _open(rule: AlertRule, finding: Finding, now: datetime) -> int:
    """A new row, or the one of this window again; 0 if another worker was faster."""
    said = _said(finding) | {"last_seen_at": now}
    alert, is_new = Alert.objects.get_or_create(
        rule=rule,
        subject=finding.subject,
        threshold=finding.threshold,
        window_starts_at=finding.window_starts_at or day_begins(now.date()),
        defaults=said | {"opened_at": now},
    )
    kind = AlertEventKind.OPENED if is_new else AlertEventKind.REOPENED
    if not is_new:
        fresh = {"acknowledged_at": None, "acknowledged_by": None, "resolved_at": None, "resolved_by": None}
        if not _moved(alert, (AlertState.RESOLVED,), AlertState.OPEN, **said, **fresh, opened_at=now):
            return 0
    logger.warning("alert: %s", finding.title)
    waiting = _record(alert, kind, now)
    if rule.kind == AlertKind.BUDGET_THRESHOLD:
        budget_threshold_tell(alert=alert, at=now)
    return waiting


@transaction.atomic
def _see(alert: Alert, finding: Finding, now: datetime) -> int:
    """The trouble goes on: keep the latest figures; a snooze that is over ends."""
    Alert.objects.filter(pk=alert.pk).exclude(state=AlertState.RESOLVED).update(**_said(finding), last_seen_at=now)
    if alert.state != AlertState.SNOOZED or alert.snoozed_until is None or alert.snoozed_until > now:
        return 0
    woken = Alert.objects.filter(pk=alert.pk, state=AlertState.SNOOZED, snoozed_until=alert.snoozed_until)
    if not woken.update(state=AlertState.OPEN, snoozed_until=None):
        return 0
    return _record(alert, AlertEventKind.WOKEN, now)


@transaction.atomic
def _resolve(alert: Alert, now: datetime) -> int:
    """The trouble is over, unless another worker has just seen it."""
    over = Alert.objects.filter(pk=alert.pk, state__in=UNRESOLVED, last_seen_at=alert.last_seen_at)
    if not over.update(state=AlertState.RESOLVED, resolved_at=now, resolved_by=None, snoozed_until=None):
        return 0
    return _record(alert, AlertEventKind.RESOLVED, now)


def _said(finding: Finding) -> dict[str, Any]:
    return {
        "subject_name": finding.subject_name[:200],
        "team_id": finding.team_id,
        "budget_id": finding.budget_id,
        "severity": finding.severity,
        "title": finding.title[:200],
        "text": finding.text,
        "link": finding.link[:300],
        "value": finding.value,
        "limit": finding.limit,
        "unit": finding.unit,
    }


# --- moves of people ------------------------------------------------------------------------------------------------


class Move(StrEnum):
    """What a person may do about an alert."""

    ACKNOWLEDGE = "acknowledge"
    SNOOZE_HOUR = "snooze-hour"
    SNOOZE_DAY = "snooze-day"
    RESOLVE = "resolve"


def alert_move(*, alert: Alert, move: Move, by: User, now: datetime) -> bool:
    """False if it was done before, or the alert is resolved already."""
    match move:
        case Move.ACKNOWLEDGE:
            return alert_acknowledge(alert=alert, by=by, now=now)
        case Move.SNOOZE_HOUR:
            return alert_snooze(alert=alert, by=by, until=now + timedelta(hours=1), now=now)
        case Move.SNOOZE_DAY:
            return alert_snooze(alert=alert, by=by, until=now + timedelta(days=1), now=now)
        case Move.RESOLVE:
            return alert_resolve(alert=alert, by=by, now=now)


@transaction.atomic
def alert_acknowledge(*, alert: Alert, by: User, now: datetime) -> bool:
    """Somebody is at it. False if somebody was before, or it is over."""
    states = (AlertState.OPEN, AlertState.SNOOZED)
    done = {"acknowledged_at": now, "acknowledged_by": by, "snoozed_until": None}
    moved = _moved(alert, states, AlertState.ACKNOWLEDGED, **done)
    if moved:
        _record(alert, AlertEventKind.ACKNOWLEDGED, now, by=by)
    return moved


@transaction.atomic
def alert_snooze(*, alert: Alert, by: User, until: datetime, now: datetime) -> bool:
    """Silent until then; it tells again if the trouble still goes on. False if it is over."""
    moved = _moved(alert, UNRESOLVED, AlertState.SNOOZED, snoozed_until=until)
    if moved:
        _record(alert, AlertEventKind.SNOOZED, now, by=by, until=until)
    return moved


@transaction.atomic
def alert_resolve(*, alert: Alert, by: User, now: datetime) -> bool:
    """Somebody says that it is over: it stays so while the trouble goes on. False if it was over already.

    It opens again when the trouble comes back after having been away, or in another window.
    """
    moved = _moved(
        alert, UNRESOLVED, AlertState.RESOLVED, resolved_at=now, resolved_by=by, snoozed_until=None, last_seen_at=now
    )
    if moved:
        _record(alert, AlertEventKind.RESOLVED, now, by=by)
    return moved


def _moved(alert: Alert, states: Sequence[AlertState], to: AlertState, **columns: Any) -> bool:
    """Compare-and-set: whether the alert was in one of `states` and is in `to` now."""
    return Alert.objects.filter(pk=alert.pk, state__in=states).update(state=to, **columns) == 1


# --- what is kept and sent ------------------------------------------------------------------------------------------


def _record(
    alert: Alert, kind: AlertEventKind, now: datetime, *, by: User | None = None, until: datetime | None = None
) -> int:
    """Keep a move, with a message for each channel that it concerns; returns how many."""
    alert.refresh_from_db()
    event = AlertEvent.objects.create(
        alert=alert, kind=kind, at=now, by=by, title=alert.title, text=alert.text, value=alert.value, until=until
    )
    if kind not in NOTIFIED:
        return 0
    deliveries = [
        AlertDelivery(event=event, channel=channel, created_at=now, next_attempt_at=now)
        for channel in _channels(alert, kind)
    ]
    return len(AlertDelivery.objects.bulk_create(deliveries))


def _channels(alert: Alert, kind: AlertEventKind) -> list[AlertChannel]:
    """Those that want to hear of this alert; that it is over, only those that heard of it."""
    channels = AlertChannel.objects.filter(Q(team=None) | Q(team=alert.team_id), is_active=True)
    if kind is AlertEventKind.RESOLVED:
        channels = channels.filter(deliveries__event__alert=alert).distinct()
    else:
        channels = channels.filter(minimum_severity__lte=alert.severity)
    return [channel for channel in channels if not channel.kinds or alert.rule.kind in channel.kinds]
