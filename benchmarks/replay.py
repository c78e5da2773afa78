"""`python -m benchmarks.replay [--rows N] [--json FILE]`: how long a replay takes over many kept decisions.

Makes a throw-away PostgreSQL with N decisions of one day (five models, lowest cost with a quality floor against
“balanced”), and runs a replay over all of them as a worker would, with as many processes as there are processors.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.dashboard import environment
from routerplatform.embedded import running, start_postgres

ROOT = Path(__file__).resolve().parents[1]
ROWS = 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"decisions (default: {ROWS:,})")
    parser.add_argument("--json", default="", help="write the figures into this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="router-replay-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL may have to run as another user
        with running(start_postgres(folder / "postgres")) as postgres:
            argv = [sys.executable, "-m", "benchmarks.replay_run", f"{options.rows}", options.json]
            env = {**environment(postgres.url, folder), "DJANGO_SETTINGS_MODULE": "routerplatform.settings"}
            return subprocess.run(argv, cwd=ROOT, env=env | {"PYTHONPATH": os.fspath(ROOT)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
