"""Start the platform, try every promise from outside, print a table. Exits non-zero when one is not kept.

script/contract                    all rows
script/contract --only A,B9        some chapters or rows
script/contract --write            also write docs/contract.md
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.contract import checks
from tests.contract.pages import DOCUMENT, document, line, summary
from tests.contract.promises import PROMISES, Promise
from tests.contract.stage import Stage
from tests.contract.verdicts import CHECKS, Row, are_all_kept, tried

assert checks


def chosen(only: str) -> list[Promise]:
    """The promises of some chapters or rows; all for an empty text."""
    wanted = [one.strip() for one in only.split(",") if one.strip()]
    rows = [promise for promise in PROMISES if not wanted or promise.row in wanted or promise.row[0] in wanted]
    if not rows:
        sys.exit(f"There is no row “{only}”. Rows are A1 to X4.")
    return rows


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="script/contract", description="Try every promise of the platform.")
    parser.add_argument("--only", default="", help="chapters or rows, for example A,B9")
    parser.add_argument("--write", action="store_true", help="write docs/contract.md")
    options = parser.parse_args(arguments)
    promises = chosen(options.only)
    if options.write:
        DOCUMENT.write_text(document(PROMISES, CHECKS))
    began, rows = time.monotonic(), list[Row]()
    with tempfile.TemporaryDirectory(prefix="contract-") as folder, Stage(Path(folder)) as stage:
        print(f"The platform was ready {stage.started_in_s:.1f} s after script/server began.\n", flush=True)
        for row in tried(promises, CHECKS, stage):
            rows.append(row)
            print(line(row), flush=True)
    print(f"\n{summary(rows)} in {time.monotonic() - began:.0f} s")
    return exit_code(rows)


def exit_code(rows: Sequence[Row]) -> int:
    return 0 if are_all_kept(rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
