"""Wire a `Runtime` together from the settings; the only place that knows both."""

from datetime import timedelta
from typing import cast

from django.conf import settings

from analytics.answer_store import SqlAnswerStore
from analytics.ledger.leasing import SqlLeaseBank
from analytics.ledger.ledger import Durability, Ledger
from analytics.ledger.shipping import SqlUsageStore
from analytics.response_store import SqlResponseStore
from providers.domain.retry_budget import RetryBudget
from providers.fleet.build import fleet_health
from providers.transport import Transport
from routerplatform.gateway.admission import Admissions
from routerplatform.gateway.authentication import Authenticator
from routerplatform.gateway.breaker_levels import breaker_levels
from routerplatform.gateway.conversations import Conversations
from routerplatform.gateway.dispatch import Dispatcher
from routerplatform.gateway.idempotency import Idempotency
from routerplatform.gateway.metrics import Metrics
from routerplatform.gateway.metrics_port import MetricsPort
from routerplatform.gateway.page_tokens import PageTokens
from routerplatform.gateway.rate_limits import RateLimits
from routerplatform.gateway.request_log import RequestLog
from routerplatform.gateway.response_cache import ResponseCache
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.shared_answers import SharedAnswers
from routerplatform.gateway.shared_counters import SharedCounters
from routerplatform.gateway.situations import Situations
from routerplatform.gateway.sockets import OpenSockets
from routerplatform.gateway.traces import traces_to
from routing.config_store import ConfigStore


def build_runtime(*, ledger_type: type[Ledger] = Ledger) -> Runtime:
    """A runtime as the settings say, not yet started."""
    transport, health = Transport(), fleet_health()
    ledger = ledger_type(
        journal_dir=settings.JOURNAL_DIR,
        durability=cast(Durability, settings.JOURNAL_DURABILITY),
        store=SqlUsageStore(),
        bank=SqlLeaseBank(),
    )
    config = ConfigStore(poll_s=settings.CONFIG_POLL_S)
    metrics = Metrics(settings.METRICS_DIR, breaker_levels(config, health))
    return Runtime(
        config=config,
        ledger=ledger,
        rate_limits=RateLimits(
            SharedCounters(settings.REDIS_URL) if settings.REDIS_URL else None, processes=settings.GATEWAY_PROCESSES
        ),
        cache=ResponseCache(
            SharedAnswers(settings.REDIS_URL) if settings.REDIS_URL else None, ttl_s=settings.CACHE_TTL
        ),
        admissions=Admissions(ledger),
        transport=transport,
        health=health,
        dispatcher=Dispatcher(
            transport=transport,
            ledger=ledger,
            health=health,
            retries=RetryBudget(share=settings.RETRY_BUDGET),
            max_attempts=settings.MAX_ATTEMPTS,
            timeout_s=settings.REQUEST_TIMEOUT_S,
        ),
        authenticator=Authenticator(pepper=settings.KEY_PEPPER, page_tokens=PageTokens()),
        idempotency=Idempotency(SqlAnswerStore()),
        conversations=Conversations(SqlResponseStore(), kept_for=timedelta(days=settings.RESPONSES_KEPT_DAYS)),
        sockets=OpenSockets(most=settings.WEBSOCKET_MAX_SOCKETS, most_per_key=settings.WEBSOCKET_MAX_SOCKETS_PER_KEY),
        situations=Situations(),
        metrics=metrics,
        metrics_port=MetricsPort(metrics, host=settings.METRICS_HOST, port=settings.METRICS_PORT),
        metrics_token=settings.METRICS_TOKEN,
        request_log=RequestLog(is_on=settings.LOG_REQUESTS),
        traces=traces_to(settings.TRACES_ENDPOINT),
        max_body_bytes=settings.MAX_BODY_BYTES,
        keep_alive_s=settings.STREAM_KEEP_ALIVE_S,
    )
