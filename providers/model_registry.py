"""An external registry of models, where an installation has one: what it lists joins the catalogue that ships.

`GET <address>/models` answers `{"data": [{…}, …]}`, one object per model: `id`, and as far as it is known `label`,
`vendor`, `capabilities`, `context_window`, `max_output_tokens`, `cost_tier`, `strengths`, `input_usd_per_1m`,
`output_usd_per_1m`, `cache_read_usd_per_1m`, `cache_write_usd_per_1m`. The names are those of GET /api/v1/providers. A
model that both know is as the registry says; fields that nobody knows are passed over.

    RegistryError            it cannot be asked, or does not answer with such a list
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from providers.catalogue import Catalogue, CatalogueEntry
from providers.domain.types import Capability
from providers.models import CostTier
from providers.prices_source import Rates, Terms

TIMEOUT_S: Final = 10.0
LARGEST_ANSWER: Final = 5 * 1024 * 1024
KIND: Final = "openai-compatible"  # of models that the shipped catalogue does not have


class RegistryError(Exception):
    """The text says what is wrong, and never holds what the address may carry of a password."""


class ListedModel(msgspec.Struct, frozen=True):
    """One row of a registry. Prices are USD per million tokens; None is unknown, 0 is free."""

    id: str
    label: str = ""
    vendor: str = ""
    capabilities: list[Capability] = []
    context_window: int | None = None
    max_output_tokens: int | None = None
    cost_tier: CostTier | None = None
    strengths: str = ""
    input_usd_per_1m: Decimal | None = None
    output_usd_per_1m: Decimal | None = None
    cache_read_usd_per_1m: Decimal | None = None
    cache_write_usd_per_1m: Decimal | None = None


@dataclass(slots=True)
class Registry:
    """What a registry lists; `refused` has a line for each row that could not be used."""

    models: dict[str, ListedModel] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


class _SameAddressOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def read_registry(address: str) -> Registry:
    """Ask the registry at `address` (`host:port`, or an address with its scheme and path).

    :raises RegistryError:
    """
    url = f"{address if '://' in address else f'http://{address}'}".rstrip("/") + "/models"
    where = urlsplit(url)
    if where.scheme not in {"http", "https"} or not where.hostname:
        raise RegistryError("it is no address: name a host and a port, or an http(s) address.")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _SameAddressOnly)
    try:
        with opener.open(url, timeout=TIMEOUT_S) as answer:  # the operator's own address, http or https
            body = answer.read(LARGEST_ANSWER + 1)
    except urllib.error.HTTPError as error:
        raise RegistryError(f"{where.hostname} answered {error.code}.") from error
    except (OSError, HTTPException, ValueError) as error:
        raise RegistryError(f"{where.hostname} cannot be asked: {error}") from error
    if len(body) > LARGEST_ANSWER:
        raise RegistryError(f"{where.hostname} answered with more than {LARGEST_ANSWER:,} bytes.")
    return _registry(body, where.hostname)


def with_registry(catalogue: Catalogue, registry: Registry) -> Catalogue:
    """`catalogue` with what the registry lists, and with its prices."""
    entries = dict(catalogue.entries)
    for name, listed in registry.models.items():
        entries[name] = _entry(listed, entries.get(name))
    prices = {name: terms for name, listed in registry.models.items() if (terms := _terms(listed)) is not None}
    return replace(catalogue, entries=entries, prices={**catalogue.prices, **prices})


def _registry(body: bytes, host: str) -> Registry:
    try:
        rows = json.loads(body, parse_float=Decimal)["data"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RegistryError(f"{host} did not answer with a list of models: {{'data': […]}} was expected.") from error
    registry = Registry()
    for number, row in enumerate(rows if isinstance(rows, list) else []):
        try:
            model = msgspec.convert(row, ListedModel, strict=False)
            registry.models[_checked(model).id] = model
        except (msgspec.ValidationError, ValueError) as error:
            name = row.get("id") if isinstance(row, Mapping) else None
            registry.refused.append(f"{name or f'row {number + 1}'}: {error}")
    return registry


def _checked(model: ListedModel) -> ListedModel:
    """:raises ValueError: a figure or name that no model can have."""
    if not model.id or len(model.id) > 120:
        raise ValueError("an id has 1 to 120 characters")
    if any(price is not None and not 0 <= price < 1_000_000 for price in _prices(model)):
        raise ValueError("a price is USD per million tokens, from 0")
    if any(size is not None and size < 1 for size in (model.context_window, model.max_output_tokens)):
        raise ValueError("a size is a number of tokens, from 1")
    return model


def _prices(model: ListedModel) -> Iterator[Decimal | None]:
    yield model.input_usd_per_1m
    yield model.output_usd_per_1m
    yield model.cache_read_usd_per_1m
    yield model.cache_write_usd_per_1m


def _terms(model: ListedModel) -> Terms | None:
    if model.input_usd_per_1m is None and model.output_usd_per_1m is None:
        return None
    return Terms(Rates(*_prices(model)))


def _entry(listed: ListedModel, known: CatalogueEntry | None) -> CatalogueEntry:
    """What the registry leaves open stays as the shipped catalogue has it."""
    known = known or CatalogueEntry(listed.id, listed.id, KIND, "", (), None, None, CostTier.STANDARD, "")
    return replace(
        known,
        label=(listed.label or known.label)[:120],
        maker=(listed.vendor or known.maker or "Registry")[:60],
        capabilities=tuple(listed.capabilities) or known.capabilities,
        context_window=listed.context_window or known.context_window,
        max_output_tokens=listed.max_output_tokens or known.max_output_tokens,
        cost_tier=listed.cost_tier.value if listed.cost_tier else known.cost_tier,
        strengths=(listed.strengths or known.strengths)[:200],
    )
