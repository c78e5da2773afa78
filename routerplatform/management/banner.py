"""What `manage.py dev` prints: one line per event of a child, and the page that a person starts from."""

import os
from dataclasses import dataclass
from typing import Final, TextIO

WIDTH: Final = 10
COLOURS: Final = {"web": 36, "grpc": 34, "worker": 35, "demo": 33, "": 90}


@dataclass(frozen=True, slots=True)
class Access:
    """How to get in. None: it existed before, and only a hash of it is stored."""

    username: str | None = None
    password: str | None = None
    key: str | None = None


class Console:
    """Writes lines, in colour if a person looks at them (see no-color.org)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._colour = stream.isatty() and not os.environ.get("NO_COLOR")

    def line(self, name: str, text: str) -> None:
        """One line from the child `name`, or from the supervisor if it is empty."""
        self.write(f"{self.paint(f'{name:<{WIDTH}}', COLOURS.get(name, 90))}{text}")

    def write(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def paint(self, text: str, code: int) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text


def banner(console: Console, *, origin: str, access: Access, seconds: float, grpc: str = "") -> str:
    """The start page: where everything is, how to sign in, and two requests to paste. `grpc` is host:port."""

    def row(label: str, value: str) -> str:
        return f"  {console.paint(f'{label:<13}', 90)} {value}"

    def heading(text: str) -> str:
        return f"  {console.paint(text, 1)}"

    key = access.key or "$ROUTER_KEY"
    return "\n".join(
        [
            "",
            f"  {console.paint('Router Platform is ready', 1)}  {console.paint(f'({seconds:.1f} s)', 90)}",
            "",
            row("Dashboards", f"{origin}/dashboards/"),
            row("Playground", f"{origin}/playground/"),
            row("Admin", f"{origin}/admin/"),
            row("API docs", f"{origin}/api/v1/docs/"),
            row("Health", f"{origin}/health/ready"),
            *([row("gRPC", f"{grpc}  (docs/grpc.md)")] if grpc else []),
            "",
            row("Sign in", _sign_in(console, access)),
            row("API key", access.key or "issue one in Admin > Virtual keys, then: export ROUTER_KEY=rp_..."),
            "",
            heading("Ask it something"),
            "",
            CURL.format(origin=origin, key=key),
            "",
            heading("Stream it with the openai package"),
            "",
            PYTHON.format(origin=origin, key=access.key or "rp_..."),
            "",
            f"  {console.paint('Ctrl-C stops everything.', 90)}",
            "",
        ]
    )


def _sign_in(console: Console, access: Access) -> str:
    if access.username is None:
        return "create the first account: .venv/bin/python manage.py createsuperuser"
    if access.password is None:
        change = f".venv/bin/python manage.py changepassword {access.username}"
        return f"{access.username}, with the password of the first start (a new one: {change})"
    return f"{access.username} / {console.paint(access.password, 32)}   (shown only now)"


CURL: Final = """\
  curl {origin}/v1/chat/completions \\
    -H "Authorization: Bearer {key}" \\
    -H "Content-Type: application/json" \\
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "Why is the sky blue?"}}]}}'"""

PYTHON: Final = """\
  from openai import OpenAI

  client = OpenAI(base_url="{origin}/v1", api_key="{key}")
  question = [{{"role": "user", "content": "Write a haiku about routers."}}]
  for chunk in client.chat.completions.create(model="auto", messages=question, stream=True):
      if chunk.choices:
          print(chunk.choices[0].delta.content or "", end="", flush=True)"""
