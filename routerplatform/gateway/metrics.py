"""What Prometheus may know: the platform's own series, and OpenTelemetry's names for generative AI beside them.

Every process writes its figures into files of its own below `METRICS_DIR`; whichever is asked adds them all up. Labels
hold configured names only, so their number is bounded by the configuration. Names and buckets of `gen_ai_*`:
opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics (2026-10), dots as underscores, the unit at the end.
"""

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from analytics.domain.usage import UsageEntry

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
SECONDS_OF_OPERATION: Final = tuple(0.01 * 2**i for i in range(14))
TOKENS: Final = tuple(float(4**i) for i in range(14))
WRITE_EVERY_S: Final = 1.0
OWN_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

BreakerStates = Callable[[], Iterable[tuple[str, str, float]]]
"""Gives (provider, model, state) of each deployment: 0 closed, 1 half-open, 2 open."""


class Metrics:
    """The figures of one process. They are added up here and written once in a second: a figure in the shared files
    costs a microsecond, and a request has fifteen of them."""

    def __init__(self, folder: Path, breaker_states: BreakerStates) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._breaker_states = breaker_states
        self._series = _Series()
        self._routes: dict[tuple[str, ...], _Route] = {}
        self._refused: defaultdict[str, int] = defaultdict(int)
        self._classifier_failures: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._changed: set[_Route] = set()
        self._is_planned = False

    def observe(self, entry: UsageEntry) -> None:
        """A request is over and on record."""
        key = (entry.provider, entry.model, entry.requested_model, str(entry.http_status), entry.error_code)
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = _Route(self._series, entry)
        route.observe(entry)
        self._changed.add(route)
        self._plan()

    def refused(self, status: int) -> None:
        """A request ended before it was let in; it has no record."""
        self._refused[str(status)] += 1
        self._plan()

    def classifier_failed(self, name: str, reason: str) -> None:
        """A classifier of one's own failed, and the built-in one took over. Reasons are a fixed few."""
        self._classifier_failures[name, reason] += 1
        self._plan()

    def write(self) -> None:
        """Put what has been added up into the files. From the event loop, as everything but `text`."""
        self._is_planned = False
        changed, self._changed = self._changed, set()
        refused, self._refused = self._refused, defaultdict(int)
        for route in changed:
            route.write()
        for status, number in refused.items():
            self._series.requests.labels("", "", status).inc(number)
        failures, self._classifier_failures = self._classifier_failures, defaultdict(int)
        for failure, number in failures.items():
            self._series.classifier_failures.labels(*failure).inc(number)

    async def scraped(self) -> bytes:
        """All processes' figures, as Prometheus reads them; this one's to the latest."""
        self.write()
        return await asyncio.to_thread(self.text)

    def text(self) -> bytes:
        """What the files hold. Blocks."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._folder))  # type: ignore[no-untyped-call]
        registry.register(_Breakers(self._breaker_states))
        return generate_latest(registry)

    def _plan(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_later(WRITE_EVERY_S, self.write)


class _Series:
    """What there is. Values go into the folder's files; the registry is only there because each belongs to one."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.requests = Counter(
            "ai_proxy_requests", "Requests that ended.", ["model", "provider", "status"], registry=registry
        )
        self.duration = Histogram(
            "ai_proxy_request_duration_seconds", "From a request's arrival to its end.", ["model", "provider"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.tokens = Counter("ai_proxy_tokens_used", "Tokens billed.", ["type"], registry=registry)
        self.cost = Counter("ai_proxy_cost", "USD, of requests whose price is known.", registry=registry)
        self.hits = Counter("ai_proxy_cache_hits", "Answers given again.", registry=registry)
        self.classifier_failures = Counter(
            "ai_proxy_classifier_failures", "Classifications that the built-in classifier took over.",
            ["classifier", "reason"], registry=registry,
        )  # fmt: skip
        self.overhead = Histogram(
            "router_overhead_seconds", "The part of a request's time that is the gateway's own.", buckets=OWN_SECONDS,
            registry=registry,
        )  # fmt: skip
        route = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model"]
        self.operation = Histogram(
            "gen_ai_client_operation_duration_seconds", "Of requests that a provider was asked for.",
            [*route, "error_type"], buckets=SECONDS_OF_OPERATION, registry=registry,
        )  # fmt: skip
        self.first_chunk = Histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds", "Of streams.", route,
            buckets=SECONDS_OF_OPERATION, registry=registry,
        )  # fmt: skip
        self.usage = Histogram(
            "gen_ai_client_token_usage", "Tokens of a request.", [*route, "gen_ai_token_type"], buckets=TOKENS,
            registry=registry,
        )  # fmt: skip


class _Sums:
    """Observations of one histogram that are still to be written, by the bucket that they fall into."""

    def __init__(self, histogram: Histogram, bounds: Sequence[float]) -> None:
        self._histogram = histogram
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, amount: float) -> None:
        self._counts[bisect_left(self._bounds, amount)] += 1
        self._total += amount

    def write(self) -> None:
        """As so many calls of the library's `observe` would."""
        self._histogram._sum.inc(self._total)
        for place, count in enumerate(self._counts):
            if count:
                self._histogram._buckets[place].inc(count)
        self._counts = [0] * len(self._counts)
        self._total = 0.0


