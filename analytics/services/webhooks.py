"""Facts become events, each with a delivery for every endpoint that wants it, in the transaction of the fact."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q
from django.dispatch import Signal

from analytics.domain.webhooks import DETAIL_CHARS, EventKind, event_id, usd_text, utc_text
from analytics.models import (
    Alert,
    BreakerTold,
    Budget,
    DeliveryState,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
)
from providers.models import Deployment, Provider
from routing.models import PolicyDraft, PolicyVersion, RoutingPolicy, Team, VirtualKey

EXPIRY_SEEN_FOR = timedelta(days=1)  # a worker that was away for longer tells nobody of the keys that expired

deliveries_waiting = Signal()  # something is to be sent; still inside the transaction that has made it


@transaction.atomic
def event_record(
    *, kind: EventKind, data: Mapping[str, Any], at: datetime, team_id: int | None = None, event: UUID | None = None
) -> int:
    """Keep an event, with a delivery for each endpoint that wants it; returns how many. With an id that was there
    before, nothing happens."""
    row, is_new = WebhookEvent.objects.get_or_create(
        pk=event or uuid4(), defaults={"kind": kind, "at": at, "team_id": team_id, "payload": dict(data)}
    )
    if not is_new:
        return 0
    return deliveries_add(row, endpoints_for(kind, team_id), now=at)


def endpoints_for(kind: EventKind, team_id: int | None) -> list[WebhookEndpoint]:
    """Those that want to hear of it: a team's endpoint hears of its own team alone."""
    seen = Q(team=None) if team_id is None else Q(team=None) | Q(team=team_id)
    return [row for row in WebhookEndpoint.objects.filter(seen, is_active=True).order_by("pk") if kind in row.events]


def deliveries_add(event: WebhookEvent, endpoints: Iterable[WebhookEndpoint], *, now: datetime) -> int:
    rows = [
        WebhookDelivery(event=event, endpoint=endpoint, created_at=now, next_attempt_at=now) for endpoint in endpoints
    ]
    WebhookDelivery.objects.bulk_create(rows)
    if rows:
        deliveries_waiting.send(WebhookDelivery)
    return len(rows)


@transaction.atomic
def delivery_again(*, delivery: WebhookDelivery, now: datetime) -> bool:
    """Have a message sent again that was taken or given up; False when it waits anyway, or its endpoint is off."""
    if not WebhookEndpoint.objects.select_for_update().filter(pk=delivery.endpoint_id, is_active=True).first():
        return False
    done = WebhookDelivery.objects.filter(pk=delivery.pk).exclude(state=DeliveryState.WAITING)
    changed = done.update(state=DeliveryState.WAITING, attempts=0, next_attempt_at=now, created_at=now)
    if changed:
        deliveries_waiting.send(WebhookDelivery)
    return changed == 1


@transaction.atomic
def events_expire(*, now: datetime, days: int) -> int:
    """Delete events, and what became of them, that are older than so many days; returns how many. 0 days keep all."""
    if not days:
        return 0
    old = WebhookEvent.objects.filter(at__lt=now - timedelta(days=days))
    waiting = WebhookDelivery.objects.filter(state=DeliveryState.WAITING).values("event")
    return old.exclude(pk__in=waiting).delete()[1].get(WebhookEvent._meta.label, 0)


# --- keys -----------------------------------------------------------------------------------------------------------


def key_revoked_tell(*, key: VirtualKey, by: User | None, at: datetime) -> int:
    data = _key_data(key) | {"reason": "revoked", "by": _name(by), "at": utc_text(at)}
    return event_record(kind=EventKind.KEY_REVOKED, data=data, at=at, team_id=key.team_id)


def keys_expired_tell(*, now: datetime) -> int:
    """Tell of the keys that have expired within a day and that nobody was told of; returns how many. Safe to run
    twice at once: the id of the event is that of the expiry."""
    expired = VirtualKey.objects.filter(
        expires_at__gt=now - EXPIRY_SEEN_FOR, expires_at__lte=now, revoked_at=None
    ).select_related("team")
    told = {event_id("key.expired", key.pk, key.expires_at): key for key in expired}
    known = set(WebhookEvent.objects.filter(pk__in=told).values_list("pk", flat=True))
    for event, key in told.items():
        if event not in known and key.expires_at is not None:
            data = _key_data(key) | {"reason": "expired", "by": "", "at": utc_text(key.expires_at)}
            event_record(kind=EventKind.KEY_REVOKED, data=data, at=now, team_id=key.team_id, event=event)
    return len(told.keys() - known)


def _key_data(key: VirtualKey) -> dict[str, Any]:
    return {
        "object": "key",
        "key": {"id": key.pk, "name": key.name, "prefix": key.prefix},
        "team": team_data(key.team),
    }


# --- budgets --------------------------------------------------------------------------------------------------------


