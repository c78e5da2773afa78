"""Where traces of requests go: nowhere, unless the settings name an endpoint and the libraries for it are installed."""

import importlib
from typing import Protocol, cast

from django.core.exceptions import ImproperlyConfigured

from analytics.domain.usage import UsageEntry


class Traces(Protocol):
    def note(self, entry: UsageEntry, traceparent: str) -> None: ...
    def close(self) -> None: ...


class NoTraces:
    def note(self, entry: UsageEntry, traceparent: str) -> None:
        """Nobody traces."""

    def close(self) -> None:
        """There is nothing to send."""


def traces_to(endpoint: str) -> Traces:
    """:raises ImproperlyConfigured: an endpoint, but nothing to send with."""
    if not endpoint:
        return NoTraces()
    try:
        tracing = importlib.import_module("routerplatform.gateway.tracing")  # a second of CPU, for those who want it
    except ModuleNotFoundError as error:
        raise ImproperlyConfigured(
            f"TRACES_ENDPOINT is set, but {error.name} is not installed: pip install -r requirements/tracing.txt"
        ) from error
    return cast(Traces, tracing.OpenTelemetryTraces(endpoint))
