"""`manage.py ledger_verify`: prove that rollups, budget windows and leases agree with the usage records."""

import dataclasses
import json
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.template.defaultfilters import pluralize
from django.utils import timezone

from analytics.management.day_argument import day_argument
from analytics.services.verification import Difference, LedgerReport, ledger_verify


class Command(BaseCommand):
    help = "Compare what the ledger states with the usage records. Exit code 1 when anything differs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", dest="first", type=day_argument, help="first day, YYYY-MM-DD (default: all)")
        parser.add_argument("--to", dest="last", type=day_argument, help="last day, included (default: all)")
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["first"] and options["last"] and options["last"] < options["first"]:
            raise CommandError("--to is before --from", returncode=2)
        report = ledger_verify(now=timezone.now(), first=options["first"], last=options["last"])
        self.stdout.write(as_json(report) if options["json"] else as_text(report))
        if report.differences:
            raise CommandError(f"{len(report.differences)} difference{pluralize(len(report.differences))}")


def as_text(report: LedgerReport) -> str:
    lines = [*as_table(report.differences), *(f"warning: {one.what}: {one.where}" for one in report.warnings)]
    order = "NOT in order" if report.differences else "in order"
    windows = f"{report.windows} budget windows"
    if report.days is None:
        return "\n".join([*lines, f"No usage yet, {windows}: {order}"])
    records = f"{report.records} records from {report.days.first} to {report.days.last}"
    return "\n".join([*lines, f"{records}, {windows}, {report.dirty_hours} hours waiting for their rollup: {order}"])


def as_table(differences: Sequence[Difference]) -> list[str]:
    """A line for each, under a heading; nothing for none."""
    if not differences:
        return []
    rows = [("what", "where", "stated", "proven"), *(tuple(map(cell, dataclasses.astuple(one))) for one in differences)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        f"{what:<{widths[0]}}  {where:<{widths[1]}}  {stated:>{widths[2]}}  {proven:>{widths[3]}}".rstrip()
        for what, where, stated, proven in rows
    ]


def cell(value: str | int | None) -> str:
    return "" if value is None else str(value)


def as_json(report: LedgerReport) -> str:
    return json.dumps(
        {
            "from": report.days.first.isoformat() if report.days else None,
            "to": report.days.last.isoformat() if report.days else None,
            "records": report.records,
            "windows": report.windows,
            "dirty_hours": report.dirty_hours,
            "differences": [dataclasses.asdict(one) for one in report.differences],
            "warnings": [dataclasses.asdict(one) for one in report.warnings],
        }
    )
