"""Whether a deployment can serve a request at all, and if not, why: in words that a person reads beside the route."""

from typing import Literal

from msgspec import Struct

from providers.domain.answer import Usage
from providers.domain.pricing import bound_nano, cost_nano
from providers.domain.types import Capability, ChatRequest, Deployment, Operation
from routing.domain.config import Policy
from routing.domain.situation import NO_SITUATION, Situation

DEFAULT_OUTPUT_TOKENS = 1024  # the answer length that an estimate assumes when nobody has set a limit


class Demand(Struct, frozen=True):
    """What is asked of every candidate: by the request, the persona and the policy together."""

    needs: frozenset[Capability]
    operation: Operation
    input_tokens: int
    output_tokens: int  # of each choice
    choices: int = 1
    expected_output_tokens: int | None = None  # what answers of this kind usually have; None: nobody knows
    cached_input: int = 0  # tokens of the prompt that the conversation's own model has in its cache
    regions: frozenset[str] = frozenset()
    max_cost_nano: int | None = None
    max_latency_ms: int | None = None
    ceiling_of: Literal["policy", "request"] = "policy"  # whose `max_cost_nano` it is: the lower one holds
    only_at: str = ""  # the one deployment that keeps what the request refers to


def demand_of(
    request: ChatRequest,
    *,
    required: frozenset[Capability],
    policy: Policy | None,
    max_tokens: int | None,
    situation: Situation = NO_SITUATION,
) -> Demand:
    """Add up what the request needs, what its persona and policy require, and the ceilings."""
    max_cost_nano, is_own = policy.max_cost_nano if policy else None, False
    if request.max_cost_nano is not None and (max_cost_nano is None or request.max_cost_nano < max_cost_nano):
        max_cost_nano, is_own = request.max_cost_nano, True
    return Demand(
        needs=request.needs | required | (policy.required if policy else frozenset()),
        operation=request.operation,
        input_tokens=request.input_tokens_estimate,
        output_tokens=(max_tokens or DEFAULT_OUTPUT_TOKENS) if request.operation is Operation.CHAT else 0,
        choices=request.choices,
        expected_output_tokens=situation.usual_output,
        cached_input=situation.cached_input,
        regions=policy.regions if policy else frozenset(),
        max_cost_nano=max_cost_nano,
        max_latency_ms=policy.max_latency_ms if policy else None,
        ceiling_of="request" if is_own else "policy",
        only_at=request.only_at,
    )


def estimated_cost_nano(deployment: Deployment, demand: Demand, *, cached_input: int = 0) -> int | None:
    """What the request will probably cost here, nano-USD; None when the price is unknown. `cached_input` tokens of the
    prompt are read from the vendor's cache."""
    output = _longest(deployment, demand)
    if demand.expected_output_tokens is not None:
        output = min(output, demand.expected_output_tokens)
    if cached_input and deployment.price is not None and Capability.PROMPT_CACHING in deployment.capabilities:
        read = min(cached_input, demand.input_tokens)
        usage = Usage(demand.input_tokens - read, cache_read_input_tokens=read, output_tokens=output * demand.choices)
        return cost_nano(usage, deployment.price)
    return _cost_of(deployment, demand, output)


def _longest(deployment: Deployment, demand: Demand) -> int:
    """Tokens of the longest answer that is allowed, for each choice."""
    return min(demand.output_tokens, deployment.max_output_tokens or demand.output_tokens)


def _cost_of(deployment: Deployment, demand: Demand, output_tokens: int) -> int | None:
    if deployment.price is None:
        return None
    return bound_nano(demand.input_tokens, output_tokens * demand.choices, deployment.price)


def reason_to_skip(deployment: Deployment, demand: Demand, *, latency_ms: float | None = None) -> str:
    """Why this deployment cannot serve the demand; empty when it can. `latency_ms` is what it takes at present, None
    when nobody knows."""
    if demand.only_at and deployment.name != demand.only_at:
        return f"the response that is continued here is kept at {demand.only_at}"
    if demand.operation is Operation.CHAT and Capability.EMBEDDINGS in deployment.capabilities:
        return "it makes embeddings and does not chat"
    if demand.regions and deployment.endpoint.region not in demand.regions:
        region = deployment.endpoint.region or "an unknown region"
        return f"it is served in {region}; the policy allows {', '.join(sorted(demand.regions))}"
    missing = demand.needs - deployment.capabilities
    if missing:
        return f"cannot do {', '.join(sorted(missing))}"
    if deployment.context_window and demand.input_tokens > deployment.context_window:
        return f"prompt of about {demand.input_tokens:,} tokens is over its context of {deployment.context_window:,}"
    return _over_a_ceiling(deployment, demand, latency_ms)


def _over_a_ceiling(deployment: Deployment, demand: Demand, latency_ms: float | None) -> str:
    """A ceiling is kept by the longest answer that is allowed, not by the usual one."""
    if demand.max_cost_nano is not None:
        most_nano = _cost_of(deployment, demand, _longest(deployment, demand))
        if most_nano is None:
            return f"its price is unknown and the {demand.ceiling_of} sets a cost ceiling"
        if most_nano > demand.max_cost_nano:
            ceiling = f"the {demand.ceiling_of}'s ceiling of ${demand.max_cost_nano / 1e9:.6f}"
            return f"estimated ${most_nano / 1e9:.6f} is over {ceiling}"
    if demand.max_latency_ms is None:
        return ""
    if latency_ms is not None and latency_ms > demand.max_latency_ms:
        return f"{latency_ms:.0f} ms at present are over the policy's ceiling of {demand.max_latency_ms} ms"
    if latency_ms is None and (deployment.expected_latency_ms or 0) > demand.max_latency_ms:
        return (
            f"expected {deployment.expected_latency_ms} ms is over the policy's ceiling of {demand.max_latency_ms} ms"
        )
    return ""
