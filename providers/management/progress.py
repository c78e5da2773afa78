"""How far long work is, for a person who waits: a bar on a terminal, nothing anywhere else."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Tell(Protocol):
    def __call__(self, done: int, text: str = "") -> None:
        """`done` of the total so far; `text` takes the place of what is told beside it."""


class Terminal(Protocol):
    """A stream as commands have it; see `django.core.management.base.OutputWrapper`."""

    def isatty(self) -> bool: ...

    def write(self, msg: str) -> object: ...


@contextmanager
def progress(stream: Terminal, text: str, *, total: int | None = None) -> Iterator[Tell | None]:
    """A bar while the block runs, gone afterwards. Gives None where nobody looks: `stream` is no terminal.

    `total` None: nobody knows how much there is, so something moves and the count goes up.
    """
    if not stream.isatty():
        yield None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(file=cast(TextIO, getattr(stream, "_out", stream)))
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(text, total=total)

        def tell(done: int, text: str = "") -> None:
            shown.update(task, completed=done, description=text or None)

        yield tell


@contextmanager
def steps(stream: Terminal, text: str) -> Iterator[Callable[[str], None]]:
    """For work that says in a line what it is at: what to tell the lines to. No terminal gets them as they are."""
    with progress(stream, text) as tell:
        count = itertools.count(1)

        def step(line: str) -> None:
            if tell is None:
                stream.write(line)
            else:
                tell(next(count), line)

        yield step
