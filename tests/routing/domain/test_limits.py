"""The rules of rate limits: how many pass in a minute, all or none, what is given back, how long to wait."""

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.types import RateLimit
from routing.domain.limits import (
    NEVER,
    SLOT_TTL_MS,
    Act,
    Cell,
    Counters,
    Headroom,
    Level,
    Measure,
    Operation,
    cells_of,
    standing_of,
    tightest_refusal,
)

NOON_MS = 1_772_000_000_000  # a whole second
MINUTE_MS = 60_000


def requests(limit: int, key: str = "k") -> Cell:
    return Cell(key, Measure.REQUESTS, limit, 1)


def tokens(limit: int, amount: int, key: str = "t") -> Cell:
    return Cell(key, Measure.TOKENS, limit, amount)


def slot(limit: int, key: str = "p") -> Cell:
    return Cell(key, Measure.PARALLEL, limit, 1)


def take(counters: Counters, *cells: Cell, at_ms: int = NOON_MS, member: str = "r1") -> list[Level]:
    return counters.apply(Operation(Act.TAKE, member, cells), at_ms)


def fits(counters: Counters, *cells: Cell, **options: Any) -> bool:
    return not any(level.wait_ms for level in take(counters, *cells, **options))


def correct(counters: Counters, *cells: Cell, at_ms: int = NOON_MS, member: str = "r1", second: int = 0) -> None:
    counters.apply(Operation(Act.CORRECT, member, cells, second), at_ms)


# --- a minute -----------------------------------------------------------------------------------------------------


def test_of_200_at_once_exactly_60_pass() -> None:
    counters = Counters()
    assert [fits(counters, requests(60)) for _ in range(200)] == [True] * 60 + [False] * 140


def test_a_burst_is_forgotten_after_61_seconds_at_the_latest_and_not_within_60() -> None:
    counters = Counters()
    assert all(fits(counters, requests(3), at_ms=NOON_MS + 999) for _ in range(3))
    assert not fits(counters, requests(3), at_ms=NOON_MS + 999 + MINUTE_MS)
    assert fits(counters, requests(3), at_ms=NOON_MS + 61_000)


@given(
    limit=st.integers(1, 12),
    gaps_ms=st.lists(st.one_of(st.integers(0, 3), st.integers(0, 2_000), st.integers(20_000, 70_000)), max_size=120),
    start_ms=st.integers(0, 5_000),
)
def test_no_60_seconds_ever_see_more_than_the_limit(limit: int, gaps_ms: list[int], start_ms: int) -> None:
    counters, now_ms, passed = Counters(), NOON_MS + start_ms, deque[int]()
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        if fits(counters, requests(limit), at_ms=now_ms):
            passed.append(now_ms)
        while passed and passed[0] <= now_ms - MINUTE_MS:
            passed.popleft()
        assert len(passed) <= limit


@given(
    limit=st.integers(1, 12),
    gaps_ms=st.lists(st.integers(0, 8_000), min_size=1, max_size=80),
)
def test_who_is_refused_passes_after_exactly_the_time_he_was_told(limit: int, gaps_ms: list[int]) -> None:
    """So nobody waits longer than 61 s, and nobody who waits is refused again."""
    counters, now_ms = Counters(), NOON_MS
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        [level] = take(counters, requests(limit), at_ms=now_ms)
        if level.wait_ms:
            assert 0 < level.wait_ms <= 61_000
            assert not fits(counters, requests(limit), at_ms=now_ms + level.wait_ms - 1)
            now_ms += level.wait_ms
            assert fits(counters, requests(limit), at_ms=now_ms)


def test_a_refused_request_counts_nowhere() -> None:
    counters = Counters()
    take(counters, requests(1))
    for _ in range(50):
        assert not fits(counters, requests(1), tokens(1_000, 10), at_ms=NOON_MS + 30_000)
    [level] = take(counters, tokens(1_000, 1), at_ms=NOON_MS + 30_000)
    assert level.used == 1
    assert fits(counters, requests(1), at_ms=NOON_MS + 61_000)


def test_the_level_says_what_is_used_and_when_nothing_counts_any_more() -> None:
    counters = Counters()
    take(counters, requests(5), at_ms=NOON_MS + 200)
    [level] = take(counters, requests(5), at_ms=NOON_MS + 10_300)
    assert level == Level(5, 2, 0, 60_700)


def test_what_no_longer_counts_is_forgotten() -> None:
    counters = Counters()
    for n in range(100):
        take(counters, requests(5, f"k{n}"), slot(5, f"p{n}"), at_ms=NOON_MS)
    counters.sweep(NOON_MS + 61_000)
    assert (counters._buckets, counters._slots) == ({}, {})


# --- tokens -------------------------------------------------------------------------------------------------------


