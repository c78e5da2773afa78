"""What a caller says beside the body that routing may look at."""

from collections.abc import Iterable
from typing import Final

SECRET: Final = frozenset({b"x-api-key", b"x-goog-api-key", b"x-forwarded-for"})
LONGEST_HINT: Final = 200


def hints_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The `x-…` headers by their lower-case names, cut to 200 characters; no credentials."""
    return {
        name.decode("latin-1"): value[:LONGEST_HINT].decode("latin-1")
        for name, value in headers
        if name.startswith(b"x-") and name not in SECRET
    }
