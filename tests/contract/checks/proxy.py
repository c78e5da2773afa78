"""Chapter C: the proxy."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx2

from routerplatform.protos import ai_router_pb2 as messages
from routerplatform.protos import ai_router_pb2_grpc as services
from tests.contract.checks.grpc_router import metadata
from tests.contract.operations import model_registry
from tests.contract.stage import ROOT, Stage
from tests.contract.verdicts import keeps
from tests.contract.waiting import PATIENCE_S, must, until

FAILS = "[[status=500]] Fail"


def asked(client: httpx2.Client, model: str, prompt: str = FAILS, **body: Any) -> httpx2.Response:
    messages = [{"role": "user", "content": prompt}]
    return client.post("/v1/chat/completions", json={"model": model, "messages": messages, **body})


def breaker(client: httpx2.Client, deployment: str) -> dict[str, Any]:
    """What GET /v1/providers/status says of one deployment."""
    for provider in client.get("/v1/providers/status").json()["data"]:
        for row in provider["deployments"]:
            if row["deployment"] == deployment:
                return dict(row)
    return {}


def failed_until_open(client: httpx2.Client, deployment: str, failures: int) -> None:
    """Fail until the breaker is open: that takes exactly `failures` attempts in a row, those of retries among them."""
    made = 0
    while breaker(client, deployment)["breaker"] == "closed":
        must(made < failures, f"still closed after {made} failures in a row")
        answer = asked(client, deployment)
        must(answer.status_code >= 500, "the failure was not told")
        made += int(answer.headers["x-router-attempts"])
    must(made == failures, f"open after {made} failures already")


@keeps("C1")
def the_pipeline_in_order(stage: Stage) -> str:
    """A miss and a hit of the cache, the decision on the request's page, and a provider passed over by its breaker."""
    name = stage.ops.add_provider("pipeline")
    text, said = str(uuid4()), {"temperature": 0, "max_tokens": 20}
    first = asked(stage.http, f"{name}/demo-swift", text, **said)
    hit = until(lambda: _hit(stage, f"{name}/demo-swift", text, said), "the second answer comes from the cache")
    must(hit.json()["choices"] == first.json()["choices"], "the kept answer differs")
    failed_until_open(stage.http, f"{name}/demo-swift", 5)
    refused = asked(stage.http, f"{name}/demo-swift", "Hello")
    must(refused.json()["error"]["code"] == "circuit_open", refused.text)
    again = asked(stage.http, f"{name}/demo-swift", text, **said)
    must(again.headers["x-router-cache"] == "hit", "an open breaker kept a kept answer back")
    return "miss, hit, open breaker; and a hit in spite of the open breaker, since the cache comes first"


def _hit(stage: Stage, model: str, text: str, said: dict[str, Any]) -> httpx2.Response | None:
    answer = asked(stage.http, model, text, **said)
    return answer if answer.headers.get("x-router-cache") == "hit" else None


@keeps("C2")
def three_vendors_one_interface(stage: Stage) -> str:
    """The openai package asks a model behind OpenAI's wire, one behind Anthropic's and one behind Ollama's."""
    local = stage.ops.add_provider("local", kind="ollama", path="/api")
    client = stage.openai()
    said = set()
    for model in ("demo-swift", "demo-sage-mini", f"{local}/demo-swift"):
        question = [{"role": "user", "content": "[[say=One interface.]] Hello"}]
        said.add(client.chat.completions.create(model=model, messages=question).choices[0].message.content)
    must(said == {"One interface."}, said)
    kinds = stage.admin.page("/admin/providers/provider/add/")
    must("localhost:11434" in kinds or "127.0.0.1:11434" in kinds or _ollama_default(stage), "no default address")
    return "three wires answered the same client alike"


def _ollama_default(stage: Stage) -> bool:
    return "11434" in stage.python(
        "from providers.registry import PROVIDER_KINDS as k; print(k['ollama'].base_url)", **stage.settings_of()
    )


