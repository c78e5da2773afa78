"""Traces by OpenTelemetry, of requests that are over: a span each, and one below it for every attempt.

Needs requirements/tracing.txt; nothing imports this module unless TRACES_ENDPOINT is set. Spans are made from the usage
record, so that a request which is under way carries nothing. Attributes: opentelemetry.io/docs/specs/semconv/gen-ai
(2026-10). No words of a prompt or an answer are among them.
"""

from collections.abc import Iterator
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from analytics.domain.usage import Attempt, UsageEntry

FLUSH_WITHIN_MS = 2_000


class OpenTelemetryTraces:
    """Sends in a thread of its own, in batches; what cannot be sent is dropped."""

    def __init__(self, endpoint: str) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": "router-platform"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("routerplatform")
        self._propagator = TraceContextTextMapPropagator()

    def note(self, entry: UsageEntry, traceparent: str) -> None:
        """A request is over. `traceparent` is what its caller sent (W3C Trace Context), empty when nothing."""
        parent = self._propagator.extract({"traceparent": traceparent})
        name = f"{_operation(entry)} {entry.requested_model}"
        span = self._started(name, SpanKind.SERVER, entry.started_at, dict(_of_request(entry)), parent)
        below = set_span_in_context(span)
        for attempt in entry.attempts:
            self._note_attempt(entry, attempt, below)
        self._end(span, entry.finished_at, entry.error_code)

    def close(self) -> None:
        """Send what is left. Blocks."""
        self._provider.force_flush(FLUSH_WITHIN_MS)
        self._provider.shutdown()

    def _note_attempt(self, entry: UsageEntry, attempt: Attempt, below: Context) -> None:
        began = entry.started_at + attempt.started_ms / 1000
        attributes = {
            "gen_ai.operation.name": _operation(entry),
            "gen_ai.provider.name": attempt.provider,
            "router.deployment": attempt.deployment,
            "router.key_last4": attempt.key_last4,
        }
        if attempt.http_status is not None:
            attributes["http.response.status_code"] = str(attempt.http_status)
        span = self._started(attempt.deployment, SpanKind.CLIENT, began, attributes, below)
        self._end(span, began + attempt.latency_ms / 1000, attempt.failure)

    def _started(self, name: str, kind: SpanKind, at: float, attributes: dict[str, Any], parent: Context) -> Span:
        return self._tracer.start_span(name, parent, kind, attributes, start_time=_ns(at))

    def _end(self, span: Span, at: float, error: str) -> None:
        if error:
            span.set_attribute("error.type", error)
            span.set_status(StatusCode.ERROR, error)
        span.end(end_time=_ns(at))


def _of_request(entry: UsageEntry) -> Iterator[tuple[str, Any]]:
    yield "gen_ai.operation.name", _operation(entry)
    yield "gen_ai.provider.name", entry.provider
    yield "gen_ai.request.model", entry.requested_model
    yield "gen_ai.response.model", entry.model
    yield (
        "gen_ai.usage.input_tokens",
        (entry.input_tokens + entry.cache_read_input_tokens + entry.cache_creation_input_tokens),
    )
    yield "gen_ai.usage.output_tokens", entry.output_tokens
    yield "gen_ai.usage.cache_read.input_tokens", entry.cache_read_input_tokens
    yield "http.response.status_code", entry.http_status
    yield "router.request_id", entry.request_id
    yield "router.team", entry.team_name
    yield "router.door", entry.door
    yield "router.cache", entry.cache or "none"
    if entry.cost_nano is not None:
        yield "router.cost_usd", entry.cost_nano / 1e9


def _operation(entry: UsageEntry) -> str:
    return "embeddings" if entry.door == "embeddings" else "chat"


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
