"""The library in plain Python programs: each sample of docs/library.md, and what a program may do wrong.

Real processes with an environment that holds vendors' keys and nothing else; the first of them makes its folder.
"""

import asyncio
import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.stalls import PATIENCE_S
from tests.upstreams.scripted import Upstream, anthropic_answer, openai_answer

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "library.md").read_text(), re.MULTILINE | re.DOTALL)
KEYS = {"OPENAI_API_KEY": "sk-test-0001-openai", "ANTHROPIC_API_KEY": "sk-ant-test-0001", "GROQ_API_KEY": "gsk_test_01"}
LIMIT_S = 2 * PATIENCE_S

# Runs programs one after the other in one process, as a notebook does, and prints what each has printed.
DRIVER = """
import contextlib, io, json, runpy, sys
said = []
for path in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        runpy.run_path(path, run_name="__main__")
    said.append(out.getvalue())
print(json.dumps(said))
"""


ASK = """
import asyncio, os
from routerplatform.doors.library import AIModelRouter, RouterError
{before}
router = AIModelRouter()
try:
    print(asyncio.run(router.route("Hello")).get("response"), flush=True)
except RouterError as error:
    print(error)
{after}
"""


FORK = """
if os.fork():
    os.wait()
else:
    try:
        router.get_stats()
    except RouterError as error:
        print(error, flush=True)
    os._exit(0)
"""


def ask(before: str = "", after: str = "") -> str:
    return ASK.format(before=before, after=after)


