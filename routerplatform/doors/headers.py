"""The headers that tell a caller what the gateway did, the same on every HTTP door."""

import math
from collections.abc import Sequence

from analytics.domain.usage import UsageEntry
from routerplatform.gateway.errors import GatewayError
from routerplatform.gateway.ladder import ladder_headers
from routerplatform.gateway.rate_limits import limit_headers
from routerplatform.gateway.steps import Opened

Headers = list[tuple[bytes, bytes]]


def route_headers(opened: Opened, request_id: str) -> Headers:
    """Known when the answer begins."""
    return [
        *_now_and_then(opened),
        (b"x-router-decision-id", request_id.encode()),
        (b"x-router-deployment", _printable(opened.deployment.name)),
        (b"x-router-attempts", str(opened.attempts).encode()),
        (b"x-router-cache", opened.cache.encode()),
        (b"x-router-config-revision", str(opened.config_revision).encode()),
        *((name.encode(), value.encode()) for name, value in limit_headers(opened.standing).items()),
    ]


def _now_and_then(opened: Opened) -> Headers:
    """What most answers have nothing of."""
    told = []
    if opened.max_tokens is not None:
        told.append((b"x-router-max-tokens", str(opened.max_tokens).encode()))
    if opened.dropped:
        told.append((b"x-router-dropped-params", _printable(",".join(opened.dropped))))
    if opened.vendor_request_id:
        told.append((b"x-router-upstream-request-id", _printable(opened.vendor_request_id)))
    on_step = ladder_headers(opened.plan.step.name, opened.budget_used)
    told += [(name.encode(), value.encode()) for name, value in on_step.items()]
    return told


def bill_headers(entry: UsageEntry) -> Headers:
    """Known when the answer is whole; a stream tells its cost in the usage record instead."""
    cost = b"unknown" if entry.cost_nano is None else f"{entry.cost_nano / 1e9:.9f}".encode()
    return [(b"x-router-cost-usd", cost), (b"x-router-overhead-ms", f"{entry.overhead_ms:.2f}".encode())]


def error_headers(error: GatewayError, bill: Sequence[UsageEntry] = ()) -> Headers:
    """`Retry-After` in whole seconds, what else the error says, and what became of a request that has a record."""
    told = [(name.encode(), value.encode()) for name, value in error.headers.items()]
    if error.retry_after_s is not None:
        told.append((b"retry-after", str(max(0, math.ceil(error.retry_after_s))).encode()))
    for entry in bill:
        told += _record_headers(entry) + bill_headers(entry)
    return told


def _record_headers(entry: UsageEntry) -> Headers:
    deployment = [(b"x-router-deployment", _printable(entry.deployment))] if entry.deployment else []
    return [
        (b"x-router-decision-id", entry.request_id.encode()),
        *deployment,
        (b"x-router-attempts", str(len(entry.attempts)).encode()),
        (b"x-router-config-revision", str(entry.config_revision).encode()),
    ]


def _printable(name: str) -> bytes:
    """A name that somebody typed, as a header's value."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in name).encode()
