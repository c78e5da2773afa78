"""Train the classifier and the estimates of quality, judge them on what they have not seen, and write the artefact."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from providers.management.progress import steps
from routing.artefacts import DEFAULT
from routing.domain.classification.artefact import ArtefactError, card_text, load
from routing.training.building import TrainingResult, train
from routing.training.datasets import DatasetError, task_examples
from routing.training.gates import Verdict, golden_figures, judged
from routing.training.options import add_training_options, training_input
from routing.training.prompts import golden_prompts


class Command(BaseCommand):
    requires_system_checks = []  # files in, files out: neither the database nor the admin is needed
    help = (
        "Trains the routing artefact: what kind of work a prompt is, and how well each model does it. The same input "
        "and seed give the same bytes. It is written only if it is no worse than the one it replaces."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_training_options(parser)
        parser.add_argument("--golden", type=Path, metavar="FILE", help="Labelled prompts to compare old and new on.")
        parser.add_argument("--replaces", type=Path, metavar="NPZ", default=DEFAULT, help="Default: the shipped one.")
        parser.add_argument("--output", type=Path, metavar="NPZ", help="Where to write; the card goes beside it.")
        parser.add_argument("--dry-run", action="store_true", help="Train and judge, write nothing.")
        parser.add_argument("--fast", action="store_true", help="No evaluation: no figures, and nothing is calibrated.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["output"] and not options["dry_run"]:
            raise CommandError("Say where to write with --output FILE.npz, or --dry-run to write nothing.")
        try:
            with steps(self.stderr, "Training") as told:
                trained = train(training_input(options), told, evaluate=not options["fast"])
            verdict = _verdict(options, trained)
            written = verdict.passed and not options["dry_run"]
            if written:
                _write(options["output"], trained)
        except (DatasetError, ArtefactError, OSError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps({"card": trained.card, "complaints": verdict.complaints, "written": written}))
        else:
            self.stdout.write(card_text(trained.card))
        if not verdict.passed:
            raise CommandError("Not written. " + " ".join(verdict.complaints))


def _verdict(options: dict[str, Any], trained: TrainingResult) -> Verdict:
    golden = task_examples(options["golden"]) if options["golden"] else golden_prompts()
    replaces: Path = options["replaces"]
    old = golden_figures(load(replaces.read_bytes()), golden) if replaces.exists() else None
    return judged(trained.card, golden_figures(load(trained.data), golden), old)


def _write(output: Path, trained: TrainingResult) -> None:
    output.write_bytes(trained.data)
    output.with_suffix(".json").write_text(card_text(trained.card), encoding="utf-8")