@keeps("C3")
def the_breaker_opens_and_probes(stage: Stage) -> str:
    """Five failures in a row open it and requests fail at once for 60 s; in a gateway with a shorter time, ten requests
    at once after it: one reaches the provider."""
    name = stage.ops.add_provider("breaker")
    target = f"{name}/demo-swift"
    failed_until_open(stage.http, target, 5)
    began = time.monotonic()
    refused = asked(stage.http, target, "Hello")
    must(refused.status_code == 503 and time.monotonic() - began < 2, "it did not fail fast")
    probe_in_s = breaker(stage.http, target)["next_probe_in_s"]
    must(50 < probe_in_s <= 60, f"the next probe is in {probe_in_s} s")
    one = stage.ops.add_provider("half-open")
    with stage.gateway(CIRCUIT_BREAKER_TIMEOUT="2") as url, stage.client(stage.key, url) as client:
        until(lambda: breaker(client, f"{one}/demo-swift"), "the gateway knows the provider")
        failed_until_open(client, f"{one}/demo-swift", 5)
        until(lambda: (breaker(client, f"{one}/demo-swift")["next_probe_in_s"] or 0) == 0, "its time is over")
        time.sleep(0.5)  # that time is told in tenths
        slow = "[[delay=1]] [[say=Better.]] How are you?"
        with ThreadPoolExecutor(10) as pool:
            codes = sorted(pool.map(lambda _: asked(client, f"{one}/demo-swift", slow).status_code, range(10)))
        must(codes.count(200) == 1, codes)
        must(breaker(client, f"{one}/demo-swift")["breaker"] == "closed", "the good probe did not close it")
    return f"open after 5, probe in {probe_in_s:.0f} s; half open: 1 of 10 went through, and closed it"


@keeps("C4")
def the_breaker_by_the_environment(stage: Stage) -> str:
    """A gateway with CIRCUIT_BREAKER_MAX_REQUESTS=2 and CIRCUIT_BREAKER_TIMEOUT=7 opens after two failures, for 7 s."""
    name = stage.ops.add_provider("by-environment")
    settings = {"CIRCUIT_BREAKER_MAX_REQUESTS": "2", "CIRCUIT_BREAKER_TIMEOUT": "7"}
    with stage.gateway(**settings) as url, stage.client(stage.key, url) as client:
        until(lambda: breaker(client, f"{name}/demo-swift"), "the gateway knows the provider")
        failed_until_open(client, f"{name}/demo-swift", 2)
        probe_in_s = breaker(client, f"{name}/demo-swift")["next_probe_in_s"]
    must(3 < probe_in_s <= 7, f"the next probe is in {probe_in_s} s")
    return f"open after 2 failures, next probe in {probe_in_s:.1f} s"


@keeps("C5")
def answers_are_kept(stage: Stage) -> str:
    """The same request at temperature 0 is answered from the cache, another model, prompt or limit is not, and after
    CACHE_TTL (2 s in a gateway of its own) it is asked anew."""
    text, said = str(uuid4()), {"temperature": 0, "max_tokens": 20, "top_p": 1}
    first = asked(stage.http, "demo-swift", text, **said)
    must(first.headers["x-router-cache"] == "miss", first.headers["x-router-cache"])
    hit = until(lambda: _hit(stage, "demo-swift", text, said), "the second answer comes from the cache")
    must(float(hit.headers["x-router-cost-usd"]) == 0, "a kept answer cost something")
    for model, other, change in (
        ("demo-balanced", text, {}), ("demo-swift", f"{text}!", {}), ("demo-swift", text, {"max_tokens": 21}),
        ("demo-swift", text, {"top_p": 0.5}), ("demo-swift", text, {"temperature": 0.1}),
    ):  # fmt: skip
        state = asked(stage.http, model, other, **{**said, **change}).headers["x-router-cache"]
        must(state != "hit", f"{model} {change} was given the answer of another request")
    with stage.gateway(CACHE_TTL="2", REDIS_URL=stage.valkey.url) as url, stage.client(stage.key, url) as client:
        asked(client, "demo-swift", f"{text}?", **said)
        until(lambda: asked(client, "demo-swift", f"{text}?", **said).headers["x-router-cache"] == "hit", "a hit")
        until(lambda: asked(client, "demo-swift", f"{text}?", **said).headers["x-router-cache"] == "miss", "a miss")
    return "hit for $0, five neighbours were asked anew, and so was the same after its time"


@keeps("C6")
def keys_take_turns(stage: Stage) -> str:
    """A provider with three keys is asked nine times; the usage records tell which key each request had."""
    name = stage.ops.add_provider("three-keys", keys=["demo-key-0001", "demo-key-0002", "demo-key-0003"])
    ids = [stage.chat("Hi", model=f"{name}/demo-swift", max_tokens=3)["id"] for _ in range(9)]
    for request in ids:
        stage.record(request)
    rows = stage.ops.call("GET", f"usage?provider={name}&limit=20")["data"]
    attempts = [stage.ops.call("GET", f"usage/{row['id']}")["attempts"] for row in rows]
    used = [attempt["key_last4"] for made in attempts for attempt in made]
    counts = sorted(used.count(key) for key in set(used))
    must(counts == [3, 3, 3], f"{counts} uses of the keys")
    return "each of the three keys was used three times"


