"""`script/bench [--postgres] [--json FILE] [--requests N] [--rounds N]`: measure the gateway against its own vendor.

CPU per request is the gateway process's own (user and system, all threads: shipping to the database included); the
least of the rounds counts, since a shared machine only ever adds. `overhead` is latency at one connection against the
same calls made directly.
"""

import argparse
import asyncio
import json
import os
import platform
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.load import Result, Shot, fire
from benchmarks.stage import Stage, stage
from routerplatform.embedded import running, start_postgres

PATH = "/v1/chat/completions"
FLOOR = "same wire, bare forwarder"
BARE = "same wire, without the ledger"
BUDGETED = "same wire, two strict budgets"
PAST_THE_DEAD = "past an open breaker"
SHOTS = {
    FLOOR: (Shot(PATH, "same"), 32),
    BARE: (Shot(PATH, "same"), 32),
    "same wire": (Shot(PATH, "same"), 32),
    BUDGETED: (Shot(PATH, "same"), 32),
    PAST_THE_DEAD: (Shot(PATH, "past-the-dead"), 32),
    "same wire, 128 connections": (Shot(PATH, "same"), 128),
    "translated wire": (Shot(PATH, "other"), 32),
    "stream of 30, burst": (Shot(PATH, "same", stream=True), 32),
    "stream of 30, paced": (Shot(PATH, "same", stream=True, note="paced"), 32),
    "translated stream, burst": (Shot(PATH, "other", stream=True), 32),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; latencies are at the given number of connections."""

    what: str
    connections: int
    requests: int
    errors: int
    cpu_ms: float
    p50_ms: float
    p99_ms: float
    per_s: float


def measure(on: Stage, what: str, *, requests: int, rounds: int) -> Row:
    shot, connections = SHOTS[what]
    server = {FLOOR: on.floor, BARE: on.bare}.get(what, on.gateway)
    request = shot.request(key=on.budgeted if what == BUDGETED else on.key)
    count = max(connections, requests // 10 if shot.note else requests)
    warm_up = asyncio.run(fire(port=server.port, request=request, connections=connections, requests=count // 4))
    if warm_up.errors:
        raise SystemExit(f"{what}: {warm_up.errors} of {count // 4} requests failed; nothing was measured")
    best: tuple[float, Result] | None = None
    errors = 0
    for _ in range(rounds):
        before = server.cpu_s()
        result = asyncio.run(fire(port=server.port, request=request, connections=connections, requests=count))
        cpu_ms = (server.cpu_s() - before) / count * 1000
        errors += result.errors
        if best is None or cpu_ms < best[0]:
            best = cpu_ms, result
    assert best is not None
    cpu_ms, result = best
    return Row(
        what, connections, count, errors, round(cpu_ms, 3), round(result.percentile_ms(0.5), 2),
        round(result.percentile_ms(0.99), 2), round(count / result.wall_s),
    )  # fmt: skip


def overhead(on: Stage, *, requests: int) -> dict[str, float]:
    """Milliseconds added at one connection: through the gateway less direct, p50 and p99."""
    request = Shot(PATH, "same").request(key=on.key)
    through = asyncio.run(fire(port=on.gateway.port, request=request, connections=1, requests=requests))
    direct = asyncio.run(fire(port=on.vendor_port, request=request, connections=1, requests=requests))
    return {
        "p50_ms": round(through.percentile_ms(0.5) - direct.percentile_ms(0.5), 2),
        "p99_ms": round(through.percentile_ms(0.99) - direct.percentile_ms(0.99), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="script/bench", description="Measure what a request costs.")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--requests", type=int, default=4000, help="per round (default 4000)")
    parser.add_argument("--rounds", type=int, default=3, help="the least of them counts (default 3)")
    parser.add_argument("--only", choices=sorted(SHOTS), help="measure one row only")
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL of its own instead of SQLite")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if options.postgres:
            folder.chmod(0o711)  # PostgreSQL may have to run as another user
            os.environ["DATABASE_URL"] = stack.enter_context(running(start_postgres(folder / "postgres"))).url
        on = stack.enter_context(stage(folder))
        idle_mb = on.gateway.rss_mb()
        wanted = [options.only] if options.only else list(SHOTS)
        rows = [measure(on, what, requests=options.requests, rounds=options.rounds) for what in wanted]
        added = overhead(on, requests=options.requests // 4)
        report(rows, added, idle_mb=idle_mb, loaded_mb=on.gateway.rss_mb(), target=options.json)


def report(rows: list[Row], added: dict[str, float], *, idle_mb: float, loaded_mb: float, target: Path | None) -> None:
    floor = next((row.cpu_ms for row in rows if row.what == FLOOR), None)
    print(f"{'':30}{'conns':>6}{'CPU ms':>9}{'p50 ms':>9}{'p99 ms':>9}{'req/s':>8}{'errors':>8}{'x floor':>9}")
    for row in rows:
        print(
            f"{row.what:30}{row.connections:>6}{row.cpu_ms:>9.3f}{row.p50_ms:>9.2f}{row.p99_ms:>9.2f}"
            f"{row.per_s:>8.0f}{row.errors:>8}" + (f"{row.cpu_ms / floor:>9.2f}" if floor else "")
        )
    with_ledger, without = (
        next((row.cpu_ms for row in rows if row.what == what), None) for what in ("same wire", BARE)
    )
    if with_ledger and without:
        print(f"the ledger: {with_ledger - without:.3f} ms CPU per request")
    print(f"added at one connection: p50 {added['p50_ms']} ms, p99 {added['p99_ms']} ms")
    print(f"resident memory: {idle_mb:.0f} MB at start, {loaded_mb:.0f} MB after the load")
    if target:
        machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, uvicorn"
        figures = {"machine": machine, "rows": [asdict(row) for row in rows], "added": added}
        target.write_text(json.dumps({**figures, "rss_mb": {"start": idle_mb, "loaded": loaded_mb}}, indent=2) + "\n")


if __name__ == "__main__":
    main()
