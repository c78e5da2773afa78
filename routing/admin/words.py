"""A policy's rule as a person would say it, sentence by sentence: who is served by it, and its rules."""

from collections.abc import Sequence

from routing.domain.config import TaskType
from routing.domain.policy_words import rules_in_words
from routing.models import Persona, PolicyCandidate, RoutingPolicy
from routing.selectors import policy_document


def policy_in_words(
    policy: RoutingPolicy, candidates: Sequence[PolicyCandidate], personas: Sequence[Persona]
) -> list[str]:
    """When the policy serves, what it tries in which order, and what it skips. `candidates` in the order of trying."""
    said = rules_in_words(policy_document(policy, candidates))
    if not policy.is_active:
        return ["Switched off: it serves nothing.", said[0]]
    return [_served(policy, personas), *said]


def _served(policy: RoutingPolicy, personas: Sequence[Persona]) -> str:
    callers = ["every request for “auto” that names no persona"] if policy.is_default else []
    if personas:
        names = ", ".join(persona.slug for persona in personas)
        callers.append(f"the {'persona' if len(personas) == 1 else 'personas'} {names}")
    if not callers:
        return "Nothing uses it yet: no persona has it, and it is not the default."
    task = "" if policy.task_type == TaskType.ANY else f" It is made for {policy.get_task_type_display().lower()}."
    return f"Serves {' and '.join(callers)}.{task}"
