"""Newline-delimited JSON: cuts a byte stream into lines, and reads an answer line by line.

Source: github.com/ndjson/ndjson-spec (2026-11): a line ends in LF, a CR before it is allowed, empty lines may
be passed by.
"""

import itertools

from providers.wires.stream_reader import FRAME_LIMIT, FrameInterpreter, RawFrame, StreamAnswerReader

NDJSON = "application/x-ndjson"

Line = RawFrame


class LineSplitter:
    """Bytes in, whole lines out; joined, their raw bytes are those that came in.

    A line longer than `FRAME_LIMIT` sets `overlong`, and nothing more is read.
    """

    def __init__(self) -> None:
        self.overlong = False
        self._tail = bytearray()

    def feed(self, data: bytes) -> list[Line]:
        if self.overlong:
            return []
        if self._tail:
            self._tail += data
            if b"\n" not in data:
                self.overlong = len(self._tail) > FRAME_LIMIT
                return []
            data = bytes(self._tail)
            self._tail.clear()
        *whole, rest = data.split(b"\n")
        lines = [(line + b"\n", line.strip()) for line in whole]
        if rest:
            self._tail += rest
        if len(data) > FRAME_LIMIT:
            fitting = list(itertools.takewhile(lambda line: len(line[0]) <= FRAME_LIMIT, lines))
            self.overlong = len(fitting) < len(lines) or len(rest) > FRAME_LIMIT
            return fitting
        return lines

    def close(self) -> list[Line]:
        """The last line, when the bytes ended without a line end."""
        raw = bytes(self._tail)
        self._tail.clear()
        return [(raw, raw.strip())] if raw and not self.overlong else []


class NdjsonAnswerReader(StreamAnswerReader):
    """An `AnswerReader` over newline-delimited JSON."""

    def __init__(self, interpreter: FrameInterpreter) -> None:
        super().__init__(LineSplitter(), interpreter)
