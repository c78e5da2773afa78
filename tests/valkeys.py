"""A Valkey that a test may stop, kill or freeze."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from routerplatform.embedded import EmbeddedError, Service, running, start_valkey


@contextmanager
def own_valkey(folder: Path) -> Iterator[Service]:
    """A running one; the test is skipped where there is no wheel for this platform."""
    try:
        service = start_valkey(folder)
    except EmbeddedError as error:
        pytest.skip(str(error))
    with running(service):
        yield service


@contextmanager
def frozen(service: Service) -> Iterator[None]:
    """It stands still: it takes connections and answers nothing."""
    os.kill(service.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(service.process.pid, signal.SIGCONT)
