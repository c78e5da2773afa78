"""`manage.py model_sync PROVIDER`: the models that a provider lists, beside ours."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from providers.model_sync import ModelSync, listed_models_deploy, model_sync
from providers.models import Provider


class Command(BaseCommand):
    help = (
        "List the models of a provider: new ones, those that are deployed, and those that are deployed but no longer "
        "listed. Changes nothing unless told to deploy; never deletes."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("provider", help="the provider's name in calls, for example openai")
        parser.add_argument("--deploy", action="append", default=[], metavar="MODEL", help="deploy this listed model")
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        provider = Provider.objects.filter(name=options["provider"]).first()
        if provider is None:
            known = ", ".join(Provider.objects.order_by("name").values_list("name", flat=True)) or "none yet"
            raise CommandError(f"No provider is called {options['provider']}. There are: {known}.")
        found = model_sync(provider=provider)
        if found.problem:
            raise CommandError(found.problem)
        wanted = set(options["deploy"])
        if strange := sorted(wanted - {row.name for row in found.rows if row.listed}):
            raise CommandError(f"{provider.label} does not list {', '.join(strange)}. Nothing was deployed.")
        made = listed_models_deploy(provider=provider, rows=found.rows, names=wanted, now=timezone.now())
        report = {**found.as_dict(), "created": [str(row) for row in made]}
        if options["json"]:
            self.stdout.write(json.dumps(report, indent=2))
        else:
            self._tell(provider, found, report)

    def _tell(self, provider: Provider, found: ModelSync, report: dict[str, Any]) -> None:
        self.stdout.write(f"{provider.label} {found.note}.")
        for title in ("new", "deployed", "no_longer_listed", "not_callable", "created"):
            if names := report[title]:
                self.stdout.write(f"{title.replace('_', ' ').capitalize()} ({len(names)}): {', '.join(names)}")
        if not found.names_are_called:
            self.stdout.write("These are models that could be deployed there; calls use the name of the deployment.")
