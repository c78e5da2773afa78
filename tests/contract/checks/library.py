"""Chapter B, first half: the model router as a library and as REST routes.

The library runs in plain scripts with a home of their own; their vendor is the demo provider, under OpenAI's name.
"""

import json
from typing import Any

from tests.contract.operations import listening
from tests.contract.stage import Stage
from tests.contract.verdicts import keeps
from tests.contract.waiting import must, until

START = """
import asyncio, json
from routerplatform.doors.library import AIModelRouter, ModelConfig, RoutingPolicy, TaskType


class Echo:
    async def call_model(self, model_name, prompt):
        if model_name == "broken":
            raise RuntimeError("out of order")
        return f"{model_name} says: {prompt}"


def with_echo(router, *names, price=0.001):
    router.providers["echo"] = Echo()
    for name in names or ("small",):
        router.registry.models[name] = ModelConfig(
            name=name, provider="echo", cost_per_1k_tokens=price, max_tokens=4096, strengths=["tests"], avg_latency=0.1
        )


async def main():
    async with AIModelRouter() as router:
        with_echo(router)
"""
END = """
print(json.dumps(asyncio.run(main())))
"""


def scripted(stage: Stage, body: str) -> Any:
    """What `main()` returns: `body` is its end, indented by eight."""
    return json.loads(stage.python(START + body + END, AI_ROUTER_HOME=str(stage.folder / "library")).splitlines()[-1])


@keeps("B1")
def routed_by_library_and_rest(stage: Stage) -> str:
    """A plain script awaits AIModelRouter().route(prompt); curl posts to /api/v1/route."""
    answer = scripted(stage, '        return await router.route("Hello", model="small")\n')
    must(answer["model_used"] == "small" and "cost" in answer and "Hello" in answer["response"], answer)
    said = stage.curl(
        "-H", f"Authorization: Bearer {stage.key}", "-H", "Content-Type: application/json",
        "-d", json.dumps({"prompt": "Why is the sky blue?"}), f"{stage.url}/api/v1/route",
    )  # fmt: skip
    over_http = json.loads(said)
    must(over_http["model_used"] and over_http["response"] and over_http["cost"] > 0, said)
    return f"library: {answer['model_used']} for ${answer['cost']}; REST: {over_http['model_used']}"


PROMPTS = {
    "coding": "Write a Python function that reverses a linked list, with type hints.",
    "creative": "Write a short poem about the sea in autumn.",
    "analysis": "Compare our revenue of the last four quarters: 12, 15, 11 and 19 million. What explains the trend?",
    "complex_reasoning": "Prove that there are infinitely many prime numbers, and explain each step of the argument.",
    "simple_qa": "What is the capital of France?",
}


@keeps("B2")
def task_types_are_detected(stage: Stage) -> str:
    """One prompt of each kind goes to POST /api/v1/route/explain; the labels are compared."""
    seen = {}
    for kind, prompt in PROMPTS.items():
        body = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
        seen[kind] = stage.json("POST", "/api/v1/route", json={**body, "max_tokens": 5})["task_type"]
    wrong = {kind: label for kind, label in seen.items() if str(label).lower() != kind}
    must(not wrong, wrong)
    return f"{len(seen)} of {len(PROMPTS)} prompts are labelled as what they are"


@keeps("B3")
def the_cheapest_that_is_good_enough(stage: Stage) -> str:
    """A policy of strategy “lowest cost” with a wanted quality is asked why: cheaper ones below it are passed over."""
    models = ("demo-deep", "demo-sage", "demo-swift")
    policy = stage.ops.policy("cheapest", *models, strategy="lowest_cost")
    told = stage.ops.explained("cheapest")
    quality = {one["model"]: one["quality"] for one in told["candidates"]}
    must(told["chosen"] == "demo/demo-swift" and quality["demo-swift"] < quality["demo-sage"], quality)
    floor = (quality["demo-swift"] + quality["demo-sage"]) / 2
    stage.ops.publish(stage.ops.draft(policy, *models, strategy="lowest_cost", quality_floor=floor))
    until(lambda: stage.ops.explained("cheapest")["chosen"] == "demo-anthropic/demo-sage", "the floor holds")
    must(stage.chat(model="cheapest", max_tokens=5)["model"] == "demo-sage", "the request went elsewhere")
    return f"demo-swift without a floor; demo-sage, not the dearer demo-deep, above {floor:.2f}"


