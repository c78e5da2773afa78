"""The queue in a folder: what is sent is taken once, in order, and nobody ever finds half of it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from kombu import Connection, Consumer, Exchange, Producer, Queue

from routerplatform import celery, file_queue
from tests.stalls import PATIENCE_S

SENDER = """
import sys
from tests.routerplatform.test_file_queue import connection, sent
with connection(sys.argv[1]) as to:
    sent(to, *range(400))
"""


def connection(folder: Path | str) -> Connection:
    options = {"data_folder_in": str(folder), "data_folder_out": str(folder), "control_folder": f"{folder}/control"}
    return Connection("filesystem://", transport_options=options)


def work(connection: Connection) -> Queue:
    """One for each folder: kombu remembers for the whole process what is bound."""
    name = Path(connection.transport_options["control_folder"]).parent.name
    return Queue(name, Exchange(name), routing_key=name)


def sent(connection: Connection, *numbers: int) -> None:
    queue = work(connection)
    producer = Producer(connection.channel(), queue.exchange, queue.routing_key, serializer="json")
    for number in numbers:
        producer.publish({"number": number}, declare=[queue])


def taken(connection: Connection, count: int) -> list[int]:
    """So many messages, in the order in which they came."""
    found: list[int] = []

    def take(body: dict[str, Any], message: Any) -> None:
        found.append(body["number"])
        message.ack()

    with Consumer(connection, [work(connection)], callbacks=[take], accept=["json"]):
        while len(found) < count:
            connection.drain_events(timeout=PATIENCE_S)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def here(folder: Path) -> Iterator[Connection]:
    with connection(folder) as made:
        yield made


def test_the_platform_uses_it_for_the_folder(here: Connection) -> None:
    assert celery.TRANSPORT_ALIASES["filesystem"] == "routerplatform.file_queue:Transport"
    assert isinstance(here.transport, file_queue.Transport)


def test_messages_are_taken_once_and_in_order(here: Connection) -> None:
    for number in range(5):
        sent(here, number)
    assert sorted(taken(here, 5)) == list(range(5))
    with closing(here.channel()) as channel, pytest.raises(Empty):
        channel._get(work(here).name)


def test_nothing_unfinished_is_left_or_taken(here: Connection, folder: Path) -> None:
    sent(here, 1)
    unfinished = f".2_x.{work(here).name}.msg.77"
    (folder / unfinished).write_text("")  # of somebody who was killed while writing
    assert taken(here, 1) == [1]
    assert [path.name for path in folder.iterdir() if path.is_file()] == [unfinished]


def test_queues_bound_by_several_are_all_known(here: Connection, folder: Path) -> None:
    for name in ("one", "two", "one"):
        with connection(folder) as other:
            Queue(name, Exchange("all", type="fanout"))(other.channel()).declare()
    with closing(here.channel()) as channel:
        assert sorted(bound.queue for bound in channel.get_table("all")) == ["one", "two"]


def test_who_takes_while_others_send_never_finds_half_a_message(here: Connection, folder: Path) -> None:
    senders = [subprocess.Popen([sys.executable, "-c", SENDER, str(folder)]) for _ in range(2)]
    try:
        assert sorted(taken(here, 800)) == sorted([*range(400)] * 2)
    finally:
        for sender in senders:
            assert sender.wait(PATIENCE_S) == 0
