"""What is taken for a stall of the machine, and what is not: our own slowness is no excuse."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.stalls import BEAT_S, PATIENCE_S, Stalls, delays, family, heartbeat

SPIN = "import time\nuntil = time.monotonic() + 60\nwhile time.monotonic() < until: pass"
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@contextmanager
def busy(processes: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many that want a processor each."""
    running = [subprocess.Popen([sys.executable, "-I", "-S", "-c", SPIN]) for _ in range(processes)]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()


@on_linux
def test_a_machine_that_stands_still_is_noticed_while_it_does_and_afterwards() -> None:
    with heartbeat() as stalls:
        watch = stalls.watch()
        os.kill(stalls.pid, signal.SIGSTOP)  # as far as the child can tell, all stood still
        time.sleep(0.3)
        during = watch.lost
        os.kill(stalls.pid, signal.SIGCONT)
        deadline = time.monotonic() + PATIENCE_S
        while stalls.overslept() < 0.25 and time.monotonic() < deadline:
            time.sleep(BEAT_S)
        assert during > 0.25
        assert watch.lost > 0.25


@on_linux
def test_our_own_work_is_not_taken_for_a_stall() -> None:
    """Whatever others do meanwhile: what we worked and what we waited is no longer than the time that passed."""
    us = (str(os.getpid()), str(os.getpid()))  # this thread
    began, worked, waited = time.monotonic(), time.thread_time(), delays()[us]
    while time.thread_time() - worked < 0.3:
        pass
    waited = delays()[us] - waited
    assert waited <= time.monotonic() - began - 0.3 + 0.05


@on_linux
@on_linux
def test_waiting_for_a_processor_is(stalls: Stalls) -> None:
    """On one processor, which four others want as well."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        with busy(4):
            watch, began, worked = stalls.watch(), time.monotonic(), time.process_time()
            while time.process_time() - worked < 0.2:
                pass
            elapsed, lost = time.monotonic() - began, watch.lost
    finally:
        os.sched_setaffinity(0, allowed)
    assert elapsed > 0.3, "the others had their turn"
    assert lost > 0.6 * (elapsed - 0.2)


@on_linux
def test_children_and_their_children_belong_to_the_family() -> None:
    grandchild = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    with subprocess.Popen([sys.executable, "-c", grandchild]) as child:
        try:
            deadline = time.monotonic() + PATIENCE_S
            while len(family(child.pid)) < 2 and time.monotonic() < deadline:
                time.sleep(BEAT_S)
            found = family(child.pid)
            assert len(found) == 2
            assert found < family(os.getpid())
            assert {pid for pid, _ in delays()} >= found
        finally:
            for pid in family(child.pid) - {str(child.pid)}:
                os.kill(int(pid), signal.SIGKILL)
            child.kill()


def test_the_child_ends_with_the_block_and_with_its_parent() -> None:
    with heartbeat() as stalls:
        assert stalls.overslept() >= 0
    orphan = (
        "import os\nfrom tests.stalls import heartbeat, family\n"
        "with heartbeat():\n    print(*(family(os.getpid()) - {str(os.getpid())}), flush=True)\n    os._exit(0)"
    )
    told = subprocess.run([sys.executable, "-c", orphan], capture_output=True, text=True, check=True)
    deadline = time.monotonic() + PATIENCE_S
    while any(Path(f"/proc/{pid}").exists() for pid in told.stdout.split()) and time.monotonic() < deadline:
        time.sleep(BEAT_S)
    assert not any(Path(f"/proc/{pid}").exists() for pid in told.stdout.split())
