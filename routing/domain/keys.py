"""Virtual keys (`rp_<prefix>_<secret>`) and access tokens (`rt_…`) as text, and the digest that stands for one in the
database and in memory."""

import hmac
import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

PREFIX_LENGTH = 8
MIN_SECRET_LENGTH = 32


class KeyKind(StrEnum):
    """What a text begins with says what it is for: an application's calls, or a person's programs."""

    APPLICATION = "rp"
    PERSON = "rt"


_KEYS = {
    kind: re.compile(rf"{kind}_([a-z2-7]{{{PREFIX_LENGTH}}})_([A-Za-z0-9_-]{{{MIN_SECRET_LENGTH},200}})")
    for kind in KeyKind
}


@dataclass(frozen=True, slots=True)
class KeyParts:
    """A key taken apart; only `prefix` is safe to show."""

    prefix: str
    secret: str = field(repr=False)


def key_text(parts: KeyParts, kind: KeyKind = KeyKind.APPLICATION) -> str:
    """The whole key, as a caller presents it."""
    return f"{kind}_{parts.prefix}_{parts.secret}"


def key_parts(key: str, kind: KeyKind = KeyKind.APPLICATION) -> KeyParts | None:
    """Take a key apart; None when it does not have the form of a key of this kind."""
    match = _KEYS[kind].fullmatch(key)
    return KeyParts(prefix=match[1], secret=match[2]) if match else None


def key_digest(pepper: bytes, key: str) -> str:
    """HMAC-SHA256 of the whole key, 64 hex digits. Takes any text, so that a bad key is refused by a plain lookup."""
    digest = _keyed(pepper).copy()  # `hmac.digest` lets go of the interpreter lock, and waits to get it back
    digest.update(key.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


@lru_cache(maxsize=4)
def _keyed(pepper: bytes) -> hmac.HMAC:
    return hmac.new(pepper, digestmod="sha256")
