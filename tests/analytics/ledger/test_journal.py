import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from analytics.domain.usage import Dispatch, UsageEntry
from analytics.ledger.journal import Journal
from analytics.ledger.segments import DISPATCHED, OPEN, SETTLED
from tests.analytics.ledger.samples import (
    dispatch,
    encoded,
    journal_lines,
    opened,
    request_id,
    room_on_disk,
    settled,
)
from tests.stalls import PATIENCE_S

ONE, TWO, THREE = request_id(1), request_id(2), request_id(3)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def journaling(
    folder: Path, *, segment_bytes: int = 1 << 24, clock: Callable[[], float] | None = None
) -> AsyncIterator[Journal]:
    journal = Journal(folder, segment_bytes=segment_bytes, segment_s=60.0, clock=clock or Clock())
    journal.start()
    try:
        yield journal
    finally:
        await journal.close()


def write(journal: Journal, number: int, kinds: bytes) -> None:
    lines: dict[bytes, UsageEntry | Dispatch] = {
        OPEN: opened(number),
        DISPATCHED: dispatch(number),
        SETTLED: settled(number),
    }
    for kind in (bytes([letter]) for letter in kinds):
        journal.append(kind, request_id(number), encoded(lines[kind])[0])
        journal.flush()


def files(folder: Path) -> list[str]:
    return sorted(path.name.split(".")[1] for path in folder.glob("*.journal"))


async def test_the_folder_and_the_file_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "journal"
    async with journaling(folder):
        (file,) = folder.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert file.stat().st_mode & 0o777 == 0o600


async def test_an_opening_is_written_with_its_dispatch_and_a_settlement_with_the_next_flush(tmp_path: Path) -> None:
    async with journaling(tmp_path) as journal:
        write(journal, 1, b"O")
        assert journal_lines(tmp_path) == []
        write(journal, 1, b"D")
        assert journal_lines(tmp_path) == [("O", ONE), ("D", ONE)]
        for number in (1, 2):
            journal.append(SETTLED, request_id(number), encoded(settled(number))[0])
        assert journal_lines(tmp_path) == [("O", ONE), ("D", ONE)]
        journal.flush()
        assert journal_lines(tmp_path) == [("O", ONE), ("D", ONE), ("S", ONE), ("S", TWO)]


async def test_a_sync_writes_what_was_settled_before_it(tmp_path: Path) -> None:
    async with journaling(tmp_path) as journal:
        journal.append(SETTLED, ONE, encoded(settled(1))[0])
        await journal.synced()
        assert journal_lines(tmp_path) == [("S", ONE)]


async def test_a_settlement_that_is_shipped_before_it_was_written_needs_no_file_for_long(tmp_path: Path) -> None:
    async with journaling(tmp_path) as journal:
        journal.append(SETTLED, ONE, encoded(settled(1))[0])
        journal.forget([ONE])
    assert files(tmp_path) == []


async def test_a_request_that_was_refused_before_any_dispatch_leaves_its_settlement_only(tmp_path: Path) -> None:
    async with journaling(tmp_path) as journal:
        write(journal, 1, b"OS")
        assert journal_lines(tmp_path) == [("S", ONE)]


async def test_a_full_segment_is_removed_once_its_settled_requests_are_shipped(tmp_path: Path) -> None:
    async with journaling(tmp_path, segment_bytes=1) as journal:
        write(journal, 1, b"S")
        write(journal, 2, b"S")
        write(journal, 3, b"S")
        assert files(tmp_path) == ["000001", "000002", "000003"]
        journal.forget([TWO])
        assert files(tmp_path) == ["000001", "000003"]
        journal.forget([ONE, THREE])
        assert files(tmp_path) == ["000003"], "the one that is written to stays"
    assert files(tmp_path) == []


async def test_a_request_that_outlives_its_segment_is_carried_over_with_all_its_lines(tmp_path: Path) -> None:
    clock = Clock()
    async with journaling(tmp_path, clock=clock) as journal:
        write(journal, 1, b"ODD")
        write(journal, 2, b"OS")
        clock.now += 61
        write(journal, 3, b"S")
        assert files(tmp_path) == ["000001", "000002"]
        journal.forget([TWO])
        assert journal_lines(tmp_path) == [("O", ONE), ("D", ONE), ("D", ONE), ("S", THREE)]
        write(journal, 1, b"S")
        assert journal_lines(tmp_path)[-1] == ("S", ONE)


async def test_an_old_segment_is_left_behind_but_an_outage_leaves_no_file_a_minute(tmp_path: Path) -> None:
    clock = Clock()
    async with journaling(tmp_path, clock=clock) as journal:
        write(journal, 1, b"S")
        for _ in range(5):
            clock.now += 61
            write(journal, 2, b"S")
        assert files(tmp_path) == ["000001", "000002"], "the first one is not shipped yet"
        journal.forget([ONE, TWO])
        clock.now += 61
        write(journal, 3, b"S")
        assert files(tmp_path) == ["000002", "000003"] or files(tmp_path) == ["000003"]


