"""Which tuning knobs of chat completions each kind of provider takes, and how it hears how much to think.

A kind that is not in a table gets what nearly every server takes. Sources, 2026-11: openai 3.52
`CompletionCreateParams`; console.groq.com/docs/api-reference; docs.mistral.ai/api (`random_seed`; what it does not know
it refuses); docs.together.ai/reference/chat-completions-1; openrouter.ai/docs/api-reference/parameters;
api-docs.deepseek.com/api/create-chat-completion and /guides/thinking_mode; docs.x.ai/docs/guides/reasoning (its
reasoning models refuse penalties, most of them an effort); docs.fireworks.ai/guides/reasoning;
docs.ai21.com/reference/jamba-1-6-api-ref; docs.vllm.ai, "Extra parameters".
"""

from providers.domain.conversation import Conversation, Reasoning
from providers.domain.types import Capability, Deployment, PromptDefaults
from providers.wires.request_fields import Body, takes_sampling

PENALTIES = frozenset({"frequency_penalty", "presence_penalty"})
USUAL = PENALTIES | {"seed"}
KNOBS: dict[str, frozenset[str]] = {
    "openai": USUAL | {"verbosity"},
    "azure-openai": USUAL | {"verbosity"},
    "openrouter": USUAL | {"verbosity", "top_k"},
    "together": USUAL | {"top_k"},
    "fireworks": USUAL | {"top_k"},
    "vllm": USUAL | {"top_k"},
    "lm-studio": USUAL | {"top_k"},
    "deepseek": PENALTIES,
    "ai21": frozenset(),
}
NAMED_OTHERWISE = {("mistral", "seed"): "random_seed"}

EVERY_EFFORT = frozenset({"openai", "azure-openai", "openrouter"})
NO_EFFORT = frozenset({"mistral", "xai", "ai21", "tgi"})
NARROWED = {"minimal": "low", "xhigh": "high", "max": "high"}
BUDGETS = ((2_048, "low"), (8_192, "medium"))  # what is above is “high”


def add_sampling(
    body: Body, conversation: Conversation, deployment: Deployment, defaults: PromptDefaults, dropped: list[str]
) -> None:
    """Temperature and top_p, where the model takes them."""
    if not takes_sampling(deployment):
        asked = {"temperature": conversation.temperature, "top_p": conversation.top_p}
        dropped += [name for name, value in asked.items() if value is not None]
        return
    temperature = defaults.temperature if conversation.temperature is None else conversation.temperature
    if temperature is not None:
        body["temperature"] = temperature
    if conversation.top_p is not None:
        body["top_p"] = conversation.top_p


def add_knobs(body: Body, conversation: Conversation, deployment: Deployment, dropped: list[str]) -> None:
    """The knobs that this kind of provider takes; the others are named in `dropped`."""
    kind = deployment.endpoint.kind
    taken = KNOBS.get(kind, USUAL)
    thinks = kind == "xai" and Capability.REASONING in deployment.capabilities
    if thinks or not takes_sampling(deployment):
        taken -= PENALTIES
    asked = {
        "seed": conversation.seed,
        "frequency_penalty": conversation.frequency_penalty,
        "presence_penalty": conversation.presence_penalty,
        "top_k": conversation.top_k,
        "verbosity": conversation.verbosity or None,
    }
    for name, value in asked.items():
        if value is not None and name in taken:
            body[NAMED_OTHERWISE.get((kind, name), name)] = value
        elif value is not None:
            dropped.append(name)


def add_reasoning(body: Body, wanted: Reasoning | None, deployment: Deployment, dropped: list[str]) -> None:
    """How much to think. A model that does not think is left in peace: being told not to costs nothing there."""
    if wanted is None or not (wanted.effort or wanted.budget_tokens is not None or not wanted.show):
        return
    kind = deployment.endpoint.kind
    if Capability.REASONING not in deployment.capabilities:
        if _effort(wanted) not in {"", "none"}:
            dropped.append("reasoning_effort")
    elif kind == "openrouter":
        body["reasoning"] = _for_openrouter(wanted)
    elif _effort(wanted) and kind not in NO_EFFORT:
        _add_effort(body, _effort(wanted), kind, dropped)
    elif _effort(wanted):
        dropped.append("reasoning_effort")


def _add_effort(body: Body, effort: str, kind: str, dropped: list[str]) -> None:
    if kind == "deepseek":
        body["thinking"] = {"type": "disabled" if effort == "none" else "enabled"}
    if kind in EVERY_EFFORT:
        body["reasoning_effort"] = effort
    elif effort != "none":
        body["reasoning_effort"] = NARROWED.get(effort, effort)
    elif kind != "deepseek":
        dropped.append("reasoning_effort")


def _effort(wanted: Reasoning) -> str:
    """The word for a budget, where only that was given."""
    if wanted.effort or wanted.budget_tokens is None:
        return wanted.effort
    if wanted.budget_tokens <= 0:
        return "none"
    return next((effort for most, effort in BUDGETS if wanted.budget_tokens <= most), "high")


def _for_openrouter(wanted: Reasoning) -> Body:
    """One of effort and budget, not both; `exclude` hides what was thought."""
    said: Body = {}
    if wanted.effort:
        said["effort"] = wanted.effort
    elif wanted.budget_tokens is not None:
        said["max_tokens"] = wanted.budget_tokens
    if not wanted.show:
        said["exclude"] = True
    return said