def budget_threshold_tell(*, alert: Alert, at: datetime) -> int:
    """An alert of a budget's threshold has been opened, by whom everything is known that is to be told."""
    budget = alert.budget
    if budget is None:
        return 0
    spent, limit = alert.value, budget.limit_nano
    data = {
        "object": "budget",
        "budget": {
            "id": budget.pk,
            "name": str(budget.subject),
            "scope": budget.scope,
            "mode": budget.mode,
            "duration": budget.budget_duration,
        },
        "team": team_data(alert.team) if alert.team else None,
        "key": _budget_key(budget),
        "threshold": alert.threshold if alert.threshold == "soft" else "max" if alert.threshold == "100" else "percent",
        "percent": None if alert.threshold == "soft" else int(alert.threshold),
        "spent_usd": usd_text(spent),
        "limit_usd": usd_text(limit),
        "soft_limit_usd": None if budget.soft_budget is None else usd_text(int(budget.soft_budget * 10**9)),
        "spent_percent": round(100 * spent / limit, 2) if limit else None,
        "window_starts_at": utc_text(alert.window_starts_at),
    }
    return event_record(kind=EventKind.BUDGET_THRESHOLD, data=data, at=at, team_id=alert.team_id)


def _budget_key(budget: Budget) -> dict[str, Any] | None:
    key = budget.key
    return None if key is None else {"id": key.pk, "name": key.name, "prefix": key.prefix}


# --- providers ------------------------------------------------------------------------------------------------------


def provider_health_tell(*, provider: Provider, before: str, health: str, note: str, at: datetime) -> int:
    data = {
        "object": "provider",
        "provider": provider.name,
        "state": health,
        "previous_state": before,
        "note": note[:DETAIL_CHARS],
    }
    return event_record(kind=EventKind.PROVIDER_STATE, data=data, at=at)


@transaction.atomic
def breaker_override_tell(*, deployment: Deployment, at: datetime) -> int:
    """An operator holds it open or closed, or lets its failures decide again; 0 if that was told before."""
    told = BreakerTold.objects.select_for_update().filter(pk=deployment.pk).first()
    if (told.override if told else "") == deployment.breaker:
        return 0
    BreakerTold.objects.update_or_create(deployment=deployment, defaults={"override": deployment.breaker})
    turns = {"open": "forced_open", "closed": "forced_closed", "": "released"}
    return _breaker_event(deployment, turns[deployment.breaker], "", at)


def breakers_tell(*, is_open: Mapping[int, str], known: Iterable[int], at: datetime) -> int:
    """Tell of the breakers that have turned since somebody looked; returns how many.

    `is_open` says of which deployments the breaker is open and what failed last; of the others in `known` it is closed.
    """
    told = set(BreakerTold.objects.filter(is_open=True).values_list("pk", flat=True))
    turned = (told ^ is_open.keys()) & (set(known) | is_open.keys())
    rows = Deployment.objects.filter(pk__in=turned).select_related("provider", "model").order_by("pk")
    return sum(_breaker_turned(row, row.pk in is_open, is_open.get(row.pk, ""), at) for row in rows)


@transaction.atomic
def _breaker_turned(deployment: Deployment, is_open: bool, failure: str, at: datetime) -> bool:
    BreakerTold.objects.get_or_create(deployment=deployment)
    if not BreakerTold.objects.filter(pk=deployment.pk).exclude(is_open=is_open).update(is_open=is_open):
        return False
    _breaker_event(deployment, "opened" if is_open else "closed", failure, at)
    return True


def _breaker_event(deployment: Deployment, state: str, failure: str, at: datetime) -> int:
    data = {
        "object": "breaker",
        "provider": deployment.provider.name,
        "deployment": str(deployment),
        "state": state,
        "last_failure": failure,
    }
    return event_record(kind=EventKind.PROVIDER_STATE, data=data, at=at)


# --- policies -------------------------------------------------------------------------------------------------------


def policy_published_tell(*, version: PolicyVersion) -> int:
    """It is in force for all requests."""
    data = _policy_data(version.policy, version.number, version.note, version.author, version.approver)
    return event_record(
        kind=EventKind.POLICY_PUBLISHED, data=data | {"stage": "in_force", "percent": 100}, at=version.published_at
    )


def policy_rolled_tell(*, draft: PolicyDraft, at: datetime) -> int:
    """A stage of its rollout has begun, or the rollout was stopped."""
    data = _policy_data(draft.policy, draft.version, draft.title, draft.author, draft.reviewer)
    stage = "rolling_out" if draft.percent else "stopped"
    return event_record(kind=EventKind.POLICY_PUBLISHED, data=data | {"stage": stage, "percent": draft.percent}, at=at)


def _policy_data(
    policy: RoutingPolicy, number: int | None, title: str, author: User | None, approver: User | None
) -> dict[str, Any]:
    return {
        "object": "policy",
        "policy": policy.name,
        "version": number,
        "title": title,
        "author": _name(author),
        "approved_by": _name(approver),
    }


# --- parts ----------------------------------------------------------------------------------------------------------


def team_data(team: Team) -> dict[str, Any]:
    return {"name": team.name, "slug": team.slug}


def _name(user: User | None) -> str:
    """Empty: the platform itself, or a command."""
    return user.get_username() if user else ""
