"""The provider's own count: one bill for each request that began to cost, to compare a gateway's ledger with."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from msgspec import Struct

from providers.demo.catalogue import DemoModel
from providers.demo.exchange import Usage

KEPT = 100_000


class BillState(StrEnum):
    OPEN = "open"  # being answered
    COMPLETED = "completed"
    CANCELLED = "cancelled"  # the client left
    CUT = "cut"  # the connection was dropped on purpose
    FAILED = "failed"  # an error after the stream began


class Bill(Struct):
    """`request_id` is the caller's `x-request-id`, else the provider's own id. Input tokens are disjoint buckets."""

    request_id: str
    model: str
    input_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    output_tokens: int = 0
    state: BillState = BillState.OPEN


class ModelSum(Struct):
    requests: int = 0
    input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    output_tokens: int = 0


class Bills:
    """The last bills and the sums of all; sums hold closed bills only."""

    def __init__(self, kept: int = KEPT) -> None:
        self._bills: deque[Bill] = deque(maxlen=kept)
        self._sums: dict[str, ModelSum] = {}
        self._open = 0
        self._open_streams = 0
        self.requests = 0
        self.refused = 0

    @contextmanager
    def open(self, *, request_id: str, model: DemoModel, usage: Usage, stream: bool) -> Iterator[Bill]:
        """A bill that is closed when the block is left; left without another state, the client went away."""
        bill = Bill(
            request_id,
            model.id,
            usage.input_tokens,
            usage.cache_read_input_tokens,
            usage.cache_creation_input_tokens,
        )
        self._bills.append(bill)
        self._open += 1
        self._open_streams += stream
        try:
            yield bill
        finally:
            self._open -= 1
            self._open_streams -= stream
            if bill.state is BillState.OPEN:
                bill.state = BillState.CANCELLED
            self._add(bill)

    def _add(self, bill: Bill) -> None:
        total = self._sums.setdefault(bill.model, ModelSum())
        total.requests += 1
        total.input_tokens += bill.input_tokens
        total.cache_read_input_tokens += bill.cache_read_input_tokens
        total.cache_creation_input_tokens += bill.cache_creation_input_tokens
        total.output_tokens += bill.output_tokens

    def rows(self, request_id: str | None = None) -> list[Bill]:
        """Oldest first; with `request_id` only those of that request (one for each attempt)."""
        return [bill for bill in self._bills if request_id in {None, bill.request_id}]

    def stats(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "refused": self.refused,
            "billed": sum(total.requests for total in self._sums.values()),
            "open_requests": self._open,
            "open_streams": self._open_streams,
            "models": self._sums,
        }
