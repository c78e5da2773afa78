"""What the image weighs, by the sum of what its Dockerfile puts together, without an engine: see script/image_size.

It does what the Dockerfile does: the same lock, the same slimming, the same COPY lines, the same commands that leave
byte code. Both figures count: unpacked is what it takes on a disk, packed (gzip, as a registry keeps it) what is pushed
and pulled. Needs a package index; nothing is left behind.
"""

import argparse
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from _bootstrap import ROOT, fresh_secrets

sys.path.insert(0, str(ROOT))
from routerplatform.deploy.slim import size, slim

LIMIT_MB = 200  # packed
# python:3.11-slim-bookworm for linux/amd64. Source: docker-library/repo-info, repos/python/remote/3.11-slim-bookworm.md
# (2026-08-25) and repos/python/local/3.11.16-slim-bookworm.md (2026-09-19), read 2026-11-21.
BASE_PACKED, BASE_UNPACKED = 47_790_358, 130_010_000
DOCKERFILE = ROOT / "Dockerfile"
COPY = re.compile(r"^COPY (?!--from)(\S+) (?:\./|\1)$", re.MULTILINE)
COMMAND = re.compile(r"^ +&& ((?:python manage\.py|celery) .+ --help)(?: \\)?$", re.MULTILINE)


class Counted:
    """Counts what is written to it."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, data: bytes) -> int:
        self.bytes += len(data)
        return len(data)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="script/image_size", description="What the image weighs, without building it."
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--keep", type=Path, help="make venv and app in this folder, and leave them there")
    options = parser.parse_args()
    if options.keep:
        figures = weighed(options.keep)
    else:
        with tempfile.TemporaryDirectory(prefix="router-image-") as folder:
            figures = weighed(Path(folder))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if figures["packed_mb"] <= LIMIT_MB else 1


def weighed(folder: Path) -> dict[str, float]:
    venv, app = folder / "venv", folder / "app"
    install(venv)
    freed = slim(venv)
    copy(app)
    leave_byte_code(venv, app)
    print(f"slimmed by {freed / 1e6:.1f} MB; the largest packages, unpacked:")
    for name, weight in largest(venv):
        print(f"{weight / 1e6:9.1f} MB  {name}")
    unpacked = {"base image": BASE_UNPACKED, "packages": size(venv), "our files": size(app)}
    packed = {"base image": BASE_PACKED, "packages": packed_size(venv), "our files": packed_size(app)}
    print(f"\n{'':12}{'packed':>12}{'unpacked':>12}")
    for name in (*packed, "sum"):
        sums = (sum(packed.values()), sum(unpacked.values())) if name == "sum" else (packed[name], unpacked[name])
        print(f"{name:12}{sums[0] / 1e6:9.1f} MB{sums[1] / 1e6:9.1f} MB")
    print(f"limit, packed: {LIMIT_MB} MB")
    return {"packed_mb": round(sum(packed.values()) / 1e6, 1), "unpacked_mb": round(sum(unpacked.values()) / 1e6, 1)}


def install(venv: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", venv], check=True)
    python = str(venv / "bin" / "python")
    uv = shutil.which("uv")
    if uv:
        install = [uv, "pip", "install", "--quiet", "--python", python]
    else:
        pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
        install = [*pip, "install", "--quiet", "--no-compile"]
    subprocess.run([*install, "--require-hashes", "-r", str(ROOT / "requirements" / "base.txt")], check=True)


def copy(app: Path) -> None:
    """What the Dockerfile's COPY lines name, as .dockerignore lets it in."""
    app.mkdir(parents=True)
    for name in COPY.findall(DOCKERFILE.read_text()):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, app / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, app / name)


def leave_byte_code(venv: Path, app: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as data:
        env = {**kept, **fresh_secrets(), "PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "DATA_DIR": data}
        for command in COMMAND.findall(DOCKERFILE.read_text()):
            subprocess.run(command.split(), cwd=app, env=env, check=True, stdout=subprocess.DEVNULL)


def largest(venv: Path) -> list[tuple[str, int]]:
    [packages] = venv.glob("lib/python3*/site-packages")
    weights = [(path.name, size(path)) for path in packages.iterdir()]
    return sorted(weights, key=lambda entry: -entry[1])[:15]


def packed_size(folder: Path) -> int:
    """Of the folder as a layer: a tar, by gzip at its usual level."""
    counted = Counted()
    with gzip.GzipFile(fileobj=as_file(counted), mode="wb", compresslevel=6) as packed:
        with tarfile.open(fileobj=packed, mode="w|") as archive:
            for path in files(folder):
                archive.add(path, arcname=path.relative_to(folder).as_posix(), recursive=False)
    return counted.bytes


def as_file(counted: Counted) -> IO[bytes]:
    return counted  # type: ignore[return-value]  # gzip only writes to it


def files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() or path.is_symlink())


if __name__ == "__main__":
    sys.exit(main())
