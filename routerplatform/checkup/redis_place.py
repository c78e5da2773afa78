"""Where the running processes have their Redis: as set, or the Valkey that `manage.py dev` has started for them."""

import socket
from pathlib import Path
from typing import Final

from django.conf import settings

HOST: Final = "127.0.0.1"
CONNECT_WITHIN_S: Final = 1.0


def redis_url() -> str:
    """Empty where there is none."""
    return str(settings.REDIS_URL) or embedded_url(Path(settings.DATA_DIR) / "valkey" / "valkey.conf")


def embedded_url(config: Path) -> str:
    """The address of the server that was started with this file, if it still listens; else empty."""
    try:
        words = dict(line.split(" ", 1) for line in config.read_text().splitlines() if " " in line)
        port = int(words["port"])
        socket.create_connection((HOST, port), timeout=CONNECT_WITHIN_S).close()
    except (OSError, KeyError, ValueError):
        return ""
    return f"redis://:{words['requirepass']}@{HOST}:{port}/0" if "requirepass" in words else ""
