"""What script/test and script/lint run, inside the virtual environment: services, checks, pytest, one summary."""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from _bootstrap import ROOT, fresh_secrets

sys.path.insert(0, str(ROOT))
from routerplatform.embedded import EmbeddedError, die_with_parent, running, start_postgres, start_valkey

WORKERS = min(4, (os.cpu_count() or 1) + 1)  # tests wait for processes and for time more than they compute
VENDORS = (
    *("OPENAI", "ANTHROPIC", "GROQ", "GEMINI", "COHERE", "MISTRAL", "TOGETHER", "OPENROUTER", "DEEPSEEK", "XAI"),
    *("PERPLEXITY", "FIREWORKS", "AI21"),
)
VENDOR_KEYS = tuple(f"{vendor}_API_KEY" for vendor in VENDORS)
LINT = {
    "ruff check": ["ruff", "check", "--output-format=concise"],
    "ruff format": ["ruff", "format", "--check", "--output-format=concise"],
    "lint-imports": ["lint-imports", "--no-cache"],
}
LINT_FIX = {"ruff check": ["ruff", "check", "--fix", "--output-format=concise"], "ruff format": ["ruff", "format"]}
CHECKS = {
    "mypy": ["mypy"],
    **LINT,
    "migrations": [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run"],
}


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    code: int
    seconds: float
    output: str


def main(argv: Sequence[str]) -> int:
    options, pytest_args = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    interrupted = Event()  # what runs at the moment gets the same Ctrl-C and ends by itself; nothing is begun after it
    signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    if options.only_lint:
        return summary(check(LINT_FIX if options.fix else LINT, os.environ))
    with contextlib.ExitStack() as stack:
        try:
            env = stack.enter_context(environment(fast=options.fast))
        except EmbeddedError as error:
            sys.exit(f"script/test: {error}")
        results = [] if options.no_checks else check(CHECKS, env)
        if interrupted.is_set():
            sys.exit(130)
        marks = ["-m", "not e2e and not torture"] if options.fast else []
        # A whole run is shared out; a few chosen tests are quicker, and easier to debug, in one process.
        parallel = [] if pytest_args else ["-n", str(WORKERS), "--dist", "worksteal"]
        # Our own cluster is thrown away as a whole: no need to wait until the last session has let go of its database.
        keep = [] if env.get("TEST_DATABASE_URL") else ["--reuse-db", "--create-db"]
        results.append(pytest(["-p", "tests.own_valkey", *keep, *marks, *parallel, *pytest_args], env))
    return summary(results)


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--fast", "--no-checks", "--only-lint", "--fix"):
        parser.add_argument(name, action="store_true")
    return parser.parse_known_args(argv)


@contextlib.contextmanager
def environment(*, fast: bool) -> Iterator[dict[str, str]]:
    """The environment of a run: own services unless given, throw-away secrets, an own data folder, no vendor key."""
    folder = Path(tempfile.mkdtemp(prefix="router-test-"))
    folder.chmod(0o711)  # PostgreSQL may have to run as another user; everything below is as closed as it wants to be
    env = {**os.environ, **fresh_secrets(), **dict.fromkeys(VENDOR_KEYS, ""), "DATA_DIR": str(folder / "data")}
    env["READ_DOTENV"] = "false"  # a developer's own settings must not decide what the tests find
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        if fast:
            env |= {"DATABASE_URL": f"sqlite:///{folder}/fast.sqlite3", "ROUTER_EXPECT_DB_VENDOR": "sqlite"}
        else:
            url = env.get("TEST_DATABASE_URL") or own_postgres(stack, folder)
            env |= {"DATABASE_URL": url, "ROUTER_EXPECT_DB_VENDOR": "postgresql"}
        if not env.get("REDIS_URL"):
            urls = own_valkeys(stack, folder)
            env |= {"REDIS_URL": urls[0], "ROUTER_TEST_REDIS_URLS": " ".join(urls)}
        database = "SQLite" if fast else "TEST_DATABASE_URL" if env.get("TEST_DATABASE_URL") else "its own PostgreSQL"
        redis = "its own Valkey" if "ROUTER_TEST_REDIS_URLS" in env else "REDIS_URL"
        print(f"Testing on {database} and {redis}.", flush=True)
        yield env


def own_postgres(stack: contextlib.ExitStack, folder: Path) -> str:
    return stack.enter_context(running(start_postgres(folder / "postgres"))).url


def own_valkeys(stack: contextlib.ExitStack, folder: Path) -> list[str]:
    """One for each worker process: what they publish and count must not meet."""
    servers = [running(start_valkey(folder / f"valkey-{n}")) for n in range(WORKERS)]
    return [stack.enter_context(server).url for server in servers]


def check(steps: Mapping[str, Sequence[str]], env: Mapping[str, str]) -> list[Result]:
    """Run all steps, two at a time, and show the output of those that fail."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        results = list(pool.map(lambda step: run_step(step[0], step[1], env), steps.items()))
    for result in results:
        if result.code:
            print(f"\n--- {result.name}\n{result.output}", flush=True)
    return results


def run_step(name: str, argv: Sequence[str], env: Mapping[str, str]) -> Result:
    started = time.monotonic()
    step = subprocess.run(
        argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return Result(name, step.returncode, time.monotonic() - started, step.stdout)


def pytest(args: Sequence[str], env: Mapping[str, str]) -> Result:
    """Run pytest, pass on what it prints as it comes, and keep its closing line."""
    started = time.monotonic()
    colour = ["--color=yes"] if sys.stdout.isatty() else []
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *colour, *args],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, loaded beforehand
    )
    tail = b""
    try:
        while process.stdout and (part := os.read(process.stdout.fileno(), 65_536)):
            sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()
            tail = (tail + part)[-2_000:]
        code = process.wait()
    finally:
        process.terminate()
        process.wait()
    closing = tail.decode(errors="replace").strip().rpartition("\n")[2]
    return Result("pytest", code, time.monotonic() - started, closing)


def summary(results: Sequence[Result]) -> int:
    """Print one line a step, pytest's closing line last; returns the exit code."""
    print()
    for result in results:
        print(f"{'FAILED' if result.code else 'ok':<7} {result.name:<14} {result.seconds:6.1f} s")
    if results[-1].name == "pytest":
        print(results[-1].output)
    return 1 if any(result.code for result in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
