"""Explain is what then happens: the same targets in the same order at the same estimated cost, or the same refusal.

1,000 random requests over random policies, each explained and then served by the same gateway.
"""

import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from pytest_django import Settings

from providers.models import Provider
from routerplatform.doors.explain import explained_json, read_question
from routerplatform.doors.formats import openai_chat
from routerplatform.gateway.build import build_runtime
from routerplatform.gateway.errors import GatewayError
from routerplatform.gateway.explaining import Bench, Question, explained
from routerplatform.gateway.ids import new_request_id
from routerplatform.gateway.pipeline import Call, serve
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.steps import Opened
from routing.domain.config import Scope, Strategy, TaskType
from routing.domain.explanation import explanation
from routing.models import (
    DraftCandidate,
    DraftState,
    ModelAlias,
    PolicyCandidate,
    PolicyDraft,
    RoutingPolicy,
    RoutingRule,
)
from tests import gateway as configure
from tests.factories import BudgetFactory, PersonaFactory, PriceFactory, TeamFactory, key_text_of
from tests.upstreams.scripted import Upstream

REQUESTS = 1_000
SEED = 20_261_121
TIERS = ("free", "economy", "standard", "premium")
LADDER = {
    "ladder_cap_percent": 1, "ladder_cheaper_percent": 10, "ladder_cache_percent": 40, "ladder_refuse_percent": 55,
}  # fmt: skip
PROMPTS = (
    "Write a Python function that reverses a linked list, with tests.",
    "What is the capital of Mongolia?",
    "Write a poem about the sea in the style of a sailor.",
    "Prove that there are infinitely many primes of the form 4n + 3.",
    "Compare these two quarterly reports and tell me what changed.",
    "hm",
    "Explain this: " + "lorem ipsum " * 900,
)

pytestmark = pytest.mark.django_db(transaction=True)


# --- an installation, by chance -----------------------------------------------------------------------------------


def install(rng: random.Random, url: str) -> None:
    aliases = _models(rng, url)
    policies = [_policy(rng, number, strategy, aliases) for number, strategy in enumerate([*Strategy] * 2)]
    RoutingPolicy.objects.filter(pk=policies[0].pk).update(is_default=True)
    for number, policy in enumerate(policies):
        PersonaFactory(
            slug=f"persona-{number}",
            policy=policy,
            max_tokens=rng.choice([50, 100, 4_000]),
            required_capabilities=rng.choice([[], [], ["vision"]]),
        )
    for policy in policies[1::4]:
        _rolled_out(policy, aliases)
    drawn = configure.policy("drawn", preferred=aliases[:3], strategy=Strategy.WEIGHTED.value)
    PersonaFactory(slug="drawn", policy=drawn)
    _rules(aliases)
    team = TeamFactory()
    BudgetFactory(team=team, mode="soft", max_budget=Decimal("0.01"))
    configure.key(1, team)
    from_two = configure.VirtualKeyFactory(text=key_text_of(2))
    from_two.allowed_models.set(rng.sample(aliases, 4))


def _models(rng: random.Random, url: str) -> list[ModelAlias]:
    """Twelve deployments that differ in all that a decision looks at, behind eight names."""
    deployments = []
    for number in range(12):
        [made] = configure.vendor(
            f"vendor-{number}", url, f"m{number}", priced=False,
            capabilities=rng.sample(configure.ALL_CAPABILITIES, rng.randint(4, 7)),
            context_window=rng.choice([2_000, 8_000, 128_000]),
        )  # fmt: skip
        Provider.objects.filter(pk=made.provider_id).update(region=rng.choice(["", "eu", "us"]))
        made.expected_latency_ms = rng.choice([None, 300, 900, 4_000])
        made.save()
        made.model.cost_tier = rng.choice(TIERS)
        made.model.save()
        if rng.random() < 0.85:
            dollars = [Decimal(rng.randint(0, 900)) / 100 for _ in range(2)]
            PriceFactory(model=made.model, input_usd=dollars[0], output_usd=dollars[1])
        deployments.append(made)
    return [configure.alias(f"alias-{n}", *rng.sample(deployments, rng.randint(1, 3))) for n in range(8)]


