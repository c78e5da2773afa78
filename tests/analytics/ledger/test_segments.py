import os
import random
import threading
from pathlib import Path

import pytest

from analytics.ledger.segments import (
    DISPATCHED,
    OPEN,
    SETTLED,
    Record,
    Segment,
    frame,
    locked,
    orphaned,
    owners,
    read_records,
    sweep,
)
from tests.analytics.ledger.samples import dispatch, encoded, opened, settled

RECORDS = [
    Record(kind, payload)
    for kind, payload in zip(
        (OPEN, DISPATCHED, SETTLED, OPEN, DISPATCHED),
        encoded(opened(1), dispatch(1), settled(1, team_name="Größe"), opened(2), dispatch(2)),
        strict=True,
    )
]
LINES = [frame(*record) for record in RECORDS]
JOURNAL = b"".join(LINES)


def test_what_is_written_is_read() -> None:
    reading = read_records(JOURNAL)
    assert reading.records == RECORDS
    assert reading.skipped == 0


def test_a_cut_at_any_byte_keeps_every_record_that_was_whole_before_it() -> None:
    ends = [sum(map(len, LINES[: count + 1])) - 1 for count in range(len(LINES))]  # the newline itself may be missing
    for cut in range(len(JOURNAL) + 1):
        reading = read_records(JOURNAL[:cut])
        assert reading.records == RECORDS[: sum(end <= cut for end in ends)], cut
        assert reading.skipped == 0, "a torn end is no damage"


def test_a_wrong_byte_anywhere_costs_the_line_it_stands_in_and_no_other() -> None:
    rng = random.Random(1)
    for position in range(0, len(JOURNAL), 3):
        data = bytearray(JOURNAL)
        data[position] ^= rng.randrange(1, 256)
        reading = read_records(bytes(data))
        kept = [record for record in RECORDS if record in reading.records]
        assert kept == reading.records, "nothing is made up"
        lost_at_most = 2 if JOURNAL[position : position + 1] == b"\n" else 1
        assert len(RECORDS) - lost_at_most <= len(kept) < len(RECORDS)


def test_damaged_lines_in_the_middle_are_counted_and_passed() -> None:
    reading = read_records(LINES[0] + b"rubbish\n\x00\xff\n" + LINES[1] + LINES[2][:40])
    assert reading.records == RECORDS[:2]
    assert reading.skipped == 2


@pytest.mark.parametrize("data", [b"", b"\n\n\n", b"\x00" * 4096, b"00000000 \n", b"0" * 100, b"\xff\xfe\n"])
def test_rubbish_alone_is_an_empty_journal(data: bytes) -> None:
    assert read_records(data).records == []


def test_a_live_owner_keeps_its_segments_and_a_dead_one_gives_up_all(tmp_path: Path) -> None:
    first = Segment.create(tmp_path, "a-1", 1, now=0.0)
    second = Segment.create(tmp_path, "a-1", 2, now=0.0)
    assert owners(tmp_path) == ["a-1"]
    with orphaned(tmp_path, "a-1") as paths:
        assert paths == []
    first.drop()
    with orphaned(tmp_path, "a-1") as paths:
        assert paths == []
    third = Segment.create(tmp_path, "a-1", 3, now=0.0)
    path = second.path
    second.drop()
    with orphaned(tmp_path, "a-1") as paths:
        assert paths == []
    path.touch()  # as if the owner had died while it let go of its segments one by one
    with orphaned(tmp_path, "a-1") as paths:
        assert paths == [], "the owner still holds its last segment"
    third.drop()


def test_two_adopters_cannot_have_the_same_journal(tmp_path: Path) -> None:
    (tmp_path / "dead-1.000001.journal").touch()
    (tmp_path / "dead-1.000002.journal").touch()
    with orphaned(tmp_path, "dead-1") as mine, orphaned(tmp_path, "dead-1") as yours:
        assert [path.name for path in mine] == ["dead-1.000001.journal", "dead-1.000002.journal"]
        assert yours == []


def test_a_lock_is_refused_while_it_is_held_and_for_a_file_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "x.000001.journal"
    path.touch()
    with locked(path, shared=True) as is_ours, locked(path) as is_mine_too:
        assert (is_ours, is_mine_too) == (True, False)
    path.unlink()
    with locked(path) as is_ours:
        assert not is_ours


def test_segments_begin_safely_while_others_sweep(tmp_path: Path) -> None:
    hidden, done = tmp_path / "a-1.000001.new", threading.Event()

    def sweep_on() -> None:
        while not done.is_set():
            with locked(hidden) as is_ours:
                if is_ours:
                    hidden.unlink(missing_ok=True)

    sweeper = threading.Thread(target=sweep_on)
    sweeper.start()
    try:
        for _ in range(3000):
            segment = Segment.create(tmp_path, "a-1", 1, now=0.0)
            assert os.path.samestat(segment.path.stat(), os.fstat(segment.fd))
            segment.drop()
    finally:
        done.set()
        sweeper.join()


def test_files_and_names_are_private_and_visible_only_when_locked(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path, "a-1", 1, now=0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["a-1.000001.journal"]
    assert segment.path.stat().st_mode & 0o777 == 0o600
    segment.drop()


def test_a_leftover_without_a_name_is_swept_unless_somebody_holds_it(tmp_path: Path) -> None:
    held, left = tmp_path / "held-1.000001.new", tmp_path / "left-1.000001.new"
    held.touch()
    left.touch()
    with locked(held) as is_ours:
        assert is_ours
        sweep(tmp_path)
        assert held.exists()
        assert not left.exists()
