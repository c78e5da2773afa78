"""What a Claude model takes, told by its name: which way of thinking, which efforts, system messages in the middle.

Sources, read 2026-11: platform.claude.com/docs/en/build-with-claude/adaptive-thinking, /effort (adaptive since 4.6; a
budget is refused since 4.7, `xhigh` known since 4.7); .../mid-conversation-system-messages (since Opus 4.8);
anthropic 2.11 `ThinkingTypes`; the 400 "thinking.type.enabled is not supported for this model" of Opus 4.7 and later.
"""

import re
from dataclasses import dataclass
from typing import Literal

_VERSION = re.compile(r"claude\D*?(?<!\d)(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2}))?(?!\d)")
_ALWAYS_THINKING = ("claude-fable", "claude-mythos")
_FIRST_ADAPTIVE = (4, 6)
_FIRST_XHIGH = (4, 7)
_FIRST_SYSTEM_ANYWHERE = (4, 8)


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """`thinking`: "budget" takes a budget of tokens; "adaptive" decides by itself, guided by an effort; "always" does
    so too and cannot be told not to. `efforts` are those it knows, the least first."""

    thinking: Literal["budget", "adaptive", "always"]
    efforts: tuple[str, ...] = ()
    system_anywhere: bool = False


OLDER = ModelTraits("budget")


def traits_of(upstream_model: str) -> ModelTraits:
    """A name that is no Claude's belongs to a compatible server, which knows the oldest way."""
    name = upstream_model.lower()
    always = any(family in name for family in _ALWAYS_THINKING)
    found = _VERSION.search(name)
    if found is None and not always:
        return OLDER
    version = (int(found["major"]), int(found["minor"] or 0)) if found else (5, 0)
    if version < _FIRST_ADAPTIVE:
        return OLDER
    return ModelTraits(
        thinking="always" if always else "adaptive",
        efforts=("low", "medium", "high", *(("xhigh",) if version >= _FIRST_XHIGH else ()), "max"),
        system_anywhere=version >= _FIRST_SYSTEM_ANYWHERE,
    )