def _policy(rng: random.Random, number: int, strategy: Strategy, aliases: list[ModelAlias]) -> RoutingPolicy:
    chosen = rng.sample(aliases, rng.randint(2, 6))
    most = rng.choice([None, None, "0.000500", "0.010000"])
    made = configure.policy(
        f"policy-{number}",
        preferred=chosen[1:],
        fallbacks=chosen[:1],
        strategy=strategy.value,
        task_type=rng.choice([TaskType.ANY, TaskType.CODING]).value,
        quality_floor=rng.choice([None, 0.6, 0.8]),
        within_of_best=rng.choice([None, 0.1]),
        max_cost_per_request=None if most is None else Decimal(most),
        max_latency_ms=rng.choice([None, None, 1_000]),
        is_sticky=rng.random() < 0.5,
        regions=rng.choice([[], [], [], ["eu"]]),
        required_capabilities=rng.choice([[], [], ["json_mode"]]),
        **(LADDER if number % 4 == 0 else {}),
    )
    for row in PolicyCandidate.objects.filter(policy=made):
        row.weight, row.task_type = rng.randint(0, 5), rng.choice([TaskType.ANY, TaskType.CODING]).value
        row.save()
    return made


def _rolled_out(policy: RoutingPolicy, aliases: list[ModelAlias]) -> None:
    """Half of the conversations follow other rules already."""
    draft = PolicyDraft.objects.create(
        policy=policy, title="Other way round", base_version=policy.version, version=policy.version + 1,
        state=DraftState.ROLLING_OUT, percent=50, seed=f"seed of {policy.name}", strategy=Strategy.LOWEST_COST.value,
    )  # fmt: skip
    for position, alias in enumerate(reversed(aliases)):
        DraftCandidate.objects.create(draft=draft, alias=alias, position=position)


def _rules(aliases: list[ModelAlias]) -> None:
    RoutingRule.objects.create(
        name="poems", position=0, subject="text", match="contains", pattern="poem", outcome="task", task_type="CREATIVE"
    )
    RoutingRule.objects.create(
        name="premium", position=1, subject="tag", match="equals", pattern="vip", outcome="tier", tier="premium"
    )
    RoutingRule.objects.create(
        name="primes", position=2, subject="text", match="regex", pattern="primes?", outcome="alias", alias=aliases[0]
    )


@pytest.fixture
async def runtime(openai_upstream: Upstream, settings: Settings, tmp_path: Path) -> AsyncIterator[Runtime]:
    settings.JOURNAL_DIR, settings.REDIS_URL, settings.CONFIG_POLL_S = tmp_path / "journal", "", 3600.0
    await sync_to_async(install)(random.Random(SEED), openai_upstream.url)
    made = build_runtime()
    await made.start()
    yield made
    await made.close()


# --- requests, by chance ------------------------------------------------------------------------------------------


def body_of(rng: random.Random) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": rng.choice(PROMPTS)}]}
    names = rng.random()
    if names < 0.75:
        body["persona" if names < 0.5 else "model"] = f"persona-{rng.randrange(20)}"
    elif names < 0.85:
        body["model"] = f"alias-{rng.randrange(9)}"  # the last one does not exist
    if rng.random() < 0.3:
        body["max_tokens"] = rng.choice([1, 64, 8_000])
    if rng.random() < 0.15:
        body["response_format"] = {"type": rng.choice(["json_object"])}
    if rng.random() < 0.15:
        body["tools"] = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    return body


def hints_of(rng: random.Random) -> dict[str, str]:
    hints = {}
    if rng.random() < 0.3:
        hints["x-router-tag"] = rng.choice(["vip", "batch"])
    if rng.random() < 0.5:
        hints["x-router-conversation"] = f"conversation-{rng.randrange(40)}"
    return hints


async def predicted(runtime: Runtime, call: Call) -> dict[str, Any]:
    snapshot = runtime.config.current()
    caller = runtime.authenticator.caller(snapshot, call.credential, now=runtime.now(), scope=Scope.CHAT)
    question = Question(caller, await call.read(), call.request_id, call.hints)
    return explained_json(await explained(Bench.of(runtime), snapshot, question))


