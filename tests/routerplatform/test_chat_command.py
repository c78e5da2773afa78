"""`manage.py chat`: a conversation in a terminal with a running gateway."""

import asyncio
import fcntl
import json
import os
import pty
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.core.management.base import CommandError

from routerplatform.management.chat_client import ChatProblem, socket_address
from routerplatform.management.commands.chat import printable
from tests.gateway import Gateway, records
from tests.stalls import PATIENCE_S
from tests.upstreams.scripted import Upstream, openai_stream, status

ROOT = Path(__file__).resolve().parent.parent.parent
CTRL_C = b"\x03"


async def told(gateway: Gateway, *arguments: str, key: str = "", url: str = "") -> str:
    """What it prints for one question."""
    out = StringIO()
    options = ("--url", url or gateway.url, "--key", key or gateway.key)
    await sync_to_async(call_command, thread_sensitive=False)(
        "chat", *arguments, *options, stdout=out, stderr=StringIO()
    )
    return out.getvalue()


# --- one question -------------------------------------------------------------------------------------------------


async def test_a_question_is_answered_in_one_json_object(gateway: Gateway) -> None:
    answer = json.loads(await told(gateway, "Hello", "--model", "swift", "--json"))
    assert (answer["response"], answer["finish_reason"], answer["deployment"]) == ("Hello", "stop", "alpha/swift-1")
    assert answer["cost_usd"] == pytest.approx(0.000022)
    assert answer["usage"]["output_tokens"] == 5
    [record] = await records()
    assert (str(record.request_id), record.door) == (answer["request_id"], "websocket")


async def test_what_a_model_says_cannot_steer_the_terminal(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_stream("Hel\x1b[2Jlo\n", "\x07you"))
    assert await told(gateway, "Hello") == "Hel[2Jlo\nyou\n"
    assert printable("a\tb\nc\x00\x9b") == "a\tb\nc"


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ({"key": "rp_wrong"}, "invalid_api_key", "No valid API key"),
        ({"url": "http://127.0.0.1:9"}, "unreachable", "Start it with script/server"),
        ({"url": "ftp://gateway"}, "unreachable", "is no address of a gateway"),
    ],
)
async def test_what_goes_wrong_is_told_with_what_to_do(
    gateway: Gateway, options: dict[str, str], code: str, says: str
) -> None:
    out = StringIO()
    arguments = {"url": gateway.url, "key": gateway.key, **options}
    with pytest.raises(CommandError, match=says):
        await sync_to_async(call_command, thread_sensitive=False)("chat", "Hi", json=True, stdout=out, **arguments)
    error = json.loads(out.getvalue())["error"]
    assert (error["code"], says in error["message"]) == (code, True)


async def test_a_refusal_of_the_gateway_is_told_with_its_code(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(status(429, {"error": {"message": "slow"}}))
    with pytest.raises(CommandError, match="limits the rate"):
        await told(gateway, "Hi", "--model", "swift")


async def test_another_server_is_not_taken_for_a_gateway(gateway: Gateway, openai_upstream: Upstream) -> None:
    with pytest.raises(CommandError, match=r"Check --url"):
        await told(gateway, "Hi", url=openai_upstream.url)


@pytest.mark.django_db
def test_without_a_key_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO("Hi"))
    with pytest.raises(CommandError, match="create_key"):
        call_command("chat", "--json")


def test_the_socket_is_where_the_gateway_is() -> None:
    assert socket_address("https://router.example.com/llm/") == "wss://router.example.com/llm/ws/chat/"
    with pytest.raises(ChatProblem):
        socket_address("router.example.com")


# --- in a terminal (slow: a process of its own) ----------------------------------------------------------------------


class Terminal:
    """A person at a terminal."""

    def __init__(self, master: int) -> None:
        self.text = ""
        self._master = master
        self._news = asyncio.Event()
        os.set_blocking(master, False)
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            self.text += os.read(self._master, 65_536).decode(errors="replace")
        except OSError:  # the other side has gone
            asyncio.get_running_loop().remove_reader(self._master)
        self._news.set()

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    async def sees(self, is_there: Callable[[str], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not is_there(self.text):
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def at_a_terminal(gateway: Gateway) -> AsyncIterator[tuple[Terminal, asyncio.subprocess.Process]]:
    master, slave = pty.openpty()
    environment: dict[str, Any] = {**os.environ, "ROUTER_KEY": gateway.key, "NO_COLOR": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "manage.py", "chat", "--url", gateway.url, stdin=slave, stdout=slave, stderr=slave,
        cwd=ROOT, env=environment, preexec_fn=lambda: _take_terminal(slave), start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    terminal = Terminal(master)
    try:
        yield terminal, process
    finally:
        asyncio.get_running_loop().remove_reader(master)
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(master)


def _take_terminal(slave: int) -> None:
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


async def test_a_person_chats_stops_an_answer_and_leaves(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_stream("Hel", "lo"), openai_stream(*["word "] * 400, pause_s=0.05))
    async with at_a_terminal(gateway) as (terminal, process):
        await terminal.sees(lambda text: text.endswith("> "))
        terminal.type(b"Hi\n")
        await terminal.sees(lambda text: "alpha/swift-1 · $0.000022 · 12 + 5 tokens" in text)
        terminal.type(b"/model swift\n")
        await terminal.sees(lambda text: "model: swift" in text)
        terminal.type(b"More\n")
        await terminal.sees(lambda text: "word word" in text)
        terminal.type(CTRL_C)
        await terminal.sees(lambda text: "stopped" in text and text.endswith("> "))
        terminal.type(CTRL_C)
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 130
    assert "Traceback" not in terminal.text
    assert [message["content"] for message in openai_upstream.calls[1].body["messages"]] == ["Hi", "Hello", "More"]
    assert [record.state for record in await records(2)] == ["settled", "cancelled"]
