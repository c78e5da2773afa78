"""Markers: `[[name]]` or `[[name=value]]` in the last user message, to provoke anything on demand.

They live in the prompt text only, so they work through a gateway that translates wires. What each does is in
docs/demo-provider.md. An unknown or bad marker is refused with a 400 that names it. A marker never follows a letter
or digit, so that `frame[[column]]` in code is none.
"""

import re
from typing import Annotated, Any

from msgspec import Meta, Struct, ValidationError, convert, field

from providers.demo.exchange import Finish, Refusal, bad_field

_MARKER = re.compile(r"(?<!\w)\[\[([a-z][a-z_]*)(?:=(.*?))?\]\](?!\])", re.DOTALL)
_LEADING = re.compile(rf"\A\s*(?:{_MARKER.pattern}\s*)+", re.DOTALL)

Count = Annotated[int, Meta(ge=0, le=200_000)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]


class Content(Struct, frozen=True, kw_only=True):
    """The markers that say what an answer holds and what it counts."""

    echo: bool = False
    say: str | None = None
    tokens: Count | None = None
    tools: tuple[Name, ...] = field(name="tool", default=())
    finish: Finish | None = None
    cached: Count = 0
    cache_write: Count = 0
    reasoning: Count = 0
    thought: str | None = None
    refusal: str | None = None


class Markers(Content, frozen=True, kw_only=True):
    """All markers of one message, None or an empty value where there is none; below are the faults and the times."""

    status: Annotated[int, Meta(ge=400, le=599)] | None = None
    code: Name | None = None
    retry_after_s: Annotated[float, Meta(ge=0, le=86_400)] | None = field(name="retry_after", default=None)
    html: bool = False
    cut: Count | None = None
    hang: Count | None = None
    garbage: Count | None = None
    error_in_stream: Count | None = None
    blocked: bool = False
    no_usage: bool = False
    no_finish: bool = False
    no_done: bool = False
    delay_s: Annotated[float, Meta(ge=0, le=600)] | None = field(name="delay", default=None)
    pace_ms: Annotated[float, Meta(ge=0, le=10_000)] | None = field(name="pace", default=None)
    on: tuple[Name, ...] = ()
    times: Annotated[int, Meta(ge=0, le=1_000)] | None = None

    def without_faults(self) -> "Markers":
        """Only the content: what a model sees that `on` or `times` leaves out."""
        return Markers(**{name: getattr(self, name) for name in Content.__struct_fields__})


MARKER_NAMES = Markers.__struct_encode_fields__


def read_markers(text: str) -> Markers:
    """The markers in `text`.

    Raises Refusal for an unknown name, a bad value, a marker that stands twice (only `tool` may), and for `code`,
    `retry_after` or `html` without `status`.
    """
    found: dict[str, Any] = {}
    for match in _MARKER.finditer(text):
        name, value = match.groups()
        if name not in MARKER_NAMES:
            raise _bad(match.group(), f"there is none of this name. Known are: {', '.join(MARKER_NAMES)}")
        if name == "tool":
            found.setdefault(name, []).append(value)
        elif name in found:
            raise _bad(match.group(), f"{name} stands twice")
        elif name == "on":
            found[name] = [part.strip() for part in (value or "").split(",")]
        else:
            found[name] = True if value is None else value  # without a value it is a flag
    try:
        markers = convert(found, Markers, strict=False)
    except ValidationError as error:
        problem = bad_field(str(error))
        name = (problem.path or "").partition("[")[0]
        shown = next(match.group() for match in _MARKER.finditer(text) if match[1] == name)
        raise _bad(shown, problem.what.replace(" | null", "")) from None
    for name in ("code", "retry_after", "html"):
        if name in found and markers.status is None:
            raise _bad(f"[[{name}]]", "it needs a [[status=...]] beside it")
    return markers


def _bad(marker: str, why: str) -> Refusal:
    shown = marker if len(marker) <= 64 else f"{marker[:62]}…]]"
    return Refusal(400, f"Bad demo marker {shown}: {why}.", code="invalid_demo_marker", param="messages")


def without_markers(text: str) -> str:
    """`text` as it was meant for the model: each marker is gone, with the space before it."""
    text = _LEADING.sub("", text)
    kept, at = [], 0
    for match in _MARKER.finditer(text):
        kept.append(text[at : match.start()].rstrip())
        at = match.end()
    return "".join([*kept, text[at:]])
