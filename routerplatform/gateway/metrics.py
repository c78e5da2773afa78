"""What Prometheus may know: the platform's own series, and OpenTelemetry's names for generative AI beside them.

Every process writes its figures into files of its own below `METRICS_DIR`; whichever is asked adds them all up. Labels
hold configured names only, so their number is bounded by the configuration. Names and buckets of `gen_ai_*`:
opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics (2026-10), dots as underscores, the unit at the end.
"""

from collections.abc import Callable, Iterable, Iterator
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
OWN_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

BreakerStates = Callable[[], Iterable[tuple[str, str, float]]]
"""Gives (provider, model, state) of each deployment: 0 closed, 1 half-open, 2 open."""


class Metrics:
    """The figures of one process. `observe` costs a few microseconds: the series of a route are looked up once."""

    def __init__(self, folder: Path, breaker_states: BreakerStates) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._breaker_states = breaker_states
        # Values go into the folder's files; the registry is only there because each series belongs to one.
        registry = CollectorRegistry()
        self._requests = Counter(
            "ai_proxy_requests", "Requests that ended.", ["model", "provider", "status"], registry=registry
        )
        self._duration = Histogram(
            "ai_proxy_request_duration_seconds", "From a request's arrival to its end.", ["model", "provider"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._tokens = Counter("ai_proxy_tokens_used", "Tokens billed.", ["type"], registry=registry)
        self._cost = Counter("ai_proxy_cost", "USD, of requests whose price is known.", registry=registry)
        self._hits = Counter("ai_proxy_cache_hits", "Answers given again.", registry=registry)
        self._overhead = Histogram(
            "router_overhead_seconds", "The part of a request's time that is the gateway's own.", buckets=OWN_SECONDS,
            registry=registry,
        )  # fmt: skip
        route = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model"]
        self._operation = Histogram(
            "gen_ai_client_operation_duration_seconds", "Of requests that a provider was asked for.",
            [*route, "error_type"], buckets=SECONDS_OF_OPERATION, registry=registry,
        )  # fmt: skip
        self._first_chunk = Histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds", "Of streams.", route,
            buckets=SECONDS_OF_OPERATION, registry=registry,
        )  # fmt: skip
        self._usage = Histogram(
            "gen_ai_client_token_usage", "Tokens of a request.", [*route, "gen_ai_token_type"], buckets=TOKENS,
            registry=registry,
        )  # fmt: skip
        self._routes: dict[tuple[str, ...], _Route] = {}

    def observe(self, entry: UsageEntry) -> None:
        """A request is over and on record."""
        key = (entry.provider, entry.model, entry.requested_model, str(entry.http_status), entry.error_code)
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = _Route(self, entry)
        route.observe(entry)

    def refused(self, status: int) -> None:
        """A request ended before it was let in; it has no record."""
        self._requests.labels("", "", str(status)).inc()

    def text(self) -> bytes:
        """All processes' figures, as Prometheus reads them. Reads files: keep it off the event loop."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._folder))  # type: ignore[no-untyped-call]
        registry.register(_Breakers(self._breaker_states))
        return generate_latest(registry)


class _Route:
    """The series of requests that went the same way and ended alike."""

    def __init__(self, metrics: Metrics, entry: UsageEntry) -> None:
        of = (metrics._requests, metrics._duration, metrics._operation, metrics._first_chunk, metrics._usage)
        requests, duration, operation, first_chunk, usage = of
        name = "embeddings" if entry.door == "embeddings" else "chat"
        route = (name, entry.provider, entry.requested_model, entry.model)
        self._requests = requests.labels(entry.model, entry.provider, str(entry.http_status))
        self._duration = duration.labels(entry.model, entry.provider)
        self._operation = operation.labels(*route, entry.error_code)
        self._first_chunk = first_chunk.labels(*route)
        self._usage = usage.labels(*route, "input"), usage.labels(*route, "output")
        self._by_type = {
            kind: metrics._tokens.labels(kind) for kind in ("input", "output", "cache_read", "cache_write", "reasoning")
        }
        self._cost, self._hits, self._overhead = metrics._cost, metrics._hits, metrics._overhead

    def observe(self, entry: UsageEntry) -> None:
        latency_s = entry.latency_ms / 1000
        self._requests.inc()
        self._duration.observe(latency_s)
        self._overhead.observe(entry.overhead_ms / 1000)
        if entry.cache == "hit":
            self._hits.inc()
        if entry.cost_nano:
            self._cost.inc(entry.cost_nano / 1e9)
        if not entry.attempts:
            return
        self._operation.observe(latency_s)
        if entry.is_stream and entry.ttft_ms is not None:
            self._first_chunk.observe(entry.ttft_ms / 1000)
        self._count_tokens(entry)

    def _count_tokens(self, entry: UsageEntry) -> None:
        read, written = entry.cache_read_input_tokens, entry.cache_creation_input_tokens
        for kind, tokens in (
            ("input", entry.input_tokens), ("output", entry.output_tokens), ("cache_read", read),
            ("cache_write", written), ("reasoning", entry.reasoning_tokens),
        ):  # fmt: skip
            if tokens:
                self._by_type[kind].inc(tokens)
        all_input, output = self._usage
        all_input.observe(entry.input_tokens + read + written)
        output.observe(entry.output_tokens)


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
