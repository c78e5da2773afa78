"""GET /metrics on the gateway's own port: with the token that the settings name, or from this machine."""

import hmac
import ipaddress

from routerplatform.doors.exchange import Exchange
from routerplatform.gateway.errors import Forbidden, MethodNotAllowed, UnknownAddress
from routerplatform.gateway.metrics import CONTENT_TYPE
from routerplatform.gateway.runtime import Runtime


async def metrics_page(runtime: Runtime, exchange: Exchange) -> None:
    """:raises GatewayError: not for this caller, or served on another port only."""
    if runtime.metrics_port.is_used:
        raise UnknownAddress("/metrics")
    if exchange.scope["method"] != "GET":
        raise MethodNotAllowed(exchange.scope["method"], allowed="GET")
    if not _may_read(exchange, runtime.metrics_token):
        raise Forbidden(
            "Metrics are told to this machine only, or to who presents METRICS_TOKEN: “Authorization: Bearer …”."
        )
    text = await runtime.metrics.scraped()
    headers = [(b"content-type", CONTENT_TYPE.encode()), (b"cache-control", b"no-store")]
    await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
    await exchange.send({"type": "http.response.body", "body": text})


def _may_read(exchange: Exchange, token: str) -> bool:
    """A proxy on this machine speaks for somebody else, whom it names."""
    if token:
        return hmac.compare_digest(exchange.credential().encode(), token.encode())
    host = (exchange.scope.get("client") or ("", 0))[0]
    is_forwarded = bool(exchange.header(b"x-forwarded-for") or exchange.header(b"forwarded"))
    try:
        return ipaddress.ip_address(host).is_loopback and not is_forwarded
    except ValueError:
        return False
