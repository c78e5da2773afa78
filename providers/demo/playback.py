"""Plays a Reply in time: first byte, pace, and the faults that happen on the way."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from aiohttp import web

from providers.demo.bills import Bill, BillState
from providers.demo.exchange import Frame
from providers.demo.markers import Markers

FLUSH_BYTES = 16_384
HANG_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds until the first byte, and from token to token."""

    first_byte_s: float
    token_s: float


class Player:
    """One answer on its way to one client.

    `bill.output_tokens` follows what was produced, so it is right whenever the client leaves: the server cancels the
    handler then, wherever it sleeps.
    """

    def __init__(self, request: web.Request, *, timing: Timing, faults: Markers, bill: Bill, reasoning: int) -> None:
        self._request = request
        self._timing = timing
        self._faults = faults
        self._bill = bill
        self._reasoning = reasoning  # hidden tokens, produced before the first visible one
        self._began = asyncio.get_running_loop().time()

    async def play_whole(self, headers: dict[str, str], body: bytes, tokens: int) -> web.StreamResponse:
        """Answers in one piece after the time that its tokens take; a fault leaves half of the body behind."""
        ends = [at for at in (self._faults.cut, self._faults.hang) if at is not None and at <= tokens]
        produced = min(ends, default=tokens)
        try:
            await self._sleep_until(self._timing.first_byte_s + self._timing.token_s * produced)
        except asyncio.CancelledError:
            self._bill.output_tokens = self._produced(produced)
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
        self._bill.state = BillState.COMPLETED
        return response

    async def play_stream(
        self, headers: dict[str, str], frames: Iterator[Frame], *, error: bytes, garbage: bytes
    ) -> web.StreamResponse:
        """Sends frame after frame; what waits is sent before every pause."""
        response = web.StreamResponse(headers=headers)
        faults, sent, waiting = self._faults, 0, bytearray()
        await self._sleep_until(self._timing.first_byte_s)
        self._bill.output_tokens = self._reasoning
        if 0 in {faults.cut, faults.hang}:
            return await self._stop(response, 0)
        await response.prepare(self._request)
        garbage_at = faults.garbage
        for frame in frames:
            if sent in {faults.cut, faults.hang}:
                await self._flush(response, waiting)
                return await self._stop(response, sent)
            if sent == faults.error_in_stream:
                await response.write(bytes(waiting) + error)
                self._bill.state = BillState.FAILED
                return response
            if sent == garbage_at:
                waiting += garbage
                garbage_at = None
            if frame.tokens and sent and self._timing.token_s:
                await self._flush(response, waiting)
                await self._sleep_until(self._timing.first_byte_s + self._timing.token_s * sent)
            waiting += frame.data
            sent += frame.tokens
            self._bill.output_tokens += frame.tokens
            if len(waiting) >= FLUSH_BYTES:
                await self._flush(response, waiting)
        await self._flush(response, waiting)
        self._bill.state = BillState.COMPLETED
        return response

    async def _flush(self, response: web.StreamResponse, waiting: bytearray) -> None:
        if waiting:
            await response.write(bytes(waiting))
            waiting.clear()
        await asyncio.sleep(0)  # a write to a fast client never waits: let the others run

    async def _sleep_until(self, offset_s: float) -> None:
        """Sleeps until `offset_s` after the request came, so that late wake-ups do not add up."""
        left = self._began + offset_s - asyncio.get_running_loop().time()
        if left > 0:
            await asyncio.sleep(left)

    def _produced(self, tokens: int) -> int:
        """How many of `tokens` are ready by now, when nothing was sent yet."""
        passed = asyncio.get_running_loop().time() - self._began - self._timing.first_byte_s
        if passed < 0:
            return 0
        return self._reasoning + (min(tokens, int(passed / self._timing.token_s)) if self._timing.token_s else tokens)

    async def _stop(self, response: web.StreamResponse, sent: int) -> web.StreamResponse:
        """Drops the connection after `sent` tokens, or keeps it and says nothing more."""
        if sent == self._faults.hang:
            await asyncio.sleep(HANG_S)
        self._bill.state = BillState.CUT
        transport = self._request.transport
        if transport is not None:
            transport.close()
        return response
