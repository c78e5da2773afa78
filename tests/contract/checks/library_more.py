"""Chapter B, second half: what the list of features names."""

import base64
import hmac
import re
import time
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from tests.contract.checks.proxy import asked
from tests.contract.operations import listening
from tests.contract.stage import Stage
from tests.contract.verdicts import keeps
from tests.contract.waiting import must, until

HI = [{"role": "user", "content": "Hi"}]


@keeps("B18")
def local_models(stage: Stage) -> str:
    """Providers of the kinds Ollama, vLLM and TGI at a loopback address answer."""
    names = [stage.ops.add_provider(f"own-{kind}", kind=kind, path=path) for kind, path in LOCAL.items()]
    said = [stage.chat("[[say=Local.]] Hi", model=f"{name}/demo-swift")["content"] for name in names]
    must(said == ["Local."] * 3, said)
    return ", ".join(names)


LOCAL = {"ollama": "/api", "vllm": "/v1", "tgi": "/v1"}


@keeps("B19")
def streaming(stage: Stage) -> str:
    """The openai and the anthropic package stream; the pieces come over time."""
    slow = [{"role": "user", "content": "[[tokens=30]] [[pace=20]] Go"}]
    moments = []
    for chunk in stage.openai().chat.completions.create(model="demo-swift", messages=slow, stream=True):  # type: ignore[call-overload]
        if chunk.choices and chunk.choices[0].delta.content:
            moments.append(time.monotonic())
    must(moments[-1] - moments[0] > 0.3, "all at once")
    pieces = 0
    with stage.anthropic().messages.stream(model="demo-sage", max_tokens=50, messages=slow) as stream:  # type: ignore[arg-type]
        for _ in stream.text_stream:
            pieces += 1
    must(pieces > 10, f"{pieces} pieces")
    return f"{len(moments)} and {pieces} pieces"


@keeps("B20")
def a_cache_in_redis(stage: Stage) -> str:
    """An answer kept by one gateway is given again by another one that shares only Redis with it."""
    text, said = str(uuid4()), {"temperature": 0, "max_tokens": 20}
    with stage.gateway(REDIS_URL=stage.valkey.url) as one, stage.gateway(REDIS_URL=stage.valkey.url) as two:
        with stage.client(stage.key, one) as first, stage.client(stage.key, two) as second:
            asked(first, "demo-swift", text, **said)
            until(lambda: asked(first, "demo-swift", text, **said).headers["x-router-cache"] == "hit", "a hit")
            state = asked(second, "demo-swift", text, **said).headers["x-router-cache"]
    must(state == "hit", f"the other gateway says {state}")
    return "kept by one process, given again by another"


@keeps("B21")
def several_keys(stage: Stage) -> str:
    """A provider with two keys, one of which the vendor refuses: every request is answered, by the other key."""
    name = stage.ops.add_provider("two-keys", keys=["demo-good-key-1", "demo-invalid"])
    answers = [stage.chat("Hi", model=f"{name}/demo-swift", max_tokens=3) for _ in range(4)]
    must(len(answers) == 4, answers)
    resting = [
        key for one in stage.json("GET", "/v1/providers/status")["data"] if one["name"] == name
        for key in one["keys"] if key["resting"]
    ]  # fmt: skip
    must(len(resting) == 1, resting)
    return "four answers; the refused key rests"


@keeps("B22")
def a_dashboard_that_follows(stage: Stage) -> str:
    """The overview is opened before and after requests: its figures have moved."""
    before = stage.admin.page("/dashboards/requests/")
    answer = stage.chat("Hello", max_tokens=5)
    until(lambda: answer["id"] in stage.admin.page("/dashboards/requests/"), "the request is in the log")
    must(answer["id"] not in before, "it was there before")
    must("Spend per team" in stage.admin.page("/dashboards/"), "no overview")
    return "a request appeared in the log"


@keeps("B23")
def prompt_templates(stage: Stage) -> str:
    """A template is made in the admin, and a request names it with its variables; a missing one is told."""
    changed = stage.admin.save("/admin/routing/prompttemplate/add/", name="greeting", is_active="on")
    editor = urlsplit(changed).path
    fields = {
        "system": "[[say=unused]]", "is_in_force": "on", "note": "first", "messages-TOTAL_FORMS": "1",
        "messages-INITIAL_FORMS": "0", "messages-0-role": "user", "messages-0-content": "[[say=Dear {{ name }}]] Hi",
        "variables-TOTAL_FORMS": "1", "variables-INITIAL_FORMS": "0", "variables-0-name": "name",
        "variables-0-is_required": "on", "variables-0-max_length": "50",
    }  # fmt: skip
    stage.admin.send(editor, {**stage.admin.form(editor).fields, **fields})
    body = {"model": "demo-swift", "template": "greeting", "variables": {"name": "Ada"}}
    answer = until(lambda: _templated(stage, body), "the template is in force")
    must(answer["choices"][0]["message"]["content"] == "Dear Ada", str(answer)[:200])
    refused = stage.http.post("/v1/chat/completions", json={**body, "variables": {}})
    must(refused.status_code == 400 and refused.json()["error"]["param"] == "variables.name", refused.text)
    return "“Dear Ada” from a template; without its variable: 400, variables.name"


