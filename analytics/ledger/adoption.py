"""What a dead gateway left behind: shipped as it would have been, or billed at the bound it had announced."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from analytics.domain.usage import Attempt, Dispatch, UsageEntry
from analytics.ledger.delivery import Shipment, UsageStore, deliver, set_aside
from analytics.ledger.leasing import LeaseBank
from analytics.ledger.segments import DISPATCHED, OPEN, SETTLED, Record, orphaned, owners, read_records, sweep

ERROR_CODE: Final = "gateway_stopped"
T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Adoption:
    """What came into the database that was not there: `journals` of dead owners and rows by their state."""

    journals: int = 0
    settled: int = 0
    expired: int = 0
    released: int = 0

    def __add__(self, other: "Adoption") -> "Adoption":
        return Adoption(
            self.journals + other.journals,
            self.settled + other.settled,
            self.expired + other.expired,
            self.released + other.released,
        )


@dataclass(slots=True)
class Story:
    """What a journal tells of a request that was not settled."""

    opened: UsageEntry | None = None
    dispatches: list[Dispatch] = field(default_factory=list)


def adopt_once(journal_dir: Path, store: UsageStore, bank: LeaseBank) -> Adoption:
    """Take over every journal in `journal_dir` whose owner is dead, and return what it had leased. Blocks; safe to run
    anywhere, at any time, twice.

    Raises what store and bank raise; what was not finished then is found again.
    """
    sweep(journal_dir)
    total = Adoption()
    for owner in owners(journal_dir):
        with orphaned(journal_dir, owner) as paths:
            if paths:
                adopted = _adopt(owner, paths, store, bank)
                log.info("adopted the journal of stopped gateway %s: %s", owner, adopted)
                total += adopted
    return total


def end_of(opened: UsageEntry, dispatches: Sequence[Dispatch], *, now: float) -> UsageEntry:
    """The final entry of a request whose gateway died: what it had come to, and the bound of the attempt that was
    under way; nothing when none had begun."""
    ended = msgspec.structs.replace(
        opened,
        state="released",
        error_code=ERROR_CODE,
        finished_at=now,
        latency_ms=max(0.0, now - opened.started_at) * 1000,
    )
    if not dispatches:
        return ended
    last = dispatches[-1]
    return msgspec.structs.replace(
        ended,
        state="expired",
        usage_source="bound",
        provider=last.provider,
        deployment=last.deployment,
        model=last.model,
        price=last.price,
        input_tokens=last.input_tokens_bound,
        output_tokens=last.output_tokens_bound,
        cost_nano=None if last.bound_nano is None or last.billed_nano is None else last.billed_nano + last.bound_nano,
        charges=last.charges,
        attempts=(*map(_ended_before, dispatches, dispatches[1:]), _attempt(last, "The gateway stopped.")),
    )


def _ended_before(dispatch: Dispatch, later: Dispatch) -> Attempt:
    """An attempt after which another began: what it was billed is the difference. Its tokens stand nowhere."""
    known = dispatch.billed_nano is not None and later.billed_nano is not None
    billed = (later.billed_nano or 0) - (dispatch.billed_nano or 0) if known else None
    return _attempt(dispatch, "Another attempt followed.", billed or None)


def _attempt(dispatch: Dispatch, message: str, billed_nano: int | None = None) -> Attempt:
    return Attempt(
        dispatch.deployment, dispatch.provider, "", 0.0, 0.0, failure=ERROR_CODE, message=message,
        billed_nano=billed_nano,
    )  # fmt: skip


def _adopt(owner: str, paths: Sequence[Path], store: UsageStore, bank: LeaseBank) -> Adoption:
    """Ship what the segments hold, one at a time, then what they leave open; return the leases; remove the files.

    Each step is whole or not at all, and does nothing the second time: an adopter that is killed is followed by
    another. Until the leases are returned their windows are short of what is left of them, never the other way round.
    """
    stories: dict[str, Story] = {}
    settled: set[str] = set()
    damaged: set[Path] = set()
    rejected = paths[0].parent / "rejected"
    shipped = Shipment()
    for path in paths:
        reading = read_records(path.read_bytes())
        if reading.skipped:
            log.error("%d damaged lines in %s: the file is kept in rejected/", reading.skipped, path.name)
            damaged.add(path)
        entries = list(_decoded(reading.records, SETTLED, UsageEntry, rejected))
        settled.update(entry.request_id for entry in entries)
        shipped += deliver([msgspec.json.encode(entry) for entry in entries], store, rejected, owner=owner)
        _merge(stories, _stories(reading.records, rejected))
    open_stories = [story for request_id, story in stories.items() if request_id not in settled]
    ends = list(_ends(open_stories, now=time.time()))
    by_state = [[msgspec.json.encode(end) for end in ends if end.state == state] for state in ("expired", "released")]
    expired, released = (deliver(entries, store, rejected, owner=owner) for entries in by_state)
    bank.return_all(owner, (shipped + expired + released).rejected)
    for path in paths:
        if path in damaged:
            rejected.mkdir(mode=0o700, exist_ok=True)
            path.rename(rejected / path.name)
        else:
            path.unlink()
    return Adoption(1, shipped.new, expired.new, released.new)


def _decoded(records: Iterable[Record], kind: bytes, wanted: type[T], rejected: Path) -> Iterator[T]:
    """The records of one kind. A column that is newer than the journal gets its default; what makes no sense at all
    is set aside."""
    for record in records:
        if record.kind == kind:
            try:
                yield msgspec.json.decode(record.payload, type=wanted)
            except msgspec.MsgspecError as error:
                set_aside(record.payload, str(error), rejected)


def _stories(records: Sequence[Record], rejected: Path) -> dict[str, Story]:
    stories: dict[str, Story] = {}
    for opened in _decoded(records, OPEN, UsageEntry, rejected):
        stories[opened.request_id] = Story(opened)
    for dispatch in _decoded(records, DISPATCHED, Dispatch, rejected):
        stories.setdefault(dispatch.request_id, Story()).dispatches.append(dispatch)
    return stories


def _merge(stories: dict[str, Story], later: Mapping[str, Story]) -> None:
    """A segment tells an open request's story from its beginning, so of two the longer one is whole: never the sum."""
    for request_id, story in later.items():
        known = stories.setdefault(request_id, story)
        known.opened = known.opened or story.opened
        known.dispatches = max(known.dispatches, story.dispatches, key=len)


def _ends(stories: Iterable[Story], *, now: float) -> Iterator[UsageEntry]:
    for story in stories:
        if story.opened is not None:  # else its line was damaged: the file is kept, and says so
            yield end_of(story.opened, story.dispatches, now=now)
