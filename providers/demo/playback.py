"""Plays a Reply in time, with the faults that happen on the way, and keeps the provider's own bill of it.

One bill for each request that began to cost, to compare a gateway's ledger with.
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from aiohttp import web
from msgspec import Struct

from providers.demo.exchange import DemoModel, Frame, Usage
from providers.demo.markers import Markers

KEPT = 100_000
FLUSH_BYTES = 16_384
HANG_S = 3_600.0
# cancelled: the client left; cut: the connection was dropped on purpose; failed: an error after the stream began
BillState = Literal["open", "completed", "cancelled", "cut", "failed"]


class Bill(Struct):
    """`request_id` is the caller's `x-request-id`, else the provider's own id. Input tokens are disjoint buckets."""

    request_id: str
    model: str
    input_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    output_tokens: int = 0
    state: BillState = "open"


_COUNTED = [name for name in Bill.__struct_fields__ if name.endswith("_tokens")]


class Bills:
    """The last bills and the sums of all; sums hold closed bills only."""

    def __init__(self, kept: int = KEPT) -> None:
        self._bills: deque[Bill] = deque(maxlen=kept)
        self._sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._open = 0
        self._open_streams = 0
        self.requests = 0
        self.refused = 0

    @contextmanager
    def open(self, *, request_id: str, model: DemoModel, usage: Usage, stream: bool) -> Iterator[Bill]:
        """A bill that is closed when the block is left; left without another state, the client went away."""
        bill = Bill(request_id, model.id, *usage[:3])
        self._bills.append(bill)
        self._open += 1
        self._open_streams += stream
        try:
            yield bill
        finally:
            self._open -= 1
            self._open_streams -= stream
            if bill.state == "open":
                bill.state = "cancelled"
            self._sums[bill.model].update(requests=1, **{name: getattr(bill, name) for name in _COUNTED})

    def rows(self, *request_ids: str) -> list[Bill]:
        """Oldest first; with `request_ids` only those of these requests (one for each attempt)."""
        return [bill for bill in self._bills if not request_ids or bill.request_id in request_ids]

    def stats(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "refused": self.refused,
            "billed": sum(total["requests"] for total in self._sums.values()),
            "open_requests": self._open,
            "open_streams": self._open_streams,
            "models": self._sums,
        }


class Player:
    """One answer on its way to one client.

    `bill.output_tokens` follows what was produced, so it is right whenever the client leaves: the server cancels the
    handler then, wherever it sleeps.
    """

    def __init__(
        self, request: web.Request, *, times: tuple[float, float], faults: Markers, bill: Bill, reasoning: int
    ) -> None:
        self._request = request
        self._first_byte_s, self._token_s = times
        self._faults = faults
        self._bill = bill
        self._reasoning = reasoning  # hidden tokens, produced before the first visible one
        self._began = asyncio.get_running_loop().time()

    async def play_whole(self, headers: dict[str, str], body: bytes, tokens: int) -> web.StreamResponse:
        """Answers in one piece after the time that its tokens take; a fault leaves half of the body behind."""
        ends = [at for at in (self._faults.cut, self._faults.hang) if at is not None and at <= tokens]
        produced = min(ends, default=tokens)
        try:
            await self._sleep_until(produced)
        except asyncio.CancelledError:
            passed = asyncio.get_running_loop().time() - self._began - self._first_byte_s
            made = self._reasoning + min(produced, int(passed / max(self._token_s, 1e-9)))
            self._bill.output_tokens = made if passed >= 0 else 0  # as much as was ready, though nothing was sent
            raise
        self._bill.output_tokens = self._reasoning + produced
        if self._faults.garbage is not None:
            body = body[: len(body) // 2]
        response = web.StreamResponse(headers={**headers, "Content-Length": str(len(body))})
        if ends and produced == 0:
            return await self._stop(response, 0)
        await response.prepare(self._request)
        if ends:
            await response.write(body[: len(body) // 2])
            return await self._stop(response, produced)
        await response.write(body)
        self._bill.state = "completed"
        return response

    async def play_stream(
        self, headers: dict[str, str], frames: Iterator[Frame], *, error: bytes, garbage: bytes
    ) -> web.StreamResponse:
        """Sends frame after frame; what waits is sent before every pause."""
        response = web.StreamResponse(headers=headers)
        faults, sent, waiting = self._faults, 0, bytearray()
        await self._sleep_until(0)
        self._bill.output_tokens = self._reasoning
        if 0 in {faults.cut, faults.hang}:
            return await self._stop(response, 0)
        await response.prepare(self._request)
        for data, tokens in frames:
            if _is_reached(faults.cut, sent) or _is_reached(faults.hang, sent):
                await self._flush(response, waiting)
                return await self._stop(response, sent)
            if _is_reached(faults.error_in_stream, sent):
                await response.write(bytes(waiting) + error)
                self._bill.state = "failed"
                return response
            if _is_reached(faults.garbage, sent):
                waiting += garbage
                garbage = b""
            if tokens and sent and self._token_s:
                await self._flush(response, waiting)
                await self._sleep_until(sent)
            waiting += data
            sent += tokens
            self._bill.output_tokens += tokens
            if len(waiting) >= FLUSH_BYTES:
                await self._flush(response, waiting)
        await self._flush(response, waiting)
        self._bill.state = "completed"
        return response

    async def _flush(self, response: web.StreamResponse, waiting: bytearray) -> None:
        if waiting:
            await response.write(bytes(waiting))
            waiting.clear()
        await asyncio.sleep(0)  # a write to a fast client never waits: let the others run

    async def _sleep_until(self, tokens: int) -> None:
        """Sleeps until so many tokens are made, by the time of the request, so that late wake-ups do not add up."""
        made_at = self._began + self._first_byte_s + self._token_s * tokens
        left = made_at - asyncio.get_running_loop().time()
        if left > 0:
            await asyncio.sleep(left)

    async def _stop(self, response: web.StreamResponse, sent: int) -> web.StreamResponse:
        """Drops the connection after `sent` tokens, or keeps it and says nothing more."""
        if _is_reached(self._faults.hang, sent) and not _is_reached(self._faults.cut, sent):
            await asyncio.sleep(HANG_S)
        self._bill.state = "cut"
        if self._request.transport is not None:
            self._request.transport.close()
        return response


def _is_reached(fault: int | None, sent: int) -> bool:
    """A frame may carry several tokens, so that a fault is met or passed."""
    return fault is not None and sent >= fault