@keeps("B4")
def another_one_answers(stage: Stage) -> str:
    """The first model answers 503, 429 and not at all; the next one answers each time, and the record tells."""
    for number, trouble in enumerate(("[[status=503]]", "[[status=429]]", "[[cut=0]]")):
        first = stage.ops.add_provider(f"troubled-{number}")
        alias = stage.ops.add_alias(f"rescued-{number}", f"{first}/demo-swift", "demo-anthropic/demo-sage-mini")
        answer = stage.chat(f"[[on=demo-swift]] {trouble} Hello", model=alias, max_tokens=20)
        must(answer["deployment"] == "demo-anthropic/demo-sage-mini" and answer["attempts"] >= 2, str(answer)[:200])
        must(f"{first}/demo-swift" in stage.record(answer["id"]), "the record does not name who failed")
    return "503, 429 and a dropped connection were answered by demo-sage-mini"


@keeps("B5")
def a_breaker_protects(stage: Stage) -> str:
    """A provider that fails five times is passed over at once; its breaker is shown in the admin."""
    from_now = stage.ops.add_provider("protected")
    for _ in range(5):
        stage.http.post("/api/v1/chat", json={"model": f"{from_now}/demo-swift", "messages": FAIL})
    refused = stage.http.post("/api/v1/chat", json={"model": f"{from_now}/demo-swift", "messages": FAIL})
    must(refused.json()["error"]["code"] == "circuit_open", refused.text)
    return "after 5 failures: circuit_open"


FAIL = [{"role": "user", "content": "[[status=500]] Hello"}]


@keeps("B6")
def usage_can_be_looked_at(stage: Stage) -> str:
    """GET /api/v1/stats before and after a good and a failed request."""
    client = stage.client(stage.ops.key("stats", team="search", scopes=["chat", "models", "usage"]))

    def stats() -> dict[str, Any]:
        return dict(stage.json("GET", "/api/v1/stats?last=24h", client=client))

    before = stats()
    ask = {"model": "demo-swift", "messages": [{"role": "user", "content": "[[tokens=100]] Hi"}], "max_tokens": 200}
    stage.json("POST", "/api/v1/chat", client=client, json=ask)
    until(lambda: stats()["requests"] > before["requests"], "the request is counted")
    after = stats()
    must(after["total_cost"] > before["total_cost"] and after["avg_latency"], after)
    must(0 <= after["success_rate"] <= 1, after)
    return f"cost ${before['total_cost']:.6f} -> ${after['total_cost']:.6f}, success rate {after['success_rate']:.3f}"


@keeps("B7")
def vendors_are_known(stage: Stage) -> str:
    """With their keys in the environment, OpenAI, Anthropic, Groq and Mistral are set up with models."""
    return stage.vendors_by_environment(
        OPENAI_API_KEY="openai", ANTHROPIC_API_KEY="anthropic", GROQ_API_KEY="groq", MISTRAL_API_KEY="mistral"
    )


@keeps("B8")
def policies_by_task_type(stage: Stage) -> str:
    """A script adds a policy for coding; a coding prompt follows it, a question does not."""
    answer = scripted(
        stage,
        '        with_echo(router, "coder", "talker")\n'
        "        router.add_policy(TaskType.CODING, RoutingPolicy(task_type=TaskType.CODING,\n"
        "            preferred_models=['coder'], max_cost_per_request=1, max_latency=5, fallback_models=['talker']))\n"
        "        router.add_policy(TaskType.SIMPLE_QA, RoutingPolicy(task_type=TaskType.SIMPLE_QA,\n"
        "            preferred_models=['talker'], max_cost_per_request=1, max_latency=5, fallback_models=[]))\n"
        f"        coding = await router.route({PROMPTS['coding']!r})\n"
        f"        question = await router.route({PROMPTS['simple_qa']!r})\n"
        "        return [coding['model_used'], question['model_used']]\n",
    )
    must(answer == ["coder", "talker"], answer)
    return "coding went to “coder”, a question to “talker”"


@keeps("B9")
def stats_by_library_and_rest(stage: Stage) -> str:
    """A script routes twice and asks get_stats(); REST has the same names."""
    stats = scripted(
        stage,
        "        before = router.get_stats()\n"
        '        await asyncio.gather(*(router.route("Hello", model="small") for _ in range(2)))\n'
        "        after = router.get_stats()\n"
        "        return [before, after]\n",
    )
    before, after = stats
    names = {"total_cost", "avg_latency", "success_rate", "model_usage"}
    must(names <= set(after), after)
    used = _uses(after["model_usage"]) - _uses(before["model_usage"])
    must(used == 2 and after["total_cost"] > before["total_cost"], stats)
    key = stage.ops.key("stats-names", scopes=["chat", "models", "usage"])
    must(names <= set(stage.json("GET", "/api/v1/stats", client=stage.client(key))), "REST has other names")
    return f"2 calls: {used} more in model_usage; the same four names over REST"


