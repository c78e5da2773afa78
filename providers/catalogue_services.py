"""Bring the model catalogue and its list prices into the database, again and again, without undoing anybody's work.

A row belongs to the loader for as long as the loader made its last change; once somebody edited or deleted it, it is
left alone. A price that has begun is never edited: a changed one becomes a new row from the load on.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar

from django.db import transaction

from providers.catalogue import Catalogue, CatalogueEntry, read_catalogue
from providers.domain.pricing import TIER_RATES
from providers.history import REASON_ATTRIBUTE
from providers.models import CatalogueModel, ModelStatus, Price, PriceSource
from providers.prices_source import EPOCH, DatedTerms, PriceList, Rates, Terms, listed_prices
from providers.registry import PROVIDER_KINDS

REASON = "catalogue_load"
LISTED = (PriceSource.GENAI_PRICES, PriceSource.REGISTRY)
T = TypeVar("T")
Row = TypeVar("Row", CatalogueModel, Price)


@dataclass(slots=True)
class CatalogueReport:
    """What a load did, by model name; `prices_*` name model and day. `left_alone`: a person has changed it since."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)
    prices_added: list[str] = field(default_factory=list)
    prices_dropped: list[str] = field(default_factory=list)
    prices_left_alone: list[str] = field(default_factory=list)
    unpriced: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return any((self.created, self.updated, self.prices_added, self.prices_dropped))

    def as_dict(self) -> dict[str, list[str]]:
        return asdict(self)


@transaction.atomic
def catalogue_load(
    *, now: datetime, catalogue: Catalogue | None = None, price_list: PriceList = listed_prices, dry_run: bool = False
) -> CatalogueReport:
    """Create what is missing, update what nobody edited, add prices that changed. Safe to run at every start."""
    catalogue = catalogue or read_catalogue()
    report = CatalogueReport()
    models = _load_models(catalogue.entries.values(), now.date(), report)
    _load_prices(catalogue, models, price_list, now, report)
    transaction.set_rollback(dry_run)
    return report


def _load_models(entries: Iterable[CatalogueEntry], today: date, report: CatalogueReport) -> dict[str, CatalogueModel]:
    models = {row.name: row for row in CatalogueModel.objects.select_related("replaced_by")}
    last_reason = dict(
        CatalogueModel.history.order_by("history_id").values_list("name", "history_change_reason")  # the last one stays
    )
    # A replacement outlives what it replaces: it comes first, and is there to be pointed at.
    for entry in sorted(entries, key=lambda entry: entry.last_day, reverse=True):
        row = models.get(entry.name)
        if last_reason.get(entry.name, None if row else REASON) != REASON:
            report.left_alone.append(entry.name)
            continue
        wanted = _values(entry, today, models)
        if row is None:
            models[entry.name] = _save(CatalogueModel(name=entry.name, **wanted))
            report.created.append(entry.name)
        elif changed := {name: value for name, value in wanted.items() if getattr(row, name) != value}:
            for name, value in changed.items():
                setattr(row, name, value)
            _save(row)
            report.updated.append(entry.name)
    return models


def _values(entry: CatalogueEntry, today: date, models: Mapping[str, CatalogueModel]) -> dict[str, Any]:
    retired = entry.is_retired(today)
    return {
        "label": entry.label,
        "vendor": entry.maker,
        "status": ModelStatus.RETIRED if retired else ModelStatus.CURRENT,
        "replaced_by": models.get(entry.replaced_by) if retired else None,
        "capabilities": [capability.value for capability in entry.capabilities],
        "context_window": entry.context_window,
        "max_output_tokens": entry.max_output_tokens,
        "cost_tier": entry.cost_tier,
        "strengths": entry.strengths,
        "list_price_per_1k": entry.list_price_per_1k,
    }


