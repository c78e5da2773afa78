"""Server-sent events: cuts a byte stream into frames, and reads an answer frame by frame.

Source: html.spec.whatwg.org, section 9.2 "Server-sent events" (2026-11): lines end in CRLF, LF or CR, a blank line ends
a frame, several `data:` lines make one text, lines that start with a colon are comments.
"""

import itertools
import re
from typing import Protocol

import msgspec

from providers.domain.answer import Frame
from providers.domain.errors import ProviderError
from providers.wires.failure_reading import malformed, stream_broken

FRAME_LIMIT = 1 << 20
EVENT_STREAM = "text/event-stream"

_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_BOM = b"\xef\xbb\xbf"


SseFrame = tuple[bytes, bytes]
"""Every byte of a frame with its blank line, and its payload: empty for comments and bare events."""


class SseSplitter:
    """Bytes in, whole frames out; joined, their raw bytes are those that came in.

    A frame longer than `FRAME_LIMIT` sets `overlong`, and nothing more is read.
    """

    def __init__(self) -> None:
        self.overlong = False
        self._tail = bytearray()

    def feed(self, data: bytes) -> list[SseFrame]:
        if self.overlong:
            return []
        if self._tail:
            searched = max(len(self._tail) - 3, 0)
            self._tail += data
            if _BLANK_LINE.search(self._tail, searched) is None:
                self.overlong = len(self._tail) > FRAME_LIMIT
                return []
            data = bytes(self._tail)
            self._tail.clear()
        return self._split(data)

    def close(self) -> list[SseFrame]:
        """The last frame, when the bytes ended without a blank line."""
        raw = bytes(self._tail)
        self._tail.clear()
        return [(raw, _data_of(raw))] if raw and not self.overlong else []

    def _split(self, data: bytes) -> list[SseFrame]:
        if b"\r" in data:
            frames, rest = _split_any(data)
        else:
            *whole, rest = data.split(b"\n\n")
            frames = [
                (part + b"\n\n", part[6:] if part.startswith(b"data: {") and b"\n" not in part else _data_of(part))
                for part in whole  # the common frame is told by its bytes, without a call
            ]
        if rest:
            self._tail += rest
        if len(data) > FRAME_LIMIT:
            fitting = list(itertools.takewhile(lambda frame: len(frame[0]) <= FRAME_LIMIT, frames))
            self.overlong = len(fitting) < len(frames) or len(rest) > FRAME_LIMIT
            return fitting
        return frames


def _split_any(data: bytes) -> tuple[list[SseFrame], bytes]:
    """Frames with any line ends, and the rest. A carriage return at the very end may be half of a CRLF: it waits."""
    frames: list[SseFrame] = []
    start = 0
    for blank in _BLANK_LINE.finditer(data):
        if blank.end() == len(data) and data.endswith(b"\r"):
            break
        frames.append((data[start : blank.end()], _data_of(data[start : blank.start()])))
        start = blank.end()
    return frames, data[start:]


def _data_of(frame: bytes) -> bytes:
    """The payload: all `data` lines. The shape that Anthropic sends is told by its bytes."""
    if frame.startswith(b"event: "):
        name, _, data = frame.partition(b"\ndata: ")
        if data and b"\n" not in data and b"\n" not in name and b"\r" not in frame:
            return data
    lines = []
    for line in frame.removeprefix(_BOM).splitlines():
        field, _, value = line.partition(b":")
        if field == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines)


class FrameInterpreter(Protocol):
    """What one wire makes of a frame."""

    @property
    def finished(self) -> bool:
        """The event that ends a whole answer was seen."""

    def read(self, frame: SseFrame) -> Frame:
        """:raises ProviderError: the frame is an error.
        :raises msgspec.DecodeError: (or UnicodeDecodeError, RecursionError) the frame is not this wire.
        """


class SseAnswerReader:
    """An `AnswerReader` over server-sent events.

    An error never swallows the frames that came before it in the same bytes: they are returned, and the error is
    raised by the next call. After an error every call raises it again.
    """

    def __init__(self, interpreter: FrameInterpreter) -> None:
        self._splitter = SseSplitter()
        self._interpreter = interpreter
        self._error: ProviderError | None = None

    def feed(self, data: bytes) -> list[Frame]:
        if self._error is not None:
            raise self._error
        frames, error = self._read(self._splitter.feed(data))
        if error is None and self._splitter.overlong:
            error = malformed(f"a frame of the stream is longer than {FRAME_LIMIT} bytes")
        self._error = error
        if error is not None and not frames:
            raise error
        return frames

    def close(self) -> list[Frame]:
        """What is left may be half a frame; it only counts when it completes the answer."""
        if self._error is not None:
            raise self._error
        frames, _ = self._read(self._splitter.close())
        if not self._interpreter.finished:
            self._error = stream_broken("the stream ended before the answer was complete")
            raise self._error
        return frames

    def _read(self, pending: list[SseFrame]) -> tuple[list[Frame], ProviderError | None]:
        """The frames up to the first that cannot be read, and why it cannot."""
        frames: list[Frame] = []
        read = self._interpreter.read
        try:
            for frame in pending:
                frames.append(read(frame))
        except ProviderError as error:
            return frames, error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return frames, malformed(f"the stream holds something that is not an event: {error}")
        return frames, None
