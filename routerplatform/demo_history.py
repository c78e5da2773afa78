"""Invented usage of the demo teams, so that dashboards have something to show. The same for the same day, always."""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Any, TypeVar

from analytics.models import UsageRecord, UsageSource, UsageState
from providers.domain.answer import Usage
from providers.domain.pricing import cost_nano, price_snapshot
from providers.domain.types import Price
from routerplatform.demo_content import DEMO_ALIASES, DEMO_CANDIDATES, DEMO_MODELS, DEMO_TEAMS, DemoTeam
from routerplatform.starter import DEFAULT, STARTER_PERSONAS
from routing.models import VirtualKey

T = TypeVar("T")

HISTORY_DAYS = 30
DENSE_PER_DAY = 210  # on a weekday
SPARSE_PER_DAY = 100
NOTE = "demo data, invented"

_IDS = uuid.uuid5(uuid.NAMESPACE_DNS, "usage.demo.router-platform.invalid")
_MODELS = {model.name: model for model in DEMO_MODELS}
_PERSONAS = {persona.slug: persona for persona in STARTER_PERSONAS}
# How busy each hour of a day is (UTC).
_HOURS = (2, 1, 1, 1, 1, 2, 4, 7, 11, 14, 15, 14, 12, 14, 15, 14, 12, 9, 7, 5, 4, 4, 3, 2)


