import logging
import threading
from pathlib import Path

import msgspec
import pytest

from analytics.domain.usage import Dispatch, UsageEntry
from analytics.ledger.adoption import Adoption, adopt_once, end_of
from analytics.ledger.journal import Journal
from analytics.ledger.segments import DISPATCHED, OPEN, SETTLED, frame
from tests.analytics.ledger.samples import (
    BAD,
    PRICE,
    STARTED_AT,
    MemoryBank,
    MemoryStore,
    dispatch,
    encoded,
    opened,
    request_id,
    settled,
)

KINDS = {"open": OPEN, "settled": SETTLED}


def line(value: UsageEntry | Dispatch) -> bytes:
    kind = DISPATCHED if isinstance(value, Dispatch) else KINDS.get(value.state, SETTLED)
    return frame(kind, encoded(value)[0])


def leave(folder: Path, *values: UsageEntry | Dispatch, segment: int = 1, owner: str = "dead-1") -> Path:
    """A journal whose owner is gone."""
    path = folder / f"{owner}.{segment:06d}.journal"
    path.write_bytes(b"".join(map(line, values)))
    return path


def test_a_request_that_was_never_sent_costs_nothing() -> None:
    end = end_of(opened(), [], now=STARTED_AT + 2)
    assert (end.state, end.cost_nano, end.usage_source, end.http_status) == ("released", 0, "none", 0)
    assert end.finished_at == STARTED_AT + 2
    assert end.latency_ms == pytest.approx(2000)
    assert end.error_code == "gateway_stopped"


def test_a_request_that_was_sent_is_billed_what_it_had_come_to_and_the_last_attempts_bound() -> None:
    attempts = [dispatch(bound_nano=5000), dispatch(bound_nano=900, billed_nano=5), dispatch(billed_nano=5)]
    attempts[-1] = msgspec.structs.replace(attempts[-1], bound_nano=700, charges={12: 705})
    end = end_of(opened(), attempts, now=STARTED_AT + 2)
    assert (end.state, end.cost_nano, end.usage_source, end.http_status) == ("expired", 705, "bound", 0)
    assert end.charges == {12: 705}
    assert (end.input_tokens, end.output_tokens) == (1000, 4096), "the last attempt's; what others cost is beside them"
    assert (end.provider, end.deployment, end.model, end.price) == ("vendor", "vendor/model", "model", PRICE)
    assert [attempt.billed_nano for attempt in end.attempts] == [5, None, None]
    assert (end.team_name, end.key_name, end.persona) == ("Platform", "ci", "code_assistant")


def test_one_unknown_price_makes_the_cost_unknown_not_zero() -> None:
    assert end_of(opened(), [dispatch(), dispatch(bound_nano=None)], now=STARTED_AT).cost_nano is None
    assert end_of(opened(), [dispatch(), dispatch(billed_nano=None)], now=STARTED_AT).cost_nano is None


def test_every_request_of_a_dead_gateway_gets_its_row_and_the_journal_goes(tmp_path: Path) -> None:
    store = MemoryStore()
    leave(tmp_path, opened(1), dispatch(1), settled(1), opened(2), dispatch(2), opened(3))
    assert adopt_once(tmp_path, store, MemoryBank()) == Adoption(journals=1, settled=1, expired=1, released=1)
    assert store.costs() == {request_id(1): 1001, request_id(2): 5000, request_id(3): 0}
    assert list(tmp_path.iterdir()) == []
    assert adopt_once(tmp_path, store, MemoryBank()) == Adoption()


def test_a_story_over_several_segments_is_one_request_and_each_attempt_counts_once(tmp_path: Path) -> None:
    store = MemoryStore()
    again, last = dispatch(2, billed_nano=300), dispatch(2, billed_nano=700)
    leave(tmp_path, opened(1), dispatch(1), opened(2), dispatch(2), again, segment=1)
    # A segment begins with copies of what is open.
    leave(tmp_path, opened(1), dispatch(1), opened(2), dispatch(2), again, settled(1), last, segment=2)
    assert adopt_once(tmp_path, store, MemoryBank()) == Adoption(journals=1, settled=1, expired=1)
    assert store.costs() == {request_id(1): 1001, request_id(2): 5_700}


