"""Whether an answer that was to be JSON is JSON: noted on the records of experiments, whose arms are compared by it."""

from typing import Final

import msgspec

from analytics.domain.usage import UsageEntry
from providers.domain.types import Capability
from routerplatform.gateway.tally import Tally

AS_JSON: Final = frozenset({Capability.JSON_MODE, Capability.JSON_SCHEMA})
_parse: Final = msgspec.json.decode


def with_validity(entry: UsageEntry, tally: Tally) -> UsageEntry:
    """The record with `decision.json` “valid” or “invalid”; as it is where JSON was not asked for, of several choices,
    of calls of tools, and outside of experiments."""
    if not entry.arm or not AS_JSON & tally.request.needs or tally.request.choices > 1:
        return entry
    if entry.error_code or entry.cache == "hit" or tally.has_called_tools or not tally.answer_text:
        return entry
    verdict = "valid" if _is_json(tally.answer_text) else "invalid"
    return msgspec.structs.replace(entry, decision={**entry.decision, "json": verdict})


def _is_json(text: str) -> bool:
    try:
        _parse(text)
    except msgspec.DecodeError:
        return False
    return True
