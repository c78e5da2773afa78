"""Celery's queue in a folder, for an installation without Redis: kombu's, with files that appear whole.

kombu opens the file of a message, and of an exchange, under its final name and fills it then. Whoever looks in
between finds an empty file, takes it for broken JSON, and the worker ends: "Expecting value: line 1 column 1".
Source: kombu 5.7.0, transport/filesystem.py, `_put`, `_get` and `_queue_bind`, read 2026-11-21.
"""

import fcntl
import os
import time
import uuid
from pathlib import Path
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]  # as kombu's own is typed
        """Names sort by time, which is the order in which messages are taken."""
        name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        _write_whole(Path(self.data_folder_out) / name, payload)

    def _queue_bind(self, exchange: str, routing_key: str | None, pattern: str | None, queue: str | None) -> None:
        """One process at a time adds to the table of an exchange; readers need no lock."""
        self.control_folder.mkdir(exist_ok=True)
        wanted = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with (self.control_folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            bound = self.get_table(exchange)  # which refuses a name that leads elsewhere
            if wanted not in bound:
                _write_whole(self.control_folder / f"{exchange}.exchange", [wanted, *bound])


class Transport(filesystem.Transport):
    Channel = Channel


def _write_whole(path: Path, content: Any) -> None:
    """Nobody looks for the name that it has until all is in it."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(dumps(content))
    unfinished.replace(path)
