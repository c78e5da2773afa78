"""What is taken down of an exchange: only what has come to its good end, whatever a door does on the way."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest

from analytics.domain.idempotency import Claim, KeptAnswer, Standing
from routerplatform.doors.exchange import Exchange, Message
from routerplatform.doors.idempotency import RECORDER, Recorder, tell_whole
from routerplatform.gateway.idempotency import Idempotency

CLAIM = Claim("key", "body", "01a1f9b9-b3a7-7931-abb6-a189b6602716")
HEADERS = [(b"content-type", b"text/plain"), (b"Set-Cookie", b"a=b"), (b"x-ratelimit-remaining-requests", b"7")]


class Notebook:
    """A store that writes down how runs ended, beside what the caller was sent by then."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.ended: list[tuple[str, int]] = []  # how, and after how many messages
        self.answer: KeptAnswer | None = None

    def claim(self, claim: Claim, *, now: datetime, until: datetime) -> Standing | None:
        return None

    def renew(self, claims: Any, *, until: datetime) -> None:
        return None

    def keep(self, claim: Claim, answer: KeptAnswer | None) -> bool:
        self.ended.append(("kept", len(self.sent)))
        self.answer = answer
        return True

    def release(self, claim: Claim) -> None:
        self.ended.append(("released", len(self.sent)))

    def close(self) -> None:
        return None


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
async def recorder(notebook: Notebook) -> AsyncIterator[Recorder]:
    async def send(message: Message) -> None:
        await asyncio.sleep(0)
        notebook.sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    idempotency = Idempotency(notebook)
    await idempotency.claim(CLAIM)
    yield Recorder(idempotency, CLAIM, Exchange({}, receive, send, CLAIM.request_id, 0.0))
    await idempotency.close()


def start(status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": HEADERS}


def piece(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def test_a_whole_answer_is_kept_before_anything_is_sent(recorder: Recorder, notebook: Notebook) -> None:
    tell_whole({RECORDER: recorder})
    for message in (start(), piece(b"Hello")):
        await recorder.send(message)
    await recorder.end()
    assert notebook.ended == [("kept", 0)]
    assert notebook.answer == KeptAnswer(200, [(b"content-type", b"text/plain")], b"Hello")
    assert notebook.sent == [start(), piece(b"Hello")]


async def test_a_stream_is_passed_on_as_it_comes_and_kept_before_its_last_piece(
    recorder: Recorder, notebook: Notebook
) -> None:
    for message in (start(), piece(b"Hel", more=True)):
        await recorder.send(message)
    assert len(notebook.sent) == 2
    tell_whole({RECORDER: recorder})
    await recorder.send(piece(b"lo"))
    assert notebook.ended == [("kept", 2)]
    assert notebook.answer is not None
    assert notebook.answer.body == b"Hello"


async def test_a_stream_that_nobody_called_whole_frees_its_key_before_its_last_piece(
    recorder: Recorder, notebook: Notebook
) -> None:
    for message in (start(), piece(b"Hel", more=True), piece(b"error")):
        await recorder.send(message)
    await recorder.end()
    assert notebook.ended == [("released", 2)]
    assert len(notebook.sent) == 3


async def test_a_door_that_fails_after_it_called_its_answer_whole_has_not_answered(
    recorder: Recorder, notebook: Notebook
) -> None:
    tell_whole({RECORDER: recorder})
    for message in (start(500), piece(b"Something went wrong")):
        await recorder.send(message)
    assert notebook.ended == [("released", 0)]


@pytest.mark.parametrize("sent", [[], [start()], [start(), piece(b"Hel", more=True)]])
async def test_what_stops_on_its_way_is_not_kept_even_if_it_was_called_whole(
    recorder: Recorder, notebook: Notebook, sent: list[Message]
) -> None:
    tell_whole({RECORDER: recorder})
    for message in sent:
        await recorder.send(message)
    await recorder.end()
    await recorder.end()
    assert [how for how, _ in notebook.ended] == ["released"]


async def test_without_a_recorder_there_is_nothing_to_tell() -> None:
    scope: Message = {"type": "http"}
    tell_whole(scope)
    assert scope == {"type": "http"}
