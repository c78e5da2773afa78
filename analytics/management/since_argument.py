"""How far back a command looks: 7d, 12h."""

import re
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Final

_SINCE: Final = re.compile(r"([1-9]\d{0,3})([dh])")


def since_argument(text: str) -> timedelta:
    """:raises ArgumentTypeError: no number of days or hours."""
    match = _SINCE.fullmatch(text)
    if match is None:
        raise ArgumentTypeError(f"“{text}” is no time: say 7d for seven days, or 12h for twelve hours")
    number = int(match[1])
    return timedelta(days=number) if match[2] == "d" else timedelta(hours=number)
