"""`manage.py ledger_status`: this machine's journals, what waits in them, and what was adopted."""

import dataclasses
import json
from argparse import ArgumentParser
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db.models import Count, Q
from django.utils import timezone

from analytics.ledger.adoption import ERROR_CODE
from analytics.ledger.delivery import deliver_rejected
from analytics.ledger.segments import OPEN, SETTLED, locked, owners, read_records, segment_paths
from analytics.ledger.shipping import SqlUsageStore
from analytics.models import UsageRecord, UsageState

IDS_PER_QUERY = 500


class RequestOf(msgspec.Struct):
    request_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class JournalState:
    """One owner's journal. `unshipped` are settled requests without a row."""

    owner: str
    is_running: bool
    files: int
    size: int
    open: int
    unshipped: int


@dataclasses.dataclass(frozen=True, slots=True)
class LedgerState:
    """All there is to see. The last two are of the last 24 hours, of all machines."""

    journals: list[JournalState]
    rejected: int
    expired: int
    released: int


class Command(BaseCommand):
    help = "Show the usage journals of this machine. Harmless at any time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object")
        parser.add_argument("--retry-rejected", action="store_true", help="first try again what the database refused")

    def handle(self, *_: Any, **options: Any) -> None:
        folder: Path = settings.JOURNAL_DIR
        if options["retry_rejected"]:
            stored = deliver_rejected(SqlUsageStore(), folder / "rejected")
            self.stderr.write(f"{stored} of the rejected records are stored now.")
        state = ledger_state(folder)
        self.stdout.write(json.dumps(dataclasses.asdict(state)) if options["json"] else as_text(state, folder))


def ledger_state(folder: Path) -> LedgerState:
    adopted = UsageRecord.objects.filter(error_code=ERROR_CODE, started_at__gte=timezone.now() - timedelta(days=1))
    counts = adopted.aggregate(
        expired=Count("pk", filter=Q(state=UsageState.EXPIRED)),
        released=Count("pk", filter=Q(state=UsageState.RELEASED)),
    )
    return LedgerState(
        journals=[journal_state(folder, owner) for owner in owners(folder)],
        rejected=len(list((folder / "rejected").glob("*"))),
        **counts,
    )


def journal_state(folder: Path, owner: str) -> JournalState:
    opened: set[str] = set()
    settled: set[str] = set()
    paths, size, is_running = segment_paths(folder, owner), 0, False
    for path in paths:
        with locked(path, shared=True) as is_free:
            is_running = is_running or not is_free
        data = path.read_bytes() if path.exists() else b""  # its owner may be done with it by now
        size += len(data)
        for kind, payload in read_records(data).records:
            if kind in {OPEN, SETTLED}:
                ids = opened if kind == OPEN else settled
                ids.add(msgspec.json.decode(payload, type=RequestOf).request_id)
    return JournalState(owner, is_running, len(paths), size, len(opened - settled), len(without_row(settled)))


def without_row(request_ids: set[str]) -> set[str]:
    missing, ordered = set(request_ids), sorted(request_ids)
    for start in range(0, len(ordered), IDS_PER_QUERY):
        some = ordered[start : start + IDS_PER_QUERY]
        missing.difference_update(map(str, UsageRecord.objects.filter(pk__in=some).values_list("pk", flat=True)))
    return missing


def as_text(state: LedgerState, folder: Path) -> str:
    lines = [f"Journals in {folder}"]
    for journal in state.journals:
        lines.append(
            f"  {journal.owner:<22} {'running' if journal.is_running else 'stopped':<8} "
            f"{journal.size / 2**20:6.1f} MiB in {journal.files}, "
            f"{journal.open} open, {journal.unshipped} settled and not yet in the database"
        )
    lines.append("" if state.journals else "  none: no gateway runs here, and nothing is left of one")
    lines.append(f"Adopted of the last 24 hours: {state.expired} billed at their bound, {state.released} never sent")
    lines.append(f"Set aside in rejected/: {state.rejected}")
    return "\n".join(lines)
