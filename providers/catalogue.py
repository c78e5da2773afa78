"""The models that come with the platform: `catalogue.toml`, read into values and checked."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from providers.domain.types import Capability
from providers.prices_source import Terms

_FILE = Path(__file__).with_name("catalogue.toml")


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One model; a size that is None does not apply to it. `kind` is the kind of provider that serves it; from the day
    `retires_on` the vendor refuses it."""

    name: str
    label: str
    kind: str
    maker: str
    capabilities: tuple[Capability, ...]
    context_window: int | None
    max_output_tokens: int | None
    cost_tier: str
    strengths: str
    list_price_per_1k: Decimal | None = None
    retires_on: date | None = None
    replaced_by: str = ""

    @property
    def last_day(self) -> date:
        """For ordering: `date.max` while no end is known."""
        return self.retires_on or date.max

    def is_retired(self, today: date) -> bool:
        return self.retires_on is not None and self.retires_on <= today


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Entries by model name, and for each kind of provider the models to begin with: hard work first, quick second.

    `prices` are those that an external registry names, by model; they go before the price list's.
    """

    entries: Mapping[str, CatalogueEntry]
    start_with: Mapping[str, tuple[str, ...]]
    prices: Mapping[str, Terms] = field(default_factory=dict)


def read_catalogue(text: str | None = None) -> Catalogue:
    """The catalogue that ships with the platform, or the one in `text`.

    :raises ValueError: a row names a set, capability or replacement that does not exist, a replacement goes before
        what it replaces, or a model stands twice.
    """
    data = tomllib.loads(_FILE.read_text("utf-8") if text is None else text)
    entries: dict[str, CatalogueEntry] = {}
    for entry in _entries(data):
        if entry.name in entries:
            raise ValueError(f"catalogue: {entry.name} stands twice")
        entries[entry.name] = entry
    start_with = {kind: tuple(group["start_with"]) for kind, group in data["kinds"].items()}
    named = {name for names in start_with.values() for name in names}
    named |= {entry.replaced_by for entry in entries.values() if entry.replaced_by}
    if missing := named - entries.keys():
        raise ValueError(f"catalogue: named, but not listed: {', '.join(sorted(missing))}")
    for entry in entries.values():
        if entry.replaced_by and entries[entry.replaced_by].last_day <= entry.last_day:
            raise ValueError(f"catalogue: {entry.replaced_by} does not outlive {entry.name}, which it replaces")
    return Catalogue(entries, start_with)


def _entries(data: Mapping[str, Any]) -> Iterator[CatalogueEntry]:
    sets = {name: tuple(Capability(value) for value in values) for name, values in data["sets"].items()}
    for kind, group in data["kinds"].items():
        for name, row in group["models"].items():
            if row["can"] not in sets:
                raise ValueError(f"catalogue: {name} can {row['can']!r}, which is not a set")
            yield CatalogueEntry(
                name=name,
                label=row["label"],
                kind=kind,
                maker=row.get("maker", group["vendor"]),
                capabilities=sets[row["can"]],
                context_window=row.get("window"),
                max_output_tokens=row.get("out"),
                cost_tier=row["tier"],
                strengths=row["strengths"],
                list_price_per_1k=Decimal(row["list_usd_1k"]) if "list_usd_1k" in row else None,
                retires_on=row.get("retires"),
                replaced_by=row.get("use", ""),
            )
