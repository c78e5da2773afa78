"""Many answers at once, as one result."""

from collections.abc import Sequence
from typing import Any

from routerplatform.library.errors import RouterError


def batch_result(answers: Sequence[dict[str, Any] | RouterError]) -> dict[str, Any]:
    """`total_cost` adds up what is known (USD); `unpriced` counts the answers whose price nobody knows."""
    good = [answer for answer in answers if not isinstance(answer, RouterError)]
    costs = [answer["cost"] for answer in good]
    return {
        "results": [_failed(answer) if isinstance(answer, RouterError) else answer for answer in answers],
        "total_cost": sum(cost for cost in costs if cost is not None),
        "unpriced": costs.count(None),
        "succeeded": len(good),
        "failed": len(answers) - len(good),
    }


def _failed(error: RouterError) -> dict[str, Any]:
    told = {"code": error.code, "message": error.message, "retry_after": error.retry_after}
    return {"error": told, "request_id": error.request_id}