# --- gRPC and the gateway's own routes -------------------------------------------------------------------------------


@keeps("C7")
def complete_over_grpc(stage: Stage) -> str:
    """grpcio calls Complete, and reads StreamComplete."""
    stub = services.AIProxyStub(stage.channel)
    request = messages.AIRequest(prompt="[[say=Over gRPC.]] Hello", model="demo-swift")
    whole = stub.Complete(request, metadata=metadata(stage), timeout=PATIENCE_S)
    parts = list(stub.StreamComplete(request, metadata=metadata(stage), timeout=PATIENCE_S))
    must(whole.text == "".join(part.text for part in parts) == "Over gRPC.", f"{whole.text} / {parts}")
    return f"Complete and StreamComplete ({len(parts)} messages) say the same"


@keeps("C8")
def health_over_grpc(stage: Stage) -> str:
    """grpcio calls HealthCheck."""
    stage.touches += 1
    answer = services.AIProxyStub(stage.channel).HealthCheck(messages.HealthCheckRequest(), timeout=PATIENCE_S)
    must(answer.status == messages.HealthCheckResponse.STATUS_SERVING, answer)
    return f"serving, configuration revision {answer.config_revision}"


@keeps("C9")
def provider_status_over_grpc(stage: Stage) -> str:
    """grpcio calls GetProviderStatus."""
    stub = services.AIProxyStub(stage.channel)
    answer = stub.GetProviderStatus(messages.ProviderStatusRequest(), metadata=metadata(stage), timeout=PATIENCE_S)
    names = {provider.name for provider in answer.providers}
    must({"demo", "demo-anthropic"} <= names, names)
    must(all(row.breaker for one in answer.providers for row in one.deployments), "a breaker's state is missing")
    return f"{len(names)} providers with breakers and keys"


@keeps("C10")
def own_routes(stage: Stage) -> str:
    """curl asks POST /v1/complete, GET /v1/health and GET /v1/providers/status."""
    bearer = ["-H", f"Authorization: Bearer {stage.key}"]
    body = '{"model": "demo-swift", "prompt": "[[say=Complete.]] Hello", "max_tokens": 20}'
    said = stage.curl(*bearer, "-H", "Content-Type: application/json", "-d", body, f"{stage.url}/v1/complete")
    must("Complete." in said and "usage" in said, said)
    must('"ok"' in stage.curl(f"{stage.url}/v1/health"), "no health")
    must("demo-anthropic" in stage.curl(*bearer, f"{stage.url}/v1/providers/status"), "no status")
    return "all three answer"


# --- metrics ---------------------------------------------------------------------------------------------------------


def metric(stage: Stage, name: str) -> dict[str, float]:
    """The samples of one series, by their labels, from METRICS_PORT."""
    text = stage.client(url=f"http://127.0.0.1:{stage.metrics_port}").get("/metrics").text
    return {labels: float(value) for labels, value in re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)}


def grown(stage: Stage, name: str, labels: str, prompt: str = "Hello", **body: Any) -> float:
    """By how much a series grew with one request."""

    def now() -> float:
        return sum(value for key, value in metric(stage, name).items() if all(one in key for one in labels.split()))

    before = now()
    while time.sleep(1.0) or now() != before:  # what was asked before may still be on its way
        before = now()
    stage.chat(prompt, **{"model": "demo-swift", "max_tokens": 5, **body})
    until(lambda: now() > before, f"{name} grows")
    return now() - before


@keeps("C11")
def requests_are_counted(stage: Stage) -> str:
    """One request more is one more in ai_proxy_requests_total, with model, provider and status."""
    by = grown(stage, "ai_proxy_requests_total", 'model="demo-swift" provider="demo" status="200"')
    must(by == 1, f"grew by {by}")
    return "1 request: +1"


@keeps("C12")
def durations_are_counted(stage: Stage) -> str:
    """One request more is one more in the histogram ai_proxy_request_duration_seconds, with a plausible time."""
    must(grown(stage, "ai_proxy_request_duration_seconds_count", 'model="demo-swift"') == 1, "not by one")
    took = grown(stage, "ai_proxy_request_duration_seconds_sum", 'model="demo-swift"', "[[delay=0.5]] Hello")
    must(0.5 <= took < PATIENCE_S, f"{took} s")
    return f"1 request: +1, +{took:.2f} s"


