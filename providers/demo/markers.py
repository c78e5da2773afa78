"""Markers: `[[name]]` or `[[name=value]]` in the last user message, to provoke anything on demand.

They live in the prompt text only, so they work through a gateway that translates wires.

    faults      [[status=503]]  answer with this error status (400-599) and the vendor's error body
                [[code=insufficient_quota]] [[retry_after=2]] [[html]]  with status: error code, header, a proxy's page
                [[cut=5]]       drop the connection after 5 tokens (0: before the first byte)
                [[hang=5]]      send nothing more after 5 tokens (0: never answer)
                [[garbage=5]]   one event of broken JSON after 5 tokens
                [[error_in_stream=5]]  an error event after 5 tokens (without stream: a 5xx)
                [[no_usage]] [[no_finish]] [[no_done]]  leave out the usage, the whole ending, only the last event
    time        [[delay=1.5]]   seconds before the first byte
                [[pace=20]]     milliseconds between tokens
    whom        [[on=demo-swift,demo-deep]]  faults and time above hold for these models only
                [[times=2]]     ... and only for the first 2 requests that carry this very message
    content     [[echo]]        answer with the last user message, markers left out
                [[say=text]]    answer with this text
                [[tokens=300]]  exactly so many output tokens (max_tokens and stop still win)
                [[tool=name]]   call this tool; may stand several times for parallel calls
                [[finish=content_filter]]  end with this finish reason
    usage       [[cached=100]] [[cache_write=50]]  so many of the input tokens were read from, written to a cache
                [[reasoning=40]]  so many output tokens on top were hidden reasoning

An unknown or bad marker is refused with a 400 that names it. A marker never follows a letter or digit, so that
`frame[[column]]` in code is none.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import convert

_MARKER = re.compile(r"(?<!\w)\[\[([a-z][a-z_]*)(?:=(.*?))?\]\](?!\])", re.DOTALL)
_LEADING = re.compile(rf"\A\s*(?:{_MARKER.pattern}\s*)+", re.DOTALL)

FINISHES = ("stop", "length", "tool_calls", "content_filter")
MAX_TOKENS = 200_000


class MarkerError(ValueError):
    """A marker that means nothing; the text is for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class Markers:
    """What the markers of one message ask for; None or an empty value where there is none."""

    status: int | None = None
    code: str | None = None
    retry_after_s: float | None = None
    html: bool = False
    cut: int | None = None
    hang: int | None = None
    garbage: int | None = None
    error_in_stream: int | None = None
    no_usage: bool = False
    no_finish: bool = False
    no_done: bool = False
    delay_s: float | None = None
    pace_ms: float | None = None
    on: tuple[str, ...] = ()
    times: int | None = None
    echo: bool = False
    say: str | None = None
    tokens: int | None = None
    tools: tuple[str, ...] = ()
    finish: str | None = None
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0

    def without_faults(self) -> "Markers":
        """Only content and usage: what a model sees that `on` or `times` leaves out."""
        return Markers(
            echo=self.echo,
            say=self.say,
            tokens=self.tokens,
            tools=self.tools,
            finish=self.finish,
            cached=self.cached,
            cache_write=self.cache_write,
            reasoning=self.reasoning,
        )


Value = bool | int | float | str | tuple[str, ...]
_Reader = Callable[[str | None], Value]


def _flag(value: str | None) -> bool:
    if value is not None:
        raise ValueError("takes no value")
    return True


def _whole(low: int, high: int) -> _Reader:
    def read(value: str | None) -> int:
        if value is None or not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            raise ValueError(f"takes a whole number from {low} to {high}")
        return int(value)

    return read


def _decimal(high: float, unit: str) -> _Reader:
    def read(value: str | None) -> float:
        if value is None or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value) or float(value) > high:
            raise ValueError(f"takes {unit} from 0 to {high:g}")
        return float(value)

    return read


def _name(value: str | None) -> str:
    if value is None or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value):
        raise ValueError("takes a name of letters, digits, '_', '.' or '-'")
    return value


def _names(value: str | None) -> tuple[str, ...]:
    return tuple(_name(part.strip()) for part in (value or "").split(","))


def _text(value: str | None) -> str:
    if value is None:
        raise ValueError("takes a text")
    return value


def _finish(value: str | None) -> str:
    if value not in FINISHES:
        raise ValueError(f"takes one of {', '.join(FINISHES)}")
    return value


_count = _whole(0, MAX_TOKENS)

# marker -> (field of Markers, how its value is read)
_READERS: dict[str, tuple[str, _Reader]] = {
    "status": ("status", _whole(400, 599)),
    "code": ("code", _name),
    "retry_after": ("retry_after_s", _decimal(86_400, "seconds")),
    "html": ("html", _flag),
    "cut": ("cut", _count),
    "hang": ("hang", _count),
    "garbage": ("garbage", _count),
    "error_in_stream": ("error_in_stream", _count),
    "no_usage": ("no_usage", _flag),
    "no_finish": ("no_finish", _flag),
    "no_done": ("no_done", _flag),
    "delay": ("delay_s", _decimal(600, "seconds")),
    "pace": ("pace_ms", _decimal(10_000, "milliseconds")),
    "on": ("on", _names),
    "times": ("times", _whole(0, 1_000)),
    "echo": ("echo", _flag),
    "say": ("say", _text),
    "tokens": ("tokens", _count),
    "tool": ("tools", _name),
    "finish": ("finish", _finish),
    "cached": ("cached", _count),
    "cache_write": ("cache_write", _count),
    "reasoning": ("reasoning", _count),
}
MARKER_NAMES = tuple(_READERS)


def read_markers(text: str) -> Markers:
    """The markers in `text`.

    Raises MarkerError for an unknown name, a bad value, a marker that stands twice (only `tool` may), and for `code`,
    `retry_after` or `html` without `status`.
    """
    found: dict[str, Value] = {}
    tools: list[str] = []
    for match in _MARKER.finditer(text):
        name, value = match.groups()
        shown = match.group()[2:-2]
        if name not in _READERS:
            raise MarkerError(f"Unknown demo marker [[{shown[:60]}]]. Known are: {', '.join(_READERS)}.")
        field, read = _READERS[name]
        try:
            one = read(value)
        except ValueError as error:
            raise MarkerError(f"Bad demo marker [[{shown[:60]}]]: {name} {error}.") from None
        if field == "tools":
            tools.append(str(one))
        elif field in found:
            raise MarkerError(f"Bad demo marker [[{shown[:60]}]]: {name} stands twice.")
        else:
            found[field] = one
    for name in ("code", "retry_after", "html"):
        if _READERS[name][0] in found and "status" not in found:
            raise MarkerError(f"Bad demo marker [[{name}]]: it needs a [[status=...]] beside it.")
    return convert({**found, "tools": tuple(tools)}, Markers)


def without_markers(text: str) -> str:
    """`text` as it was meant for the model: each marker is gone, with the space before it."""
    text = _LEADING.sub("", text)
    kept, at = [], 0
    for match in _MARKER.finditer(text):
        kept.append(text[at : match.start()].rstrip())
        at = match.end()
    return "".join([*kept, text[at:]])
