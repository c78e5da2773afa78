"""POST /v1/messages/count_tokens: how many input tokens a request has, before it is sent.

An Anthropic upstream counts for free; where the request would go elsewhere, or nobody answers in time, it is estimated.
"""

import logging

import msgspec

from providers.domain.errors import ProviderError
from providers.domain.estimate import count_text
from providers.domain.types import ChatRequest, Wire
from providers.wires.anthropic import count_request, read_count
from routerplatform.doors.exchange import Exchange, read_body
from routerplatform.doors.formats.anthropic_messages import parse_for_count
from routerplatform.doors.vendor_headers import with_vendor_headers
from routerplatform.gateway.pipeline import current_config, decided
from routerplatform.gateway.prompt_templates import with_templates
from routerplatform.gateway.runtime import Runtime
from routing.domain.config import Scope
from routing.domain.decision import RoutePlan

COUNT_WITHIN_S = 5.0
SOURCE_HEADER = b"x-router-token-count"

logger = logging.getLogger(__name__)


async def count_tokens(runtime: Runtime, exchange: Exchange) -> None:
    """No budget, limit or record is touched: nothing is bought."""
    snapshot = current_config(runtime)
    caller = runtime.authenticator.caller(snapshot, exchange.credential(), now=runtime.now(), scope=Scope.CHAT)
    body = await read_body(exchange, limit=runtime.max_body_bytes)
    request = with_templates(snapshot, with_vendor_headers(parse_for_count(body), exchange))
    plan = decided(snapshot, caller, request)
    counted = await _counted(runtime, request, plan)
    source = b"estimate" if counted is None else b"provider"
    own = plan.defaults.system_prompt.removesuffix(request.system)  # the template's text is in the estimate
    tokens = request.input_tokens_estimate + count_text(own) if counted is None else counted
    answer = msgspec.json.encode({"input_tokens": tokens})
    await exchange.reply(200, answer, [(SOURCE_HEADER, source)])


async def _counted(runtime: Runtime, request: ChatRequest, plan: RoutePlan) -> int | None:
    """The vendor's own count; None when the first target has none, or does not say."""
    target = plan.targets[0]
    if target.wire_for(request) is not Wire.ANTHROPIC:
        return None
    call = count_request(request, target, plan.defaults)
    credential = target.credentials[0] if target.credentials else None
    try:
        async with runtime.transport.post(target.endpoint, credential, call, timeout_s=COUNT_WITHIN_S) as reply:
            return read_count(await reply.read()) if reply.status == 200 else None
    except ProviderError as error:
        logger.info("%s did not count tokens: %s", target.name, error)
        return None
