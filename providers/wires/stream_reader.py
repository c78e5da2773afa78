"""Reads a streamed answer piece by piece, however its bytes are cut into frames."""

from typing import Protocol

import msgspec

from providers.domain.answer import Frame
from providers.domain.errors import FailureKind, ProviderError
from providers.wires.failure_reading import malformed, stream_broken
from providers.wires.half_pairs import HalfPairs

FRAME_LIMIT = 1 << 20

RawFrame = tuple[bytes, bytes]
"""Every byte of a frame with its end, and its payload: empty for what says nothing."""


class Splitter(Protocol):
    """Bytes in, whole frames out; joined, their raw bytes are those that came in.

    A frame longer than `FRAME_LIMIT` sets `overlong`, and nothing more is read.
    """

    overlong: bool

    def feed(self, data: bytes) -> list[RawFrame]: ...

    def close(self) -> list[RawFrame]:
        """The last frame, when the bytes ended without its end."""


class FrameInterpreter(Protocol):
    """What one wire makes of a frame."""

    @property
    def finished(self) -> bool:
        """The event that ends a whole answer was seen."""

    def read(self, frame: RawFrame) -> Frame:
        """:raises ProviderError: the frame is an error.
        :raises msgspec.DecodeError: (or UnicodeDecodeError, RecursionError) the frame is not this wire.
        """


class StreamAnswerReader:
    """An `AnswerReader`.

    An error never swallows the frames that came before it in the same bytes: they are returned, and the error is
    raised by the next call. After an error every call raises it again.
    """

    def __init__(self, splitter: Splitter, interpreter: FrameInterpreter) -> None:
        self._splitter = splitter
        self._halves = HalfPairs()
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
        """What is left may be half a frame; it only counts when it completes the answer, or says why that will not be
        completed."""
        if self._error is not None:
            raise self._error
        frames, error = self._read(self._splitter.close())
        if not self._interpreter.finished:
            is_told = error is not None and error.failure.kind is not FailureKind.MALFORMED
            broken = stream_broken("the stream ended before the answer was complete")
            self._error = error if error is not None and is_told else broken
            raise self._error
        return frames

    def _read(self, pending: list[RawFrame]) -> tuple[list[Frame], ProviderError | None]:
        """The frames up to the first that cannot be read, and why it cannot."""
        frames: list[Frame] = []
        read = self._interpreter.read
        try:
            for frame in pending:
                try:
                    frames.append(read(frame))
                except msgspec.DecodeError:  # it may end in half a character
                    raw, data = frame
                    frames.append(read((raw, self._halves.mend(data))))
        except ProviderError as error:
            return frames, error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return frames, malformed(f"the stream holds something that is not an event: {error}")
        return frames, None
