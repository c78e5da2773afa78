"""The platform as a user starts it, and the clients that try it from outside.

`script/server` runs with a data folder of its own; everything is on loopback, and is ended by its pid.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import anthropic
import grpc
import httpx2
import openai
from websockets.sync.client import ClientConnection, connect

from routerplatform.embedded import Service, die_with_parent, free_port, start_valkey
from tests.contract.operations import Operator
from tests.contract.waiting import PATIENCE_S, must, until
from tests.e2e.admin_person import Form

ROOT: Final = Path(__file__).resolve().parents[2]
PYTHON: Final = ROOT / ".venv" / "bin" / "python"
START_S: Final = 120.0
OF_THE_TESTS: Final = (  # what a surrounding test run has set is not what a user has
    "DATABASE_URL", "REDIS_URL", "REDIS_ADDR", "DJANGO_SETTINGS_MODULE", "DATA_DIR", "JOURNAL_DIR", "METRICS_DIR",
    "PROMETHEUS_MULTIPROC_DIR", "DEBUG", "PORT", "METRICS_PORT", "GRPC_PORT",
)  # fmt: skip
LONG: Final = [{"role": "user", "content": "[[tokens=2000]] [[pace=0]] Spend"}]
HELLO: Final = [{"role": "user", "content": "Why is the sky blue?"}]


def user_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in OF_THE_TESTS}


class Child:
    """A process of ours; what it writes goes to `log`."""

    def __init__(self, argv: list[str], env: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                argv, cwd=ROOT, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True, preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call
            )  # fmt: skip

    @property
    def text(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, is_there: Callable[[], Any], what: str) -> None:
        def looked() -> Any:
            must(self._process.poll() is None, f"{what}: it ended.\n{self.text[-2000:]}")
            return is_there()

        until(looked, what, within_s=START_S)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass
class Person:
    """Somebody signed in to the pages of one gateway, without a browser."""

    http: httpx2.Client

    def form(self, page: str) -> Form:
        answer = self.http.get(page, follow_redirects=True)
        must(answer.status_code == 200, f"{page} answers {answer.status_code}")
        return Form(answer.text)

    def page(self, path: str) -> str:
        answer = self.http.get(path, follow_redirects=True)
        must(answer.status_code == 200, f"{path} answers {answer.status_code}")
        return str(answer.text)

    def send(self, page: str, fields: Mapping[str, Any]) -> httpx2.Response:
        """Submit a form of `page`."""
        origin = f"{self.http.base_url.scheme}://{self.http.base_url.netloc.decode()}"
        return self.http.post(page, data=dict(fields), headers={"referer": f"{origin}{page}"})

    def save(self, page: str, **changes: Any) -> str:
        """Open a form of the admin, change fields, press “Save”; where it leads."""
        form = self.form(page)
        answer = self.send(page, {**form.fields, **changes, "_save": "Save"})
        errors = re.findall(r"errorlist[^>]*>\s*<li[^>]*>([^<]+)", answer.text)
        must(answer.status_code == 302, f"{page} was not saved: {answer.status_code} {errors}")
        return str(answer.headers["location"])


@dataclass
class Stage:
    """The running platform. `touches` counts what was done to it from outside."""

    folder: Path
    touches: int = 0
    _children: list[Child] = field(default_factory=list)
    _services: list[Service] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.port, self.grpc_port, self.metrics_port = free_port(), free_port(), free_port()
        self.demo_port = free_port()
        self.env = {
            **user_environment(), "DATA_DIR": str(self.folder / "data"), "GRPC_PORT": str(self.grpc_port),
            "METRICS_PORT": str(self.metrics_port), "DEMO_PROVIDER_PORT": str(self.demo_port),
        }  # fmt: skip
        began = time.monotonic()
        self.server = Child([str(ROOT / "script/server"), "--port", str(self.port)], self.env, self.folder / "server")
        self._children.append(self.server)
        self.server.wait_for(lambda: "Ctrl-C stops everything" in self.server.text, "script/server becomes ready")
        self.started_in_s = time.monotonic() - began
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = self._printed(r"Authorization: Bearer (rp_\S+?)\"")
        self.password = self._printed(r"Sign in +admin / (\S{12,})")
        self.http = self.client(self.key)
        self._spend_above_a_budget()
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._children):
            child.stop()
        for service in self._services:
            service.stop()

    def _printed(self, pattern: str) -> str:
        found = re.search(pattern, self.server.text)
        must(found, f"script/server did not print {pattern}")
        assert found
        return found[1]

    def _spend_above_a_budget(self) -> None:
        """In the beginning, so that the worker has had its minute when its alert is looked for."""
        self.ops.add_budget(limit="0.01", mode="shadow", team="marketing")
        client = self.client(self.ops.key("spender", team="marketing"))
        self.json("POST", "/api/v1/chat", client=client, json={"model": "demo-sage", "messages": LONG})

    # --- clients -------------------------------------------------------------------------------------------------

    def _touched(self, *_: object) -> None:
        self.touches += 1

    def client(self, key: str = "", url: str = "") -> httpx2.Client:
        """A plain HTTP client that presents `key`."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        hooks = {"request": [self._touched]}
        return httpx2.Client(base_url=url or self.url, headers=headers, timeout=PATIENCE_S, event_hooks=hooks)

    def openai(self, key: str = "", url: str = "") -> openai.OpenAI:
        self.touches += 1
        return openai.OpenAI(base_url=f"{url or self.url}/v1", api_key=key or self.key, max_retries=0)

    def anthropic(self) -> anthropic.Anthropic:
        self.touches += 1
        return anthropic.Anthropic(base_url=self.url, api_key=self.key, max_retries=0)

    def socket(self, key: str = "") -> ClientConnection:
        """A WebSocket that is signed in."""
        self.touches += 1
        socket = connect(
            f"ws://127.0.0.1:{self.port}/ws/chat/", additional_headers={"authorization": f"Bearer {key or self.key}"},
            proxy=None,
        )  # fmt: skip
        must(json.loads(socket.recv(PATIENCE_S))["type"] == "ready", "the socket was not signed in")
        return socket

    @cached_property
    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}")

    def curl(self, *arguments: str) -> str:
        self.touches += 1
        done = subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    @cached_property
    def admin(self) -> Person:
        """The first person of the installation, signed in."""
        person = Person(self.client())
        page = "/admin/login/"
        fields = {**person.form(page).fields, "username": "admin", "password": self.password, "next": "/admin/"}
        must(person.send(page, fields).status_code == 302, "the printed password does not sign in")
        return person

    @cached_property
    def ops(self) -> Operator:
        return Operator(self)

    # --- asking --------------------------------------------------------------------------------------------------

    def chat(self, prompt: str = "Why is the sky blue?", **body: Any) -> dict[str, Any]:
        """One answer of the REST API.

        :raises NotKept: it was refused.
        """
        messages = [{"role": "user", "content": prompt}]
        return self.json("POST", "/api/v1/chat", json={"model": "auto", "messages": messages, **body})

    def json(self, method: str, path: str, *, client: httpx2.Client | None = None, **options: Any) -> Any:
        answer = (client or self.http).request(method, path, **options)
        must(answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json()

    def record(self, request_id: str) -> str:
        """The page that people see of a request, as soon as its record is there."""
        path = f"/dashboards/requests/{request_id}/"
        return str(until(lambda: self._found(path), f"the record of {request_id}"))

    def _found(self, path: str) -> str:
        answer = self.admin.http.get(path)
        return str(answer.text) if answer.status_code == 200 else ""

    def bills(self) -> list[dict[str, Any]]:
        """What the demo provider says that it was asked for."""
        bills = httpx2.get(f"http://127.0.0.1:{self.demo_port}/demo/bills", timeout=PATIENCE_S).json()["bills"]
        return list(bills)

    def moments(self, path: str, body: Mapping[str, Any]) -> list[float]:
        """When each piece of a streamed answer arrived (`time.monotonic()`)."""
        moments = []
        with self.http.stream("POST", path, json=dict(body)) as answer:
            must(answer.status_code == 200, f"{path}: {answer.status_code}")
            for _ in answer.iter_raw():
                moments.append(time.monotonic())
        return moments

    # --- commands and further processes --------------------------------------------------------------------------

    def manage(
        self, *arguments: str, env: Mapping[str, str] | None = None, without: Sequence[str] = (), may_fail: bool = False
    ) -> str:
        """What a management command prints; `without` names variables that it shall not have."""
        self.touches += 1
        own = {**self.env, "LOG_LEVEL": "ERROR", **(env or {})}
        own = {name: value for name, value in own.items() if name not in without}
        done = subprocess.run(
            [str(PYTHON), "manage.py", *arguments], cwd=ROOT, env=own,
            capture_output=True, text=True, check=False, timeout=3 * PATIENCE_S,
        )  # fmt: skip
        must(may_fail or done.returncode == 0, f"manage.py {arguments[0]}: {done.stdout[-300:]} {done.stderr[-500:]}")
        return done.stdout + (done.stderr if may_fail else "")

    def python(self, program: str, **env: str) -> str:
        """What a plain script prints, run in a home of its own with nothing but `env` set."""
        self.touches += 1
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        own = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), **env}
        done = subprocess.run(
            [str(PYTHON), "-c", program], cwd=home, env=own, capture_output=True, text=True, check=False,
            timeout=3 * PATIENCE_S,
        )  # fmt: skip
        must(done.returncode == 0, done.stderr[-800:])
        return done.stdout.strip()

    @cached_property
    def valkey(self) -> Service:
        """A Valkey of its own, for gateways that share answers and nothing else."""
        service = start_valkey(self.folder / "valkey")
        service.wait()
        self._services.append(service)
        return service

    def settings_of(self) -> dict[str, str]:
        """What a script needs to read the platform's own code and database."""
        secrets = dict(line.split("=", 1) for line in (ROOT / ".env").read_text().splitlines() if "=" in line)
        return {**secrets, "DJANGO_SETTINGS_MODULE": "routerplatform.settings", "DATA_DIR": self.env["DATA_DIR"]}

    def vendors_by_environment(self, **variables: str) -> str:
        """That an installation whose environment has these keys (name -> provider) has the vendors, and this one not.

        :raises NotKept: one is missing.
        """
        missing = [name for name in variables.values() if not re.search(rf"\b{name}:?$", self._vendors, re.MULTILINE)]
        must(not missing, f"not set up: {missing} in {self._vendors[:300]}")
        must("contract-key" not in self._vendors, "a key is told")
        here = {one["name"] for one in self.json("GET", "/api/v1/providers")}
        must(not here & set(variables.values()), f"there without their keys, too: {here}")
        return f"set up by {', '.join(variables)}"

    @cached_property
    def vendors_env(self) -> dict[str, str]:
        """The environment of an installation with every vendor's key, set up by commands and not running."""
        names = ("OPENAI", "ANTHROPIC", "GROQ", "GEMINI", "COHERE", "MISTRAL", "AI21")
        env = dict.fromkeys([f"{name}_API_KEY" for name in names], "contract-key-0123456789")
        env["DATA_DIR"] = str(self.folder / "vendors")
        for command in (("migrate", "--verbosity", "0"), ("catalogue_load", "--verbosity", "0"), ("vendor_keys",)):
            self.manage(*command, env=env)
        return env

    @cached_property
    def _vendors(self) -> str:
        """Its providers, as its configuration file has them."""
        return self.manage("config_export", "--only", "providers", env=self.vendors_env)

    @contextmanager
    def gateway(self, **env: str) -> Iterator[str]:
        """The address of one more gateway on the same data, with settings of its own."""
        port = free_port()
        argv = [str(PYTHON), "manage.py", "serve", "--port", str(port), "--stop-announce", "0", "--stop-drain", "3"]
        own = {**self.env, "REDIS_URL": "", "METRICS_PORT": "0", "PORT": str(port), **env}
        child = Child(argv, own, self.folder / f"gateway-{port}")
        try:
            url = f"http://127.0.0.1:{port}"
            child.wait_for(lambda: is_ready(url), "a further gateway becomes ready")
            yield url
        finally:
            child.stop()


def is_ready(url: str) -> bool:
    try:
        return bool(httpx2.get(f"{url}/health/ready", timeout=5).status_code == 200)
    except httpx2.TransportError:
        return False


def place(url: str) -> str:
    """The path of an address."""
    return urlsplit(url).path
