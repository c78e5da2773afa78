"""What a program has used, in the shape of `GET /api/v1/stats`."""

from datetime import UTC, datetime
from typing import Any, Final

from analytics.domain.rollup import Stretch
from analytics.selectors.stats import Use, usage_stats

BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)  # before any request
NANO: Final = 1e9


def stats_of(*, team_id: int, since: datetime | None, until: datetime) -> dict[str, Any]:
    """The figures of a team, since any moment. Money is USD, times are milliseconds, rates go from 0 to 1; None without
    requests."""
    begins_at = min(max(since or BEGINNING, BEGINNING), until)
    stats = usage_stats(team_ids=[team_id], span=Stretch(begins_at, until))
    return {
        **_told(stats.total, "total_cost"),
        "model_usage": {model: _told(use, "cost") for model, use in stats.by_model.items()},
        "failed_requests": stats.total.sums.errors,
    }


def _told(use: Use, cost: str) -> dict[str, Any]:
    return {
        cost: use.sums.cost_nano / NANO,
        "avg_latency": use.avg_latency_ms,
        "success_rate": use.success_rate,
        "requests": use.sums.requests,
        "tokens": use.sums.tokens,
        "unpriced_requests": use.sums.unpriced,
    }
