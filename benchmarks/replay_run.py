"""The part of `benchmarks.replay` that runs in its own installation: fill, replay, tell."""

import json
import os
import random
import resource
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "routerplatform.settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from analytics.models import Replay  # noqa: E402
from analytics.services.replays import dial_request, dial_run, replay_request, replay_run  # noqa: E402
from providers.models import CatalogueModel, Deployment, Price, PriceSource, Provider  # noqa: E402
from routing.domain.documents import CandidateDocument, PolicyDocument  # noqa: E402
from routing.domain.recording import (  # noqa: E402
    Outcome,
    RecordedCandidate,
    RecordedInputs,
    RecordedTask,
    write_inputs,
)
from routing.models import AliasTarget, ModelAlias, RoutingPolicy, Team  # noqa: E402
from routing.services.lifecycle import draft_create  # noqa: E402
from routing.services.policy_rules import rules_write  # noqa: E402

TIERS = {
    "nano": ("free", 1),
    "small": ("economy", 2),
    "middle": ("standard", 5),
    "large": ("premium", 12),
    "x": ("premium", 30),
}
TASKS = ("CODING", "CREATIVE", "ANALYSIS", "SIMPLE_QA", "ANY")
TEAMS = 20
END = datetime(2026, 3, 11, tzinfo=UTC)
DAY = timedelta(days=1)
COLUMNS = "request_id, at, policy, policy_version, team_id, task_type, inputs, prompt, label"


def install() -> tuple[RoutingPolicy, User]:
    """Five models of rising price behind one policy."""
    provider = Provider.objects.create(
        name="bench", label="bench", kind="openai-compatible", base_url="http://127.0.0.1:9"
    )
    for name, (tier, usd) in TIERS.items():
        model = CatalogueModel.objects.create(
            name=name, label=name, vendor="bench", capabilities=["streaming", "tool_calling"], context_window=200_000,
            cost_tier=tier,
        )  # fmt: skip
        Price.objects.create(
            model=model, source=PriceSource.OVERRIDE, input_usd=Decimal(usd), output_usd=Decimal(4 * usd)
        )
        deployment = Deployment.objects.create(provider=provider, model=model, upstream_model=name)
        AliasTarget.objects.create(alias=ModelAlias.objects.create(name=name), deployment=deployment)
    Team.objects.bulk_create(Team(name=f"team {number}", slug=f"team-{number}") for number in range(TEAMS))
    policy = RoutingPolicy.objects.create(name="default", is_default=True)
    rules_write(owner=policy, document=rules(strategy="lowest_cost", quality_floor=0.8))
    return policy, User.objects.create_superuser("bench")


def rules(**changes: Any) -> PolicyDocument:
    return PolicyDocument(tuple(CandidateDocument(name) for name in TIERS), **changes)


def decisions(rows: int, teams: list[int]) -> Iterator[tuple[object, ...]]:
    """The columns of COLUMNS. Spread over the day; every request has its own size, standing of the models, and kind
    of work."""
    rng = random.Random(1)
    for number in range(rows):
        request_id, team = uuid.UUID(int=rng.getrandbits(128), version=4), rng.choice(teams)
        size, served = rng.randrange(20, 8_000), rng.choice(list(TIERS))
        cost = (size + 4 * 200) * TIERS[served][1] * 1_000
        outcome = Outcome(f"bench/{served}", 200, "", size, 0, 0, 200, cost, rng.random() * 4_000, rng.random() * 900)
        packed = write_inputs(inputs(rng, f"{request_id}", number, team, size, outcome))
        yield request_id, END - DAY + DAY * number / rows, "default", 1, team, "", packed, "", ""


def inputs(rng: random.Random, seed: str, turn: int, team: int, size: int, outcome: Outcome) -> RecordedInputs:
    return RecordedInputs(
        seed=seed, turn=turn, requested="auto", persona="", entry="default", policy="default", policy_version=1,
        key_id=rng.randrange(100), team_id=team, allowed=(), needs=("tool_calling",) if turn % 3 == 0 else (),
        is_embedding=False, input_tokens=size, max_tokens=rng.choice([None, 500, 1_000]), choices=1,
        is_stream=turn % 2 == 0, only_at="", task=RecordedTask(rng.choice(TASKS), rng.random(), rng.random(), "linear"),
        rule=None, tag=rng.choice(["", "nightly", "support"]), conversation="", pinned="", cached_input=0,
        is_tool_loop=False, usual_output=rng.randrange(50, 800), budget_used=rng.random() * 0.9,
        candidates=tuple(
            RecordedCandidate(f"bench/{name}", rng.random() * 2_000, rng.randrange(30), rng.random(), "", rng.random())
            for name in TIERS
        ),
        outcome=outcome,
    )  # fmt: skip


def fill(rows: int) -> float:
    """Seconds."""
    began, teams = time.perf_counter(), list(Team.objects.values_list("pk", flat=True))  # not while rows are copied
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY analytics_decisionrecord ({COLUMNS}) FROM STDIN") as copy:
            for row in decisions(rows, teams):
                copy.write_row(row)
        cursor.execute("ANALYZE analytics_decisionrecord")
    return time.perf_counter() - began


def cpu_s() -> float:
    """Of this process and of those that it has started and seen end."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    rows, file = int(sys.argv[1]), sys.argv[2]
    call_command("migrate", verbosity=0)
    policy, user = install()
    print(f"{rows:,} decisions, {os.cpu_count()} processors; filled in {fill(rows):.0f} s", flush=True)
    draft = draft_create(policy=policy, by=user, title="bench", document=rules(strategy="balanced"))
    replay = replay_request(policy=policy, draft=draft, since=END - DAY, until=END, by=user)
    began, used = time.perf_counter(), cpu_s()
    replay_run(replay_id=replay.pk)
    took, cpu = time.perf_counter() - began, cpu_s() - used
    replay = Replay.objects.get(pk=replay.pk)
    print(f"replayed in {took:.1f} s", flush=True)
    dial_request(replay=replay, wanted=-0.3)
    began = time.perf_counter()
    dial_run(replay_id=replay.pk)
    figures = {
        "rows": rows,
        "state": replay.state,
        "error": replay.error,
        "replay_s": round(took, 1),
        "cpu_us_per_row": round(cpu / rows * 1e6, 1),
        "moved": replay.result.get("moved"),
        "dial_s": round(time.perf_counter() - began, 1),
    }
    print("\n".join(f"{name:>16}  {value}" for name, value in figures.items()))
    if file:
        Path(file).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
