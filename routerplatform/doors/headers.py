"""The headers that tell a caller what the gateway did, the same on every HTTP door."""

import math

from analytics.domain.usage import UsageEntry
from routerplatform.gateway.errors import GatewayError
from routerplatform.gateway.steps import Opened

Headers = list[tuple[bytes, bytes]]


def route_headers(opened: Opened, request_id: str) -> Headers:
    """Known when the answer begins."""
    return [
        (b"x-router-decision-id", request_id.encode()),
        (b"x-router-deployment", _printable(opened.deployment.name)),
        (b"x-router-attempts", str(opened.attempts).encode()),
        (b"x-router-cache", b"none"),
        (b"x-router-config-revision", str(opened.config_revision).encode()),
    ]


def bill_headers(entry: UsageEntry) -> Headers:
    """Known when the answer is whole; a stream tells its cost in the usage record instead."""
    cost = b"unknown" if entry.cost_nano is None else f"{entry.cost_nano / 1e9:.9f}".encode()
    return [(b"x-router-cost-usd", cost), (b"x-router-overhead-ms", f"{entry.overhead_ms:.2f}".encode())]


def error_headers(error: GatewayError) -> Headers:
    """`Retry-After` where the error knows one, in whole seconds."""
    if error.retry_after_s is None:
        return []
    return [(b"retry-after", str(max(0, math.ceil(error.retry_after_s))).encode())]


def _printable(name: str) -> bytes:
    """A name that somebody typed, as a header's value."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in name).encode()
