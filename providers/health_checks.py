"""Provider health: record what was found, and probe those whose traffic says too little.

Health is no configuration: it is written with `update()`, so that no config revision and no history row comes of it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import Q

from providers.announcements import provider_health_changed
from providers.domain.health import HealthState, ProbeOutcome, judge_probe
from providers.fields import unseal
from providers.models import Provider, ProviderCheck, ProviderKey
from providers.probing import Probe, ProbeResult, probe_all
from providers.registry import PROVIDER_KINDS
from providers.selectors import endpoint_of

PROBE_AGAIN_AFTER = timedelta(seconds=30)
ASKED_AGAIN_AFTER = timedelta(seconds=3)
TRAFFIC_COUNTS_FOR = timedelta(seconds=120)
CHECKS_KEPT_FOR = timedelta(days=7)


def provider_check(*, provider: Provider, now: datetime) -> ProviderCheck:
    """Probe one provider now, whatever its traffic says, and record it. Takes up to 10 s; needs a thread of its own."""
    return _probed(providers=[provider], now=now)[0]


def providers_check(*, now: datetime, asked: bool = False) -> int:
    """Probe every active provider that is due; returns how many. Two runs at once share the work.

    `asked`: a person wants to know now, whatever the traffic or a check of half a minute ago says.
    """
    due = Provider.objects.filter(is_active=True)
    if not asked:
        fresh_traffic = ProviderCheck.objects.filter(is_passive=True, checked_at__gt=now - TRAFFIC_COUNTS_FOR)
        due = due.exclude(pk__in=fresh_traffic.values("provider"))
    rest = ASKED_AGAIN_AFTER if asked else PROBE_AGAIN_AFTER
    return len(_probed(providers=[provider for provider in due if _claimed(provider, now, rest)], now=now))


@transaction.atomic
def health_record(
    *,
    provider: Provider,
    health: HealthState,
    note: str,
    latency_ms: int | None,
    is_passive: bool,
    now: datetime,
) -> ProviderCheck:
    """Keep a check and show it on the provider, unless a later one is shown there already."""
    check = ProviderCheck.objects.create(
        provider=provider, health=health, note=note, latency_ms=latency_ms, is_passive=is_passive, checked_at=now
    )
    is_latest = Q(checked_at=None) | Q(checked_at__lte=now)
    shown = Provider.objects.select_for_update().filter(is_latest, pk=provider.pk).first()
    if shown is not None:
        Provider.objects.filter(pk=provider.pk).update(health=health, health_note=note, checked_at=now)
        if shown.health != health:
            provider_health_changed.send(
                Provider, provider=shown, before=shown.health, health=str(health), note=note, at=now
            )
    return check


def checks_thin(*, now: datetime) -> int:
    """Delete checks older than a week; returns how many."""
    deleted, _ = ProviderCheck.objects.filter(checked_at__lt=now - CHECKS_KEPT_FOR).delete()
    return deleted


def _claimed(provider: Provider, now: datetime, rest: timedelta) -> bool:
    """Compare-and-set on the time of the last check: only one of several workers goes on to probe."""
    rested = Q(checked_at=None) | Q(checked_at__lte=now - rest)
    return Provider.objects.filter(rested, pk=provider.pk).update(checked_at=now) == 1


def _probed(*, providers: Sequence[Provider], now: datetime) -> list[ProviderCheck]:
    """Probe them all, then record. Nothing of the database is held while the calls are under way."""
    prepared = [_prepare(provider) for provider in providers]
    results = iter(probe_all([probe for probe in prepared if isinstance(probe, Probe)]))
    return [
        _record(provider, next(results) if isinstance(probe, Probe) else probe, now)
        for provider, probe in zip(providers, prepared, strict=True)
    ]


def _prepare(provider: Provider) -> Probe | ProbeResult:
    """What to ask, or why it cannot be asked."""
    kind = PROVIDER_KINDS.get(provider.kind)
    if kind is None:
        return ProbeResult(ProbeOutcome.IMPOSSIBLE, f"unknown kind of provider: {provider.kind}")
    key = ProviderKey.objects.filter(provider=provider, is_active=True).order_by("id").first()
    if key is None and kind.needs_key:
        return ProbeResult(ProbeOutcome.IMPOSSIBLE, "no active key to ask with")
    try:
        return Probe(endpoint_of(provider), unseal(key.sealed) if key else "")
    except ImproperlyConfigured as error:
        return ProbeResult(ProbeOutcome.IMPOSSIBLE, str(error))


def _record(provider: Provider, result: ProbeResult, now: datetime) -> ProviderCheck:
    health = judge_probe(result.outcome, previous=_last_known_health(provider))
    return health_record(
        provider=provider, health=health, note=result.note, latency_ms=result.latency_ms, is_passive=False, now=now
    )


def _last_known_health(provider: Provider) -> HealthState:
    known = ProviderCheck.objects.filter(provider=provider).exclude(health=HealthState.UNKNOWN)
    last = known.values_list("health", flat=True).order_by("-checked_at").first()
    return HealthState(last) if last else HealthState.UNKNOWN
