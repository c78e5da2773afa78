"""Server-sent events: cuts a byte stream into frames, and reads an answer frame by frame.

Source: html.spec.whatwg.org, section 9.2 "Server-sent events" (2026-11): lines end in CRLF, LF or CR, a blank line ends
a frame, several `data:` lines make one text, lines that start with a colon are comments.
"""

import itertools
import re

from providers.wires.stream_reader import FRAME_LIMIT, FrameInterpreter, RawFrame, StreamAnswerReader

EVENT_STREAM = "text/event-stream"

_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_BOM = b"\xef\xbb\xbf"

SseFrame = RawFrame


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


class SseAnswerReader(StreamAnswerReader):
    """An `AnswerReader` over server-sent events."""

    def __init__(self, interpreter: FrameInterpreter) -> None:
        super().__init__(SseSplitter(), interpreter)
