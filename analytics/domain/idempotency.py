"""Client idempotency: a request that names an `Idempotency-Key` is answered once, and told again when it is repeated.

A key belongs to the virtual key that sent it. Its life, in one row:

    (nothing) -- claim --> running -- keep --> kept or too large, until 24 hours are over
                   ^          |
                   +----------+   released, or its lease has run out: the next claim starts anew
"""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from msgspec import Struct

KEPT_FOR: Final = timedelta(hours=24)
LEASE: Final = timedelta(seconds=30)  # how long a killed gateway's claim stands in the way
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024  # of a stream: some 30,000 tokens, which are packed to a twentieth
MAX_KEY_LENGTH: Final = 255


class AnswerState(StrEnum):
    RUNNING = "running"
    KEPT = "kept"
    TOO_LARGE = "too_large"


class StoreAwayError(Exception):
    """The store cannot be asked now. What was wanted may have been done all the same."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One run of a request. The digests are hex SHA-256; no other run ever has the same `request_id`."""

    key_digest: str
    body_digest: str
    request_id: str


class KeptAnswer(Struct, frozen=True):
    """An answer as it went out: status, header lines, and every byte of its body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """What an earlier claim of the same key has come to. `answer` is there when it is kept and can be read."""

    claim: Claim
    state: AnswerState
    answer: KeptAnswer | None = None


def is_key(value: str) -> bool:
    """Whether a caller may use this as a key: 1 to 255 printable ASCII characters."""
    return 0 < len(value) <= MAX_KEY_LENGTH and value.isascii() and value.isprintable()


def claim_of(value: str, *, key_id: int, method: str, path: str, body: bytes, request_id: str) -> Claim:
    """The claim of a request that came with the key `value` from virtual key `key_id`."""
    request = hashlib.sha256(f"{method} {path}\n".encode())
    request.update(body)
    return Claim(hashlib.sha256(f"{key_id}:{value}".encode()).hexdigest(), request.hexdigest(), request_id)
