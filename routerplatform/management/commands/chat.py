"""`manage.py chat`: talk to a running gateway in a terminal."""

import asyncio
import getpass
import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from routerplatform.demo import demo_key
from routerplatform.management.banner import Console
from routerplatform.management.chat_client import ChatProblem, Turn, answer, turn_json
from routerplatform.management.gateway_address import gateway_url

GREY, RED, GREEN = 90, 31, 32
HELP: Final = "/new forgets what was said, /persona NAME and /model NAME change who answers, /quit leaves (or Ctrl-D)."


class Command(BaseCommand):
    help = (
        "Chats with a running gateway, and shows after each answer which model gave it and what it cost. Ctrl-C stops "
        "an answer; between answers it leaves. With a prompt, or when the input is no terminal, it asks that and ends."
    )
    requires_system_checks: list[str] = []  # it speaks to a gateway, which may be elsewhere

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("prompt", nargs="?", default="", help="Ask only this.")
        parser.add_argument("--persona", default="", metavar="SLUG", help="Who answers; see /api/v1/personas.")
        parser.add_argument("--model", default="", metavar="NAME", help="auto, an alias, a provider, provider/model.")
        parser.add_argument("--key", default="", help="A virtual key. Better: in ROUTER_KEY, where nobody reads it.")
        parser.add_argument("--url", default=gateway_url(), help="The gateway (default: %(default)s).")
        parser.add_argument("--json", action="store_true", help="One question, and one JSON object as its answer.")

    def handle(self, *_: Any, **options: Any) -> None:
        key = options["key"] or settings.ROUTER_KEY or self._key_at_hand(options)
        chat = Chat(self, key, options)
        prompt = options["prompt"] or ("" if sys.stdin.isatty() else sys.stdin.read().strip())
        if options["json"] and not prompt:
            raise CommandError("--json answers one question: give it as an argument, or as the input.")
        try:
            with asyncio.Runner() as runner:
                if prompt:
                    chat.once(runner, prompt)
                elif sys.stdin.isatty():
                    chat.go_on(runner)
        except KeyboardInterrupt:
            self.stderr.write("")
            sys.exit(130)  # as shells say that Ctrl-C ended it

    def _key_at_hand(self, options: dict[str, Any]) -> str:
        """The demo's key for the gateway of this machine, else what somebody types."""
        if options["url"] == gateway_url():
            with suppress(DatabaseError):
                if found := demo_key():
                    return found
        if options["json"] or not sys.stdin.isatty():
            raise CommandError("A virtual key is missing: set ROUTER_KEY, or give --key. Issue one with create_key.")
        return getpass.getpass("Virtual key (rp_…): ").strip()


class Chat:
    """One conversation: what was said, and how its answers are shown."""

    def __init__(self, command: Command, key: str, options: dict[str, Any]) -> None:
        self._command = command
        self._console = Console(sys.stdout)
        self._key = key
        self._url: str = options["url"]
        self._names = {name: options[name] for name in ("persona", "model") if options[name]}
        self._as_json: bool = options["json"]
        self._said: list[dict[str, str]] = []

    def once(self, runner: asyncio.Runner, prompt: str) -> None:
        """Ask, tell, end. :raises CommandError: there is no whole answer."""
        try:
            turn = self._turn(runner, prompt)
        except ChatProblem as problem:
            if self._as_json:
                error = {"code": problem.code, "message": str(problem), "request_id": problem.request_id or None}
                self._command.stdout.write(json.dumps({"object": "chat", "error": error}))
            raise CommandError(str(problem)) from problem
        if self._as_json:
            self._command.stdout.write(json.dumps(turn_json(turn)))
        if turn.is_stopped:
            raise KeyboardInterrupt

    def go_on(self, runner: asyncio.Runner) -> None:
        """One turn after the other, until somebody leaves."""
        self._grey(f"{self._url}. {HELP}")
        for line in self._lines():
            if line.startswith("/"):
                if self._is_end(line):
                    return
                continue
            try:
                self._turn(runner, line)
            except ChatProblem as problem:
                self._said.pop()
                told = f" ({problem.request_id})" if problem.request_id else ""
                self._console.write(self._console.paint(f"{problem}{told}", RED))

    def _lines(self) -> Iterator[str]:
        while True:
            try:
                line = input(self._console.paint("> ", GREEN)).strip()
            except EOFError:
                self._console.write("")
                return
            if line:
                yield line

    def _is_end(self, line: str) -> bool:
        """Carry out what is no question; whether it was to leave."""
        name, _, value = line[1:].partition(" ")
        match name:
            case "quit" | "exit":
                return True
            case "new":
                self._said.clear()
                self._grey("Forgotten.")
            case "persona" | "model":
                self._names = {**self._names, name: value.strip()} if value.strip() else _without(self._names, name)
                self._grey(", ".join(f"{what}: {who}" for what, who in self._names.items()) or "model: auto")
            case _:
                self._grey(HELP)
        return False

    def _turn(self, runner: asyncio.Runner, prompt: str) -> Turn:
        self._said.append({"role": "user", "content": prompt})
        show = (lambda text: None) if self._as_json else self._show
        turn = runner.run(answer(self._url, self._key, {**self._names, "messages": self._said}, show))
        self._said.append({"role": "assistant", "content": turn.text})
        if not self._as_json:
            self._show("" if turn.text.endswith("\n") else "\n")
            self._grey(bill(turn))
        return turn

    def _show(self, text: str) -> None:
        self._command.stdout.write(printable(text), ending="")
        self._command.stdout.flush()

    def _grey(self, text: str) -> None:
        self._console.write(self._console.paint(text, GREY))


def _without(names: dict[str, str], name: str) -> dict[str, str]:
    return {one: value for one, value in names.items() if one != name}


def printable(text: str) -> str:
    """Without what would steer the terminal: a model's answer is anybody's text."""
    return "".join(character for character in text if character in "\n\t" or character.isprintable())


def bill(turn: Turn) -> str:
    """“alpha/swift-1 · $0.000022 · 12 + 5 tokens · 0.4 s”."""
    usage = turn.usage
    cost = usage.get("cost_usd")
    parts = [turn.route.get("deployment", "no model")]
    if usage:
        read = usage.get("input_tokens", 0) + usage.get("cache_read_input_tokens", 0)
        parts += ["price unknown" if cost is None else f"${cost:.6f}"]
        parts += [f"{read} + {usage.get('output_tokens', 0)} tokens", f"{usage['latency_ms'] / 1000:.1f} s"]
    parts += [] if turn.finish_reason in {"", "stop"} else [turn.finish_reason]
    parts += ["stopped"] if turn.is_stopped else []
    parts += [f"asks for {tool['name']}" for tool in turn.tools]
    parts += [turn.route["notice"]] if turn.route.get("notice") else []
    return " · ".join(parts)
