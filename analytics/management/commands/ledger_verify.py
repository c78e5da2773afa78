"""`manage.py ledger_verify`: prove that rollups and usage records agree."""

import dataclasses
import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from analytics.management.day_argument import day_argument
from analytics.services import Difference, LedgerReport, ledger_check


class Command(BaseCommand):
    help = "Compare rollups with the usage records they were made of. Exit code 1 when anything differs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", dest="first", type=day_argument, help="first day, YYYY-MM-DD (default: all)")
        parser.add_argument("--to", dest="last", type=day_argument, help="last day, included (default: all)")
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["first"] and options["last"] and options["last"] < options["first"]:
            raise CommandError("--to is before --from", returncode=2)
        report = ledger_check(first=options["first"], last=options["last"])
        self.stdout.write(as_json(report) if options["json"] else as_text(report))
        if report.differences:
            raise CommandError(f"{len(report.differences)} differences")


def as_text(report: LedgerReport) -> str:
    if report.days is None:
        return "No usage yet."
    found = [sentence(difference) for difference in report.differences]
    checked = f"{report.records} records from {report.days.first} to {report.days.last}"
    waiting = f"{report.dirty_days} days waiting for their rollup"
    return "\n".join([*found, f"{checked}, {waiting}: {'NOT in order' if found else 'in order'}"])


def sentence(difference: Difference) -> str:
    where, what = difference.where, difference.what
    if difference.rollup is None:
        return f"request {where}: {what}"
    return f"{where}: {what} is {difference.rollup} in the rollup, {difference.records} in the records"


def as_json(report: LedgerReport) -> str:
    return json.dumps(
        {
            "from": report.days.first.isoformat() if report.days else None,
            "to": report.days.last.isoformat() if report.days else None,
            "records": report.records,
            "dirty_days": report.dirty_days,
            "differences": [dataclasses.asdict(difference) for difference in report.differences],
        }
    )
