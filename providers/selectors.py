"""Read what can be called: active deployments, frozen for the gateway."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import cast

from django.db.models import Q

from providers.domain.pricing import rate_from_usd, tier_from_row
from providers.domain.types import (
    BreakerOverride,
    Capability,
    Credential,
    Deployment,
    Endpoint,
    KeyStrategy,
    Price,
    RateLimit,
    Wire,
)
from providers.models import Deployment as DeploymentRow
from providers.models import Price as PriceRow
from providers.models import PriceSource, Provider, ProviderKey
from providers.registry import PROVIDER_KINDS

NANO = 1_000_000_000


def active_deployments(*, now: datetime) -> dict[int, Deployment]:
    """Active deployments of active providers by id, each with the price in force at `now`.

    Four queries however many there are. A provider of an unknown kind, or one that needs a key and has none, has
    nothing to offer and is left out.
    """
    credentials = _credentials()
    endpoints = {
        provider.pk: endpoint_of(provider)
        for provider in Provider.objects.filter(is_active=True)
        if provider.kind in PROVIDER_KINDS
    }
    rows = DeploymentRow.objects.filter(is_active=True, provider__in=list(endpoints)).select_related("model")
    prices = _prices_in_force(now=now)
    found = {}
    for row in rows:
        endpoint = endpoints[row.provider_id]
        keys = credentials.get(row.provider_id, ())
        if keys or not PROVIDER_KINDS[endpoint.kind].needs_key:
            price = prices.get(("deployment", row.pk)) or prices.get(("model", row.model_id))
            found[row.pk] = deployment_of(row, endpoint, keys, price)
    return found


def endpoint_of(provider: Provider) -> Endpoint:
    """A provider as the transport sees it, with what its kind says filled in."""
    kind = PROVIDER_KINDS[provider.kind]
    return Endpoint(
        id=provider.pk,
        name=provider.name,
        kind=provider.kind,
        wires=kind.wires,
        base_url=(provider.base_url or kind.base_url).rstrip("/"),
        connect_timeout_s=provider.connect_timeout_s,
        timeout_s=provider.timeout_s,
        auth=kind.auth,
        max_tokens_field=kind.max_tokens_field,
        key_strategy=cast(KeyStrategy, provider.key_strategy),
        allowed_networks=tuple(provider.allowed_networks.split()),
        region=provider.region,
    )


def price_of(row: PriceRow) -> Price:
    """A price row in the integer rates that bills are made of."""
    return Price(
        id=row.pk,
        input=rate_from_usd(row.input_usd),
        output=rate_from_usd(row.output_usd),
        cache_read=rate_from_usd(row.cache_read_usd),
        cache_write=rate_from_usd(row.cache_write_usd),
        per_request=int(row.per_request_usd * NANO),
        cache_write_1h=rate_from_usd(row.cache_write_1h_usd),
        tiers=tuple(tier_from_row(tier) for tier in row.tiers),
    )


def price_rank(row: PriceRow) -> tuple[bool, datetime]:
    """Among prices that have begun, the greatest bills: own prices before lists, then the latest."""
    return row.source == PriceSource.OVERRIDE, row.effective_from


class PriceBook:
    """Every price there is, as it stands now: who was billed what at any moment, had the book been like this then."""

    def __init__(self, prices: Iterable[PriceRow], deployments: Iterable[DeploymentRow]) -> None:
        self._prices: dict[tuple[str, int | str], list[PriceRow]] = defaultdict(list)
        for row in prices:
            of = ("model", row.model.name) if row.model else ("deployment", row.deployment_id or 0)
            self._prices[of].append(row)
        self._ids = {f"{row.provider.name}/{row.upstream_model}": row.pk for row in deployments}

    def row_at(self, deployment: str, model: str, at: datetime) -> PriceRow | None:
        """The row that bills a request of then, served by `deployment` (“provider/upstream-model”), which is `model`.

        A deployment that is gone, or was renamed, is billed like its model.
        """
        own, of_model = self._of(deployment, model)
        for rows in (own, of_model):
            if begun := [row for row in rows if row.effective_from <= at]:
                return max(begun, key=price_rank)
        return None

    def charges_for_tokens(self, deployment: str, model: str, first: datetime, last: datetime) -> bool:
        """Whether tokens were not free at some moment from `first` to `last`."""
        own, of_model = self._of(deployment, model)
        changes = [row.effective_from for row in (*own, *of_model) if first < row.effective_from <= last]
        rows = (self.row_at(deployment, model, moment) for moment in (first, *changes))
        return any(row is not None and bool(row.input_usd or row.output_usd) for row in rows)

    def _of(self, deployment: str, model: str) -> tuple[list[PriceRow], list[PriceRow]]:
        own = ("deployment", self._ids.get(deployment, 0))
        return self._prices.get(own, []), self._prices.get(("model", model), [])


def price_book() -> PriceBook:
    """Read in two queries; prices are few."""
    return PriceBook(PriceRow.objects.select_related("model"), DeploymentRow.objects.select_related("provider"))


def deployment_of(
    row: DeploymentRow, endpoint: Endpoint, credentials: tuple[Credential, ...], price: PriceRow | None
) -> Deployment:
    """A row as the gateway sees it, active or not; `price` is the one in force."""
    return Deployment(
        id=row.pk,
        name=f"{endpoint.name}/{row.upstream_model}",
        endpoint=endpoint,
        upstream_model=row.upstream_model,
        model=row.model.name,
        credentials=credentials,
        capabilities=frozenset(Capability(name) for name in row.model.capabilities),
        context_window=row.model.context_window,
        max_output_tokens=row.max_output_tokens or row.model.max_output_tokens,
        cost_tier=row.model.cost_tier,
        price=price_of(price) if price else None,
        expected_latency_ms=row.expected_latency_ms,
        rate_limit=rate_limit_of(row.rpm_limit, row.tpm_limit, row.max_parallel_requests),
        wire=Wire(row.wire) if row.wire else None,
        breaker=cast(BreakerOverride, row.breaker),
        breaker_reset_at=row.breaker_reset_at.timestamp() if row.breaker_reset_at else 0.0,
    )


def rate_limit_of(rpm: int | None, tpm: int | None, max_parallel: int | None) -> RateLimit | None:
    """Three columns as one value; None where nothing is limited."""
    return None if rpm is tpm is max_parallel is None else RateLimit(rpm, tpm, max_parallel)


def _credentials() -> dict[int, tuple[Credential, ...]]:
    """Active keys by provider id, in a stable order."""
    found: dict[int, list[Credential]] = defaultdict(list)
    for key in ProviderKey.objects.filter(is_active=True).order_by("id"):
        found[key.provider_id].append(Credential(id=key.pk, label=key.label, last4=key.last4, sealed=key.sealed))
    return {provider_id: tuple(keys) for provider_id, keys in found.items()}


def _prices_in_force(*, now: datetime) -> dict[tuple[str, int], PriceRow]:
    """The row that bills each model and deployment at `now`: own prices before lists, then the latest begun."""
    rows: Iterable[PriceRow] = PriceRow.objects.filter(effective_from__lte=now).filter(
        Q(model__isnull=False) | Q(deployment__isnull=False)
    )
    return {_price_key(row): row for row in sorted(rows, key=price_rank)}


def _price_key(row: PriceRow) -> tuple[str, int]:
    return ("deployment", row.deployment_id) if row.deployment_id is not None else ("model", row.model_id or 0)


def provider_health() -> dict[str, str]:
    """The last known health of every provider, by name."""
    return dict(Provider.objects.values_list("name", "health"))
