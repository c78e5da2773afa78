"""Wire a `Runtime` together from the settings; the only place that knows both."""

from typing import cast

from django.conf import settings

from analytics.answer_store import SqlAnswerStore
from analytics.ledger.leasing import SqlLeaseBank
from analytics.ledger.ledger import Durability, Ledger
from analytics.ledger.shipping import SqlUsageStore
from providers.transport import Transport
from routerplatform.gateway.admission import Admissions
from routerplatform.gateway.authentication import Authenticator
from routerplatform.gateway.dispatch import Dispatcher
from routerplatform.gateway.idempotency import Idempotency
from routerplatform.gateway.page_tokens import PageTokens
from routerplatform.gateway.rate_limits import RateLimits
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.shared_counters import SharedCounters
from routerplatform.gateway.sockets import OpenSockets
from routing.config_store import ConfigStore


def build_runtime(*, ledger_type: type[Ledger] = Ledger) -> Runtime:
    """A runtime as the settings say, not yet started."""
    transport = Transport()
    ledger = ledger_type(
        journal_dir=settings.JOURNAL_DIR,
        durability=cast(Durability, settings.JOURNAL_DURABILITY),
        store=SqlUsageStore(),
        bank=SqlLeaseBank(),
    )
    return Runtime(
        config=ConfigStore(poll_s=settings.CONFIG_POLL_S),
        ledger=ledger,
        rate_limits=RateLimits(
            SharedCounters(settings.REDIS_URL) if settings.REDIS_URL else None, processes=settings.GATEWAY_PROCESSES
        ),
        admissions=Admissions(ledger),
        transport=transport,
        dispatcher=Dispatcher(
            transport=transport,
            ledger=ledger,
            max_attempts=settings.MAX_ATTEMPTS,
            timeout_s=settings.REQUEST_TIMEOUT_S,
        ),
        authenticator=Authenticator(pepper=settings.KEY_PEPPER, page_tokens=PageTokens()),
        idempotency=Idempotency(SqlAnswerStore()),
        sockets=OpenSockets(most=settings.WEBSOCKET_MAX_SOCKETS, most_per_key=settings.WEBSOCKET_MAX_SOCKETS_PER_KEY),
        max_body_bytes=settings.MAX_BODY_BYTES,
        keep_alive_s=settings.STREAM_KEEP_ALIVE_S,
    )
