"""Virtual keys as text: `rp_<prefix>_<secret>`, and the digest that stands for a key in the database and in memory."""

import hmac
import re
from dataclasses import dataclass, field
from functools import lru_cache

PREFIX_LENGTH = 8
MIN_SECRET_LENGTH = 32
_KEY = re.compile(rf"rp_([a-z2-7]{{{PREFIX_LENGTH}}})_([A-Za-z0-9_-]{{{MIN_SECRET_LENGTH},200}})")


@dataclass(frozen=True, slots=True)
class KeyParts:
    """A key taken apart; only `prefix` is safe to show."""

    prefix: str
    secret: str = field(repr=False)


def key_text(parts: KeyParts) -> str:
    """The whole key, as a caller presents it."""
    return f"rp_{parts.prefix}_{parts.secret}"


def key_parts(key: str) -> KeyParts | None:
    """Take a key apart; None when it does not have the form of a key."""
    match = _KEY.fullmatch(key)
    return KeyParts(prefix=match[1], secret=match[2]) if match else None


def key_digest(pepper: bytes, key: str) -> str:
    """HMAC-SHA256 of the whole key, 64 hex digits. Takes any text, so that a bad key is refused by a plain lookup."""
    digest = _keyed(pepper).copy()  # `hmac.digest` lets go of the interpreter lock, and waits to get it back
    digest.update(key.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


@lru_cache(maxsize=4)
def _keyed(pepper: bytes) -> hmac.HMAC:
    return hmac.new(pepper, digestmod="sha256")