@keeps("C13")
def tokens_are_counted(stage: Stage) -> str:
    """ai_proxy_tokens_used_total grows by what the answer's usage says."""
    by = grown(stage, "ai_proxy_tokens_used_total", 'type="output"', "[[tokens=7]] Hello", max_tokens=50)
    must(by == 7, f"grew by {by}")
    return "7 output tokens: +7"


@keeps("C14")
def cost_is_counted(stage: Stage) -> str:
    """ai_proxy_cost_total grows by a request's cost."""
    by = grown(stage, "ai_proxy_cost_total", "", "[[tokens=1000]] Hello", max_tokens=2000)
    must(0.0006 <= by < 0.0007, f"grew by {by}")
    return f"1,000 tokens at $0.60 per million: +${by:.6f}"


@keeps("C15")
def hits_are_counted(stage: Stage) -> str:
    """ai_proxy_cache_hits_total grows with an answer that is given again."""
    text, said = str(uuid4()), {"temperature": 0, "max_tokens": 20}
    asked(stage.http, "demo-swift", text, **said)
    before = sum(metric(stage, "ai_proxy_cache_hits_total").values())
    until(lambda: _hit(stage, "demo-swift", text, said), "a hit")
    until(lambda: sum(metric(stage, "ai_proxy_cache_hits_total").values()) > before, "the series grows")
    return "1 hit: +1"


@keeps("C16")
def breakers_are_told(stage: Stage) -> str:
    """ai_proxy_circuit_breaker_state is 0, and 2 once the breaker is open."""
    name = stage.ops.add_provider("metered")

    def state() -> float | None:
        found = metric(stage, "ai_proxy_circuit_breaker_state")
        return next((value for key, value in found.items() if f'provider="{name}"' in key), None)

    until(lambda: state() == 0, "the closed breaker is told")
    failed_until_open(stage.http, f"{name}/demo-swift", 5)
    until(lambda: state() == 2, "the open breaker is told")
    return "0, then 2"


@keeps("C17")
def ports_and_registry(stage: Stage) -> str:
    """PORT and METRICS_PORT were set for this platform; a registry named by AI_MODEL_SERVICE_ADDR brings a model."""
    must(stage.client().get("/health/ready").status_code == 200, "nothing on PORT")
    must(metric(stage, "ai_proxy_requests_total"), "nothing on METRICS_PORT")
    with model_registry() as address:
        told = stage.manage("catalogue_load", "--json", env={"AI_MODEL_SERVICE_ADDR": address})
    must("registry-model" in told, told)
    return f"HTTP on {stage.port}, metrics on {stage.metrics_port}, one model from the registry"


@keeps("C18")
def cost_is_price_times_tokens(stage: Stage) -> str:
    """Models at $3/15, $10/30 and $0 per million are asked for a thousand tokens; Claude 3.5 Sonnet is listed."""
    told = []
    for name, into, out in (("claude-priced", 3, 15), ("gpt-priced", 10, 30), ("ollama-priced", 0, 0)):
        model = stage.ops.priced_model(name, into, out)
        answer = stage.chat("[[tokens=1000]] Hello", model=model, max_tokens=2000)
        usage = answer["usage"]
        expected = (usage["input_tokens"] * into + usage["output_tokens"] * out) / 1e6
        must(abs(answer["cost_usd"] - expected) < 1e-9, f"{name}: {answer['cost_usd']} instead of {expected}")
        told.append(f"${answer['cost_usd']:.6f} at {into}/{out}")
    sonnet = stage.ops.found("models", name="claude-3-5-sonnet-20240620")
    listed = stage.ops.call("GET", f"prices?model={sonnet['id']}")["data"]
    must([(float(row["input_usd"]), float(row["output_usd"])) for row in listed] == [(3, 15)], listed)
    return "; ".join(told)


@keeps("C19")
def files_to_run_it(stage: Stage) -> str:
    """.env.example names what compose needs, the Dockerfile is there, the suite is there."""
    stage.touches += 1
    example = (ROOT / ".env.example").read_text()
    compose = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    missing = sorted(name for name in compose if name not in example)
    must(not missing, f"not in .env.example: {missing}")
    must((ROOT / "Dockerfile").exists() and (ROOT / "script/test").exists(), "no Dockerfile or no suite")
    return f"{len(compose)} variables of compose are explained"
