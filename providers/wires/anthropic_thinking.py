"""How much a Claude model shall think, and when it must not: what a wish comes to in the fields of a request.

Sources, read 2026-11: anthropic 2.11 `ThinkingConfigEnabledParam` (a budget is at least 1,024 and below `max_tokens`);
platform.claude.com/docs/en/build-with-claude/extended-thinking, "Preserving thinking blocks" (with a budget, the turn
whose tool calls are being answered must begin with its thought; adaptive thinking does not insist) and "Extended
thinking with tool use" (no forced tool, no temperature beside it).
"""

from dataclasses import dataclass

import msgspec
from msgspec import Raw

from providers.domain.conversation import Reasoning
from providers.domain.types import Capability, Deployment
from providers.wires.anthropic_models import ModelTraits, traits_of
from providers.wires.request_fields import Body

LEAST_BUDGET = 1_024
MOST_BUDGET = 128_000
# An effort as a share of the longest answer. Source: OpenRouter, "Reasoning tokens", Anthropic models (2026-11).
_SHARES = {"minimal": 0.1, "low": 0.2, "medium": 0.5, "high": 0.8, "xhigh": 0.95, "max": 0.95}
_USUAL_EFFORT = "medium"
_EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max")
THOUGHT = ("thinking", "redacted_thinking")


@dataclass(frozen=True, slots=True)
class Thinking:
    """The request's `thinking` (None: not sent) and `output_config.effort`; `is_dropped` when the wish was in vain."""

    config: Body | None = None
    effort: str = ""
    is_dropped: bool = False

    @property
    def is_on(self) -> bool:
        return self.config is not None and self.config["type"] != "disabled"


def thinking_for(
    wanted: Reasoning | None, deployment: Deployment, *, limit: int, forces_tool: bool, turns: list[Body]
) -> Thinking:
    """What to send for `wanted`, where `limit` is the longest answer and `turns` what was said so far."""
    if wanted is None:
        return Thinking()
    if Capability.REASONING not in deployment.capabilities:
        return Thinking(is_dropped=wanted.effort != "none")
    traits = traits_of(deployment.upstream_model)
    if traits.thinking == "budget":
        impossible = forces_tool or lacks_thought(turns)
        return _with_budget(wanted, None if impossible else limit)
    if wanted.effort == "none":
        return Thinking({"type": "disabled"}) if traits.thinking == "adaptive" else Thinking(is_dropped=True)
    effort = _nearest(wanted.effort, traits) if wanted.effort else ""
    if forces_tool:  # the effort guides the answer without thinking too, but the highest need it
        return Thinking(effort=effort if effort in {"low", "medium", "high"} else "", is_dropped=True)
    return Thinking({"type": "adaptive", "display": "summarized" if wanted.show else "omitted"}, effort)


def _with_budget(wanted: Reasoning, limit: int | None) -> Thinking:
    """These models think only when told to, so nothing says “none”."""
    if wanted.effort == "none":
        return Thinking()
    if limit is None or limit <= LEAST_BUDGET:
        return Thinking(is_dropped=True)
    asked = wanted.budget_tokens
    if asked is None:
        asked = min(int(limit * _SHARES.get(wanted.effort, _SHARES[_USUAL_EFFORT])), MOST_BUDGET)
    return Thinking({"type": "enabled", "budget_tokens": max(LEAST_BUDGET, min(asked, limit - 1))})


def _nearest(effort: str, traits: ModelTraits) -> str:
    """The highest of the model's efforts that is not above the wanted one; the least of them otherwise."""
    if effort not in _EFFORTS:
        return ""
    reached = _EFFORTS[: _EFFORTS.index(effort) + 1]
    return next((known for known in reversed(traits.efforts) if known in reached), traits.efforts[0])


def fitted(thinking: Raw, limit: int) -> Body | None:
    """The caller's own `thinking` below a limit that was cut; an empty one when it cannot be, None when it fits.

    Everything that is no budget fits, whatever it is: the vendor judges it.
    """
    try:
        config = msgspec.json.decode(thinking, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError):
        return None
    budget = config.get("budget_tokens")
    if not isinstance(budget, int) or budget < limit:
        return None
    return {**config, "budget_tokens": limit - 1} if limit > LEAST_BUDGET else {}


def lacks_thought(turns: list[Body]) -> bool:
    """Whether the model's last turn, which the next answer goes on with, does not begin with a thought."""
    last = turns[-1] if turns else {}
    if last.get("role") == "user":
        if not any(block.get("type") == "tool_result" for block in _blocks(last)):
            return False
        last = next((turn for turn in reversed(turns) if turn.get("role") == "assistant"), {})
    if last.get("role") != "assistant":
        return False
    blocks = _blocks(last)
    return not blocks or blocks[0].get("type") not in THOUGHT


def without_last_thought(turns: list[Body]) -> None:
    """Take the thought out of an answer that is to be continued: "When thinking is disabled, an assistant message in
    the final position cannot contain thinking" (400, 2025-11)."""
    if turns and turns[-1]["role"] == "assistant":
        blocks = [block for block in _blocks(turns[-1]) if block.get("type") not in THOUGHT]
        if blocks:
            turns[-1]["content"] = blocks
        elif _blocks(turns[-1]):
            turns.pop()


def _blocks(turn: Body) -> list[Body]:
    content = turn.get("content")
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
