from collections.abc import Iterable
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.answer import Frame, TextDelta
from providers.domain.errors import Failure, FailureKind, ProviderError
from providers.wires.failure_reading import error_in_answer
from providers.wires.ndjson import Line, LineSplitter, NdjsonAnswerReader
from providers.wires.stream_reader import FRAME_LIMIT


class Echo:
    """An interpreter: a line is a JSON text, “end” ends the answer, “fail” is an error of the vendor's."""

    def __init__(self) -> None:
        self.finished = False

    def read(self, frame: Line) -> Frame:
        raw, data = frame
        text = msgspec.json.decode(data, type=str) if data else ""
        if text == "fail":
            raise error_in_answer(b'{"error":"the model has crashed"}')
        self.finished = self.finished or text == "end"
        return Frame(raw, (TextDelta(text),) if text else ())


def split(pieces: Iterable[bytes]) -> list[Line]:
    splitter = LineSplitter()
    return [line for piece in pieces for line in splitter.feed(piece)] + splitter.close()


def read(*pieces: bytes) -> list[str]:
    answer = NdjsonAnswerReader(Echo())
    frames = [frame for piece in pieces for frame in answer.feed(piece)] + answer.close()
    return [event.text for frame in frames for event in frame.events if isinstance(event, TextDelta)]


def failure_of(*pieces: bytes) -> Failure:
    with pytest.raises(ProviderError) as caught:
        read(*pieces)
    return caught.value.failure


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (b"{}\n", [b"{}"]),
        (b"{}\r\n", [b"{}"]),
        (b"{}\n\n[]\n", [b"{}", b"", b"[]"]),
        (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
        (b"  {}  \n", [b"{}"]),
        (b"\n", [b""]),
        (b"unended", [b"unended"]),
        (b'{"text":"a\\nb"}\n', [b'{"text":"a\\nb"}']),
        (b"", []),
    ],
)
def test_lines_are_found_whatever_their_ends_are(stream: bytes, payloads: list[bytes]) -> None:
    lines = split([stream])
    assert [data for _, data in lines] == payloads
    assert b"".join(raw for raw, _ in lines) == stream


@given(
    st.lists(st.sampled_from([b"{}", b"1", b"\xc3\xa9", b"\xff", b"", b"\n", b"\r\n", b"\n\n", b"{"]), max_size=40),
    st.lists(st.integers(0, 80), max_size=12),
)
def test_cuts_change_nothing_and_no_byte_is_lost(words: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(words)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    cut = split(stream[a:b] for a, b in pairwise(places))
    assert cut == split([stream])
    assert b"".join(raw for raw, _ in cut) == stream


def test_an_answer_is_read_line_by_line() -> None:
    assert read(b'"a"\n"b"\n\n"end"\n') == ["a", "b", "end"]


def test_every_cut_gives_the_same_texts() -> None:
    stream = '"Grüß"\r\n"dich"\n"end"\n'.encode()
    for place in range(len(stream) + 1):
        assert read(stream[:place], stream[place:]) == ["Grüß", "dich", "end"], place


def test_a_last_line_without_its_end_counts_when_it_completes_the_answer() -> None:
    assert read(b'"a"\n"end"') == ["a", "end"]


def test_a_stream_without_its_end_is_broken() -> None:
    for stream in (b"", b'"a"\n', b'"a"\n"en', b'"a"\n"b"'):
        assert failure_of(stream).kind is FailureKind.STREAM_BROKEN


def test_a_vendors_last_word_without_a_line_end_says_why() -> None:
    assert failure_of(b'"a"\n"fail"').message == "the model has crashed"


def test_half_a_line_after_the_end_is_passed_by() -> None:
    assert read(b'"end"\n"hal') == ["end"]


def test_what_came_before_an_error_in_the_same_bytes_is_returned_first() -> None:
    answer = NdjsonAnswerReader(Echo())
    frames = answer.feed(b'"a"\n"fail"\n"b"\n')
    assert [frame.events for frame in frames] == [(TextDelta("a"),)]
    for _ in range(2):
        with pytest.raises(ProviderError, match="the model has crashed"):
            answer.feed(b'"c"\n')
    with pytest.raises(ProviderError, match="the model has crashed"):
        answer.close()


@pytest.mark.parametrize("line", [b"<html>\n", b"{}\n", b"\xff\n", b"[" * 5_000 + b"\n", b'data: "a"\n'])
def test_a_line_of_something_else_is_malformed(line: bytes) -> None:
    assert failure_of(line, b'"end"\n').kind is FailureKind.MALFORMED


def test_characters_cut_in_half_by_the_vendor_are_joined() -> None:
    assert read(b'"x\\ud83d"\n"\\ude00y"\n"end"\n') == ["x", "😀y", "end"]


def test_a_line_that_never_ends_is_refused() -> None:
    answer = NdjsonAnswerReader(Echo())
    piece = b"x" * 65_536
    for _ in range(FRAME_LIMIT // len(piece)):
        assert answer.feed(piece) == []
    with pytest.raises(ProviderError) as caught:
        answer.feed(piece)
    assert caught.value.failure.kind is FailureKind.MALFORMED
    with pytest.raises(ProviderError, match="longer than"):
        answer.close()


def test_lines_before_one_that_is_too_long_still_arrive() -> None:
    answer = NdjsonAnswerReader(Echo())
    frames = answer.feed(b'"a"\n' + b"x" * FRAME_LIMIT + b'\n"b"\n')
    assert [frame.raw for frame in frames] == [b'"a"\n']
    with pytest.raises(ProviderError, match="longer than"):
        answer.feed(b"")


def test_a_long_line_of_many_small_pieces_is_read_in_time() -> None:
    """400 KB byte by byte: this would take minutes if every byte copied what came before."""
    splitter = LineSplitter()
    stream = b"x" * 400_000 + b"\n"
    lines = [line for i in range(len(stream)) for line in splitter.feed(stream[i : i + 1])]
    assert lines == [(stream, stream[:-1])]


def test_many_lines_longer_together_than_the_limit_are_fine() -> None:
    stream = b'"abcdefgh"\n' * (FRAME_LIMIT // 10)
    splitter = LineSplitter()
    assert len(splitter.feed(stream)) == FRAME_LIMIT // 10
    assert not splitter.overlong