async def test_what_is_not_shipped_or_not_settled_is_left_when_the_journal_closes(tmp_path: Path) -> None:
    async with journaling(tmp_path) as journal:
        write(journal, 1, b"ODS")
        write(journal, 2, b"OD")
        journal.forget([ONE])
    assert ("D", TWO) in journal_lines(tmp_path)


async def test_a_full_disk_stops_nobody_and_the_records_follow_when_there_is_room(tmp_path: Path) -> None:
    clock = Clock()
    async with journaling(tmp_path, clock=clock) as journal:
        write(journal, 1, b"OD")
        with room_on_disk(1300):
            write(journal, 1, b"S")
            write(journal, 2, b"ODS")
            clock.now += 5
            write(journal, 3, b"O")
            assert journal.disk_full
            assert journal.last_error == "journal: No space left on device"
            assert journal_lines(tmp_path) == [("O", ONE), ("D", ONE)], "half a line was taken back"
        clock.now += 5
        write(journal, 3, b"D")
        assert (journal.disk_full, journal.last_error) == (False, "")
        lines = journal_lines(tmp_path)
        assert [kind for kind, request in lines if request == TWO] == ["O", "D", "S"]
        assert [kind for kind, request in lines if request == THREE] == ["O", "D"]
        assert [kind for kind, request in lines if request == ONE] == ["O", "D", "S"]


async def test_what_was_shipped_meanwhile_needs_no_room(tmp_path: Path) -> None:
    async with journaling(tmp_path) as journal:
        with room_on_disk(100):
            write(journal, 1, b"ODS")
            journal.forget([ONE])
            assert not journal.disk_full
        assert journal_lines(tmp_path) == []


async def test_a_full_disk_while_a_segment_begins_keeps_the_old_one_going(tmp_path: Path) -> None:
    clock = Clock()
    async with journaling(tmp_path, segment_bytes=2000, clock=clock) as journal:
        for number in (1, 2, 3, 4, 5):
            write(journal, number, b"OD")
        before = journal_lines(tmp_path)
        with room_on_disk(400):
            clock.now += 5
            write(journal, 6, b"OD")
            assert journal.disk_full
        assert set(before) <= set(journal_lines(tmp_path))
        clock.now += 5
        write(journal, 6, b"D")
        assert {request_id(number) for number in (1, 2, 3, 4, 5, 6)} == {
            request for _, request in journal_lines(tmp_path)
        }


async def test_everyone_who_waits_for_the_disk_is_released_by_a_few_syncs(tmp_path: Path) -> None:
    async with journaling(tmp_path) as journal:

        async def settle(number: int) -> None:
            write(journal, number, b"S")
            await journal.synced()

        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(settle(number) for number in range(200)))
        assert len(journal_lines(tmp_path)) == 200


async def test_a_waiter_that_is_cancelled_holds_nobody_up(tmp_path: Path) -> None:
    async with journaling(tmp_path) as journal:
        write(journal, 1, b"S")
        gone, stays = asyncio.create_task(journal.synced()), asyncio.create_task(journal.synced())
        await asyncio.sleep(0)
        gone.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await stays
        with pytest.raises(asyncio.CancelledError):
            await gone


@pytest.mark.parametrize("attempt", range(5))  # it takes a sync that ends within the gap, which the disk decides
async def test_nobody_who_comes_while_the_journal_closes_waits_for_ever(tmp_path: Path, attempt: int) -> None:
    journal = Journal(tmp_path)
    journal.start()
    write(journal, 1, b"S")
    await journal.synced()
    await asyncio.sleep(0.01)  # the gap is over and the disk has all: the first sync of the closing begins at once
    closing = asyncio.create_task(journal.close())
    await asyncio.sleep(0)
    late = []
    for number in range(2, 6):
        write(journal, number, b"S")
        late.append(asyncio.create_task(journal.synced()))
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(closing, *late)
    assert [request for _, request in journal_lines(tmp_path)] == [request_id(number) for number in range(1, 6)]


async def test_spilled_segments_stay_until_they_are_dropped_and_carry_no_open_request(tmp_path: Path) -> None:
    async with journaling(tmp_path) as journal:
        write(journal, 1, b"ODS")
        write(journal, 2, b"OD")
        assert journal.spill() == {ONE}
        assert journal.spilled_records == 1
        write(journal, 3, b"S")
        assert files(tmp_path) == ["000001", "000002"]
        journal.drop_spilled()
        assert journal_lines(tmp_path) == [("O", TWO), ("D", TWO), ("S", THREE)]