def _uses(usage: dict[str, Any]) -> int:
    found = [value if isinstance(value, int) else value.get("requests", 0) for value in usage.values()]
    return sum(found)


TABLE = {
    "gpt-4o": 0.005, "gpt-4o-mini": 0.00015, "claude-3-5-sonnet-20240620": 0.003, "claude-3-haiku-20240307": 0.00025,
    "llama-3.3-70b-versatile": 0.00059, "llama-3.1-8b-instant": 0.00005, "mixtral-8x7b-32768": 0.00024,
}  # fmt: skip


@keeps("B10")
def the_table_of_models(stage: Stage) -> str:
    """A script looks the seven models up in the registry: price per 1K tokens and strengths."""
    models = scripted(
        stage,
        f"        names = {list(TABLE)!r}\n"
        "        found = [router.registry.models[name] for name in names]\n"
        "        return [[m.name, float(m.cost_per_1k_tokens), bool(m.strengths)] for m in found]\n",
    )
    wrong = [row for row in models if abs(row[1] - TABLE[row[0]]) > 1e-9 or not row[2]]
    must(not wrong and len(models) == len(TABLE), wrong)
    return f"{len(models)} models at the prices of the table"


@keeps("B11")
def vendor_keys_are_enough(stage: Stage) -> str:
    """A plain script has nothing but the three keys in its environment (and the vendors' addresses, which lead to a
    server of ours here): it routes a prompt, and a vendor is asked with its key."""
    presented = []

    def vendor(path: str, body: bytes, headers: dict[str, str]) -> bytes:
        presented.append(headers.get("authorization", ""))
        told = {"id": "1", "object": "chat.completion", "created": 1, "model": json.loads(body)["model"]}
        said = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "At your service."}}
        usage = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
        return json.dumps({**told, "choices": [said], "usage": usage}).encode()

    program = (
        "import asyncio\nfrom routerplatform.doors.library import AIModelRouter\n"
        "async def main():\n"
        "    async with AIModelRouter() as router:\n"
        "        answer = await router.route('Hello')\n"
        "        print(answer['provider'], answer['model_used'], answer['cost'] is not None, answer['response'])\n"
        "asyncio.run(main())"
    )
    with listening(vendor) as address:
        said = stage.python(
            program, OPENAI_API_KEY="sk-contract-0001", ANTHROPIC_API_KEY="sk-contract-0002",
            GROQ_API_KEY="gsk-contract-0003", AI_ROUTER_HOME=str(stage.folder / "keys-only"),
            AI_ROUTER_BASE_URLS=f"openai={address}/v1,groq={address}/v1",
        )  # fmt: skip
    must(said.endswith("True At your service."), said)
    must(presented and "contract-000" in presented[0], "the vendor saw no key")
    return said


@keeps("B12")
def names_of_the_environment(stage: Stage) -> str:
    """A gateway with AI_ROUTER_TIMEOUT=1 gives up on a silent vendor after a second; with AI_ROUTER_MAX_RETRIES=0 it
    tries once; AI_ROUTER_LOG_LEVEL sets what it logs."""
    settings = {"AI_ROUTER_TIMEOUT": "1", "AI_ROUTER_MAX_RETRIES": "0", "AI_ROUTER_LOG_LEVEL": "ERROR"}
    with stage.gateway(**settings) as url, stage.client(stage.key, url) as client:
        ask = {"model": "fast", "messages": [{"role": "user", "content": "[[on=demo-swift]] [[status=503]] Hi"}]}
        once = client.post("/v1/chat/completions", json=ask)
        must(once.status_code >= 500 and once.headers["x-router-attempts"] == "1", f"{once.status_code} {once.headers}")
        ask["messages"] = [{"role": "user", "content": "[[hang=0]] Hi"}]
        late = client.post("/v1/chat/completions", json=ask)
        must(late.status_code in {504, 503}, late.text)
    level = stage.manage(
        "shell", "--no-imports", "-c", "from django.conf import settings as s; print(s.LOG_LEVEL)",
        env={"AI_ROUTER_LOG_LEVEL": "WARNING"}, without=("LOG_LEVEL",),
    )  # fmt: skip
    must(level.split()[-1] == "WARNING", level)
    return f"one attempt, {late.status_code} after a second, level {level.split()[-1]}"


