"""From settled entries to a store: in batches, and past an entry that no database would take."""

import contextlib
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import msgspec

from analytics.ledger.leasing import States

BATCH_ROWS: Final = 1000

log = logging.getLogger(__name__)


class Charged(msgspec.Struct, frozen=True):
    """The part of a `UsageEntry` that budgets need."""

    charges: dict[int, int] | None = None


_charged: Final = msgspec.json.Decoder(Charged)


class BadRecordError(Exception):
    """An entry among these cannot be stored, now or later. The text holds nothing of its content."""


@dataclass(frozen=True, slots=True)
class Shipment:
    """What became of entries: how many are `new` in the store, the owner's leases after it, and what entries that had
    to be set aside would have been charged (nano-USD by budget window)."""

    new: int = 0
    leases: States = field(default_factory=dict)
    rejected: dict[int, int] = field(default_factory=dict)

    def __add__(self, later: "Shipment") -> "Shipment":
        return Shipment(self.new + later.new, self.leases | later.leases, added(self.rejected, later.rejected))


class UsageStore(Protocol):
    """Where usage ends up. Both methods block, and are called from one thread."""

    def ship(self, entries: Sequence[bytes], owner: str = "") -> Shipment:
        """Store each `UsageEntry` (JSON as journaled) whose request is not there yet, and charge its budget windows,
        out of the leases of `owner`: all or none of them.

        Raises BadRecordError; any other error means "not now".
        """

    def close(self) -> None:
        """Let go of what the calling thread holds; `ship` may be called again."""


class Rejected(msgspec.Struct, frozen=True):
    """A file of `rejected/`: an entry that was set aside, and why."""

    error: str
    entry: msgspec.Raw


def deliver(entries: Sequence[bytes], store: UsageStore, rejected: Path, *, owner: str) -> Shipment:
    """Store `entries`, setting bad ones aside in the folder `rejected`.

    Raises what the store raises when it is out of order; then any of them may or may not have been stored.
    """
    shipment = Shipment()
    for start in range(0, len(entries), BATCH_ROWS):
        shipment += _ship_or_halve(entries[start : start + BATCH_ROWS], store, rejected, owner)
    return shipment


def _ship_or_halve(entries: Sequence[bytes], store: UsageStore, rejected: Path, owner: str) -> Shipment:
    try:
        return store.ship(entries, owner)
    except BadRecordError as error:
        if len(entries) == 1:
            set_aside(entries[0], str(error), rejected)
            return Shipment(rejected=charges_of(entries))
    middle = len(entries) // 2
    first = _ship_or_halve(entries[:middle], store, rejected, owner)
    return first + _ship_or_halve(entries[middle:], store, rejected, owner)


def charges_of(entries: Iterable[bytes]) -> dict[int, int]:
    """What these entries charge in all (nano-USD by budget window); nothing for one that cannot be read."""
    total: Counter[int] = Counter()
    for entry in entries:
        if b'"charges":{' in entry:
            with contextlib.suppress(msgspec.MsgspecError):
                total.update(_charged.decode(entry).charges or {})
    return dict(total)


def added(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    """The sums of two, by window."""
    return {number: one.get(number, 0) + other.get(number, 0) for number in {*one, *other}}


def set_aside(entry: bytes, error: str, rejected: Path) -> None:
    """Keep a bad entry in a file of its own; the same entry always in the same one. Raises OSError."""
    rejected.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = rejected / f"{hashlib.sha256(entry).hexdigest()[:32]}.json"
    text = msgspec.json.encode(Rejected(error, msgspec.Raw(entry)))
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    log.error("usage record set aside as rejected/%s: %s", path.name, error)


def deliver_rejected(store: UsageStore, rejected: Path) -> int:
    """Try again what was set aside; a file goes when its entry is stored. Returns how many were new."""
    new = 0
    for path in sorted(rejected.glob("*.json")):
        entry = bytes(msgspec.json.decode(path.read_bytes(), type=Rejected).entry)
        try:
            new += store.ship([entry]).new
        except BadRecordError:
            continue
        path.unlink()
    return new
