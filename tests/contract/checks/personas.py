"""Chapter D: personas."""

import json
import re
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from routerplatform.deploy.slim import CATALOGUES, FOLDERS, PACKAGES, SUFFIXES
from tests.contract.stage import HELLO, ROOT, Stage
from tests.contract.verdicts import keeps
from tests.contract.waiting import must, until

PERSONAS = ("code_assistant", "chatbot", "analyst", "creative_writer")


@keeps("D1")
def four_personas(stage: Stage) -> str:
    """Each of the four answers; their rules are exported as persona_policy.yaml, changed, imported, and in force."""
    for slug in PERSONAS:
        must(stage.chat(persona=slug, max_tokens=5)["persona"] == slug, slug)
    file = stage.folder / "persona_policy.yaml"
    stage.manage("config_export", "--format", "persona_policy", "--out", str(file))
    text = file.read_text()
    must(all(slug in text for slug in PERSONAS), text)
    file.write_text(text.replace("0.7", "0.6"))
    plan = stage.manage("config_import", str(file), "--plan", may_fail=True)
    must("0.6" in plan, plan)
    stage.manage("config_import", str(file), "--apply")
    until(lambda: temperature(stage) == 0.6, "the gateway follows the file")
    file.write_text(text)
    stage.manage("config_import", str(file), "--apply")
    until(lambda: temperature(stage) == 0.7, "the gateway follows the file")
    return "four personas answered; a temperature went out, was changed, came in, and went back"


def temperature(stage: Stage) -> float:
    """The chatbot's, as the gateway has it."""
    return next(one["temperature"] for one in stage.json("GET", "/api/v1/personas") if one["slug"] == "chatbot")


@keeps("D2")
def three_vendors(stage: Stage) -> str:
    """A model behind each vendor's own wire (Anthropic, OpenAI, Gemini) answers."""
    gemini = stage.ops.add_provider("gemini-like", kind="gemini", path="/v1beta")
    models = ("demo-sage", "demo-swift", f"{gemini}/demo-swift")
    said = [stage.chat("[[say=Here.]] Hello", model=model)["content"] for model in models]
    must(said == ["Here."] * 3, said)
    return "three wires, three answers"


@keeps("D3")
def what_a_request_needs(stage: Stage) -> str:
    """A picture passes over the chatbot's first models, which cannot see; capabilities.yaml goes out and in."""
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    seen = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]}]
    policy = stage.json("POST", "/api/v1/chat", json={"persona": "chatbot", "messages": seen, "max_tokens": 10})
    must(policy["model"] == "demo-balanced", f"{policy['model']} was shown a picture")
    refused = stage.http.post("/api/v1/chat", json={"model": "demo-swift", "messages": seen})
    must(refused.status_code == 400, f"demo-swift has no eyes: {refused.text}")
    return _round_trip_of_capabilities(stage)


def _round_trip_of_capabilities(stage: Stage) -> str:
    file = stage.folder / "capabilities.yaml"
    stage.manage("config_export", "--format", "capabilities", "--out", str(file))
    must("demo-swift" in file.read_text(), file.read_text()[:300])
    plan = json.loads(stage.manage("config_import", str(file), "--plan", "--json"))
    must(not plan.get("changes"), plan)
    return "a picture went to a model that sees; capabilities.yaml went out and came in without a difference"


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@keeps("D4")
def streaming_and_health(stage: Stage) -> str:
    """The first piece of a slow answer arrives long before its last one; GET /health answers without a key."""
    body = {"model": "demo-swift", "messages": [{"role": "user", "content": "[[tokens=40]] [[pace=25]] Go"}]}
    pieces = stage.moments("/api/v1/chat", {**body, "stream": True})
    must(pieces[-1] - pieces[0] > 0.5 and len(pieces) > 10, f"{len(pieces)} pieces in {pieces[-1] - pieces[0]:.2f} s")
    must(stage.client().get("/health").json()["status"] == "ok", "no health")
    return f"{len(pieces)} pieces over {pieces[-1] - pieces[0]:.1f} s"


@keeps("D5")
def lists(stage: Stage) -> str:
    """GET /api/v1/personas and /api/v1/providers."""
    personas = {one["slug"] for one in stage.json("GET", "/api/v1/personas")}
    providers = {one["name"] for one in stage.json("GET", "/api/v1/providers")}
    must(personas >= set(PERSONAS) and "demo" in providers, f"{personas} {providers}")
    return f"{len(personas)} personas, {len(providers)} providers"


@keeps("D6")
def the_native_chat(stage: Stage) -> str:
    """POST /api/v1/chat with every field of the contract, whole and as a stream."""
    body = {"persona": "chatbot", "messages": HELLO, "temperature": 0.7, "max_tokens": 4096}
    whole = stage.json("POST", "/api/v1/chat", json={**body, "stream": False})
    streamed = stage.http.post("/api/v1/chat", json={**body, "stream": True})
    must(whole["content"] and whole["persona"] == "chatbot", whole)
    must("event: done" in streamed.text, streamed.text[-300:])
    bad = stage.http.post("/api/v1/chat", json={**body, "temperature": "warm"})
    must(bad.status_code == 400 and bad.json()["error"]["param"] == "temperature", bad.text)
    return f"{whole['deployment']} answered whole and in pieces; a wrong temperature is named"


@keeps("D7")
def it_is_light(stage: Stage) -> str:
    """The lock has no machine-learning framework; what it installs is packed as an image's layer would be and added to
    its base (script/image_size does it exactly, in minutes); one more gateway is started and timed."""
    lock = (ROOT / "requirements" / "base.txt").read_text()
    heavy = [name for name in HEAVY if f"\n{name}==" in lock]
    must(not heavy, heavy)
    packed_mb = (BASE_PACKED + sum(len(zlib.compress(file.read_bytes(), 1)) for file in shipped_files(lock))) / 1e6
    must(packed_mb <= 200, f"the image would have {packed_mb:.0f} MB")
    began = time.monotonic()
    with stage.gateway():
        started_in_s = time.monotonic() - began
    stage.touches += 1
    return f"about {packed_mb:.0f} MB packed; a gateway was ready {started_in_s:.1f} s after its process began"


def shipped_files(lock: str) -> Iterator[Path]:
    """What the locked packages install here, but for what the image leaves out, and our own."""
    for name in sorted(set(re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)) - PACKAGES):
        with suppress(PackageNotFoundError):  # for another system
            package = distribution(name)
            for file in package.files or ():
                path = Path(str(package.locate_file(file)))
                is_left_out = {*file.parts} & (FOLDERS | {CATALOGUES}) or path.suffix in SUFFIXES
                if not is_left_out and path.is_file():
                    yield path
    for top in ("providers", "routing", "analytics", "routerplatform", "templates", "static"):
        yield from (path for path in (ROOT / top).rglob("*") if path.is_file() and "__pycache__" not in path.parts)


BASE_PACKED = 47_790_358  # python:3.11-slim-bookworm, as script/image_size has it
HEAVY = ("torch", "tensorflow", "transformers", "scikit-learn", "scipy", "pandas", "onnxruntime")


@keeps("D8")
def gemini_by_its_key(stage: Stage) -> str:
    """With GEMINI_API_KEY in the environment, Gemini and its models are there."""
    return stage.vendors_by_environment(GEMINI_API_KEY="gemini")
