"""`manage.py rollup_costs`: recompute the rollups of a range of days, and of their hours, from the usage records."""

import json
from argparse import ArgumentParser
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from analytics.domain.rollup import DayRange
from analytics.management.day_argument import day_argument
from analytics.selectors.sums import records_dropped_before
from analytics.services.rollups import Recomputed, rollup_preview, rollup_rebuild
from providers.management.progress import progress


class Command(BaseCommand):
    help = "Recompute cost rollups from the usage records. May be stopped and run again: a transaction per day."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", dest="first", type=day_argument, required=True, help="first day, YYYY-MM-DD")
        parser.add_argument("--to", dest="last", type=day_argument, required=True, help="last day, included")
        parser.add_argument("--json", action="store_true", help="one JSON object, with a row for each day")
        parser.add_argument("--dry-run", action="store_true", help="only show what would change")

    def handle(self, *_: Any, **options: Any) -> None:
        days = DayRange(options["first"], options["last"])
        if days.last < days.first:
            raise CommandError("--to is before --from", returncode=2)
        kept_from = records_dropped_before()
        if kept_from and days.begins_at < kept_from:
            raise CommandError(f"the records before {kept_from:%Y-%m-%d} were dropped: their rollups stay as they are")
        compute = rollup_preview if options["dry_run"] else rollup_rebuild
        rows: list[dict[str, Any]] = []
        with progress(self.stderr, "Rolling up", total=len(days.days())) as tell:
            for number, day in enumerate(days.days(), start=1):
                done = compute(day=day)
                if options["json"]:
                    rows.append(as_dict(day, done))
                else:
                    self.stdout.write(text_line(done) if done else f"{day}: another process is at it")
                if tell is not None:
                    tell(number)
        if options["json"]:
            self.stdout.write(json.dumps({"dry_run": options["dry_run"], "days": rows}))


def text_line(done: Recomputed) -> str:
    parts = [f"{done.day}: {usd(done.after.cost_nano)}", f"{done.after.requests} requests", f"{done.rows} rows"]
    if done.before != done.after:
        parts.append(f"was {usd(done.before.cost_nano)} and {done.before.requests} requests")
    if not done.is_clean:
        parts.append("more records came in meanwhile")
    return ", ".join(parts)


def as_dict(day: date, done: Recomputed | None) -> dict[str, Any]:
    """`is_busy`: another process is at it, and this one has left the day alone."""
    if done is None:
        return {"day": day.isoformat(), "is_busy": True}
    return {
        "day": day.isoformat(),
        "is_busy": False,
        "rows": done.rows,
        "before": done.before.values(),
        "after": done.after.values(),
        "is_clean": done.is_clean,
    }


def usd(nano: int) -> str:
    return f"${nano / 1e9:,.4f}"
