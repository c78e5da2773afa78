"""`manage.py rerate`: correct the cost of usage that was billed at a wrong price, or at none."""

import json
import sys
from argparse import ArgumentParser
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from analytics import presentation
from analytics.management.day_argument import day_argument
from analytics.services.rerating import RerateReport, RerateScope, usage_rerate
from providers.management.progress import progress
from providers.models import Price

TOLD_EVERY = 20_000  # records


class Command(BaseCommand):
    help = (
        "Work out what requests would have cost at the prices of their time as the price book stands now, and add the "
        "difference beside their records. May be stopped and run again: what is right already is left alone."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--model", default="", help="only this model (the catalogue's name)")
        parser.add_argument("--deployment", default="", help="only this deployment (provider/model)")
        parser.add_argument("--price", type=int, help="what this price row is in force for (its number)")
        parser.add_argument(
            "--from", dest="first", type=day_argument, help="first day, YYYY-MM-DD; a price has its own"
        )
        parser.add_argument("--to", dest="last", type=day_argument, help="last day, included (default: until now)")
        parser.add_argument("--reason", default="", help="why; it stands beside every correction")
        parser.add_argument("--dry-run", action="store_true", help="only show what would change")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *_: Any, **options: Any) -> None:
        scope = scope_of(options, now=timezone.now())
        if not options["dry_run"] and not options["reason"].strip():
            raise CommandError("--reason is missing: say why, it stands beside every correction", returncode=2)
        report = None
        if options["dry_run"] or not options["yes"]:
            report = self._run(scope, options, dry_run=True)
            self._show(report, as_json=options["json"] and options["dry_run"])
        if options["dry_run"] or (report is not None and not report.requests):
            return
        if not options["yes"] and not self._confirmed():
            raise CommandError("Nothing was changed.")
        self._show(self._run(scope, options, dry_run=False), as_json=options["json"])

    def _run(self, scope: RerateScope, options: dict[str, Any], *, dry_run: bool) -> RerateReport:
        told = 0

        def tell(report: RerateReport, at: datetime) -> None:
            nonlocal told
            if show is not None:
                show(report.looked_at, f"Until {at:%Y-%m-%d %H:%M} UTC")
            elif report.looked_at - told >= TOLD_EVERY:
                told = report.looked_at
                self.stderr.write(f"{report.looked_at:,} requests looked at, until {at:%Y-%m-%d %H:%M} UTC")

        try:
            with progress(self.stderr, "Looking at requests") as show:
                return usage_rerate(scope=scope, reason=options["reason"], dry_run=dry_run, on_progress=tell)
        except ValidationError as error:
            raise CommandError(error.messages[0], returncode=2) from error

    def _show(self, report: RerateReport, *, as_json: bool) -> None:
        self.stdout.write(json.dumps(as_dict(report)) if as_json else as_text(report))

    def _confirmed(self) -> bool:
        if not sys.stdin.isatty():
            raise CommandError("Nobody is there to ask. Add --yes to post these corrections.", returncode=2)
        return input("Post these corrections? [y/N] ").strip().lower() in {"y", "yes"}


def scope_of(options: dict[str, Any], *, now: datetime) -> RerateScope:
    """:raises CommandError: it is not said which requests, or they would be none."""
    price = None
    if options["price"] is not None:
        price = Price.objects.select_related("model", "deployment__provider").filter(pk=options["price"]).first()
        if price is None:
            raise CommandError(f"there is no price {options['price']}", returncode=2)
    if price is not None and (options["model"] or options["deployment"]):
        raise CommandError("--price says already of what: leave --model and --deployment out", returncode=2)
    if price is None and options["first"] is None:
        raise CommandError("--from is missing (or --price, which has its own beginning)", returncode=2)
    since = midnight(options["first"]) if options["first"] else price.effective_from if price else now
    until = midnight(options["last"] + timedelta(days=1)) if options["last"] else now
    if until <= since:
        raise CommandError("--to is before --from", returncode=2)
    if price is not None:
        return RerateScope.of_price(price, since=since, until=until)
    return RerateScope(since, until, options["model"], options["deployment"])


def midnight(day: Any) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def as_text(report: RerateReport) -> str:
    """A line per model and team, the greatest difference first, and the sum."""
    heads = ("Model", "Team", "Requests", "Unpriced", "Cost so far", "Difference", "Cost then")
    lines = [
        (
            *(model or "(none)", team, f"{row.requests:,}", f"{row.newly_priced:,}"),
            *map(presentation.exact_money, (row.before_nano, row.delta_nano, row.before_nano + row.delta_nano)),
        )
        for (model, team), row in sorted(report.rows.items(), key=lambda item: -abs(item[1].delta_nano))
    ]
    table = aligned([heads, *lines]) if lines else []
    done = "would be" if report.is_dry_run else "were"
    found = f"{report.looked_at:,} requests looked at; {report.requests:,} {done} corrected"
    rest = [f"by {presentation.exact_money(report.delta_nano)}"] if lines else []
    rest += [f"{report.unpriced:,} stay unpriced: no price is known for their time"] if report.unpriced else []
    rest += [f"{report.unknowable:,} stay as they are: they were in doubt"] if report.unknowable else []
    return "\n".join([*table, *([""] if table else []), "; ".join([found, *rest]) + "."])


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns of text; the first two to the left, figures to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]


def as_dict(report: RerateReport) -> dict[str, Any]:
    return {
        "batch": None if report.is_dry_run else str(report.batch),
        "dry_run": report.is_dry_run,
        "looked_at": report.looked_at,
        "corrected": report.requests,
        "delta_nano": report.delta_nano,
        "unpriced": report.unpriced,
        "in_doubt": report.unknowable,
        "rows": [
            {
                "model": model,
                "team": team,
                "requests": row.requests,
                "newly_priced": row.newly_priced,
                "before_nano": row.before_nano,
                "delta_nano": row.delta_nano,
            }
            for (model, team), row in sorted(report.rows.items())
        ],
    }
