"""Chapter P: the platform as people and programs meet it."""

import ast
import json
import re
from datetime import UTC, datetime
from pathlib import Path

from tests.contract.browser import Browser
from tests.contract.stage import HELLO, ROOT, Stage
from tests.contract.verdicts import keeps
from tests.contract.waiting import must, until

PACKAGES = {  # what the lock calls it -> what the code imports
    "django": "django", "djangorestframework": "rest_framework", "django-environ": "environ", "celery": "celery",
    "redis": "redis", "psycopg": "psycopg", "channels": "channels", "daphne": "daphne", "openai": "openai",
    "anthropic": "anthropic", "pytest-django": "pytest_django",
}  # fmt: skip
TOP_LEVEL = {
    "manage.py", "routerplatform", "routing", "providers", "analytics", "templates", "requirements",
    "docker-compose.yml", "tests",
}  # fmt: skip


@keeps("P1")
def rows_are_kept(stage: Stage) -> str:
    """A request is made; the admin's lists of providers, keys, personas, policies and usage records are opened."""
    request = stage.chat("Hello", persona="chatbot", max_tokens=5)
    stage.record(request["id"])
    lists = {
        "providers/provider": "demo-anthropic", "routing/virtualkey": "Demo key", "routing/persona": "chatbot",
        "routing/routingpolicy": "coding", "analytics/usagerecord": "demo-swift",
    }  # fmt: skip
    for path, text in lists.items():
        must(text in stage.admin.page(f"/admin/{path}/"), f"{path} does not show {text}")
    return f"{len(lists)} lists show their rows, the new request among them"


@keeps("P2")
def rest_whole_and_socket_streamed(stage: Stage) -> str:
    """The REST API answers at once, a WebSocket (websockets) in pieces."""
    must(stage.chat(max_tokens=20)["content"], "no answer over REST")
    frames = over_socket(stage, "[[tokens=20]] Go")
    deltas = [frame for frame in frames if frame["type"] == "delta"]
    must(len(deltas) > 3 and frames[-1]["type"] == "done", frames[-1])
    return f"one body; {len(deltas)} pieces, then usage and done"


def over_socket(stage: Stage, prompt: str, *, key: str = "", **body: object) -> list[dict[str, object]]:
    """All frames of one chat."""
    with stage.socket(key) as socket:
        messages = [{"role": "user", "content": prompt}]
        socket.send(json.dumps({"type": "chat", "id": "1", "model": "demo-swift", "messages": messages, **body}))
        frames = [json.loads(socket.recv(60))]
        while frames[-1]["type"] not in {"done", "error"}:
            frames.append(json.loads(socket.recv(60)))
    return frames


@keeps("P3")
def workers_work(stage: Stage) -> str:
    """The running worker checks a provider's health, sums up a day, and raises a budget's alert."""
    health = stage.json("GET", "/api/v1/providers")
    checked = [one["name"] for one in health if one["health"] == "healthy"]
    must({"demo", "demo-anthropic"} <= set(checked), health)
    page = until(lambda: _alerted(stage), "the alert of the budget that was spent in the beginning", within_s=150)
    must("Marketing" in page, "the alert does not name its team")
    today = datetime.now(UTC).date().isoformat()
    sums = json.loads(stage.manage("rollup_costs", "--from", today, "--to", today, "--json"))
    return f"{len(checked)} providers checked, an alert opened, sums of today: {str(sums)[:60]}"


def _alerted(stage: Stage) -> str:
    page = stage.admin.page("/dashboards/alerts/")
    return page if "Marketing" in page and "udget" in page else ""


@keeps("P4")
def the_admin_is_followed(stage: Stage) -> str:
    """In a browser: a persona's form is saved; the next request is answered by its new model within two seconds."""
    with Browser(stage) as browser:
        browser.sign_in()
        changed = browser.persona_prompt("chatbot", "You end every answer with the word Ahoy.")
    must(changed, "the form was not saved")
    until(lambda: "Ahoy" in stage.ops.found("personas", slug="chatbot")["system_prompt"], "the prompt is stored")
    key = stage.ops.key("contract")
    client = stage.client(key)
    must(client.get("/v1/models").status_code == 200, "the new key is refused")
    stage.ops.revoke("contract")
    until(lambda: client.get("/v1/models").status_code == 401, "the revoked key is refused", within_s=10)
    return "a persona's prompt and a key's revocation were followed"


@keeps("P5")
def an_application_calls_rest(stage: Stage) -> str:
    """curl, as an application would."""
    said = stage.curl(
        "-H", f"Authorization: Bearer {stage.key}", "-H", "Content-Type: application/json",
        "-d", json.dumps({"persona": "chatbot", "messages": HELLO}), f"{stage.url}/api/v1/chat",
    )  # fmt: skip
    answer = json.loads(said)
    must(answer["content"] and answer["cost_usd"] is not None, said)
    return f"{len(answer['content'])} characters for ${answer['cost_usd']:.6f}"


@keeps("P6")
def a_person_chats(stage: Stage) -> str:
    """In a browser: the playground streams an answer over its WebSocket, and shows what it cost."""
    with Browser(stage) as browser:
        browser.sign_in()
        shown = browser.chatted("[[say=Good morning to you.]] Hello")
    must("Good morning to you." in shown and "$" in shown, shown[-300:])
    return "the answer and its cost appeared"


@keeps("P7")
def spend_per_team(stage: Stage) -> str:
    """In a browser: the dashboard names the teams with what they spent."""
    stage.chat("[[tokens=100]] Spend", max_tokens=200)
    with Browser(stage) as browser:
        browser.sign_in()
        text = browser.text_of("/dashboards/")
    teams = [team for team in ("Checkout", "Support bot", "Search", "Data science", "Marketing") if team in text]
    must(len(teams) == 5 and "$" in text, text[:500])
    return f"{len(teams)} teams, with amounts"


@keeps("P8")
def packages_do_real_work(stage: Stage) -> str:
    """The running code imports each package of the list outside of tests (pytest-django: the suite)."""
    stage.touches += 1
    lock = (ROOT / "requirements" / "dev.txt").read_text().lower()
    used = imports_of([*source_files(), ROOT / "tests" / "conftest.py"])
    settings = (ROOT / "routerplatform" / "settings.py").read_text()
    runs = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    missing = [name for name in PACKAGES if f"\n{name}==" not in f"\n{lock}" and f"\n{name}[" not in f"\n{lock}"]
    idle = [
        name for name, module in PACKAGES.items()
        if module not in used and f'"{module}"' not in settings and module not in runs
    ]  # fmt: skip
    must(not missing and not idle, f"not locked: {missing}; not used: {idle}")
    return f"{len(PACKAGES)} packages are locked and used"


def source_files() -> list[Path]:
    return [
        path for top in ("providers", "routing", "analytics", "routerplatform") for path in (ROOT / top).rglob("*.py")
    ]


def imports_of(files: list[Path]) -> set[str]:
    """The top-level packages that files import."""
    found: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found


@keeps("P9")
def the_top_level(stage: Stage) -> str:
    """The checkout's top level is listed."""
    stage.touches += 1
    there = {path.name for path in ROOT.iterdir()}
    must(there >= TOP_LEVEL, sorted(TOP_LEVEL - there))
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and re.match(r"[a-z]", path.name)}
    odd = (
        folders
        - TOP_LEVEL
        - {"script", "docs", "static", "benchmarks", "protos", "var", "dist", "build", "node_modules"}
    )
    must(not odd, f"unexpected: {sorted(odd)}")
    return "nine names, and the tools' folders"
