"""Write what the router would predict for a file of prompts, in the form that a scorer reads."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from routing.artefacts import DEFAULT
from routing.domain.classification.artefact import ArtefactError, load
from routing.training.datasets import DatasetError
from routing.training.predicting import PredictionInput, multi_predictions, pair_predictions, task_predictions

KINDS = {"task": task_predictions, "pair": pair_predictions, "multi": multi_predictions}


class Command(BaseCommand):
    requires_system_checks = []  # files in, files out: neither the database nor the admin is needed
    help = (
        "Predicts for each line of IN and writes a line to OUT: task {id, label, confidence}, pair {id, score} "
        "(higher: ask the strong model), multi {id, quality: {model: 0 to 1}}. Files may be gzipped."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("kind", choices=list(KINDS))
        parser.add_argument("input", type=Path, metavar="IN")
        parser.add_argument("output", type=Path, metavar="OUT")
        parser.add_argument("--artefact", type=Path, default=DEFAULT, metavar="NPZ", help="Default: the shipped one.")
        parser.add_argument("--train", type=Path, metavar="FILE", help="Graded prompts of other traffic (pair, multi).")
        parser.add_argument("--graded", type=Path, metavar="FILE", help="Graded prompts of one's own (pair, multi).")
        parser.add_argument("--with-tag", action="store_true", help="The estimates may know each row's source (multi).")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--json", action="store_true", help="One JSON object on stdout: how many, and where.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            given = PredictionInput(
                artefact=load(options["artefact"].read_bytes()),
                path=options["input"],
                train=options["train"],
                graded=options["graded"],
                with_tag=options["with_tag"],
                seed=options["seed"],
            )
            lines = [json.dumps(row, ensure_ascii=False) for row in KINDS[options["kind"]](given)]
            options["output"].write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        except (DatasetError, ArtefactError, OSError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps({"predictions": len(lines), "output": str(options["output"])}))
        else:
            self.stderr.write(f"{len(lines)} predictions in {options['output']}")
