from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.errors import FailureKind, ProviderError
from providers.domain.types import Wire
from providers.wires import WIRES
from providers.wires.sse import EVENT_STREAM, SseFrame, SseSplitter
from providers.wires.stream_reader import FRAME_LIMIT
from tests.providers.wires.builders import read_all, reader, sse


def split(pieces: Iterable[bytes]) -> list[SseFrame]:
    splitter = SseSplitter()
    return [frame for piece in pieces for frame in splitter.feed(piece)] + splitter.close()


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (b"data: {}\n\n", [b"{}"]),
        (b"data:{}\n\n", [b"{}"]),
        (b"data: {}\r\n\r\n", [b"{}"]),
        (b"data: {}\r\r", [b"{}"]),
        (b"data: {}\n\r\n", [b"{}"]),
        (b"data: 1\ndata: 2\n\n", [b"1\n2"]),
        (b"data\n\n", [b""]),
        (b"data:  two spaces\n\n", [b" two spaces"]),
        (b": keep-alive\n\ndata: {}\n\n", [b"", b"{}"]),
        (b": note\ndata: {}\n\n", [b"{}"]),
        (b"event: ping\n\n", [b""]),
        (b'event: x\nid: 7\ndata: {"a":1}\n\n', [b'{"a":1}']),
        (b'data: {"a":\ndata: 1}\nevent: late\n\n', [b'{"a":\n1}']),
        (b"event: x\r\ndata: {}\r\n\r\nevent: y\r\ndata: []\r\n\r\n", [b"{}", b"[]"]),
        (b"\xef\xbb\xbfdata: {}\n\n", [b"{}"]),
        (b"\n\ndata: {}\n\n", [b"", b"{}"]),
        (b"data: {}\n\n\ndata: {}\n\n", [b"{}", b"{}"]),
        (b"database: {}\n\n", [b""]),
        (b"data: unended", [b"unended"]),
    ],
)
def test_payloads_are_found_whatever_the_line_ends_are(stream: bytes, payloads: list[bytes]) -> None:
    assert [data for _, data in split([stream])] == payloads


LINES = st.sampled_from(
    [b"data: {}", b"data:1", b"data: \xc3\xa9", b"data: \xff", b": c", b"event: e", b"id: 1", b"", b"data", b"x"]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS), max_size=25).map(lambda lines: b"".join(line + end for line, end in lines))


@given(STREAMS, st.lists(st.integers(0, 200), max_size=12))
def test_cuts_change_nothing_and_no_byte_is_lost(stream: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(places)]
    cut = split(pieces)
    assert b"".join(raw for raw, _ in cut) == stream
    assert [data for _, data in cut if data] == [data for _, data in split([stream]) if data]


@given(st.binary(max_size=300), st.integers(1, 7))
def test_any_bytes_come_out_as_they_went_in(stream: bytes, size: int) -> None:
    cut = split(stream[i : i + size] for i in range(0, len(stream), size))
    assert b"".join(raw for raw, _ in cut) == stream


@given(st.binary(max_size=300))
def test_a_reader_never_raises_anything_but_provider_errors(stream: bytes) -> None:
    for wire in (wire for wire, codec in WIRES.items() if codec.stream_type == EVENT_STREAM):
        for prefix in (b"", b"data: ", b'data: {"choices":', b'event: x\ndata: {"type":"message_start","message":'):
            with pytest.raises(ProviderError):
                read_all(wire, prefix + stream)


def test_a_frame_that_never_ends_is_refused() -> None:
    answer = reader(Wire.OPENAI)
    piece = b"x" * 65_536
    for _ in range(FRAME_LIMIT // len(piece)):
        assert answer.feed(piece) == []
    with pytest.raises(ProviderError) as caught:
        answer.feed(piece)
    assert caught.value.failure.kind is FailureKind.MALFORMED


def test_frames_before_one_that_is_too_long_still_arrive() -> None:
    answer = reader(Wire.OPENAI)
    whole = sse({"id": "a", "choices": [{"delta": {"content": "hi"}}]})
    frames = answer.feed(whole + b"data: " + b"x" * FRAME_LIMIT + b"\n\n" + whole)
    assert [frame.raw for frame in frames] == [whole]
    with pytest.raises(ProviderError, match="longer than"):
        answer.feed(b"")


def test_a_frame_of_many_small_pieces_is_read_in_time() -> None:
    """400 KB byte by byte: this would take minutes if every byte copied what came before."""
    splitter = SseSplitter()
    stream = b"data: " + b"x" * 400_000 + b"\n\n"
    frames = [frame for i in range(len(stream)) for frame in splitter.feed(stream[i : i + 1])]
    assert frames == [(stream, b"x" * 400_000)]