def _load_prices(
    catalogue: Catalogue,
    models: Mapping[str, CatalogueModel],
    price_list: PriceList,
    now: datetime,
    report: CatalogueReport,
) -> None:
    held: dict[int, list[Price]] = defaultdict(list)
    for row in Price.objects.filter(source__in=LISTED, model__isnull=False).order_by("effective_from"):
        held[row.model_id or 0].append(row)
    touched = _prices_touched_by_people()
    for entry in catalogue.entries.values():
        model = models.get(entry.name)
        if model is None:
            continue
        source, dated = _listed(catalogue, entry, price_list)
        if model.pk in touched:
            report.prices_left_alone.append(entry.name)
        elif dated:
            add, drop = _price_changes(dated, held[model.pk], now)
            for row in drop:
                _delete(row)
            for price in add:
                _save(_price_row(model, price, source))
            report.prices_added += [f"{entry.name} from {price.effective_from:%Y-%m-%d}" for price in add]
            report.prices_dropped += [f"{entry.name} from {row.effective_from:%Y-%m-%d}" for row in drop]
        elif not held[model.pk]:
            report.unpriced.append(entry.name)


def _prices_touched_by_people() -> set[int]:
    """The models whose list prices somebody edited or deleted."""
    last = {
        price_id: (model_id, reason)
        for price_id, model_id, reason in Price.history.filter(source__in=LISTED)
        .order_by("history_id")
        .values_list("id", "model_id", "history_change_reason")
    }
    return {model_id for model_id, reason in last.values() if reason != REASON}


def _price_changes(dated: list[DatedTerms], held: list[Price], now: datetime) -> tuple[list[DatedTerms], list[Price]]:
    """The prices to add, and the rows to drop: announced prices that were called off before they began."""
    if not held:
        return dated, []
    listed = next((price for price in reversed(dated) if price.effective_from <= now), None)
    billed = next((row for row in reversed(held) if row.effective_from <= now), None)
    add = []
    if listed and (billed is None or _terms_of(billed) != listed.terms):
        add.append(DatedTerms(now, listed.terms))
    announced = {price.effective_from: price.terms for price in dated if price.effective_from > now}
    drop = [row for row in held if row.effective_from > now and announced.get(row.effective_from) != _terms_of(row)]
    known = {row.effective_from for row in held if row not in drop}
    add += [DatedTerms(start, terms) for start, terms in announced.items() if start not in known]
    return add, drop


def _terms_of(row: Price) -> Terms:
    tiers = ((tier["above"], Rates(*(_usd(tier.get(name)) for name in TIER_RATES))) for tier in row.tiers)
    return Terms(Rates(*(getattr(row, name) for name in TIER_RATES)), tuple(tiers))


def _usd(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _listed(catalogue: Catalogue, entry: CatalogueEntry, price_list: PriceList) -> tuple[PriceSource, list[DatedTerms]]:
    """What the model costs, and who says so: a registry's price has been so ever since, as far as anybody knows."""
    if terms := catalogue.prices.get(entry.name):
        return PriceSource.REGISTRY, [DatedTerms(EPOCH, terms)]
    return PriceSource.GENAI_PRICES, price_list(PROVIDER_KINDS[entry.kind].prices_id, entry.name)


def _price_row(model: CatalogueModel, price: DatedTerms, source: PriceSource) -> Price:
    return Price(
        model=model,
        source=source,
        effective_from=price.effective_from,
        **price_columns(price.terms),
    )


def price_columns(terms: Terms) -> dict[str, Any]:
    """The columns of a price row for what the list says."""
    tiers = [{"above": above, **_by_name(rates, _usd_text)} for above, rates in terms.tiers]
    return {"tiers": tiers, **_by_name(terms.rates, lambda usd: usd)}


def _by_name(rates: Rates, write: Callable[[Decimal | None], T]) -> dict[str, T]:
    return {name: write(getattr(rates, name)) for name in TIER_RATES}


def _usd_text(usd: Decimal | None) -> str | None:
    return None if usd is None else f"{usd:f}"


def _save(row: Row) -> Row:
    setattr(row, REASON_ATTRIBUTE, REASON)
    row.save()
    return row


def _delete(row: Price) -> None:
    setattr(row, REASON_ATTRIBUTE, REASON)
    row.delete()