class _Route:
    """The figures of requests that went the same way and ended alike."""

    def __init__(self, series: _Series, entry: UsageEntry) -> None:
        name = "embeddings" if entry.door == "embeddings" else "chat"
        route = (name, entry.provider, entry.requested_model, entry.model)
        self._series = series
        self._requests = series.requests.labels(entry.model, entry.provider, str(entry.http_status))
        self._duration = _Sums(series.duration.labels(entry.model, entry.provider), SECONDS)
        self._overhead = _Sums(series.overhead, OWN_SECONDS)
        self._operation = _Sums(series.operation.labels(*route, entry.error_code), SECONDS_OF_OPERATION)
        self._first_chunk = _Sums(series.first_chunk.labels(*route), SECONDS_OF_OPERATION)
        self._input = _Sums(series.usage.labels(*route, "input"), TOKENS)
        self._output = _Sums(series.usage.labels(*route, "output"), TOKENS)
        self._clear()

    def observe(self, entry: UsageEntry) -> None:
        self._number += 1
        self._duration.observe(entry.latency_ms / 1000)
        self._overhead.observe(entry.overhead_ms / 1000)
        self._hits += entry.cache == "hit"
        self._cost_nano += entry.cost_nano or 0
        if not entry.attempts:
            return
        self._operation.observe(entry.latency_ms / 1000)
        if entry.is_stream and entry.ttft_ms is not None:
            self._first_chunk.observe(entry.ttft_ms / 1000)
        read, written = entry.cache_read_input_tokens, entry.cache_creation_input_tokens
        self._input.observe(entry.input_tokens + read + written)
        self._output.observe(entry.output_tokens)
        used = self._used
        used["input"] += entry.input_tokens
        used["output"] += entry.output_tokens
        used["cache_read"] += read
        used["cache_write"] += written
        used["reasoning"] += entry.reasoning_tokens

    def write(self) -> None:
        self._requests.inc(self._number)
        self._series.hits.inc(self._hits)
        self._series.cost.inc(self._cost_nano / 1e9)
        for kind, tokens in self._used.items():
            self._series.tokens.labels(kind).inc(tokens)
        for sums in (
            self._duration, self._overhead, self._operation, self._first_chunk, self._input, self._output,
        ):  # fmt: skip
            sums.write()
        self._clear()

    def _clear(self) -> None:
        self._number = self._hits = self._cost_nano = 0
        self._used = dict.fromkeys(("input", "output", "cache_read", "cache_write", "reasoning"), 0)


class _Breakers(Collector):
    """Every process knows the fleet's breakers, so the one that is asked tells them; nothing is added up."""

    def __init__(self, states: BreakerStates) -> None:
        self._states = states

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "ai_proxy_circuit_breaker_state", "0 closed, 1 half-open, 2 open.", labels=["provider", "model"]
        )
        for provider, model, state in self._states():
            family.add_metric([provider, model], state)
        yield family
