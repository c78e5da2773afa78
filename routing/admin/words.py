"""A policy's rule as a person would say it, sentence by sentence."""

from collections.abc import Sequence

from providers.admin.cells import capabilities_text, usd_text
from routing.domain.config import TaskType
from routing.models import CacheMode, CandidateGroup, Persona, PolicyCandidate, RoutingPolicy


def policy_in_words(
    policy: RoutingPolicy, candidates: Sequence[PolicyCandidate], personas: Sequence[Persona]
) -> list[str]:
    """When the policy serves, what it tries in which order, and what it skips. `candidates` in the order of trying."""
    if not policy.is_active:
        return ["Switched off: it serves nothing.", *_order(candidates)]
    return [_served(policy, personas), *_order(candidates), *_skipped(policy), *_kept(policy)]


def _served(policy: RoutingPolicy, personas: Sequence[Persona]) -> str:
    callers = ["every request for “auto” that names no persona"] if policy.is_default else []
    if personas:
        names = ", ".join(persona.slug for persona in personas)
        callers.append(f"the {'persona' if len(personas) == 1 else 'personas'} {names}")
    if not callers:
        return "Nothing uses it yet: no persona has it, and it is not the default."
    task = "" if policy.task_type == TaskType.ANY else f" It is made for {policy.get_task_type_display().lower()}."
    return f"Serves {' and '.join(callers)}.{task}"


def _order(candidates: Sequence[PolicyCandidate]) -> list[str]:
    preferred = [row.alias.name for row in candidates if row.group == CandidateGroup.PREFERRED]
    fallbacks = [row.alias.name for row in candidates if row.group == CandidateGroup.FALLBACK]
    if not preferred and not fallbacks:
        return ["It has no models, so it can serve nothing: add one below."]
    tried = f"Tries {', then '.join(preferred or fallbacks)}."
    return [f"{tried} When these fail: {', then '.join(fallbacks)}."] if preferred and fallbacks else [tried]


def _kept(policy: RoutingPolicy) -> list[str]:
    """Only what is not usual."""
    for_so_long = f" for {policy.cache_ttl_s:,} s" if policy.cache_ttl_s else ""
    match policy.cache_mode:
        case CacheMode.ALWAYS:
            return [f"Keeps every answer{for_so_long} and gives it again to equal requests of the team."]
        case CacheMode.NEVER:
            return ["Keeps no answer, whatever a request asks for."]
    return [f"Keeps answers at temperature 0{for_so_long}."] if for_so_long else []


def _skipped(policy: RoutingPolicy) -> list[str]:
    limits = []
    if policy.max_cost_per_request is not None:
        limits.append(f"would cost more than {usd_text(policy.max_cost_per_request)} or has no known price")
    if policy.max_latency_ms is not None:
        limits.append(f"is expected to take longer than {policy.max_latency_ms:,} ms")
    if policy.required_capabilities:
        limits.append(f"lacks {capabilities_text(policy.required_capabilities)}")
    return [f"Skips a model that {', or '.join(limits)}."] if limits else []
