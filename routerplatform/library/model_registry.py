"""Models as a program sees them: `router.registry.models["name"]`, and new ones by assignment."""

from collections.abc import Callable, ItemsView, Iterator, MutableMapping, ValuesView
from dataclasses import replace
from typing import Any

from django.utils import timezone

from providers.catalogue import read_catalogue
from providers.domain.pricing import rate_from_usd
from providers.models import CatalogueModel, ModelStatus, Price
from providers.selectors import active_deployments, price_rank
from routerplatform.library.errors import near
from routerplatform.library.model_config import ModelConfig
from routerplatform.library.model_services import model_register, model_withdraw
from routing.models import AliasTarget

InDatabase = Callable[[Callable[[], Any]], Any]
"""Runs what blocks where it may, and gives what it gives."""


class ModelRegistry:
    """What `router.registry` is. `models` is a mapping: reading it shows the catalogue and what was added, setting an
    item adds a model that requests and policies can name from then on."""

    def __init__(self, run: InDatabase) -> None:
        self.models = _Models(run)


class _Models(MutableMapping[str, ModelConfig]):
    def __init__(self, run: InDatabase) -> None:
        self._run = run

    def __getitem__(self, name: str) -> ModelConfig:
        found: dict[str, ModelConfig] = self._run(models_listed)
        if name not in found:
            raise KeyError(f"There is no model “{name}”.{near(name, found)}")
        return found[name]

    def __setitem__(self, name: str, config: ModelConfig) -> None:
        self._run(lambda: model_register(name=name, config=config))

    def __delitem__(self, name: str) -> None:
        self._run(lambda: model_withdraw(name=name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._run(models_listed))

    def __len__(self) -> int:
        return len(self._run(models_listed))

    def items(self) -> ItemsView[str, ModelConfig]:
        """As they are now, in one look."""
        found: dict[str, ModelConfig] = self._run(models_listed)
        return found.items()

    def values(self) -> ValuesView[ModelConfig]:
        """As they are now, in one look."""
        found: dict[str, ModelConfig] = self._run(models_listed)
        return found.values()


# --- reading --------------------------------------------------------------------------------------------------------


def models_listed() -> dict[str, ModelConfig]:
    """Every model by the name that requests use: what can be called first, then the rest of the catalogue."""
    entries = read_catalogue().entries
    kinds = {name: entry.kind for name, entry in entries.items()}
    deployed = active_deployments(now=timezone.now())
    found: dict[str, ModelConfig] = {}
    targets = AliasTarget.objects.filter(alias__is_active=True, deployment__in=list(deployed)).select_related("alias")
    rows = CatalogueModel.objects.select_related("replaced_by").in_bulk(field_name="name")
    for target in targets.order_by("alias__name", "position"):
        deployment = deployed[target.deployment_id]
        rates = (deployment.price.input, deployment.price.output) if deployment.price else (None, None)
        config = _priced(_of_row(rows[deployment.model], deployment.endpoint.name), *rates)
        found.setdefault(
            target.alias.name,
            replace(
                config,
                max_tokens=deployment.max_output_tokens,
                avg_latency=None if deployment.expected_latency_ms is None else deployment.expected_latency_ms / 1000,
                is_callable=True,
            ),
        )
    listed = _list_prices()
    for name, row in rows.items():
        if name not in found:
            price = listed.get(row.pk)
            rates = (rate_from_usd(price.input_usd), rate_from_usd(price.output_usd)) if price else (None, None)
            found[name] = _priced(_of_row(row, kinds.get(name, row.vendor)), *rates)
    return found


def _list_prices() -> dict[int, Price]:
    """What models cost at present that nobody has deployed yet, by the model's id."""
    begun = Price.objects.filter(model__isnull=False, effective_from__lte=timezone.now())
    return {row.model_id or 0: row for row in sorted(begun, key=price_rank)}


def _of_row(row: CatalogueModel, provider: str) -> ModelConfig:
    return ModelConfig(
        name=row.name,
        provider=provider,
        cost_per_1k_tokens=None if row.list_price_per_1k is None else float(row.list_price_per_1k),
        max_tokens=row.max_output_tokens,
        strengths=tuple(part.strip() for part in row.strengths.split(",") if part.strip()),
        context_window=row.context_window,
        capabilities=tuple(row.capabilities),
        is_retired=row.status == ModelStatus.RETIRED,
        replaced_by=row.replaced_by.name if row.replaced_by else "",
    )


def _priced(config: ModelConfig, input_nano: int | None, output_nano: int | None) -> ModelConfig:
    """With the rates in force (nano-USD per million tokens) as USD per 1,000."""
    into, out = (None if rate is None else rate / 1e12 for rate in (input_nano, output_nano))
    mean = None if into is None or out is None else (into + out) / 2
    single = mean if config.cost_per_1k_tokens is None else config.cost_per_1k_tokens
    return replace(config, cost_per_1k_tokens=single, input_cost_per_1k=into, output_cost_per_1k=out)
