"""How long a provider key rests after the vendor has refused it, and which of several keys is taken. Pure.

Most vendors limit the rate by model, so after that the key rests for one deployment only; a key that is refused, or
whose account is out of quota, rests for all of them. Sources, 2026-11: developers.openai.com/api/reference, "List
project rate limits" (“per model for a project”); ai.google.dev/gemini-api/docs/rate-limits (“depending on the specific
model”); Groq's 429 names the model (github.com/Aider-AI/aider/issues/3265).
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from providers.domain.errors import FailureKind
from providers.domain.types import Credential, KeyStrategy

# kind -> (first, longest) rest in seconds where the vendor names none; each one in a row is twice the one before.
RESTS_S: dict[FailureKind, tuple[float, float]] = {
    FailureKind.RATE_LIMITED: (5.0, 60.0),
    FailureKind.AUTHENTICATION: (60.0, 600.0),
    FailureKind.QUOTA_EXHAUSTED: (60.0, 600.0),
}
OF_ONE_DEPLOYMENT = frozenset({FailureKind.RATE_LIMITED})
REMEMBERED_S = 600.0  # after a rest: how long the next one still counts as one in a row


class KeyRest(Struct, frozen=True, array_like=True):
    """A key's rest, `until` seconds since the epoch. `kind` is the FailureKind that began it, `times` counts rests in
    a row, `is_named`: the vendor itself said how long."""

    until: float
    kind: str
    times: int = 1
    is_named: bool = False

    def left_s(self, now: float) -> float:
        return max(0.0, self.until - now)


def rested(rest: KeyRest | None, *, kind: FailureKind, retry_after_s: float | None, now: float) -> KeyRest:
    """The rest after a refusal. Refusals that come while a key rests were under way before: they make it no longer,
    but for what the vendor names."""
    named = retry_after_s is not None
    if rest is not None and now < rest.until:
        until = max(rest.until, now + (retry_after_s or 0.0))
        return replace(rest, until=until, is_named=rest.is_named or (named and until > rest.until))
    times = rest.times + 1 if rest is not None else 1
    first, longest = RESTS_S[kind]
    length = retry_after_s if retry_after_s is not None else min(longest, first * 2.0 ** min(times - 1, 30))
    return KeyRest(now + length, kind.value, times, named)


def answered(rest: KeyRest | None, *, now: float) -> KeyRest | None:
    """After a good answer. One that comes while the key rests had been asked for before."""
    return rest if rest is not None and now < rest.until else None


def remembered(rest: KeyRest, *, now: float) -> KeyRest | None:
    return rest if now < rest.until + REMEMBERED_S else None


def chosen(
    awake: Sequence[Credential], strategy: KeyStrategy, *, turn: int, under_way: Mapping[int, int]
) -> Credential:
    """One of the keys: in turn, or the one with the fewest requests under way; among equals in turn."""
    first = turn % len(awake)
    in_turn = (*awake[first:], *awake[:first])
    if strategy == "round_robin":
        return in_turn[0]
    return min(in_turn, key=lambda key: under_way.get(key.id, 0))
