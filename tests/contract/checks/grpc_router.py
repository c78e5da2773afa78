"""Chapter A: gRPC and HTTP."""

import subprocess
from pathlib import Path

import grpc

from routerplatform.protos import ai_router_pb2 as messages
from routerplatform.protos import ai_router_pb2_grpc as services
from tests.contract.stage import HELLO, PYTHON, ROOT, Stage
from tests.contract.verdicts import keeps
from tests.contract.waiting import PATIENCE_S, must

SAY = "[[say=Blue light scatters most.]] Why is the sky blue?"


def metadata(stage: Stage) -> tuple[tuple[str, str], ...]:
    """A key, as gRPC callers present it."""
    stage.touches += 1
    return (("authorization", f"Bearer {stage.key}"),)


def routed(stage: Stage, **request: object) -> messages.AIResponse:
    stub = services.AIRouterStub(stage.channel)
    return stub.RouteRequest(messages.AIRequest(**request), metadata=metadata(stage), timeout=PATIENCE_S)


@keeps("A1")
def both_vendors_serve(stage: Stage) -> str:
    """A provider of OpenAI's kind and one of Anthropic's are asked over REST; the admin offers the form for more."""
    providers = {stage.chat(model=model)["provider"] for model in ("demo-swift", "demo-sage")}
    must(providers == {"demo", "demo-anthropic"}, providers)
    kinds = stage.admin.page("/admin/providers/provider/add/").count("<option")
    must(kinds >= 20, f"{kinds} kinds to choose from")
    return f"served by {' and '.join(sorted(providers))}; the admin offers {kinds} choices for another provider"


@keeps("A2")
def grpc_and_http_are_alike(stage: Stage) -> str:
    """The same prompt over gRPC and over REST: text, model, tokens and cost are compared."""
    over_http = stage.chat(SAY, model="demo-swift", max_tokens=50)
    over_grpc = routed(stage, prompt=SAY, model="demo-swift", max_tokens=50)
    usage = over_http["usage"]
    http = (over_http["content"], over_http["deployment"], usage["input_tokens"], over_http["cost_usd"])
    rpc = (over_grpc.text, over_grpc.deployment, over_grpc.usage.input_tokens, float(over_grpc.cost.usd))
    must(http == rpc, f"{http} against {rpc}")
    return f"both say “{rpc[0]}” for ${rpc[3]:.6f}"


@keeps("A3")
def a_request_is_routed(stage: Stage) -> str:
    """grpcio calls AIRouter.RouteRequest; the answer names who served it, and its record is in the request log."""
    answer = routed(stage, messages=[messages.Message(role="user", content=HELLO[0]["content"])], model="auto")
    must(answer.text and answer.deployment, answer)
    must(answer.deployment in stage.record(answer.request_id), "the request's page does not name the deployment")
    return f"{answer.deployment} answered in {len(answer.text)} characters, and is on record"


@keeps("A4")
def responses_stream(stage: Stage) -> str:
    """grpcio reads AIRouter.StreamingRouteRequest; the pieces have to come one after another, not together."""
    request = messages.AIRequest(prompt="[[tokens=40]] [[pace=20]] Tell me a story", model="demo-swift")
    stub = services.AIRouterStub(stage.channel)
    pieces = [one for one in stub.StreamingRouteRequest(request, metadata=metadata(stage), timeout=PATIENCE_S)]
    with_text = [one for one in pieces if one.text]
    must(len(with_text) >= 10, f"only {len(with_text)} pieces")
    must(pieces[-1].done and pieces[-1].usage.output_tokens == 40, pieces[-1])
    return f"{len(with_text)} pieces, then the usage"


@keeps("A5")
def one_model_can_be_pinned(stage: Stage) -> str:
    """`demo/demo-deep` over REST and over gRPC is answered by that deployment; when it fails, nothing else answers."""
    must(stage.chat(model="demo/demo-deep", max_tokens=5)["deployment"] == "demo/demo-deep", "REST went elsewhere")
    pinned = routed(stage, prompt="Hi", provider="demo", model="demo-deep", max_tokens=5)
    must(pinned.deployment == "demo/demo-deep", pinned.deployment)
    refused = stage.http.post(
        "/api/v1/chat", json={"model": "demo/demo-deep", "messages": [{"role": "user", "content": "[[status=400]] no"}]}
    )
    must(refused.status_code == 400, refused.text)
    return "both doors went to demo/demo-deep, and an error there was not served by another model"


