"""`manage.py catalogue_load`: the model catalogue and its list prices, brought up to date."""

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

from providers.catalogue import Catalogue, read_catalogue
from providers.catalogue_services import CatalogueReport, catalogue_load
from providers.model_registry import RegistryError, read_registry, with_registry


class Command(BaseCommand):
    help = (
        "Load the models that ship with the platform and what they cost (genai-prices). Adds and updates; whatever "
        "a person has edited stays as it is, and so do own prices. Safe to run at any time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what would change, change nothing")
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        catalogue = self._catalogue(settings.AI_MODEL_SERVICE_ADDR)
        report = catalogue_load(now=timezone.now(), catalogue=catalogue, dry_run=options["dry_run"])
        if options["json"]:
            self.stdout.write(json.dumps(report.as_dict(), indent=2))
        elif options["verbosity"] > 0:
            self._tell(report, dry_run=options["dry_run"])

    def _catalogue(self, registry_address: str) -> Catalogue:
        """What ships, joined by what the registry lists. One that does not answer keeps nobody from starting."""
        catalogue = read_catalogue()
        if not registry_address:
            return catalogue
        try:
            registry = read_registry(registry_address)
        except RegistryError as error:
            self.stderr.write(f"The registry of AI_MODEL_SERVICE_ADDR is left out: {error}")
            return catalogue
        for line in registry.refused:
            self.stderr.write(f"The registry’s model {line}")
        return with_registry(catalogue, registry)

    def _tell(self, report: CatalogueReport, *, dry_run: bool) -> None:
        for title, names in report.as_dict().items():
            if names:
                self.stdout.write(f"{title.replace('_', ' ').capitalize()} ({len(names)}): {', '.join(names)}")
        if not report.changed:
            self.stdout.write("Nothing to change.")
        elif dry_run:
            self.stdout.write("This was a dry run: nothing has been changed.")
