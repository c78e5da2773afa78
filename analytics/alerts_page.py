"""What the pages of the alerts show: those of the reader's teams, the open ones first, and what may be done."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Case, F, IntegerField, QuerySet, Value, When
from django.db.models.expressions import Combinable

from analytics import presentation
from analytics.models import Alert, AlertKind, AlertState, AlertUnit, DeliveryState, Severity
from analytics.sight import Sight
from routing.access import sees_every_team
from routing.models import Team, TeamRole

ALERTS_PER_PAGE = 50
CHANGE_ALERT = "analytics.change_alert"
UNRESOLVED = "unresolved"
STATES = {UNRESOLVED: "Not resolved", **dict(AlertState.choices)}
SEVERITIES = {Severity(value).name.lower(): label for value, label in reversed(Severity.choices)}


@dataclass(frozen=True, slots=True)
class Label:
    """A word with the tone and picture of components/state.html."""

    text: str
    tone: str
    picture: str = ""


STATE_LABELS = {
    AlertState.OPEN: Label("Open", "bad"),
    AlertState.ACKNOWLEDGED: Label("Acknowledged", "warn", "edit"),
    AlertState.SNOOZED: Label("Snoozed", "idle", "moon"),
    AlertState.RESOLVED: Label("Resolved", "ok"),
}
SEVERITY_LABELS = {
    Severity.CRITICAL: Label("Critical", "bad", "up"),
    Severity.WARNING: Label("Warning", "warn"),
    Severity.INFO: Label("Info", "idle"),
}
DELIVERY_LABELS = {
    DeliveryState.WAITING: Label("waiting", "warn", "idle"),
    DeliveryState.SENT: Label("sent", "ok"),
    DeliveryState.FAILED: Label("given up", "bad"),
}


@dataclass(frozen=True, slots=True)
class AlertFilters:
    """Empty means any."""

    state: str = ""
    severity: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class AlertLine:
    alert: Alert
    state: Label
    severity: Label
    figures: str
    may_act: bool


def filters_of(query: Mapping[str, str]) -> AlertFilters:
    """What the address asks for; a value that there is not is none."""
    state, severity, kind = (query.get(name, "") for name in ("state", "severity", "kind"))
    return AlertFilters(
        state=state if state in STATES else "",
        severity=severity if severity in SEVERITIES else "",
        kind=kind if kind in AlertKind.values else "",
    )


def alerts_seen(sight: Sight, filters: AlertFilters | None = None) -> QuerySet[Alert]:
    """Those that are not resolved first: the open ones, the worst and latest of them on top."""
    alerts = Alert.objects.select_related("rule", "team", "budget", "acknowledged_by", "resolved_by")
    if sight.team_ids is not None:
        alerts = alerts.filter(team__in=sight.team_ids)
    if filters and filters.state == UNRESOLVED:
        alerts = alerts.exclude(state=AlertState.RESOLVED)
    elif filters and filters.state:
        alerts = alerts.filter(state=filters.state)
    if filters and filters.severity:
        alerts = alerts.filter(severity=Severity[filters.severity.upper()])
    if filters and filters.kind:
        alerts = alerts.filter(rule__kind=filters.kind)
    return alerts.order_by(*WORST_FIRST)


_BY_STATE = (When(state=state, then=Value(place)) for place, state in enumerate(AlertState.values))

_OVER = When(state=AlertState.RESOLVED, then=Value(0))  # how bad it was does not matter any more
WORST_FIRST: list[str | Combinable] = [
    Case(*_BY_STATE, output_field=IntegerField()).asc(),
    Case(_OVER, default=-F("severity"), output_field=IntegerField()).asc(),
    "-opened_at",
    "-pk",
]


def alert_lines(alerts: Iterable[Alert], *, user: User | AnonymousUser) -> list[AlertLine]:
    led = teams_led(user)
    return [
        AlertLine(
            alert=alert,
            state=STATE_LABELS[AlertState(alert.state)],
            severity=SEVERITY_LABELS[Severity(alert.severity)],
            figures=figures_text(alert),
            may_act=not alert.is_resolved and (led is None or alert.team_id in led),
        )
        for alert in alerts
    ]


def teams_led(user: User | AnonymousUser) -> set[int] | None:
    """Whose alerts `user` may act on: those of the teams they lead; None is all, for staff who may change alerts."""
    if sees_every_team(user) and user.has_perm(CHANGE_ALERT):
        return None
    led = Team.objects.filter(memberships__user=user.pk, memberships__role=TeamRole.LEAD)
    return set(led.values_list("pk", flat=True)) if user.is_active else set()


def figures_text(alert: Alert) -> str:
    """“$81.00 of $100.00”, with its unit; empty when there is nothing to count."""
    value, limit = (_figure(figure, alert.unit) for figure in (alert.value, alert.limit))
    match alert.unit:
        case AlertUnit.NONE:
            return ""
        case AlertUnit.PERCENT:
            return f"{value}, above {limit}" if limit else value
        case AlertUnit.NANO_USD:
            return f"{value} of {limit}" if limit else value
        case _:
            return f"{value} {alert.unit[:-1] if alert.value == 1 else alert.unit}"


def _figure(figure: int | None, unit: str) -> str:
    if figure is None:
        return ""
    match unit:
        case AlertUnit.NANO_USD:
            return presentation.money(figure)
        case AlertUnit.PERCENT:
            return f"{figure}{presentation.NBSP}%"
        case _:
            return presentation.count(figure)
