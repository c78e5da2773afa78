"""Counting sockets: never more than allowed, never one too few after some have left."""

import random

from routerplatform.gateway.sockets import OpenSockets


def test_a_socket_that_was_refused_changes_nothing() -> None:
    sockets = OpenSockets(most=1, most_per_key=1)
    assert sockets.enter("a")
    assert not sockets.enter("b")
    sockets.leave("b")
    assert len(sockets) == 1


def test_a_refused_key_leaves_the_socket_with_its_old_one() -> None:
    sockets = OpenSockets(most=9, most_per_key=1)
    for socket, key_id in (("a", 1), ("b", 2)):
        sockets.enter(socket)
        assert sockets.take_key(socket, key_id)
    assert not sockets.take_key("b", 1)
    sockets.enter("c")
    assert not sockets.take_key("c", 2)
    sockets.leave("b")
    assert sockets.take_key("c", 2)


def test_the_counts_are_right_after_any_row_of_events() -> None:
    rng = random.Random(5)
    sockets = OpenSockets(most=6, most_per_key=3)
    inside: dict[int, int] = {}
    for step in range(3000):
        socket, key_id = rng.randrange(12), rng.randrange(1, 4)
        if socket not in inside:
            assert sockets.enter(socket) is (len(inside) < 6), step
            if len(inside) < 6:
                inside[socket] = 0
        elif rng.random() < 0.5:
            sockets.leave(socket)
            del inside[socket]
        else:
            has_room = inside[socket] == key_id or list(inside.values()).count(key_id) < 3
            assert sockets.take_key(socket, key_id) is has_room, step
            if has_room:
                inside[socket] = key_id
        assert len(sockets) == len(inside)
