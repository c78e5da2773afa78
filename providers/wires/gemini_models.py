"""What differs between the generations of Gemini models, told by their names: no request may say what a model refuses.

Source: ai.google.dev/gemini-api/docs/thinking, /gemini-3, /file-input-methods and /function-calling (2026-11). That 3.7
and later have no “minimal”, and that Gemini 4 refuses budgets, rests on reports from the field (dev.to/aihubmix,
"Gemini 4 Neon migration", 2026-11).
"""

import re

from providers.domain.conversation import Reasoning
from providers.domain.types import Capability, Deployment

Generation = tuple[int, int]

GEMINI_2_5: Generation = (2, 5)
GEMINI_3: Generation = (3, 0)
NEWEST: Generation = (99, 0)

_VERSION = re.compile(r"gemini-(\d{1,2})(?:\.(\d{1,2}))?(?![\d.])")

# What Google's own OpenAI layer makes of an effort. Source: ai.google.dev/gemini-api/docs/openai, "Thinking" (2026-11).
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576}
_LEVELS = ("minimal", "low", "medium", "high")
_EFFORTS = {"none": "minimal", "xhigh": "high", "max": "high"} | {level: level for level in _LEVELS}
_MOST_FOR = ((0, "minimal"), (4096, "low"), (16384, "medium"))  # tokens of a budget, and the level that is most like it


def generation(model: str) -> Generation:
    """(3, 1) of “gemini-3.1-pro-preview”. A name without a version (“gemini-flash-latest”) is taken for the newest."""
    found = _VERSION.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else NEWEST


def thinking_config(deployment: Deployment, reasoning: Reasoning) -> dict[str, object] | None:
    """`thinkingConfig`: a budget up to Gemini 2.5, a level from Gemini 3 on; None where the model does not think.

    Both at once are refused, a budget is from Gemini 4 on. Nobody knows what a model without a version in its name
    takes, so there the catalogue decides.
    """
    model, version = deployment.upstream_model, generation(deployment.upstream_model)
    if version < GEMINI_2_5 or (version == NEWEST and Capability.REASONING not in deployment.capabilities):
        return None
    config: dict[str, object] = {}
    if version < GEMINI_3:
        budget = _budget(model, reasoning)
        if budget is not None:
            config["thinkingBudget"] = budget
    elif level := _level(model, version, reasoning):
        config["thinkingLevel"] = level
    is_off = reasoning.effort == "none" or reasoning.budget_tokens == 0
    if reasoning.show and not is_off:
        config["includeThoughts"] = True
    return config


def _budget(model: str, reasoning: Reasoning) -> int | None:
    """In tokens, within what the model takes; 0 turns thinking off, which 2.5 Pro cannot; -1 leaves it to the model."""
    asked = _BUDGETS.get(reasoning.effort) if reasoning.budget_tokens is None else reasoning.budget_tokens
    if asked is None:
        return None
    if asked < 0:
        return -1
    if "pro" in model:
        return min(max(asked, 128), 32768)
    if asked == 0:
        return 0
    return min(max(asked, 512 if "lite" in model else 1), 24576)


def _level(model: str, version: Generation, reasoning: Reasoning) -> str:
    """The level that was asked for, or the next higher one that the model has; empty leaves it to the model."""
    wanted = _EFFORTS.get(reasoning.effort, "")
    if not wanted and reasoning.budget_tokens is not None and reasoning.budget_tokens >= 0:
        wanted = next((level for most, level in _MOST_FOR if reasoning.budget_tokens <= most), "high")
    if not wanted:
        return ""
    known = _levels_of(model, version)
    return next(level for level in _LEVELS[_LEVELS.index(wanted) :] if level in known)


def _levels_of(model: str, version: Generation) -> tuple[str, ...]:
    """3 Pro has the outer two, Flash up to 3.6 all four, everything else three: thinking cannot be turned off."""
    if version == GEMINI_3 and "pro" in model:
        return ("low", "high")
    if version < (3, 7) and "flash" in model:
        return _LEVELS
    return ("low", "medium", "high")