def test_what_was_shipped_before_the_death_keeps_its_row(tmp_path: Path) -> None:
    store = MemoryStore()
    store.ship(encoded(settled(1), settled(2)))
    leave(tmp_path, opened(1), dispatch(1), settled(2, cost_nano=9))
    assert adopt_once(tmp_path, store, MemoryBank()) == Adoption(journals=1)
    assert store.costs() == {request_id(1): 1001, request_id(2): 1002}


async def test_a_living_gateway_keeps_its_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.start()
    journal.append(OPEN, request_id(1), encoded(opened(1))[0])
    journal.append(DISPATCHED, request_id(1), encoded(dispatch(1))[0])
    store = MemoryStore()
    assert adopt_once(tmp_path, store, MemoryBank()) == Adoption()
    await journal.close()
    assert adopt_once(tmp_path, store, MemoryBank()) == Adoption(journals=1, expired=1)


def test_the_database_being_away_leaves_the_journal_for_the_next_try(tmp_path: Path) -> None:
    store = MemoryStore()
    store.error = ConnectionError("away")
    leave(tmp_path, opened(1), dispatch(1))
    with pytest.raises(ConnectionError):
        adopt_once(tmp_path, store, MemoryBank())
    store.error = None
    assert adopt_once(tmp_path, store, MemoryBank()) == Adoption(journals=1, expired=1)


def test_adopters_that_race_bring_in_everything_once(tmp_path: Path) -> None:
    store, adoptions = MemoryStore(), []
    for number in range(30):
        leave(tmp_path, opened(number), dispatch(number), settled(number + 100), owner=f"dead-{number}")
    begin = threading.Barrier(4)

    def adopt() -> None:
        begin.wait()
        adoptions.append(adopt_once(tmp_path, store, MemoryBank()))

    threads = [threading.Thread(target=adopt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = adopt_once(
        tmp_path, store, MemoryBank()
    )  # a journal may have been passed by all while one of them looked at it
    assert sum(adoptions, left) == Adoption(journals=30, settled=30, expired=30)
    assert len(store.rows) == 60


def test_a_damaged_journal_gives_what_is_whole_and_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    path = leave(tmp_path, opened(1), settled(1))
    path.write_bytes(line(settled(1)) + b"rubbish\n" + line(dispatch(2)) + line(settled(3))[:50])
    with caplog.at_level(logging.ERROR):
        assert adopt_once(tmp_path, store, MemoryBank()) == Adoption(journals=1, settled=1)
    assert (tmp_path / "rejected" / path.name).exists()
    assert "1 damaged lines" in caplog.text


def test_a_journal_of_an_older_release_fills_new_columns_with_their_defaults(tmp_path: Path) -> None:
    store = MemoryStore()
    old = msgspec.json.decode(encoded(settled(1))[0])
    del old["overhead_ms"], old["cache_read_input_tokens"]
    (tmp_path / "dead-1.000001.journal").write_bytes(frame(SETTLED, msgspec.json.encode(old)))
    assert adopt_once(tmp_path, store, MemoryBank()).settled == 1
    assert store.rows[request_id(1)].overhead_ms == 0.0


def test_records_that_make_no_sense_are_set_aside_and_the_rest_comes_in(tmp_path: Path) -> None:
    store = MemoryStore()
    path = leave(tmp_path, settled(1), opened(2), dispatch(2), settled(2, **BAD), settled(3))
    with path.open("ab") as file:
        file.write(frame(SETTLED, b'{"team_id":"x"}') + frame(b"Z", b"{}"))
    assert adopt_once(tmp_path, store, MemoryBank()) == Adoption(journals=1, settled=2)
    assert len(list((tmp_path / "rejected").glob("*.json"))) == 2


def test_a_big_journal_comes_in_a_thousand_rows_at_a_time(tmp_path: Path) -> None:
    store = MemoryStore()
    leave(tmp_path, *(settled(number) for number in range(2500)))
    assert adopt_once(tmp_path, store, MemoryBank()).settled == 2500
    assert store.calls == 3
