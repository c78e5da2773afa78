"""`manage.py router_examples`: what one's own traffic teaches, in the files that `router_train` reads."""

import json
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from analytics.management.since_argument import since_argument
from analytics.selectors.learning import graded_examples, labelled_examples
from routing.training.examples import GradedExample, TaskExample

WITH: Final = {"labelled": "with a label", "graded": "with grades"}


class Command(BaseCommand):
    help = (
        "Writes kept prompts that people have labelled, and those whose answers people or a judge have graded, as "
        "JSON lines: router_train --dataset LABELLED --multi GRADED. The files hold prompts: treat them as such."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--labelled", type=Path, metavar="FILE", help="Where prompts with a label go.")
        parser.add_argument("--graded", type=Path, metavar="FILE", help="Where prompts with grades of models go.")
        parser.add_argument("--json", action="store_true", help="One JSON object: how many, and where.")
        parser.add_argument("--since", type=since_argument, metavar="TIME", help="No older than 30d, or 12h.")

    def handle(self, *_: Any, **options: Any) -> None:
        if not options["labelled"] and not options["graded"]:
            raise CommandError("Say where to write: --labelled FILE, --graded FILE, or both.")
        since = timezone.now() - options["since"] if options["since"] else None
        report: dict[str, dict[str, Any]] = {}
        try:
            if options["labelled"]:
                report["labelled"] = written(options["labelled"], map(labelled_row, labelled_examples(since=since)))
            if options["graded"]:
                report["graded"] = written(options["graded"], map(graded_row, graded_examples(since=since)))
        except OSError as error:
            raise CommandError(f"Cannot write: {error}") from error
        if options["json"]:
            self.stdout.write(json.dumps(report))
            return
        for name, told in report.items():
            self.stdout.write(f"{told['prompts']} prompts {WITH[name]}: {told['file']}")


def written(path: Path, rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Write a file of prompts; how many there are and where.

    :raises OSError: it cannot be written.
    """
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.touch(mode=0o600)  # prompts are not for everybody on the machine
    path.write_text("".join(lines), encoding="utf-8")
    return {"prompts": len(lines), "file": str(path)}


def labelled_row(example: TaskExample) -> dict[str, Any]:
    row = {"id": example.id, "prompt": example.prompt.text, "label": example.label.value, "source": example.source}
    return row if not example.licence else {**row, "licence": example.licence}


def graded_row(example: GradedExample) -> dict[str, Any]:
    row = {"id": example.id, "prompt": example.prompt.text, "scores": example.scores}
    return row if not example.tag else {**row, "tag": example.tag}
