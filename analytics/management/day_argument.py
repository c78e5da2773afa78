"""A day as people type it behind an option."""

from argparse import ArgumentTypeError
from datetime import date

from analytics.periods import YEARS


def day_argument(text: str) -> date:
    """For `add_argument(type=...)`.

    :raises ArgumentTypeError: it is no day, or one so far away that it can only be a slip.
    """
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"“{text}” is not a day: write it as YYYY-MM-DD") from None
    if day.year not in YEARS:
        raise ArgumentTypeError(f"{text} does not lie between {YEARS[0]} and {YEARS[-1]}")
    return day
