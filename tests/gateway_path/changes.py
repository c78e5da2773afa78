"""Edits to a running gateway's configuration, and requests that tests of the whole path share."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from asgiref.sync import sync_to_async

from providers.models import Price, Provider
from routing.models import ConfigRevision
from tests.factories import PriceFactory
from tests.gateway import Gateway


async def changed(gateway: Gateway, edit: Callable[[], Any]) -> None:
    """Make an edit, and come back when the gateway serves by it."""

    def make() -> int:
        edit()
        return ConfigRevision.objects.get(pk=1).revision

    wanted = await sync_to_async(make)()
    for _ in range(600):
        if (await gateway.get("/health")).json["config_revision"] >= wanted:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the gateway did not take the edit up")


def provider_set(name: str, **values: Any) -> None:
    """Change columns of a provider, as the admin would: its edit is noticed."""
    provider = Provider.objects.get(name=name)
    for column, value in values.items():
        setattr(provider, column, value)
    provider.save()


def price_set(provider: str, **usd: str | None) -> None:
    """Another price for all models of a provider, in USD per million tokens; what is not named is unknown."""
    _forget_prices(provider)
    rates: dict[str, Any] = {"input_usd": None, "output_usd": None}
    rates |= {f"{name}_usd": None if value is None else Decimal(value) for name, value in usd.items()}
    for deployment in Provider.objects.get(name=provider).deployments.all():
        PriceFactory(model=deployment.model, **rates)


def price_forget(provider: str) -> None:
    """From now on nobody knows what a provider's models cost."""
    _forget_prices(provider)
    provider_set(provider)


def _forget_prices(provider: str) -> None:
    Price.objects.filter(model__deployments__provider__name=provider).delete()
