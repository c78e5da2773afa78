"""Short-lived tokens for the platform's own pages: a signed-in person calls as a team's playground key."""

from typing import Any

from django.core import signing

SALT = "playground"
LIFETIME_S = 3600


class PageTokens:
    """Issues and reads tokens signed with SECRET_KEY; nothing is stored. One of another salt is a forged one."""

    def __init__(self, *, salt: str = SALT, lifetime_s: int = LIFETIME_S) -> None:
        self._salt = salt
        self._lifetime_s = lifetime_s

    def issue(self, *, key_id: int, user_id: int) -> str:
        """A token that stands for virtual key `key_id` for a while; on pages for an hour."""
        return signing.dumps({"key_id": key_id, "user_id": user_id}, salt=self._salt)

    def looks_like_one(self, presented: str) -> bool:
        """Virtual keys never hold a colon; signed texts always do."""
        return ":" in presented

    def key_id(self, presented: str) -> int | None:
        """The key that a token stands for; None when it is forged or too old."""
        try:
            payload: dict[str, Any] = signing.loads(presented, salt=self._salt, max_age=self._lifetime_s)
        except signing.BadSignature:
            return None
        return int(payload["key_id"])
