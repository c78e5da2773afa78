"""What a vendor's clients say and expect in headers, beside the bodies that the formats know."""

from dataclasses import replace
from typing import Final

from providers.domain.types import ChatRequest, Wire
from providers.wires.anthropic import CALLER_HEADERS
from routerplatform.doors.exchange import Exchange, Message
from routerplatform.doors.formats.anthropic_messages import error_body
from routerplatform.gateway.errors import InvalidRequest

PASSED_ON: Final = {Wire.ANTHROPIC: tuple(name.encode() for name in CALLER_HEADERS)}
LONGEST_VALUE: Final = 4_000


def with_vendor_headers(request: ChatRequest, exchange: Exchange) -> ChatRequest:
    """The request with what its caller says beside the body. A header that came several times is one list.

    :raises InvalidRequest: a value that cannot be passed on.
    """
    names = PASSED_ON.get(request.wire) if request.wire else None
    if names is None:
        return request
    heard: dict[str, str] = {}
    for key, value in exchange.scope["headers"]:
        if key in names:
            name, text = key.decode(), value.decode("latin-1").strip()
            heard[name] = f"{heard[name]},{text}" if name in heard else text
    for name, text in heard.items():
        if len(text) > LONGEST_VALUE or not (text.isascii() and text.isprintable()):
            raise InvalidRequest(f"The header {name} must be printable ASCII, {LONGEST_VALUE:,} characters at most.")
    return replace(request, vendor_headers=heard) if heard else request


def for_anthropic_client(exchange: Exchange) -> Exchange:
    """Errors in Anthropic's shape, and the request's id under the name that its clients look for. Source: anthropic
    2.11 `APIStatusError.request_id`."""
    named = (b"request-id", exchange.request_id.encode())

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], named]}
        await exchange.send(message)

    return replace(exchange, send=send, error_body=error_body)