@dataclass(frozen=True, slots=True)
class _Route:
    """What a request asked for, and the models that could serve it, in order."""

    requested: str
    persona: str
    policy: str
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a request ended. `failures`: failed attempts before the answer; a released request has no others."""

    state: UsageState
    http_status: int
    error_code: str = ""
    failures: int = 0


_ANSWERED = _Outcome(UsageState.SETTLED, 200)
_OUTCOMES = (
    (940, _ANSWERED),
    (30, replace(_ANSWERED, failures=1)),
    (12, _Outcome(UsageState.CANCELLED, 499, "client_closed_request")),
    (11, _Outcome(UsageState.RELEASED, 429, "upstream_rate_limited", 9)),
    (7, _Outcome(UsageState.RELEASED, 502, "upstream_failed", 9)),
)


def invented_usage(
    keys: dict[str, VirtualKey], prices: dict[str, Price], *, now: datetime, per_day: int, days: int = HISTORY_DAYS
) -> Iterator[UsageRecord]:
    """Records of the last `days` days before `now`, unsaved; `keys` by team slug, `prices` by model.

    `per_day` is for a weekday. The sparse history is a part of the dense one: ids depend on day and number only.
    """
    first = now.date() - timedelta(days=days - 1)
    for day in (first + timedelta(days=i) for i in range(days)):
        # Random enough for invented traffic, and meant to be the same each time.
        rng = Random(f"demo usage of {day.isoformat()}")  # noqa: S311
        count = per_day if day.weekday() < 5 else per_day * 2 // 5
        for number in range(count):
            record = _record(day, number, rng, keys, prices)
            if record.finished_at < now:
                yield record


def _record(day: date, number: int, rng: Random, keys: dict[str, VirtualKey], prices: dict[str, Price]) -> UsageRecord:
    team = _pick(rng, [(team.share, team) for team in DEMO_TEAMS])
    route = _route(rng, team)
    outcome = _pick(rng, _OUTCOMES)
    served = _MODELS[route.models[min(outcome.failures, len(route.models) - 1)]]
    usage, latency_ms, ttft_ms = _answer(rng, team, served.expected_latency_ms, outcome)
    hour = _pick(rng, [(weight, hour) for hour, weight in enumerate(_HOURS)])
    started = datetime.combine(day, time(hour), UTC) + timedelta(seconds=rng.uniform(0, 3600))
    key, price = keys[team.slug], prices[served.name]
    return UsageRecord(
        request_id=uuid.uuid5(_IDS, f"{day.isoformat()}/{number}"),
        started_at=started,
        finished_at=started + timedelta(milliseconds=latency_ms),
        state=outcome.state,
        door=_pick(rng, [(6, "chat-completions"), (2, "rest"), (1, "websocket")]),
        http_status=outcome.http_status,
        error_code=outcome.error_code,
        is_stream=rng.random() < 0.6,
        team_id=key.team_id,
        key_id=key.pk,
        team_name=team.name,
        key_name=key.name,
        key_prefix=key.prefix,
        persona=route.persona,
        policy=route.policy,
        requested_model=route.requested,
        provider=served.provider,
        deployment=f"{served.provider}/{served.name}",
        model=served.name,
        input_tokens=usage.input_tokens,
        cache_read_input_tokens=usage.cache_read_input_tokens,
        output_tokens=usage.output_tokens,
        usage_source=_source(outcome),
        cost_nano=cost_nano(usage, price) if usage != Usage() else 0,
        price=price_snapshot(price),
        attempts=_attempts(route, outcome, latency_ms),
        decision=_decision(route),
        ttft_ms=ttft_ms,
        latency_ms=latency_ms,
        overhead_ms=round(rng.uniform(0.2, 0.9), 2),
    )


def _route(rng: Random, team: DemoTeam) -> _Route:
    asked = rng.choice(team.asks_for)
    if asked in DEMO_ALIASES:
        return _Route(asked, "", "", DEMO_ALIASES[asked][1])
    persona = _PERSONAS.get(asked)
    policy = persona.policy if persona else DEFAULT
    preferred, fallbacks = DEMO_CANDIDATES[policy]
    return _Route(asked, persona.slug if persona else "", policy, preferred + fallbacks)


def _answer(rng: Random, team: DemoTeam, expected_ms: int, outcome: _Outcome) -> tuple[Usage, float, float | None]:
    """Tokens, latency and time to the first token (ms)."""
    latency_ms = round(expected_ms * rng.lognormvariate(0, 0.45), 1)
    if outcome.state == UsageState.RELEASED:
        return Usage(), round(latency_ms * 0.1, 1), None
    prompt = int(team.prompt_tokens * rng.lognormvariate(0, 0.8)) + 10
    cached = int(prompt * rng.uniform(0.3, 0.8)) if rng.random() < 0.25 else 0
    output = int(rng.lognormvariate(6.2, 0.7)) + 1
    if outcome.state == UsageState.CANCELLED:
        output, latency_ms = output // 3, round(latency_ms * 0.4, 1)
    usage = Usage(input_tokens=prompt - cached, cache_read_input_tokens=cached, output_tokens=output)
    return usage, latency_ms, round(latency_ms * rng.uniform(0.08, 0.2), 1)


def _source(outcome: _Outcome) -> UsageSource:
    match outcome.state:
        case UsageState.SETTLED:
            return UsageSource.PROVIDER
        case UsageState.RELEASED:
            return UsageSource.NONE
        case _:
            return UsageSource.COUNTED


def _attempts(route: _Route, outcome: _Outcome, latency_ms: float) -> list[dict[str, Any]]:
    """Like `analytics.domain.usage.Attempt`: the failed ones, and the one that served or was cut."""
    overloaded = outcome.http_status != 429
    attempts: list[dict[str, Any]] = []
    for name in route.models[: outcome.failures]:
        attempts.append({
            **_attempt(name, 0.0, round(latency_ms * 0.1, 1)),
            "failure": "overloaded" if overloaded else "rate_limited",
            "http_status": 503 if overloaded else 429,
            "message": NOTE,
        })  # fmt: skip
    if outcome.state != UsageState.RELEASED:
        name = route.models[min(outcome.failures, len(route.models) - 1)]
        began = sum(attempt["latency_ms"] for attempt in attempts)
        cut = {"failure": "cancelled"} if outcome.state == UsageState.CANCELLED else {"http_status": 200}
        attempts.append({**_attempt(name, began, round(latency_ms - began, 1)), **cut})
    return attempts


def _attempt(name: str, started_ms: float, latency_ms: float) -> dict[str, Any]:
    model = _MODELS[name]
    return {
        "deployment": f"{model.provider}/{name}",
        "provider": model.provider,
        "key_last4": "",
        "started_ms": started_ms,
        "latency_ms": latency_ms,
    }


def _decision(route: _Route) -> dict[str, Any]:
    """Like the gateway's record of a decision, with the note that it never happened."""
    candidates = [
        {
            "deployment": f"{_MODELS[name].provider}/{name}",
            "alias": name,
            "verdict": "fallback" if place else "chosen",
            "reason": "",
            "estimated_cost_nano": None,
        }
        for place, name in enumerate(route.models)
    ]
    how = f"{'the policy' if route.policy else 'the alias'} ({NOTE})"
    return {
        "requested": route.requested,
        "how": how,
        "persona": route.persona,
        "policy": route.policy,
        "strategy": "priority",
        "candidates": candidates,
    }


def _pick(rng: Random, weighted: Iterable[tuple[int, T]]) -> T:
    pairs = list(weighted)
    return rng.choices([value for _, value in pairs], [weight for weight, _ in pairs])[0]