@keeps("A6")
def providers_and_strategies_are_rows(stage: Stage) -> str:
    """A script lists the codecs behind one protocol and the strategies behind another, as the running code has them."""
    said = stage.python(
        "from providers.wires import WIRES\n"
        "from providers.registry import PROVIDER_KINDS\n"
        "from routing.domain.strategies import STRATEGIES\n"
        "own = dict(STRATEGIES); name = next(iter(own))\n"
        "class Mine:\n    def order(self, *args, **kwargs): return ()\n"
        "own[name] = Mine()\n"
        "print(len(WIRES), len(PROVIDER_KINDS), len(STRATEGIES))",
        **stage.settings_of(),
    )
    wires, kinds, strategies = (int(one) for one in said.split())
    must(wires >= 5 and kinds >= 15 and strategies >= 8, said)
    return f"{kinds} kinds of provider over {wires} wires, {strategies} strategies: each one row"


@keeps("A7")
def a_configuration_file_is_imported(stage: Stage) -> str:
    """`config_import --plan` reads a config.yaml with two providers' default models and says what it would do."""
    file = stage.folder / "config.yaml"
    file.write_text(
        "providers:\n"
        "  openai:\n    default_model: gpt-4o-mini\n"
        "  anthropic:\n    default_model: claude-3-5-sonnet-20240620\n"
    )
    plan = stage.manage("config_import", str(file), "--plan", env=stage.vendors_env, may_fail=True)
    must("openai" in plan and "gpt-4o-mini" in plan and "Traceback" not in plan, plan)
    stage.manage("config_import", str(file), "--apply", env=stage.vendors_env)
    return "the plan names openai and gpt-4o-mini, and it applies"


@keeps("A8")
def ports_come_from_file_and_environment(stage: Stage) -> str:
    """The platform listens where GRPC_PORT and PORT say; the settings take both from a config.yaml, too."""
    grpc.channel_ready_future(stage.channel).result(timeout=PATIENCE_S)
    file = stage.folder / "ports.yaml"
    file.write_text("server:\n  grpc_port: 50151\n  http_port: 8181\n")
    told = stage.manage(
        "shell", "--no-imports", "-c", "from django.conf import settings as s; print(s.GRPC_PORT, s.PORT)",
        env={"AI_ROUTER_CONFIG": str(file)}, without=("GRPC_PORT", "PORT"),
    )  # fmt: skip
    must(told.split()[-2:] == ["50151", "8181"], told)
    return f"gRPC on {stage.grpc_port} and HTTP on {stage.port} by the environment; 50151 and 8181 by the file"


@keeps("A9")
def a_provider_is_added_by_the_recipe(stage: Stage) -> str:
    """docs/adding-a-provider.md is followed through the management API: provider, deployment, and a request to it."""
    must("Adding a provider" in (ROOT / "docs" / "adding-a-provider.md").read_text(), "there is no recipe")
    name = stage.ops.add_provider("recipe")
    answer = stage.chat("[[say=It works.]]", model=f"{name}/demo-swift")
    must(answer["content"] == "It works." and answer["cost_usd"], answer)
    return f"{answer['deployment']} answered “{answer['content']}”"


@keeps("A10")
def proto_reference_and_picture(stage: Stage) -> str:
    """The .proto compiles to the committed code; the schema and its page are served; the docs show the architecture."""
    stage.touches += 1
    done = subprocess.run(
        [PYTHON, "script/protos", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip
    must(done.returncode == 0, done.stdout + done.stderr)
    schema = stage.http.get("/api/v1/schema/?format=json").json()
    must("/api/v1/chat" in schema["paths"], sorted(schema["paths"]))
    must(stage.client().get("/api/v1/docs/").status_code == 200, "no reference page")
    pictures = list((ROOT / "docs" / "pictures").glob("*.svg")) + list((ROOT / "docs" / "pictures").glob("*.png"))
    architecture = Path(ROOT / "docs" / "architecture.md").read_text()
    must(pictures and ("```mermaid" in architecture or "pictures/" in architecture), "no picture of the architecture")
    return f"{len(schema['paths'])} addresses in the reference, generated code is current"
