"""Chapter X: where promises disagreed, and what was decided."""

from uuid import uuid4

from routerplatform.protos import ai_router_pb2 as messages
from routerplatform.protos import ai_router_pb2_grpc as services
from tests.contract.checks.platform import over_socket
from tests.contract.checks.proxy import asked, metric
from tests.contract.stage import Stage
from tests.contract.verdicts import keeps
from tests.contract.waiting import PATIENCE_S, must, until


@keeps("X1")
def one_port_and_two_more(stage: Stage) -> str:
    """HTTP and WebSocket on one port, gRPC on its own, metrics on METRICS_PORT and then no longer on the first."""
    must(stage.chat(max_tokens=3)["id"], "no HTTP")
    must(over_socket(stage, "Hi")[-1]["type"] == "done", "no WebSocket on the same port")
    health = services.AIProxyStub(stage.channel).HealthCheck(messages.HealthCheckRequest(), timeout=PATIENCE_S)
    must(health.status == messages.HealthCheckResponse.STATUS_SERVING, "no gRPC")
    must(metric(stage, "ai_proxy_requests_total"), "no metrics on their port")
    must(stage.client().get("/metrics").status_code == 404, "metrics on both ports")
    return f"{stage.port}, {stage.grpc_port}, {stage.metrics_port}"


@keeps("X2")
def retired_models_name_their_successor(stage: Stage) -> str:
    """The catalogue's list in the admin shows prices per million tokens; a retired model says what replaces it."""
    row = stage.ops.found("models", name="mixtral-8x7b-32768")
    must(row["status"] == "retired" and row["replaced_by"], row)
    page = stage.admin.page(f"/admin/providers/cataloguemodel/{row['id']}/change/")
    must("openai/gpt-oss-20b" in page, "the page does not name the successor")
    prices = stage.json("GET", "/api/v1/providers")[0]["models"][0]
    must("input_usd_per_1m" in prices and "output_usd_per_1m" in prices, prices)
    return "mixtral-8x7b-32768 is retired: use openai/gpt-oss-20b"


@keeps("X3")
def kept_answers_stay_in_their_team(stage: Stage) -> str:
    """The same request of two teams is asked twice; above temperature 0 it is kept only when asked for by a header."""
    other = stage.client(stage.ops.key("other-team", team="marketing"))
    text, cold = str(uuid4()), {"temperature": 0, "max_tokens": 10}
    asked(stage.http, "demo-swift", text, **cold)
    until(lambda: asked(stage.http, "demo-swift", text, **cold).headers["x-router-cache"] == "hit", "a hit")
    must(asked(other, "demo-swift", text, **cold).headers["x-router-cache"] == "miss", "it crossed teams")
    warm = {"model": "demo-swift", "messages": [{"role": "user", "content": text}], "temperature": 0.9}
    states = [stage.http.post("/v1/chat/completions", json=warm).headers["x-router-cache"] for _ in range(2)]
    must(states == ["none", "none"], states)
    told = {"x-router-cache": "on"}
    stage.http.post("/v1/chat/completions", json=warm, headers=told)
    until(
        lambda: stage.http.post("/v1/chat/completions", json=warm, headers=told).headers["x-router-cache"] == "hit",
        "a hit above temperature 0",
    )
    return "a miss for the other team; above temperature 0 only by choice"


@keeps("X4")
def one_budget_at_every_door(stage: Stage) -> str:
    """A key with a budget of $0 is refused over chat completions, messages, REST, WebSocket, gRPC and batch; the
    library says the same of its own budget."""
    key = stage.ops.key("penniless")
    stage.ops.add_budget(limit="0", mode="strict", key="penniless")
    client = stage.client(key)
    hello = {"model": "demo-swift", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
    until(lambda: client.post("/v1/chat/completions", json=hello).status_code == 429, "the budget is in force")
    codes = {
        "chat completions": client.post("/v1/chat/completions", json=hello).json()["error"]["code"],
        "messages": quota_in(client.post("/v1/messages", json=hello).text),
        "REST": client.post("/api/v1/chat", json=hello).json()["error"]["code"],
        "route": client.post("/api/v1/route", json={"prompt": "Hi"}).json()["error"]["code"],
        "batch": client.post("/api/v1/batch", json={"prompts": ["Hi"]}).json()["results"][0]["error"]["code"],
        "WebSocket": socket_code(stage, key),
        "gRPC": grpc_code(stage, key),
    }  # fmt: skip
    must(set(codes.values()) == {"insufficient_quota"}, codes)
    return f"refused at {len(codes)} doors"


def quota_in(text: str) -> str:
    """Anthropic's shape of an error has the code in its sentence."""
    return "insufficient_quota" if "insufficient_quota" in text else text[:80]


def socket_code(stage: Stage, key: str) -> str:
    return str(over_socket(stage, "Hi", key=key)[-1].get("code"))


def grpc_code(stage: Stage, key: str) -> str:
    request = messages.AIRequest(prompt="Hi", model="demo-swift")
    call = services.AIRouterStub(stage.channel).RouteRequest.with_call
    try:
        call(request, metadata=(("authorization", f"Bearer {key}"),), timeout=PATIENCE_S)
    except Exception as error:
        trailing = {name: value for name, value in error.trailing_metadata() or ()}  # type: ignore[attr-defined]
        return str(trailing.get("x-router-error-code", trailing))
    return "answered"
