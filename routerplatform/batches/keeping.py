"""What a batch keeps of its caller, encrypted: chats as they came, answers as they were given."""

import zlib
from typing import Any, Final, TypeVar

import msgspec
from django.core.exceptions import ImproperlyConfigured
from msgspec import Raw, Struct

from providers.fields import seal_bytes, unseal_bytes
from providers.wires.half_pairs import mended
from routerplatform.doors.formats.ascii_json import encode

FAST: Final = 1  # of zlib: conversations repeat themselves, so they shrink well in little time
T = TypeVar("T")


class Shared(Struct):
    """What all chats of a batch have in common, and what its caller said beside the body."""

    fields: dict[str, Raw]
    hints: dict[str, str]
    cache_wish: str
    traceparent: str


def sealed(value: Any) -> str:
    return seal_bytes(zlib.compress(encode(value), FAST))


def opened(text: str, into: type[T]) -> T:
    """:raises ImproperlyConfigured: no field key of this installation fits, or it is damaged."""
    try:
        return msgspec.json.decode(mended(zlib.decompress(unseal_bytes(text))), type=into)
    except (zlib.error, msgspec.DecodeError) as error:
        raise ImproperlyConfigured(f"What a batch keeps is damaged: {error}.") from error
