"""Which model has a conversation: known to all gateways while there is a Redis, and to each of them without."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerplatform.gateway.conversation_pins import ConversationPins, conversation_key
from routerplatform.gateway.recent import Recent
from routerplatform.gateway.shared_pins import PATIENCE_S, PREFIX, Pin, SharedPins
from tests.gateway_path.situation_parts import Clock
from tests.stalls import Stalls
from tests.valkeys import frozen, own_valkey

PIN = Pin("alpha/swift", 40)


async def seen(pins: ConversationPins, key: str, pin: Pin) -> None:
    """Until another gateway knows it."""
    async with asyncio.timeout(10):
        while await pins.find(key) != pin:  # noqa: ASYNC110 - it is in another connection's hands
            await asyncio.sleep(0.005)


def key(team_id: int = 1, said: str = "", system: str = "", first_turn: str = "Hello") -> str:
    return conversation_key(team_id, said=said, system=system, first_turn=first_turn)


def test_a_conversation_without_words_and_id_is_none() -> None:
    assert key(first_turn="") == ""
    assert key(first_turn="", system="Be brief.")


@given(
    a=st.tuples(st.integers(1, 3), st.text(), st.text(), st.text()), b=st.tuples(st.integers(1, 3), *[st.text()] * 3)
)
def test_only_the_same_beginning_of_the_same_team_is_the_same_conversation(
    a: tuple[int, str, str, str], b: tuple[int, str, str, str]
) -> None:
    def counts(one: tuple[int, str, str, str]) -> tuple[object, ...]:
        return (one[0], one[1]) if one[1] else (one[0], "", *one[2:])

    if key(*a) and key(*b) and "\x1f" not in "".join((*a[1:], *b[1:])):
        assert (key(*a) == key(*b)) == (counts(a) == counts(b))


def test_what_is_too_old_or_too_much_is_forgotten() -> None:
    clock = Clock()
    held: Recent[str, int] = Recent(most=2, ttl_s=10, clock=clock)
    for name, number in (("a", 1), ("b", 2)):
        held.put(name, number)
    assert held.get("a") == 1  # asked for last, so it stays longest
    held.put("c", 3)
    assert (held.get("a"), held.get("b"), held.get("c"), len(held)) == (1, None, 3, 2)
    clock.now += 11
    assert (held.get("a"), len(held)) == (None, 1)


async def test_without_redis_each_process_knows_its_own() -> None:
    here, there = ConversationPins(), ConversationPins()
    here.keep("c", PIN)
    assert (await here.find("c"), await there.find("c")) == (PIN, None)


async def test_with_redis_all_know_it_and_the_latest_word_counts(tmp_path: Path) -> None:
    with own_valkey(tmp_path) as valkey:
        here, there = (ConversationPins(SharedPins(valkey.url, patience_s=5.0)) for _ in range(2))
        here.keep("c", PIN)
        await seen(there, "c", PIN)
        moved = Pin("beta/sage", 90)
        there.keep("c", moved)
        await seen(here, "c", moved)
        await here.close()
        await there.close()


async def test_it_lives_as_long_there_as_here(tmp_path: Path) -> None:
    with own_valkey(tmp_path) as valkey:
        shared = SharedPins(valkey.url, patience_s=5.0)
        pins = ConversationPins(shared, ttl_s=90)
        pins.keep("c", PIN)
        await seen(ConversationPins(shared), "c", PIN)
        assert 0 < await shared._redis.ttl(f"{PREFIX}c") <= 90
        await pins.close()


async def test_what_another_version_has_written_is_no_pin(tmp_path: Path) -> None:
    with own_valkey(tmp_path) as valkey:
        shared = SharedPins(valkey.url, patience_s=5.0)
        await shared._redis.set(f"{PREFIX}c", b"\x00 no pin")
        assert await ConversationPins(shared).find("c") is None
        await shared.close()


async def test_a_redis_that_stands_still_costs_its_patience_once(tmp_path: Path, stalls: Stalls) -> None:
    with own_valkey(tmp_path) as valkey:
        pins = ConversationPins(SharedPins(valkey.url))
        pins.keep("c", PIN)
        assert await pins.find("c") == PIN
        with frozen(valkey):
            pins.keep("d", PIN)
            watch = stalls.watch()
            for _ in range(20):
                assert await pins.find("d") == PIN
            assert watch.seconds < 20 * PATIENCE_S
        await pins.close()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0"])
async def test_a_redis_that_is_away_changes_nothing(url: str) -> None:
    pins = ConversationPins(SharedPins(url))
    pins.keep("c", PIN)
    assert await pins.find("c") == PIN
    assert await pins.find("d") is None
    await pins.close()