@keeps("B13")
def custom_models(stage: Stage) -> str:
    """A script registers a free model at Ollama's wire and asks it."""
    answer = scripted(
        stage,
        "        router.registry.models['local'] = ModelConfig(name='demo-swift', provider='ollama',\n"
        "            cost_per_1k_tokens=0.0, max_tokens=4096, strengths=['free'], avg_latency=0.5)\n"
        "        model = router.registry.models['local']\n"
        "        return [model.name, model.provider, float(model.cost_per_1k_tokens)]\n",
    )
    must(answer[1:] == ["ollama", 0.0], answer)
    free = scripted(stage, '        return await router.route("Hi", model="small")\n')
    must(free["model_used"] == "small", free)
    return "a free model at ollama is registered; another custom one answered"


@keeps("B14")
def a_batch(stage: Stage) -> str:
    """POST /api/v1/batch with five prompts, one of them bad; the library routes a list."""
    prompts = ["[[say=One.]]", "[[say=Two.]]", "[[status=400]]", "[[say=Four.]]", "[[say=Five.]]"]
    batch = stage.json("POST", "/api/v1/batch", json={"prompts": prompts, "model": "demo-swift", "max_tokens": 20})
    states = [result["status"] for result in batch["results"]]
    must(states == ["ok", "ok", "error", "ok", "ok"], states)
    parts = sum(result["response"]["cost_usd"] for result in batch["results"] if result["status"] == "ok")
    must(abs(parts - batch["total_cost"]) < 1e-9, f"{batch['total_cost']} is not the sum {parts}")
    many = scripted(
        stage,
        '        many = await router.route_batch(["a", "b", "c"], model="small", max_parallel=2)\n'
        "        return [len(many['results']), many['total_cost']]\n",
    )
    must(many[0] == 3 and many[1] > 0, many)
    return f"four of five answered for ${batch['total_cost']:.6f} together; the library did three"


@keeps("B15")
def a_custom_classifier(stage: Stage) -> str:
    """A script sets an object with classify(prompt): its word decides which policy serves."""
    said = scripted(
        stage,
        "        class Always:\n"
        "            def classify(self, prompt): return TaskType.CREATIVE\n"
        "        router.classifier = Always()\n"
        '        with_echo(router, "coder", "poet")\n'
        "        for kind, model in ((TaskType.CODING, 'coder'), (TaskType.CREATIVE, 'poet')):\n"
        "            router.add_policy(kind, RoutingPolicy(task_type=kind, preferred_models=[model],\n"
        "                max_cost_per_request=1, max_latency=5, fallback_models=[]))\n"
        f"        answer = await router.route({PROMPTS['coding']!r})\n"
        "        return [answer['task_type'], answer['model_used']]\n",
    )
    must([str(one).lower() for one in said] == ["creative", "poet"], said)
    return "a coding prompt was called creative, and went to “poet”"


@keeps("B16")
def a_cost_alert(stage: Stage) -> str:
    """A script sets a threshold and a callback; spending beyond it calls back once."""
    told = scripted(
        stage,
        "        told = []\n"
        "        router.alert_at(0.0000001, lambda *said: told.append(1))\n"
        "        for _ in range(3):\n"
        '            await router.route("Hello " * 50, model="small")\n'
        "        for _ in range(200):\n"
        "            if told: break\n"
        "            await asyncio.sleep(0.1)\n"
        "        await asyncio.sleep(0.5)\n"
        "        return len(told)\n",
    )
    must(told == 1, f"called back {told} times")
    return "called back once"


@keeps("B17")
def a_custom_provider(stage: Stage) -> str:
    """A script registers a class with call_model by name, routes to it, and sees its failure fall back."""
    answer = scripted(
        stage,
        '        with_echo(router, "small", "broken")\n'
        "        good = await router.route('Hello', model='small')\n"
        "        router.add_policy(TaskType.CODING, RoutingPolicy(task_type=TaskType.CODING,\n"
        "            preferred_models=['broken'], max_cost_per_request=1, max_latency=5, fallback_models=['small']))\n"
        "        other = await router.route('Hello', task_type=TaskType.CODING)\n"
        "        return [good['response'], other['model_used']]\n",
    )
    must(answer == ["small says: Hello", "small"], answer)
    return "the class answered; where it failed, the fallback did"
