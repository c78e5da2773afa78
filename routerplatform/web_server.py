"""The web server: uvicorn, but for how it stops. `manage.py serve` runs it.

A stop (SIGTERM or Ctrl-C) takes four steps:

1. announced: `/health/ready` answers 503, every answer says `connection: close`; new connections are served for
   `announce_s` more, which is the time for a balancer to look elsewhere and for a proxy to let go of idle connections;
2. the listener closes, and nothing that has reached it is lost: see `_Listener`;
3. drained: open requests, streams and chats on sockets end by themselves, for up to `drain_s`; a socket is closed
   (1012) as soon as no chat runs on it, a connection once it has been idle for `announce_s`;
4. cut: what is left ends with an error that says so, is settled, and the process ends.

A second signal goes to step 4 at once. uvicorn alone knows steps 2 and 3, resets what waits in the listener's queue,
closes idle connections under the feet of a proxy that is just using them, and cuts every socket.
"""

import asyncio
import ctypes
import logging
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from routerplatform.application import Application

POLL_S: Final = 0.05
HANDSHAKE_S: Final = 0.1  # for connections that are half open when the listener stops to take new ones
LAST_WORDS_S: Final = 2.0  # for errors that are under way when everything is settled
KEEP_ALIVE_S: Final = 75  # longer than a proxy keeps its idle connections (nginx and cloud balancers: 60), or it
# would send a request down one that is just being closed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stop:
    """How to stop, in seconds."""

    announce_s: float
    drain_s: float


def bound(host: str, port: int) -> socket.socket:
    """The address as a socket that does not listen yet: who comes before the gateway is ready is refused, not kept.

    :raises OSError: it is taken, or not an address of this machine.
    """
    [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def serve(application: Application, sock: socket.socket, *, stop: Stop, trusted_proxies: Sequence[str]) -> bool:
    """Serve on a bound socket until a signal; False when the application did not start. Main thread only."""
    config = uvicorn.Config(
        application,
        http="httptools",
        ws="websockets-sansio",
        lifespan="on",
        access_log=False,
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_S,
        proxy_headers=True,
        server_header=False,
        forwarded_allow_ips=list(trusted_proxies),
    )
    server = Server(config, application, stop)
    try:
        server.run(sockets=[sock])
    except SystemExit:  # how uvicorn says that the application did not start; why stands in the log
        return False
    return True


class Server(uvicorn.Server):
    """See above. A signal that was obeyed leaves exit code 0."""

    def __init__(self, config: uvicorn.Config, application: Application, stop: Stop) -> None:
        super().__init__(config)
        self._application = application
        self._stop = stop
        self._is_hurried = False
        self._idle_since: dict[HttpToolsProtocol, float] = {}

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._is_hurried = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logger.info("stopping: announced for %g s, then up to %g s for what is open", *self._seconds())
        await self._application.announce_stop()
        self._note_idle()
        await self._wait(self._stop.announce_s, lambda: False)
        for sock in sockets or []:
            await _Listener(sock).empty(0 if self._is_hurried else HANDSHAKE_S)
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        await self._application.retire_sockets()
        if not await self._wait(self._stop.drain_s, self._is_drained):
            logger.warning("stopping: what is still open is cut (%d)", len(self.server_state.tasks))
        await self._cut()

    def _seconds(self) -> tuple[float, float]:
        return self._stop.announce_s, self._stop.drain_s

    async def _wait(self, seconds: float, is_over: Callable[[], bool]) -> bool:
        """Until it is over, the time is up, or somebody is in a hurry; whether it is over."""
        until = time.monotonic() + seconds
        while not is_over():
            if self._is_hurried or time.monotonic() >= until:
                return False
            await self.on_tick(0)  # keeps the Date header right
            await asyncio.sleep(POLL_S)
        return True

    def _is_drained(self) -> bool:
        """Whether nobody is connected any more; closes what has been idle for long enough."""
        for connection in self._note_idle():
            connection.shutdown()
        return not self.server_state.connections and not self.server_state.tasks

    def _note_idle(self) -> list[HttpToolsProtocol]:
        """The connections that nobody has used since the announcement, or for as long as it took."""
        now, before = time.monotonic(), self._idle_since
        connections = [one for one in self.server_state.connections if isinstance(one, HttpToolsProtocol)]
        self._idle_since = {one: before.get(one, now) for one in connections if _is_idle(one)}
        return [one for one, since in self._idle_since.items() if now - since >= self._stop.announce_s]

    async def _cut(self) -> None:
        """Settle what is open, its callers are told; then end whatever still runs."""
        await self.lifespan.shutdown()
        self._is_hurried = False
        await self._wait(LAST_WORDS_S, lambda: not self.server_state.tasks)
        for task in list(self.server_state.tasks):
            task.cancel()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await asyncio.sleep(0)


def _is_idle(connection: HttpToolsProtocol) -> bool:
    cycle: RequestResponseCycle | None = connection.cycle  # None before the first request, whatever uvicorn declares
    return cycle is None or cycle.response_complete


# --- the listener ---------------------------------------------------------------------------------------------------

SO_ATTACH_FILTER: Final = 26  # Linux, asm-generic/socket.h
# A classic BPF program (linux/filter.h): the packet begins at the TCP header; flags are its byte 13. Source:
# tcp_v4_rcv and tcp_filter, Linux 6.18.
DROP_SYN: Final = (
    (0x30, 0, 0, 13),  # load byte 13
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # then drop the packet
    (0x06, 0, 0, 0xFFFF_FFFF),  # otherwise let it pass
)


class _Listener:
    """Closing a listener resets connections that wait in its queue, with the requests that were sent down them. A proxy
    must not repeat those, so they would be lost.

    So the kernel first stops to answer new handshakes (whoever tries is silently ignored, tries again a second later,
    and is then refused, which proxies take as a reason to ask the next gateway), and the queue is emptied. Where there
    is no such filter, only the queue is emptied, and a connection in the same instant may be lost.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def empty(self, handshake_s: float) -> None:
        if self._take_no_more():
            await asyncio.sleep(handshake_s)
        until = time.monotonic() + LAST_WORDS_S
        while self._has_waiting() and time.monotonic() < until:  # noqa: ASYNC110 - the kernel's queue
            await asyncio.sleep(0)  # the event loop accepts

    def _take_no_more(self) -> bool:
        if sys.platform != "linux":
            return False
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in DROP_SYN))
        program = struct.pack("HL", len(DROP_SYN), ctypes.addressof(code))
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        except OSError:  # a sandbox that knows no filters
            return False
        return True

    def _has_waiting(self) -> bool:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))
