"""How a batch is told to its caller: the same words whether it was answered at once or in the background."""

from collections.abc import Sequence
from typing import Any

from routerplatform.api.budgets import usd_text
from routerplatform.doors.batch_items import Item, Sums, error_told


def answer_told(items: Sequence[Item]) -> dict[str, Any]:
    """The answer to a batch whose items are all over, as JSON values."""
    sums = Sums.of([entry for item in items for entry in item.bill])
    ok = sum(item.response is not None for item in items)
    return {
        "object": "batch",
        "counts": {"total": len(items), "ok": ok, "error": len(items) - ok},
        **sums_told(sums),
        "results": [
            result_told(item.asked.index, item.asked.custom_id, [item.request_id], outcome_of(item)) for item in items
        ],
    }


def sums_told(sums: Sums) -> dict[str, Any]:
    """What a batch has cost, as a number and exactly, and the tokens that went into it."""
    return {
        "total_cost": sums.cost_nano / 1e9,
        "total_cost_usd": usd_text(sums.cost_nano),
        "unpriced": sums.unpriced,
        "usage": sums.usage(),
    }


def outcome_of(item: Item) -> dict[str, Any]:
    """What became of an item that is over: `response`, or `error`."""
    if item.response is not None:
        return {"response": item.response}
    assert item.error is not None
    return {"error": error_told(item.error)}


def result_told(
    index: int, custom_id: str | None, tries: Sequence[str], outcome: dict[str, Any], *, status: str = ""
) -> dict[str, Any]:
    """One row of results. `status` where the outcome does not say it; `tries` are ids of requests in order."""
    told = {
        "index": index,
        "custom_id": custom_id,
        "status": status or ("ok" if "response" in outcome else "error"),
        "request_id": tries[-1] if tries else None,
        **outcome,
    }
    return {**told, "earlier_request_ids": list(tries[:-1])} if len(tries) > 1 else told