async def happened(runtime: Runtime, call: Call) -> Opened | GatewayError:
    """How the decision of the request was; the answer is read to its end."""
    try:
        async with aclosing(serve(runtime, call)) as steps:
            first = await anext(steps)
            async for _ in steps:
                pass
    except GatewayError as error:
        return error
    assert isinstance(first, Opened)
    return first


def call_of(rng: random.Random) -> Call:
    raw = json.dumps(body_of(rng)).encode()

    async def read() -> Any:
        return openai_chat.parse(raw)

    key = key_text_of(rng.choice([1, 1, 1, 2]))
    return Call(new_request_id(), "test", key, time.perf_counter(), read, hints=hints_of(rng))


@pytest.mark.timeout(240)
async def test_what_is_explained_is_what_then_happens(runtime: Runtime) -> None:
    rng = random.Random(SEED)
    seen: Counter[str] = Counter()
    for number in range(REQUESTS):
        call = call_of(rng)
        told, then = await predicted(runtime, call), await happened(runtime, call)
        if isinstance(then, GatewayError):
            seen[_same_refusal(told, then)] += 1
            continue
        plan = then.plan
        expected = [(one.deployment, one.verdict, one.reason, one.estimated_cost_nano) for one in plan.considered]
        found = [
            (one["deployment"], one["verdict"], one["reason"], one["estimated_cost_nano"]) for one in told["candidates"]
        ]
        assert found == expected, number
        assert told["chosen"] == plan.targets[0].name == then.deployment.name
        assert (told["arm"] or "", (told["step"] or {"name": ""})["name"]) == (plan.arm, plan.step.name)
        assert told["decision"] == explanation(plan)
        seen[plan.strategy.value if plan.policy else "named"] += 1
        seen["arm"] += bool(plan.arm)
        seen[f"step {plan.step.name}"] += 1
    met = {"refused", "refused by the ladder", "kept answers only", "arm", "step cap", "step cheaper", "named"}
    assert {*met, *(strategy.value for strategy in Strategy)} <= set(seen), seen
    assert 50 < seen["refused"] < 600, seen


def _same_refusal(told: dict[str, Any], then: GatewayError) -> str:
    """What the question was told of it, in a word for the statistics."""
    problem, step = told["problem"], told["step"]
    if problem is None:  # decided well, but for want of a kept answer not served
        assert step["name"] == "cache", (told["chosen"], str(then))
        assert (then.code, step["words"].endswith("only kept answers are given")) == ("insufficient_quota", True)
        return "kept answers only"
    assert (problem["code"], problem["param"]) == (then.code, then.param), str(then)
    assert str(then).startswith(problem["message"])
    return "refused by the ladder" if then.code == "insufficient_quota" else "refused"


async def test_the_id_of_a_question_decides_what_is_drawn(runtime: Runtime) -> None:
    """With other ids the same request goes elsewhere; with the same one it never does."""
    raw = json.dumps({"persona": "drawn", "messages": [{"role": "user", "content": "hm"}]}).encode()
    _, request = read_question(raw)
    snapshot = runtime.config.current()
    caller = next(iter(snapshot.callers_by_key_id.values()))

    async def chosen(request_id: str) -> str | None:
        question = Question(caller, request, request_id)
        told = explained_json(await explained(Bench.of(runtime), snapshot, question))
        return told["chosen"]  # type: ignore[no-any-return]  # JSON

    drawn = [await chosen(f"request {n}") for n in range(60)]
    assert len(set(drawn)) > 1
    assert drawn == [await chosen(f"request {n}") for n in range(60)]


def test_the_fields_of_a_question_are_no_part_of_the_request() -> None:
    """Else a question would be a longer request than the one that it asks about, and a dearer one."""
    plain = {"messages": [{"role": "user", "content": "What does it cost?"}], "max_tokens": 7}
    compact = json.dumps(plain, separators=(",", ":")).encode()
    _, bare = read_question(compact)
    asked, wrapped = read_question(json.dumps({**plain, "tag": "x", "policy": "p", "request_id": "r"}).encode())
    assert (asked.tag, asked.policy, asked.request_id) == ("x", "p", "r")
    assert wrapped.input_tokens_estimate == bare.input_tokens_estimate
    assert set(wrapped.fields) == {"messages", "max_tokens"}
