"""Where commands look for the gateway."""

from typing import Final

from django.conf import settings

USUAL: Final = "http://127.0.0.1:8000"  # of PUBLIC_URL


def gateway_url() -> str:
    """The public address where one is set, else this machine's port."""
    public = str(settings.PUBLIC_URL).rstrip("/")
    return local_url() if public == USUAL else public


def local_url() -> str:
    return f"http://127.0.0.1:{settings.PORT}"
