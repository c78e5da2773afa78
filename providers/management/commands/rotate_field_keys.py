"""Seal every secret again with the first of FIELD_KEYS, so that the older ones can be removed."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from providers.services import ResealReport, secrets_reseal


class Command(BaseCommand):
    help = (
        "Seals every provider key and the secrets of alert channels with the first key of FIELD_KEYS. Put a new key "
        "in front of FIELD_KEYS, restart, run this, then remove the old key. It may be stopped and run again. Secrets "
        "are never printed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be done.")
        parser.add_argument("--json", action="store_true", help="One JSON object instead of text.")

    def handle(self, *args: Any, **options: Any) -> None:
        report = secrets_reseal(dry_run=options["dry_run"])
        if options["json"]:
            self.stdout.write(json.dumps(asdict(report) | {"dry_run": options["dry_run"]}))
        else:
            self._tell(report, dry_run=options["dry_run"])
        if report.failed:
            raise CommandError(f"{len(report.failed)} secrets could not be opened.")

    def _tell(self, report: ResealReport, *, dry_run: bool) -> None:
        done = "would be sealed anew" if dry_run else "sealed anew"
        for sentence in report.failed:
            self.stderr.write(sentence)
        self.stdout.write(f"{report.resealed} {done}, {report.already} already sealed with the first field key.")
