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
from providers.fleet.health import FleetHealth
from providers.transport import Transport
from routerplatform.gateway.admission import Admissions
from routerplatform.gateway.authentication import Authenticator
from routerplatform.gateway.breaker_levels import breaker_levels
from routerplatform.gateway.classifiers.build import PlugIns
from routerplatform.gateway.classifiers.own_requests import OwnRequests
from routerplatform.gateway.conversation_pins import ConversationPins
from routerplatform.gateway.conversations import Conversations
from routerplatform.gateway.deployment_standings import DeploymentStandings
from routerplatform.gateway.dispatch import Dispatcher
from routerplatform.gateway.idempotency import Idempotency
from routerplatform.gateway.metrics import Metrics
from routerplatform.gateway.metrics_port import MetricsPort
from routerplatform.gateway.page_tokens import PageTokens
from routerplatform.gateway.rate_limits import RateLimits
from routerplatform.gateway.request_log import RequestLog
from routerplatform.gateway.response_cache import ResponseCache
from routerplatform.gateway.runtime import Runtime, utc_now
from routerplatform.gateway.shadows import Path, Shadows
from routerplatform.gateway.shared_answers import SharedAnswers
from routerplatform.gateway.shared_counters import SharedCounters
from routerplatform.gateway.shared_pins import SharedPins
from routerplatform.gateway.situations import Situations
from routerplatform.gateway.sockets import OpenSockets
from routerplatform.gateway.task_classifier import TaskClassifiers
from routerplatform.gateway.traces import traces_to
from routing.config_store import ConfigStore
from routing.domain.config import Caller


def build_runtime(*, ledger_type: type[Ledger] = Ledger, transport: Transport | None = None) -> Runtime:
    """A runtime as the settings say, not yet started. `transport` is the way out, where it is not the usual one."""
    transport, health = transport or Transport(), fleet_health()
    ledger = ledger_type(
        journal_dir=settings.JOURNAL_DIR,
        durability=cast(Durability, settings.JOURNAL_DURABILITY),
        store=SqlUsageStore(),
        bank=SqlLeaseBank(),
    )
    config = ConfigStore(poll_s=settings.CONFIG_POLL_S)
    path = Path(
        ledger=ledger,
        rate_limits=RateLimits(
            SharedCounters(settings.REDIS_URL) if settings.REDIS_URL else None, processes=settings.GATEWAY_PROCESSES
        ),
        admissions=Admissions(ledger),
        dispatcher=Dispatcher(
            transport=transport,
            ledger=ledger,
            health=health,
            retries=RetryBudget(share=settings.RETRY_BUDGET),
            max_attempts=settings.MAX_ATTEMPTS,
            timeout_s=settings.REQUEST_TIMEOUT_S,
        ),
        metrics=Metrics(settings.METRICS_DIR, breaker_levels(config, health)),
        request_log=RequestLog(is_on=settings.LOG_REQUESTS),
    )
    runtime = Runtime(
        config=config,
        ledger=ledger,
        rate_limits=path.rate_limits,
        cache=ResponseCache(
            SharedAnswers(settings.REDIS_URL) if settings.REDIS_URL else None, ttl_s=settings.CACHE_TTL
        ),
        admissions=path.admissions,
        transport=transport,
        health=health,
        dispatcher=path.dispatcher,
        authenticator=Authenticator(pepper=settings.KEY_PEPPER, page_tokens=PageTokens()),
        idempotency=Idempotency(SqlAnswerStore()),
        conversations=Conversations(SqlResponseStore(), kept_for=timedelta(days=settings.RESPONSES_KEPT_DAYS)),
        sockets=OpenSockets(most=settings.WEBSOCKET_MAX_SOCKETS, most_per_key=settings.WEBSOCKET_MAX_SOCKETS_PER_KEY),
        situations=_situations(config, path, transport, health),
        shadows=Shadows(path, now=utc_now),
        metrics=path.metrics,
        metrics_port=MetricsPort(path.metrics, host=settings.METRICS_HOST, port=settings.METRICS_PORT),
        metrics_token=settings.METRICS_TOKEN,
        request_log=path.request_log,
        traces=traces_to(settings.TRACES_ENDPOINT),
        max_body_bytes=settings.MAX_BODY_BYTES,
        keep_alive_s=settings.STREAM_KEEP_ALIVE_S,
    )
    if settings.ROUTER_CLASSIFIER_KEY:
        runtime.situations.classifiers.plug_ins.ask = OwnRequests(runtime, settings.ROUTER_CLASSIFIER_KEY)
    return runtime


def _situations(config: ConfigStore, path: Path, transport: Transport, health: FleetHealth) -> Situations:
    """What gathers what decisions depend on."""
    plug_ins = PlugIns(
        transport,
        path.metrics.classifier_failed,
        setting=settings.ROUTER_CLASSIFIER,
        allowed_networks=tuple(settings.ROUTER_CLASSIFIER_NETWORKS),
    )

    async def budget_used(caller: Caller, persona: str) -> float:
        now = utc_now()
        await path.admissions.look_up_budgets(caller, persona, now)
        return path.admissions.budget_used(caller, persona, now)

    return Situations(
        budget_used=budget_used,
        artefacts=config.artefacts,
        classifiers=TaskClassifiers(config.artefacts, plug_ins),
        pins=ConversationPins(SharedPins(settings.REDIS_URL) if settings.REDIS_URL else None),
        standings=DeploymentStandings(health, path.rate_limits),
    )