def _templated(stage: Stage, body: dict[str, Any]) -> dict[str, Any]:
    answer = stage.http.post("/v1/chat/completions", json=body)
    return dict(answer.json()) if answer.status_code == 200 else {}


@keeps("B24")
def an_ab_test(stage: Stage) -> str:
    """An A/B test of half the requests is set up in the admin: both arms serve, and each record tells its arm."""
    policy = stage.ops.policy("halved", "demo-swift")
    draft = stage.ops.draft(policy, "demo-sage-mini")
    page = "/admin/routing/experiment/add/"
    fields = {"name": "halves", "policy": policy["id"], "challenger": draft["id"], "kind": "ab", "percent": 50}
    stage.admin.save(page, **{name: str(value) for name, value in fields.items()}, unit="request")
    listed = stage.admin.page("/dashboards/experiments/")
    number = listed.partition("/dashboards/experiments/")[2].partition("/")[0]
    form = stage.admin.form(f"/dashboards/experiments/{number}/")
    stage.admin.send(f"/dashboards/experiments/{number}/act/", {**form.fields, "move": "start"})
    models = set()
    until(lambda: len(models.add(stage.chat(model="halved", max_tokens=3)["model"]) or models) == 2, "both arms")
    answer = stage.chat(model="halved", max_tokens=3)
    must(":challenger" in stage.record(answer["id"]) or ":control" in stage.record(answer["id"]), "no arm on record")
    return f"{' and '.join(sorted(models))} served"


@keeps("B25")
def limits_by_model(stage: Stage) -> str:
    """An alias is limited to two requests a minute: the third is refused with retry-after, another model is not."""
    limited(stage, 2)
    codes = []
    for _ in range(20):
        answer = stage.http.post("/v1/chat/completions", json={"model": "demo-sage-mini", "messages": HI})
        codes.append(answer.status_code)
        if answer.status_code == 429:
            break
    must(answer.status_code == 429 and int(answer.headers["retry-after"]) > 0, codes)
    must(
        stage.http.post("/v1/chat/completions", json={"model": "demo-swift", "messages": HI}).status_code == 200, "all"
    )
    limited(stage, None)
    return f"{codes}, and 200 for another model"


def limited(stage: Stage, rpm: int | None) -> None:
    """Limit the alias `demo-sage-mini`."""
    stage.ops.change("aliases", stage.ops.found("aliases", name="demo-sage-mini"), rpm_limit=rpm)


@keeps("B26")
def webhooks(stage: Stage) -> str:
    """An endpoint of ours hears of a revoked key, signed by the Standard Webhooks rules."""
    heard: list[tuple[bytes, dict[str, str]]] = []

    def receive(path: str, body: bytes, headers: dict[str, str]) -> bytes:
        heard.append((body, headers))
        return b"{}"

    stage.ops.key("short-lived")
    with listening(receive) as address:
        page = "/admin/analytics/webhookendpoint/add/"
        fields = {"name": "contract", "is_active": "on", "events": ["key.revoked"], "address": f"{address}/hook"}
        form = {**stage.admin.form(page).fields, **fields, "allowed_networks": "127.0.0.1/32", "_save": "Save"}
        secret = re.search(r"whsec_[A-Za-z0-9+/=]+", stage.admin.send(page, form).text)  # shown this once
        must(secret, "the signing secret is not shown")
        stage.ops.revoke("short-lived")
        until(lambda: any(b"key.revoked" in body for body, _ in heard), "the event arrives", within_s=120)
    body, headers = next((body, headers) for body, headers in heard if b"key.revoked" in body)
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret[0].removeprefix("whsec_"))  # type: ignore[index]
    good = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    must(f"v1,{good}" in headers["webhook-signature"].split(), "the signature is wrong")
    must(b"short-lived" in body and stage.key.encode() not in body, body[:200])
    return f"key.revoked arrived, {len(body)} bytes, and its signature is right"


@keeps("B27")
def other_clouds(stage: Stage) -> str:
    """Cohere and AI21 by their keys; a model at Cohere's wire answers."""
    name = stage.ops.add_provider("cohere-like", kind="cohere", path="/v2")
    must(stage.chat("[[say=From afar.]] Hi", model=f"{name}/demo-swift")["content"] == "From afar.", "no answer")
    return stage.vendors_by_environment(COHERE_API_KEY="cohere", AI21_API_KEY="ai21")
