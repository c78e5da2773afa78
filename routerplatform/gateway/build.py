"""Wire a `Runtime` together from the settings; the only place that knows both."""

from typing import cast

from django.conf import settings

from analytics.ledger.ledger import Durability, Ledger
from analytics.ledger.shipping import SqlUsageStore
from providers.transport import Transport
from routerplatform.gateway.authentication import Authenticator
from routerplatform.gateway.dispatch import Dispatcher
from routerplatform.gateway.page_tokens import PageTokens
from routerplatform.gateway.runtime import Runtime
from routing.config_store import ConfigStore


def build_runtime() -> Runtime:
    """A runtime as the settings say, not yet started."""
    transport = Transport()
    ledger = Ledger(
        journal_dir=settings.JOURNAL_DIR,
        durability=cast(Durability, settings.JOURNAL_DURABILITY),
        store=SqlUsageStore(),
    )
    return Runtime(
        config=ConfigStore(poll_s=settings.CONFIG_POLL_S),
        ledger=ledger,
        transport=transport,
        dispatcher=Dispatcher(
            transport=transport,
            ledger=ledger,
            max_attempts=settings.MAX_ATTEMPTS,
            timeout_s=settings.REQUEST_TIMEOUT_S,
        ),
        authenticator=Authenticator(pepper=settings.KEY_PEPPER, page_tokens=PageTokens()),
        max_body_bytes=settings.MAX_BODY_BYTES,
    )