def test_tokens_that_were_not_used_go_back_at_once() -> None:
    counters = Counters()
    take(counters, tokens(1_000, 900))
    assert not fits(counters, tokens(1_000, 200))
    correct(counters, tokens(1_000, -850), at_ms=NOON_MS + 4_000, second=NOON_MS // 1000)
    [level] = take(counters, tokens(1_000, 200), at_ms=NOON_MS + 4_000)
    assert (level.wait_ms, level.used) == (0, 250)


def test_tokens_beyond_the_estimate_count_from_when_they_are_known() -> None:
    """A long answer ends more than a minute after its request: its tokens must not be lost."""
    counters = Counters()
    take(counters, tokens(1_000, 100))
    later_ms = NOON_MS + 3 * MINUTE_MS
    correct(counters, tokens(1_000, 700), at_ms=later_ms, second=NOON_MS // 1000)
    [level] = take(counters, tokens(1_000, 400), at_ms=later_ms + 1)
    assert (level.used, level.wait_ms) == (700, 60_999)


@pytest.mark.parametrize("at_ms", [NOON_MS + 2 * MINUTE_MS, NOON_MS])
def test_giving_back_never_makes_room_that_was_not_there(at_ms: int) -> None:
    counters = Counters()
    take(counters, tokens(100, 60), at_ms=at_ms)
    correct(counters, tokens(100, -10_000), at_ms=at_ms, second=NOON_MS // 1000)
    assert fits(counters, tokens(100, 40), at_ms=at_ms)
    assert not fits(counters, tokens(100, 101), at_ms=at_ms)
    assert sum(counters._buckets["t"].values()) in {40, 100}


def test_a_request_larger_than_the_limit_is_told_that_waiting_is_no_use() -> None:
    [level] = take(Counters(), tokens(1_000, 1_001))
    assert level.wait_ms == NEVER


@pytest.mark.parametrize(
    ("total", "assumed", "counted"), [(500, 400, 500), (1_500, 1_024, 1_000), (1_500, 100, 1_400), (1_500, 0, 1_500)]
)
def test_an_assumed_answer_alone_never_makes_a_request_too_large(total: int, assumed: int, counted: int) -> None:
    [cell] = cells_of(RateLimit(tpm=1_000), key="k", of="key", tokens=total, assumed=assumed)
    assert cell.amount == counted


# --- slots --------------------------------------------------------------------------------------------------------


def test_a_slot_is_free_again_when_its_request_ends() -> None:
    counters = Counters()
    assert fits(counters, slot(2), member="a")
    assert fits(counters, slot(2), member="b")
    assert take(counters, slot(2), member="c") == [Level(2, 2, 1_000, 0)]
    correct(counters, slot(2), member="a")
    assert fits(counters, slot(2), member="c")


def test_a_request_holds_its_slot_once_however_often_it_asks() -> None:
    counters = Counters()
    assert fits(counters, slot(1), member="a")
    assert fits(counters, slot(1), member="a")
    correct(counters, slot(1), member="a")
    assert fits(counters, slot(1), member="b")


def test_a_slot_without_a_sign_of_life_lapses_and_one_with_it_stays() -> None:
    counters = Counters()
    take(counters, slot(2), member="dead")
    take(counters, slot(2), member="alive")
    counters.apply(Operation(Act.RENEW, "alive", (slot(2),)), NOON_MS + 30_000)
    assert not fits(counters, slot(2), at_ms=NOON_MS + SLOT_TTL_MS - 1, member="next")
    assert fits(counters, slot(2), at_ms=NOON_MS + SLOT_TTL_MS, member="next")
    assert not fits(counters, slot(2), at_ms=NOON_MS + SLOT_TTL_MS, member="another")


# --- several limits -----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 40), st.integers(0, 30)), max_size=40))
def test_a_request_takes_of_all_its_limits_or_of_none(steps: list[tuple[int, int, int, int]]) -> None:
    counters, taken = Counters(), 0
    for n, (rpm, parallel, amount, gap_s) in enumerate(steps):
        at_ms = NOON_MS + gap_s
        levels = take(counters, requests(rpm), slot(parallel), tokens(40, amount), at_ms=at_ms, member=str(n))
        taken += not any(level.wait_ms for level in levels)
        held = sum(counters._buckets.get("k", {}).values())
        assert held == len(counters._slots.get("p", {})) == taken
        assert sum(counters._buckets.get("t", {}).values()) <= 40


def test_only_what_is_limited_makes_a_cell() -> None:
    assert cells_of(RateLimit(), key="key:1", of="key", tokens=10) == []
    cells = cells_of(RateLimit(10, 1_000, 3), key="key:1", of="key “app”", tokens=10)
    assert [(cell.key, cell.limit, cell.amount) for cell in cells] == [
        ("key:1:r", 10, 1),
        ("key:1:t", 1_000, 10),
        ("key:1:p", 3, 1),
    ]


def test_the_tightest_limit_is_the_one_with_the_least_left() -> None:
    cells = [requests(100, "key"), requests(1_000, "team"), tokens(500, 10), slot(3)]
    standing = standing_of(
        cells, [Level(100, 4, 0, 900), Level(1_000, 990, 0, 800), Level(500, 510, 7, 7), Level(3, 1, 0, 0)]
    )
    assert standing.requests == Headroom(1_000, 10, 800)
    assert standing.tokens == Headroom(500, 0, 7)


def test_of_several_refusals_the_one_that_lasts_longest_is_told() -> None:
    cells = [requests(1, "key"), requests(2, "team"), tokens(5, 9)]
    levels = [Level(1, 1, 400, 400), Level(2, 2, 900, 900), Level(5, 0, 0, 0)]
    assert tightest_refusal(cells, levels)[0].key == "team"
    levels[2] = Level(5, 0, NEVER, 0)
    assert tightest_refusal(cells, levels)[0].key == "t"


# --- shares -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "shares", "each"), [(60, 1, 60), (60, 4, 15), (10, 4, 2), (3, 4, 1), (1, 100, 1)])
def test_a_process_that_counts_alone_lets_its_share_through_and_at_least_one(
    limit: int, shares: int, each: int
) -> None:
    counters = Counters(shares=shares)
    assert [fits(counters, requests(limit), member=str(n)) for n in range(each + 1)] == [True] * each + [False]
    assert [fits(counters, slot(limit), member=str(n)) for n in range(each + 1)] == [True] * each + [False]


def test_a_request_that_the_whole_limit_has_room_for_is_not_too_large_for_a_share() -> None:
    counters = Counters(shares=4)
    assert fits(counters, tokens(1_000, 700))
    assert not fits(counters, tokens(1_000, 10))
    assert take(Counters(shares=4), tokens(1_000, 1_001))[0].wait_ms == NEVER
