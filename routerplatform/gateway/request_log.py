"""One line per request in the log, for those who read logs rather than the database. Off unless LOG_REQUESTS is on."""

import structlog

from analytics.domain.usage import UsageEntry

logger = structlog.get_logger("router.requests")


class RequestLog:
    """No words of a prompt or an answer, no key: names, numbers and times."""

    def __init__(self, *, is_on: bool) -> None:
        self._is_on = is_on

    def note(self, entry: UsageEntry) -> None:
        """A request is over and on record."""
        if not self._is_on:
            return
        logger.info(
            "request",
            request_id=entry.request_id,
            door=entry.door,
            team=entry.team_name,
            key=entry.key_prefix,
            asked=entry.requested_model,
            deployment=entry.deployment,
            status=entry.http_status,
            error=entry.error_code,
            attempts=len(entry.attempts),
            cache=entry.cache or "none",
            input_tokens=entry.input_tokens,
            output_tokens=entry.output_tokens,
            cost_nano=entry.cost_nano,
            ttft_ms=entry.ttft_ms,
            latency_ms=entry.latency_ms,
            overhead_ms=entry.overhead_ms,
        )
