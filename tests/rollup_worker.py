"""A process that recomputes rollups for ever, made to be killed: `python -m tests.rollup_worker`.

It prints the pid of a child that does the work. When that one is gone, the next is there within milliseconds.
"""

import os
import sys

import django

from routerplatform.embedded import die_with_parent


def main() -> None:
    django.setup()
    from analytics.services.rollups import rollups_refresh  # noqa: PLC0415 - Django has to be set up first

    while True:
        child = os.fork()
        if child == 0:
            die_with_parent()
            while True:
                rollups_refresh()
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
