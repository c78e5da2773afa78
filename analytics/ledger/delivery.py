"""From settled entries to a store: in batches, and past an entry that no database would take."""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

BATCH_ROWS: Final = 1000

log = logging.getLogger(__name__)


class BadRecordError(Exception):
    """An entry among these cannot be stored, now or later. The text holds nothing of its content."""


class UsageStore(Protocol):
    """Where usage ends up. Both methods block, and are called from one thread."""

    def ship(self, entries: Sequence[bytes]) -> int:
        """Store each `UsageEntry` (JSON as journaled) whose request is not there yet: all or none of them.

        Returns how many were new. Raises BadRecordError; any other error means "not now".
        """

    def close(self) -> None:
        """Let go of what the calling thread holds; `ship` may be called again."""


class Rejected(msgspec.Struct, frozen=True):
    """A file of `rejected/`: an entry that was set aside, and why."""

    error: str
    entry: msgspec.Raw


def deliver(entries: Sequence[bytes], store: UsageStore, rejected: Path) -> int:
    """Store `entries`, setting bad ones aside in the folder `rejected`; returns how many were new.

    Raises what the store raises when it is out of order; then any of them may or may not have been stored.
    """
    return sum(
        _ship_or_halve(entries[start : start + BATCH_ROWS], store, rejected)
        for start in range(0, len(entries), BATCH_ROWS)
    )


def _ship_or_halve(entries: Sequence[bytes], store: UsageStore, rejected: Path) -> int:
    try:
        return store.ship(entries)
    except BadRecordError as error:
        if len(entries) == 1:
            set_aside(entries[0], str(error), rejected)
            return 0
    middle = len(entries) // 2
    return _ship_or_halve(entries[:middle], store, rejected) + _ship_or_halve(entries[middle:], store, rejected)


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
            new += store.ship([entry])
        except BadRecordError:
            continue
        path.unlink()
    return new
