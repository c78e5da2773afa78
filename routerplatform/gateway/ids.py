"""Request ids: UUIDs of version 7, so that they sort by time. Source: RFC 9562, section 5.7."""

import os
import time
from itertools import chain, repeat

RANDOM_BYTES = 10
_pool = chain.from_iterable(
    (block[start : start + RANDOM_BYTES] for start in range(0, len(block), RANDOM_BYTES))
    for block in (os.urandom(RANDOM_BYTES * 400) for _ in repeat(None))
)  # the system is asked once for 400 ids: each question lets go of the interpreter lock, and waits to get it back


def new_request_id() -> str:
    """48 bits of milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(next(_pool))
    value = value & ~(0xF << 76) | (0x7 << 76)  # version
    value = value & ~(0x3 << 62) | (0x2 << 62)  # variant
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
