"""Token counts as vendors send them: missing, null, negative, fractional or absurd."""

Count = int | float | None

_MOST = 2**31 - 1  # what a record's column holds


def tokens(count: Count) -> int:
    """A count that can be billed and stored."""
    return int(min(max(count, 0), _MOST)) if count else 0
