"""How the providers are doing: health, its last checks, and the requests of the last 24 hours."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, F, Q, Window
from django.db.models.functions import RowNumber

from analytics.models import UsageRecord
from analytics.percentile import Percentile
from analytics.selectors.sums import ANSWERED, FAILED
from providers.models import Provider, ProviderCheck

CHECKS_SHOWN = 90
LAST_DAY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class CheckMark:
    """One check of the strip."""

    checked_at: datetime
    health: str
    note: str
    latency_ms: int | None
    is_passive: bool


@dataclass(frozen=True, slots=True)
class ProviderState:
    """A provider now. `checks` are the last 90 of the last day, oldest first; percentiles are of answered requests."""

    id: int
    provider: str
    label: str
    kind: str
    is_active: bool
    health: str
    note: str
    checked_at: datetime | None
    checks: tuple[CheckMark, ...]
    deployments: int
    active_keys: int
    requests_24h: int
    errors_24h: int
    p50_ms: float | None
    p95_ms: float | None


NO_TRAFFIC: dict[str, Any] = {"requests_24h": 0, "errors_24h": 0, "p50_ms": None, "p95_ms": None}


def provider_states(*, now: datetime) -> list[ProviderState]:
    """Every provider by label; three queries however many there are."""
    providers = Provider.objects.order_by("label").annotate(
        deployment_count=Count("deployments", filter=Q(deployments__is_active=True), distinct=True),
        key_count=Count("keys", filter=Q(keys__is_active=True), distinct=True),
    )
    checks, traffic = _last_checks(now), _traffic(now)
    return [
        ProviderState(
            id=provider.pk,
            provider=provider.name,
            label=provider.label,
            kind=provider.kind,
            is_active=provider.is_active,
            health=provider.health,
            note=provider.health_note,
            checked_at=provider.checked_at,
            checks=tuple(checks[provider.pk]),
            deployments=provider.deployment_count,
            active_keys=provider.key_count,
            **traffic.get(provider.name, NO_TRAFFIC),
        )
        for provider in providers
    ]


def _last_checks(now: datetime) -> dict[int, list[CheckMark]]:
    place = Window(RowNumber(), partition_by=F("provider_id"), order_by=F("checked_at").desc())
    latest = (
        ProviderCheck.objects.filter(checked_at__gt=now - LAST_DAY, checked_at__lte=now)
        .annotate(place=place)
        .filter(place__lte=CHECKS_SHOWN)
        .order_by("checked_at")
    )
    found: dict[int, list[CheckMark]] = defaultdict(list)
    for check in latest:
        mark = CheckMark(check.checked_at, check.health, check.note, check.latency_ms, check.is_passive)
        found[check.provider_id].append(mark)
    return found


def _traffic(now: datetime) -> dict[str, dict[str, Any]]:
    """Figures of the last 24 hours by provider name."""
    rows: Any = (
        UsageRecord.objects.filter(started_at__gt=now - LAST_DAY, started_at__lte=now)
        .values("provider")
        .annotate(
            requests_24h=Count("pk"),
            errors_24h=Count("pk", filter=FAILED),
            p50_ms=Percentile("latency_ms", 0.5, filter=ANSWERED),
            p95_ms=Percentile("latency_ms", 0.95, filter=ANSWERED),
        )
        .order_by()
    )
    return {row["provider"]: {name: row[name] for name in NO_TRAFFIC} for row in rows}
