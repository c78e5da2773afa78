"""A chat with a running gateway over its WebSocket, for terminals: one connection for each turn.

ChatProblem      there is no answer, or it broke off; the message says what to do
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

CONNECT_WITHIN_S: Final = 10.0
STOP_WITHIN_S: Final = 5.0  # what a stopped answer cost is told within that time, or not at all
CHAT_ID: Final = "1"
REFUSED: Final = {
    4401: "The key is not valid. Give one with --key, or set ROUTER_KEY.",
    4403: "The gateway does not take this origin.",
    4429: "There are too many sockets at the gateway, or with this key. Try again in a moment.",
}


class ChatProblem(Exception):
    """`code` is the gateway's, or “unreachable”, “not_a_gateway”, “broken_off”."""

    def __init__(self, message: str, *, code: str, request_id: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id


@dataclass(slots=True)
class Turn:
    """What became of one question. Frames are those of docs/api.md; empty for what has not come."""

    text: str = ""
    request_id: str = ""
    route: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)
    tools: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str = ""

    @property
    def is_stopped(self) -> bool:
        return not self.finish_reason


def socket_address(url: str) -> str:
    """The address of the chat socket of the gateway at `url` (http or https).

    :raises ChatProblem: it is no such address.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ChatProblem(f"“{url}” is no address of a gateway: say http://127.0.0.1:8000.", code="unreachable")
    scheme = "wss" if parts.scheme == "https" else "ws"
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/ws/chat/"


async def answer(url: str, key: str, body: dict[str, Any], show: Callable[[str], None]) -> Turn:
    """Send a chat body and show its answer's text piece by piece as it comes.

    Cancelled once, it asks the gateway to stop and returns what had come, with what it cost.

    :raises ChatProblem: the gateway cannot be reached, refuses, or breaks off.
    """
    address, turn = socket_address(url), Turn()
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S) as opening, aiohttp.ClientSession() as session:
            connecting = session.ws_connect(address, headers={"authorization": f"Bearer {key}"}, max_msg_size=0)
            async with connecting as socket:
                await _frame(socket, turn)  # ready
                opening.reschedule(None)
                await socket.send_json({**body, "type": "chat", "id": CHAT_ID})
                await _stopped_or_done(socket, turn, show)
    except aiohttp.WSServerHandshakeError as error:
        told = HTTPStatus(error.status).phrase if error.status in set(HTTPStatus) else error.status
        raise ChatProblem(f"{url} is no gateway: it says “{told}”. Check --url.", code="not_a_gateway") from error
    except (aiohttp.ClientError, OSError) as error:  # TimeoutError among them
        raise ChatProblem(
            f"No gateway answers at {url}. Start it with script/server, or say where it is with --url.",
            code="unreachable",
        ) from error
    return turn


async def _stopped_or_done(socket: aiohttp.ClientWebSocketResponse, turn: Turn, show: Callable[[str], None]) -> None:
    try:
        await _follow(socket, turn, show)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        await socket.send_json({"type": "stop", "id": CHAT_ID})
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await _follow(socket, turn, lambda text: None)
        except (ChatProblem, TimeoutError):  # “cancelled” ends it
            turn.finish_reason = ""


async def _follow(socket: aiohttp.ClientWebSocketResponse, turn: Turn, show: Callable[[str], None]) -> None:
    while not turn.finish_reason:
        frame = await _frame(socket, turn)
        match frame["type"]:
            case "start":
                turn.request_id = frame["request_id"]
            case "route":
                turn.route = frame
            case "delta":
                turn.text += frame.get("text", "")
                show(frame.get("text", ""))
            case "tool":
                turn.tools.append(frame)
            case "usage":
                turn.usage = frame
            case "done":
                turn.finish_reason = frame["finish_reason"]


async def _frame(socket: aiohttp.ClientWebSocketResponse, turn: Turn) -> dict[str, Any]:
    """:raises ChatProblem: an error, or the end."""
    message = await socket.receive()
    if message.type is not aiohttp.WSMsgType.TEXT:
        code = socket.close_code or 0
        text = REFUSED.get(code, "The gateway has closed the connection in the middle. Ask again.")
        raise ChatProblem(text, code="invalid_api_key" if code in REFUSED else "broken_off")
    frame: dict[str, Any] = msgspec.json.decode(message.data)
    if frame["type"] == "error":
        turn.request_id = frame.get("request_id") or turn.request_id
        raise ChatProblem(frame["message"], code=frame["code"], request_id=turn.request_id)
    return frame


def turn_json(turn: Turn) -> dict[str, Any]:
    """One turn as a program wants it."""
    usage, route = turn.usage, turn.route
    return {
        "object": "chat",
        "request_id": turn.request_id,
        "response": turn.text,
        "finish_reason": turn.finish_reason or None,
        "model": route.get("model"),
        "provider": route.get("provider"),
        "deployment": route.get("deployment"),
        "persona": route.get("persona"),
        "tool_calls": [{name: one[name] for name in ("call_id", "name", "arguments")} for one in turn.tools],
        "usage": {name: value for name, value in usage.items() if name.endswith("_tokens")},
        "cost_usd": usage.get("cost_usd"),
        "latency_ms": usage.get("latency_ms"),
        "ttft_ms": usage.get("ttft_ms"),
        "attempts": usage.get("attempts"),
    }
