"""How the providers are doing: health, its last checks, and the requests of the last 24 hours."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, F, Q, Window
from django.db.models.functions import RowNumber

from analytics.domain.rollup import Stretch, percentile
from analytics.models import UsageRecord
from analytics.selectors.sums import ANSWERED, usage_sums
from providers.models import Provider, ProviderCheck

CHECKS_SHOWN = 90
LAST_DAY = timedelta(hours=24)
LATENCY_SAMPLE = 10_000  # percentiles look at no more than the latest so many answers


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
    """A provider now. `checks` are the last 90 of the last day, oldest first; percentiles are of the latest answers."""

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
    """Every provider by label; as many queries for one as for many."""
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
    latency = _latency(now)
    day = Stretch(now - LAST_DAY, now + timedelta(microseconds=1))  # `now` included
    return {
        provider: {
            "requests_24h": sums.requests,
            "errors_24h": sums.errors,
            "p50_ms": percentile(latency[provider], 0.5),
            "p95_ms": percentile(latency[provider], 0.95),
        }
        for (provider,), sums in usage_sums("provider", team_ids=None, days=day).items()
    }


def _latency(now: datetime) -> dict[str, list[float]]:
    """How long the latest answers of the last 24 hours took, by provider name."""
    answered = UsageRecord.objects.filter(ANSWERED, started_at__gt=now - LAST_DAY, started_at__lte=now)
    found: dict[str, list[float]] = defaultdict(list)
    for provider, latency_ms in answered.order_by("-started_at").values_list("provider", "latency_ms")[:LATENCY_SAMPLE]:
        found[provider].append(latency_ms)
    return found
