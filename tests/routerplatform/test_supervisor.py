"""The supervisor stops everything it started, whatever happens first."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from routerplatform.supervisor import Command, Supervisor
from tests.stalls import PATIENCE_S, Stalls

FOREVER = "import time; time.sleep(600)"
# Leaves a grandchild in its session and ignores the polite signal.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("pids", grandchild.pid, flush=True)
time.sleep(600)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def alive(pid: int) -> bool:
    """Running, and not just a zombie that waits to be collected."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # no /proc on this system, or it has just gone
        return not Path("/proc/self").exists()


def gone(pid: int, within_s: float = PATIENCE_S) -> bool:
    deadline = time.monotonic() + within_s
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Output:
    """Collects lines, and can act on one of them."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.on: dict[str, Callable[[], object]] = {}

    def __call__(self, name: str, text: str) -> None:
        self.lines.append((name, text))
        for part, act in self.on.items():
            if part in text:
                act()

    def numbers(self, name: str) -> list[int]:
        return [int(word) for who, text in self.lines if who == name for word in text.split() if word.isdigit()]


@pytest.fixture
def output() -> Output:
    return Output()


@pytest.fixture
def supervisor(output: Output, tmp_path: Path) -> Supervisor:
    return Supervisor(env=os.environ, cwd=tmp_path, write=output)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_every_child_with_exit_code_0(
    supervisor: Supervisor, output: Output, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    with supervisor:
        for name in ("a", "b"):
            supervisor.start(Command(name, python("import os; print(os.getpid(), flush=True)\n" + FOREVER)))
        code = supervisor.run(
            is_ready=lambda: len(output.lines) == 2,
            ready_timeout_s=PATIENCE_S,
            on_ready=lambda: os.kill(os.getpid(), number),
        )
    assert code == 0
    pids = output.numbers("a") + output.numbers("b")
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)
    assert signal.getsignal(number) is before


def test_a_signal_before_the_loop_is_not_lost(supervisor: Supervisor) -> None:
    with supervisor:
        supervisor.start(Command("a", python(FOREVER)))
        interrupt()
        assert supervisor.run(is_ready=lambda: False, ready_timeout_s=PATIENCE_S, on_ready=lambda: None) == 0


def test_a_child_that_ends_takes_the_others_down_and_is_named(supervisor: Supervisor, output: Output) -> None:
    with supervisor:
        supervisor.start(Command("steady", python(FOREVER)))
        supervisor.start(Command("broken", python("import sys; print('no such table'); sys.exit(3)")))
        assert supervisor.run(is_ready=lambda: False, ready_timeout_s=PATIENCE_S, on_ready=lambda: None) == 3
    assert ("broken", "no such table") in output.lines
    assert ("", "broken ended with exit code 3; stopping the others.") in output.lines


def test_a_child_that_ends_cleanly_is_a_failure_too(supervisor: Supervisor) -> None:
    with supervisor:
        supervisor.start(Command("brief", python("pass")))
        assert supervisor.run(is_ready=lambda: False, ready_timeout_s=PATIENCE_S, on_ready=lambda: None) == 1


def test_a_killed_child_is_reported_by_its_signal(supervisor: Supervisor, output: Output) -> None:
    with supervisor:
        supervisor.start(Command("victim", python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")))
        assert supervisor.run(is_ready=lambda: False, ready_timeout_s=PATIENCE_S, on_ready=lambda: None) == 1
    assert ("", "victim was ended by SIGKILL; stopping the others.") in output.lines


def test_a_stubborn_child_and_its_own_children_are_killed(
    supervisor: Supervisor, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routerplatform.supervisor.STOP_TIMEOUT_S", 0.5)
    output.on["pids"] = interrupt
    with supervisor:
        supervisor.start(Command("stubborn", python(STUBBORN)))
        assert supervisor.run(is_ready=lambda: False, ready_timeout_s=PATIENCE_S, on_ready=lambda: None) == 0
    (grandchild,) = output.numbers("stubborn")
    assert gone(grandchild)
    assert ("", "stubborn did not stop in time and was killed") in output.lines


def test_a_second_signal_does_not_wait_for_a_stubborn_child(
    supervisor: Supervisor, output: Output, stalls: Stalls
) -> None:
    output.on["pids"] = interrupt
    output.on["Stopping"] = interrupt
    watch = stalls.watch()
    with supervisor:
        supervisor.start(Command("stubborn", python(STUBBORN)))
        supervisor.run(is_ready=lambda: False, ready_timeout_s=PATIENCE_S, on_ready=lambda: None)
    assert watch.seconds < 5


def test_not_becoming_ready_in_time_is_a_failure(supervisor: Supervisor, output: Output) -> None:
    with supervisor:
        supervisor.start(Command("slow", python(FOREVER)))
        assert supervisor.run(is_ready=lambda: False, ready_timeout_s=0.2, on_ready=lambda: None) == 1
    assert any("Not ready after 0.2 s" in text for _, text in output.lines)


def test_an_error_while_starting_leaves_no_child(supervisor: Supervisor, tmp_path: Path) -> None:
    def start_one_and_then_fail() -> None:
        with supervisor:
            supervisor.start(Command("a", python(f"import os; print(os.getpid(), file=open('pid', 'w')); {FOREVER}")))
            supervisor.start(Command("b", ["/no/such/program"]))

    with pytest.raises(FileNotFoundError):
        start_one_and_then_fail()
    written = (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""
    assert not written or gone(int(written))


def test_background_work_yields_to_the_web_process(supervisor: Supervisor, output: Output) -> None:
    output.on["nice"] = interrupt
    with supervisor:
        say_nice = python(f"import os; print('nice', os.nice(0), flush=True); {FOREVER}")
        supervisor.start(Command("worker", say_nice, nice=5))
        supervisor.run(is_ready=lambda: False, ready_timeout_s=PATIENCE_S, on_ready=lambda: None)
    assert output.numbers("worker") == [os.nice(0) + 5]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent died")
def test_children_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import os, sys
        from pathlib import Path
        from routerplatform.supervisor import Command, Supervisor
        child = [sys.executable, "-c", "import os; print(os.getpid(), flush=True)\\n{FOREVER}"]
        with Supervisor(env=os.environ, cwd=Path.cwd(), write=lambda name, text: print(text, flush=True)) as s:
            s.start(Command("a", child))
            s.run(is_ready=lambda: False, ready_timeout_s=60, on_ready=lambda: None)
        """
    )
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert alive(child)
        process.kill()
        assert gone(child)
