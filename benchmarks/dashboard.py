"""`python -m benchmarks.dashboard [--rows N] [--runs N] [--json FILE]`: how long the pages take over many usage rows.

Makes a throw-away PostgreSQL with N requests of the last 60 days (20 teams, 100 keys, 12 models), rolls them up, marks
the current hour dirty as traffic would, and times what the spend page reads for 30 days and all teams, and whole pages.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography.fernet import Fernet

from routerplatform.embedded import running, start_postgres

ROOT = Path(__file__).resolve().parents[1]
ROWS = 2_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"usage records (default: {ROWS:,})")
    parser.add_argument("--runs", type=int, default=40, help="of each reading (default: 40)")
    parser.add_argument("--json", default="", help="write the figures into this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="router-dashboard-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL may have to run as another user
        with running(start_postgres(folder / "postgres")) as postgres:
            argv = [sys.executable, "-m", "benchmarks.dashboard_pages", f"{options.rows}", f"{options.runs}"]
            env = environment(postgres.url, folder)
            return subprocess.run([*argv, options.json], cwd=ROOT, env=env, check=False).returncode


def environment(database_url: str, folder: Path) -> dict[str, str]:
    """An installation of its own, with secrets that nobody else has."""
    return {
        **os.environ,
        "READ_DOTENV": "false",
        "DATABASE_URL": database_url,
        "DATA_DIR": str(folder / "data"),
        "DEBUG": "false",
        "REDIS_URL": "",
        "ALLOWED_HOSTS": "testserver",
        "SECRET_KEY": Fernet.generate_key().decode(),
        "KEY_PEPPER": Fernet.generate_key().decode(),
        "FIELD_KEYS": Fernet.generate_key().decode(),
    }


if __name__ == "__main__":
    sys.exit(main())
