"""`script/torture [--long] [--seed N] [--only NAME] [--database NAME] [--json FILE]`: torture the ledger.

It prints a table. Exit code 1 when anything was missed: an answer without its record, a wrong cost, a bill above its
record, a limit that was passed, money that could not be used, a lease that was not returned.
"""

import argparse
import json
import platform
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from routerplatform.embedded import EmbeddedError
from tests.torture.scenarios import LONG, SCENARIOS, SHORT, Outcome, Size, shutdown
from tests.torture.stage import stage

DATABASES = ("sqlite", "postgresql")
SHOWN = 5  # misses of a scenario


def main() -> int:
    options = parse()
    size = LONG if options.long else SHORT
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    print(f"seed {seed}, {platform.system()} {platform.machine()}, Python {platform.python_version()}", flush=True)
    rows: list[tuple[str, Outcome]] = []
    for name in options.database or DATABASES:
        try:
            for outcome in torture(name, size, seed=seed, only=options.only):
                rows.append((name, outcome))
                show(name, outcome)
        except EmbeddedError as error:
            print(f"{name}: left out, {error}", flush=True)
    if options.json:
        figures = [{"database": name, **asdict(outcome)} for name, outcome in rows]
        options.json.write_text(json.dumps({"seed": seed, "rows": figures}, indent=2) + "\n")
    misses = sum(len(outcome.misses) for _, outcome in rows)
    answers, kills = (sum(getattr(outcome, name) for _, outcome in rows) for name in ("answers", "kills"))
    print(f"\n{answers} answers, {kills} kills, {misses} misses")
    return 1 if misses or not rows else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/torture", description="Kill gateways, databases and Redis under load."
    )
    parser.add_argument("--long", action="store_true", help="100,000 answers and 100 kills, about 20 minutes")
    parser.add_argument("--seed", type=int, help="of all that is random (default: another one each time)")
    parser.add_argument("--only", choices=sorted(SCENARIOS), help="one scenario only")
    parser.add_argument("--database", action="append", choices=DATABASES, help="one database only (default: both)")
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    return parser.parse_args()


def torture(name: str, size: Size, *, seed: int, only: str | None) -> Iterator[Outcome]:
    with stage(name, seed=seed, rounds=size.rounds, limit_usd=size.limit_usd) as on:
        for number, (what, scenario) in enumerate(SCENARIOS.items()):
            if only in {None, what}:
                yield scenario(on, size, random.Random(seed + number))
        yield shutdown(on)


def show(name: str, outcome: Outcome) -> None:
    verdict = "MISSED" if outcome.misses else "ok"
    figures = ", ".join(f"{what} {value}" for what, value in outcome.figures.items())
    print(
        f"{verdict:7}{name:11}{outcome.what:11}{outcome.answers:>7} answers{outcome.kills:>4} kills"
        f"{outcome.seconds:>7.1f} s{len(outcome.misses):>5} misses  {figures}",
        flush=True,
    )
    for miss in outcome.misses[:SHOWN]:
        print(f"        {miss}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
