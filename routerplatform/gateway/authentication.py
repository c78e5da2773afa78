"""Who is calling: a virtual key, or the short-lived token that a signed-in person's page holds."""

from datetime import datetime

from routerplatform.gateway.errors import Forbidden, Unauthenticated
from routerplatform.gateway.page_tokens import PageTokens
from routing.domain.config import Caller, ConfigSnapshot, Scope
from routing.domain.keys import key_digest


class Authenticator:
    """Turns what a caller presents into a `Caller`; `pepper` is the HMAC key of stored digests."""

    def __init__(self, *, pepper: str, page_tokens: PageTokens) -> None:
        self._pepper = pepper.encode()
        self._page_tokens = page_tokens

    def caller(self, snapshot: ConfigSnapshot, presented: str, *, now: datetime, scope: Scope) -> Caller:
        """The caller behind a key or page token.

        :raises Unauthenticated: unknown, revoked or expired, or the team is not active: one answer for all of these.
        :raises Forbidden: the key is good but lacks the scope.
        """
        if self._page_tokens.looks_like_one(presented):
            key_id = self._page_tokens.key_id(presented)
            caller = snapshot.callers_by_key_id.get(key_id) if key_id else None
        else:
            caller = snapshot.callers_by_digest.get(key_digest(self._pepper, presented)) if presented else None
        if caller is None or not in_force(caller, now):
            raise Unauthenticated
        if scope not in caller.scopes:
            raise Forbidden(f"This key lacks the scope “{scope}”. Ask your team lead for a key that has it.")
        return caller


def in_force(caller: Caller, now: datetime) -> bool:
    """Whether the key may be used now: neither it nor its team has been switched off."""
    expired = caller.expires_at is not None and caller.expires_at <= now
    return caller.team_active and caller.revoked_at is None and not expired