async def _any_wire(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Whatever vendor it is asked as; the text names the model."""
    text = f"This is {body.get('model')}."
    if request.path.endswith("/messages"):
        return await anthropic_answer(text)(request, body)
    if request.path.endswith("/api/chat"):
        told = {"message": {"role": "assistant", "content": text}, "done": True, "done_reason": "stop"}
        return web.json_response({**told, "model": body["model"], "prompt_eval_count": 12, "eval_count": 5})
    return await openai_answer(text)(request, body)


@pytest.fixture
async def vendors() -> AsyncIterator[Upstream]:
    upstream = Upstream(_any_wire)
    await upstream.start()
    yield upstream
    await upstream.stop()


class Programs:
    """Runs programs with a home of their own."""

    def __init__(self, home: Path, vendors: Upstream) -> None:
        self.home = home
        self.folder = home / ".ai-router"
        addresses = [f"{kind}={vendors.url}" for kind in ("openai", "anthropic", "groq")]
        addresses.append(f"ollama={vendors.url.removesuffix('/v1')}/api")
        self.environment = {
            "HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "always::ResourceWarning", "AI_ROUTER_BASE_URLS": ",".join(addresses), **KEYS,
        }  # fmt: skip

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env=self.environment | environment, cwd=self.home,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def run(self, program: str, **environment: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a program's text."""
        process = await self.start("-c", program, **environment)
        out, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
        return process.returncode or 0, out.decode(), err.decode()

    def rows(self, query: str) -> list[Any]:
        with sqlite3.connect(self.folder / "router.sqlite3") as connection:
            return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def new_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that two programs without any vendor's key have made at the same time."""
    home = tmp_path_factory.mktemp("home")
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    for_others = {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1",
        "DEBUG": "x",
    }
    both = [
        subprocess.Popen(
            [sys.executable, "-c", ask()], env=environment | for_others, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in both:
        out, err = process.communicate(timeout=LIMIT_S)
        assert (out.partition(":")[0], err) == ("no_models", "")
    return home / ".ai-router"


@pytest.fixture
def programs(tmp_path: Path, vendors: Upstream, new_folder: Path) -> Programs:
    shutil.copytree(new_folder, tmp_path / ".ai-router")
    return Programs(tmp_path, vendors)


async def test_every_sample_of_the_page_runs(programs: Programs, vendors: Upstream) -> None:
    assert len(SAMPLES) >= 8
    paths = []
    for number, sample in enumerate(SAMPLES):
        path = programs.home / f"sample_{number}.py"
        path.write_text(sample)
        paths.append(str(path))
    process = await programs.start("-c", DRIVER, *paths)
    out, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
    assert (process.returncode, err.decode()) == (0, "")
    said = json.loads(out)
    first, stream, many, policy, models, classifier, custom, cost = said
    assert re.fullmatch(r"(\S+) [\d.e-]+ This is \1\.\n", first)
    assert stream.startswith("This is ")
    assert "3 0" not in many
    assert many.endswith(" 4 0\n")
    assert policy.startswith("claude-sonnet-5-5 - ")
    assert models.splitlines()[0].startswith("0.00015 0.00015 0.0006 ('Fast")
    assert models.splitlines()[1] == "llama3.2 0.0 This is llama3.2."
    assert classifier.startswith("CODING ")
    assert custom.splitlines() == ["custom parrot-1 heard: Hello! 1.2e-05", "any-name heard: Hello again!"]
    assert "spent, over $1e-07" in cost
    assert " 1.0 {" in cost
    sent = [call.headers.get("Authorization", call.headers.get("X-Api-Key", "")) for call in vendors.calls]
    assert {key for key in sent if key} <= {f"Bearer {key}" for key in KEYS.values()} | set(KEYS.values())
    doors = programs.rows("SELECT DISTINCT door FROM analytics_usagerecord")
    assert doors == [("library",)]
    _check_folder(programs.folder)


def _check_folder(folder: Path) -> None:
    """Nobody else may read what matters, and no key stands anywhere as it is."""
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("secrets", "router.sqlite3"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert not [key for key in KEYS.values() if key.encode() in path.read_bytes()], path


async def test_a_program_that_is_killed_or_forks_loses_nothing(programs: Programs) -> None:
    code, out, err = await programs.run(ask(after="os._exit(9)"))
    assert (code, out, err) == (9, "This is openai/gpt-oss-20b.\n", "")  # the cheapest that will do
    code, out, err = await programs.run(ask(after="print(router.get_stats()['requests'])" + FORK))
    said = out.splitlines()
    assert said[1] == "2"
    assert "forked: This router belongs to the parent process." in said[2]
    assert programs.rows("SELECT count(*) FROM routing_virtualkey") == [(1,)]
    assert programs.rows("SELECT state, count(*) FROM analytics_usagerecord GROUP BY state") == [("settled", 2)]


UNRULY = """
import os, sys, threading, time
from routerplatform.doors.library import AIModelRouter, RouterError

class Hangs:
    def call_model(self, model_name, prompt):
        began.set()
        threading.Event().wait()

def ends(alert):
    told.set()
    sys.exit("enough is spent")

began, told = threading.Event(), threading.Event()
router = AIModelRouter(cost_alert=1e-9, on_alert=ends)
router.providers["hangs"] = Hangs()
threading.Thread(target=lambda: router.route_sync("Hello", model="hangs/m"), daemon=True).start()
began.wait()
print(router.route_sync("Hello")["response"], told.wait(30), flush=True)
if (child := os.fork()) == 0:
    own = AIModelRouter()
    print(own.route_sync("Hello from a child")["response"], flush=True)
    own.close()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), router.route_sync("Hello")["response"])
threading.excepthook = lambda failed: None  # the one that waits for ever is told that the router is closed
"""


async def test_a_program_ends_whatever_its_own_code_does(programs: Programs) -> None:
    """A class that never comes back, a callback that wants to end everything, a child with a router of its own."""
    code, out, err = await programs.run(UNRULY)
    answer = "This is openai/gpt-oss-20b."
    assert (code, out.splitlines(), err) == (0, [f"{answer} True", answer, f"0 {answer}"], "")
    states = programs.rows("SELECT state, count(*) FROM analytics_usagerecord GROUP BY state ORDER BY 1")
    assert states == [("cancelled", 1), ("settled", 3)]


async def test_settings_of_the_environment_hold_and_wrong_ones_are_named(programs: Programs) -> None:
    hold = "from django.conf import settings; print(settings.MAX_ATTEMPTS, settings.REQUEST_TIMEOUT_S)"
    code, out, err = await programs.run(
        ask(before=hold), AI_ROUTER_MAX_RETRIES="1", AI_ROUTER_TIMEOUT="30", AI_ROUTER_LOG_LEVEL="INFO"
    )
    assert out.splitlines()[0] == "2 30.0"
    assert "INFO routing.config_store: configuration revision" in err
    code, out, err = await programs.run(ask(), AI_ROUTER_TIMEOUT="soon")
    assert (code, "A setting in the environment is not usable" in err) == (1, True)
    code, out, err = await programs.run(ask(), DJANGO_SETTINGS_MODULE="shop.settings")
    assert (code, "shop.settings, which is not the platform's" in err) == (1, True)


ADD_UP = """
from routerplatform.doors.library import AIModelRouter, ModelConfig, RouterError, RoutingPolicy, TaskType

def told(work):
    try:
        said = work()
        print(said["model_used"] if isinstance(said, dict) else said)
    except RouterError as error:
        print(f"{error.code}: {error.message}")

with_one_vendor = AIModelRouter()
ask = with_one_vendor.route_sync
models = with_one_vendor.registry.models
told(lambda: ask("Hello"))
told(lambda: ask("Hello", model="gpt-4o"))
told(lambda: ask("Hello", model="openai/gpt-4o"))
told(lambda: ask("Hello", model="claude-sonnet-5-5"))
told(lambda: ask("Hello", model="claude-3-5-sonnet-20241022"))
told(lambda: ask("Hello", model="gpt-4oo"))
told(lambda: ask("Hello", persona="code_assistant"))
told(lambda: ask("Prove it", task_type="COMPLEX_REASONING"))
models["tiny"] = ModelConfig("tiny-1", "ollama", 0.0, base_url=BOX, strengths=["CREATIVE"])
told(lambda: ask("A poem", task_type="CREATIVE", model="tiny"))
policy = RoutingPolicy(TaskType.CODING, ["gpt-4o", "tiny"])
told(lambda: with_one_vendor.add_policy(TaskType.CODING, policy))
told(lambda: ask("Sort it", task_type="CODING"))
gone = RoutingPolicy(TaskType.ANALYSIS, ["gpt-4-turbo"])
told(lambda: with_one_vendor.add_policy(TaskType.ANALYSIS, gone))
print(models["gpt-4o"].is_callable, models["claude-sonnet-5-5"].is_callable, models["gpt-4"].replaced_by)
"""


async def test_a_folder_deploys_what_is_named_and_says_why_it_cannot(programs: Programs, vendors: Upstream) -> None:
    box = vendors.url.removesuffix("/v1")
    only = {"ANTHROPIC_API_KEY": "", "GROQ_API_KEY": ""}
    code, out, err = await programs.run(f"BOX = {box!r}\n{ADD_UP}", **only)
    assert (code, err) == (0, "")
    said = out.splitlines()
    assert said[:3] == ["gpt-6-luna", "gpt-4o", "gpt-4o"]
    assert said[3].startswith("no_vendor_key: “claude-sonnet-5-5” is served by Anthropic, which has no key here.")
    assert said[4].startswith(
        "model_retired: “claude-3-5-sonnet-20241022” was retired by Anthropic on 2025-10-28. Use "
    )
    assert said[5].startswith("model_not_found: There is no model “gpt-4oo”. Did you mean “gpt-4o”")
    coding, reasoning, poem, none, sorting, retired, shown = said[6:]
    assert coding in {"gpt-6.1-sol", "gpt-5.2", "gpt-4.1"}  # a standard model: code needs more than an economy one
    assert reasoning.startswith("gpt-")
    assert (poem, none, sorting) == ("tiny-1", "None", "gpt-4o")
    assert retired.startswith("model_retired: “gpt-4-turbo”")
    assert shown == "True False gpt-5.6-sol"
    names = "SELECT p.name FROM routing_policycandidate c JOIN routing_routingpolicy p ON p.id = c.policy_id "
    of_tiny = programs.rows(names + "JOIN routing_modelalias a ON a.id = c.alias_id WHERE a.name = 'tiny' ORDER BY 1")
    assert of_tiny == [("coding",), ("creative",), ("default",)]
    code, out, err = await programs.run(ask())  # with all three keys: those vendors join the policies now
    assert out == "This is openai/gpt-oss-20b.\n"
    count = programs.rows(f"SELECT count(*) FROM ({names} WHERE p.name = 'coding')")  # noqa: S608 - of this test
    assert count == [(2,)]  # its models are the program's own choice
