"""Print how good training on the given files is, on sources, kinds of traffic and domains that were left out of it."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from providers.management.progress import steps
from routing.domain.classification.artefact import ArtefactError
from routing.training.building import train
from routing.training.datasets import DatasetError
from routing.training.options import add_training_options, training_input


class Command(BaseCommand):
    requires_system_checks = []  # files in, text out: neither the database nor the admin is needed
    help = "Prints the leave-one-out figures that training on these files gives; they are the ones in the card."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_training_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with steps(self.stderr, "Training") as told:
                figures = train(training_input(options), told).card["figures"]
        except (DatasetError, ArtefactError, OSError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(figures))
            return
        for name, value in _lines(figures):
            self.stdout.write(f"{name:<60} {value}")


def _lines(figures: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Nested figures as lines, each with its whole name."""
    found: list[tuple[str, Any]] = []
    for name, value in figures.items():
        whole = f"{above}{name}"
        found += _lines(value, f"{whole} / ") if isinstance(value, dict) else [(whole, value)]
    return found
