"""JSON that no client trips over: every character beyond ASCII is escaped.

Some clients cut a stream into lines at U+2028 or U+0085, some decode each piece of the bytes by itself; and half of a
surrogate pair, which a program may hold, has no UTF-8 at all (RFC 8259, section 8.2).
"""

import json
import re

import msgspec

_encode = msgspec.json.Encoder().encode
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


def encode(value: object) -> bytes:
    """`value` may be anything that msgspec writes. What is ASCII anyway costs one look at its bytes."""
    try:
        encoded = _encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode()
    return encoded if encoded.isascii() else _NOT_ASCII.sub(_escaped, encoded.decode()).encode()


def _escaped(run: re.Match[str]) -> str:
    return json.dumps(run[0])[1:-1]
