"""Responses that a later request may continue by naming them (`previous_response_id`).

A response belongs to the team whose key asked for it. What it takes to continue it is in one of two places: at the
vendor that answered, and then only that deployment can go on; or here, and then any model can.
"""

from dataclasses import dataclass
from typing import Final

from msgspec import Struct

MAX_ITEMS_BYTES: Final = 16 * 1024 * 1024  # of a conversation's JSON; a longer one cannot be continued by name
MAX_ID_LENGTH: Final = 200


class KeptConversation(Struct, frozen=True):
    """What is kept here. `response` is the JSON object as it was answered; `items` the JSON array of everything said
    up to and with it: what came in, and what was answered, as items of OpenAI's Responses API."""

    response: bytes
    items: bytes


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """One response of a team. Either `deployment` (“provider/model”) keeps it, or `conversation` is here."""

    team_id: int
    response_id: str
    deployment: str = ""
    conversation: KeptConversation | None = None


def may_be_an_id(value: str) -> bool:
    """Whether a response can have been kept under this id; what vendors call theirs is their business."""
    return 0 < len(value) <= MAX_ID_LENGTH and "\x00" not in value
