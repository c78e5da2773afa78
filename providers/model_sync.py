"""The models that a vendor lists, beside those that are deployed here and those in the catalogue.

Nothing is ever deleted or switched off by it: a deployed model that the vendor lists no longer is shown as such, and
people decide.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from providers.catalogue import read_catalogue
from providers.catalogue_services import price_columns
from providers.connection_check import in_a_thread
from providers.domain.health import ProbeOutcome
from providers.domain.model_list import ListedModel, ModelUse, stands_for
from providers.domain.types import Capability
from providers.fields import unseal
from providers.history import REASON_ATTRIBUTE
from providers.models import CatalogueModel, Deployment, Price, PriceSource, Provider, ProviderKey
from providers.prices_source import listed_context_window, listed_prices
from providers.probing import Probe, ProbeResult, probe_all
from providers.registry import PROVIDER_KINDS
from providers.selectors import endpoint_of

REASON = "model_sync"
VENDOR_CHARS = 60


@dataclass(frozen=True, slots=True)
class SyncRow:
    """One model, by the name that calls use. `listed` is None for one that is deployed but no longer listed."""

    name: str
    listed: ListedModel | None
    deployments: tuple[Deployment, ...] = ()
    in_catalogue: bool = False

    @property
    def is_new(self) -> bool:
        return not self.deployments

    @property
    def is_gone(self) -> bool:
        return self.listed is None

    @property
    def can_be_called(self) -> bool:
        """Whether an API of ours may reach it: not where the vendor says that it makes images or speech."""
        return self.listed is not None and self.listed.use is not ModelUse.OTHER


@dataclass(frozen=True, slots=True)
class ModelSync:
    """What a vendor listed: `problem` says why there is nothing, in words, and is empty when it answered."""

    rows: tuple[SyncRow, ...]
    note: str
    problem: str = ""
    names_are_called: bool = True  # as `ProviderKind.lists_deployments`

    def as_dict(self) -> dict[str, object]:
        new = [row.name for row in self.rows if row.is_new and row.can_be_called]
        return {
            "note": self.note,
            "problem": self.problem,
            "new": new,
            "deployed": [row.name for row in self.rows if row.deployments and not row.is_gone],
            "no_longer_listed": [row.name for row in self.rows if row.is_gone],
            "not_callable": [row.name for row in self.rows if row.is_new and not row.can_be_called],
            "not_in_catalogue": [row.name for row in self.rows if row.name in new and not row.in_catalogue],
        }


def model_sync(*, provider: Provider) -> ModelSync:
    """Ask the vendor for its models, with the first active key, and set them beside ours. Takes up to 10 s."""
    kind = PROVIDER_KINDS.get(provider.kind)
    if kind is None:
        return ModelSync((), "", f"This version knows no kind “{provider.kind}”.")
    key = ProviderKey.objects.filter(provider=provider, is_active=True).order_by("id").first()
    if key is None and kind.needs_key:
        return ModelSync((), "", f"{kind.label} needs an active key.")
    try:
        probe = Probe(endpoint_of(provider), unseal(key.sealed) if key else "")
    except ImproperlyConfigured as error:
        return ModelSync((), "", str(error))
    [result] = in_a_thread(lambda: probe_all([probe]))
    if result.outcome is not ProbeOutcome.ANSWERED:
        return ModelSync((), "", f"{provider.label} {result.note}.")
    return beside_ours(provider, result)


def beside_ours(provider: Provider, result: ProbeResult) -> ModelSync:
    """The rows for a list that was answered: new ones first, then those that are gone, then those that are deployed."""
    names_are_called = PROVIDER_KINDS[provider.kind].lists_deployments
    ours = list(Deployment.objects.filter(provider=provider).select_related("model").order_by("upstream_model"))
    known = set(CatalogueModel.objects.values_list("name", flat=True))
    rows = [
        SyncRow(
            name=listed.name,
            listed=listed,
            deployments=tuple(row for row in ours if stands_for(row.upstream_model, listed.name)),
            in_catalogue=listed.name in known,
        )
        for listed in result.models
    ]
    found = {row.pk for one in rows for row in one.deployments}
    gone = [SyncRow(row.upstream_model, None, (row,)) for row in ours if row.pk not in found and names_are_called]
    rows = [*(row for row in rows if row.is_new), *gone, *(row for row in rows if not row.is_new)]
    return ModelSync(tuple(rows), result.note, names_are_called=names_are_called)


@transaction.atomic
def listed_models_deploy(
    *, provider: Provider, rows: Iterable[SyncRow], names: Collection[str], now: datetime
) -> list[Deployment]:
    """Deploy those of `rows` whose names are chosen and that are not deployed yet; the new deployments.

    A model that the catalogue lacks is added with what the vendor and the price list say of it and nothing else: its
    abilities are for people to tick.
    """
    made = []
    for row in rows:
        if row.listed is not None and row.name in names and row.is_new:
            model = _catalogue_model(provider, row.listed)
            deployment, created = Deployment.objects.get_or_create(
                provider=provider, upstream_model=row.name, defaults={"model": model}
            )
            if created:
                _price(deployment, now)
                made.append(deployment)
    return made


def _catalogue_model(provider: Provider, listed: ListedModel) -> CatalogueModel:
    model = CatalogueModel.objects.filter(name=listed.name).first()
    if model is not None:
        return model
    embeds = listed.use is ModelUse.EMBEDDINGS
    prices_id = PROVIDER_KINDS[provider.kind].prices_id
    window = listed.context_window or listed_context_window(prices_id, listed.name)
    model = CatalogueModel(
        name=listed.name,
        label=listed.name,
        vendor=provider.label[:VENDOR_CHARS],
        capabilities=[(Capability.EMBEDDINGS if embeds else Capability.STREAMING).value],
        context_window=None if embeds else window,  # theirs is for each text, not for a request of many
        max_output_tokens=None if embeds else listed.max_output_tokens,
    )
    setattr(model, REASON_ATTRIBUTE, REASON)
    model.save()
    return model


def _price(deployment: Deployment, now: datetime) -> None:
    """What this vendor asks, on the deployment itself: a model's own prices are those of the vendor it is listed under
    in the catalogue. Where this one's are not known, that is said, so that nobody is billed at another's."""
    entry = read_catalogue().entries.get(deployment.model.name)
    has_prices = deployment.model.prices.exists()
    if has_prices and entry is not None and entry.kind == deployment.provider.kind:
        return
    dated = listed_prices(PROVIDER_KINDS[deployment.provider.kind].prices_id, deployment.upstream_model)
    prices: Sequence[Price] = [
        Price(
            deployment=deployment,
            source=PriceSource.GENAI_PRICES,
            effective_from=price.effective_from,
            **price_columns(price.terms),
        )
        for price in dated
    ]
    if not prices and has_prices:
        prices = [Price(deployment=deployment, source=PriceSource.OVERRIDE, effective_from=now)]
    for price in prices:
        setattr(price, REASON_ATTRIBUTE, REASON)
        price.save()
