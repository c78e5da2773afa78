"""Recorded decisions made again by two sets of rules, and what the difference would have come to. Pure.

Both sides are decided by the same function that serves requests, from the same recorded inputs and today's models and
prices. What was spent is what was recorded; a request that would have gone elsewhere is priced there with the tokens
that it had, so the length of the answer is taken to be the same.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import exp, log
from typing import Any, Final

import msgspec
from msgspec import Struct

from providers.domain.answer import Usage
from providers.domain.pricing import cost_nano
from providers.domain.types import Capability, Deployment
from routing.domain.classification.types import QualityQuestion
from routing.domain.compile import policies_by_task
from routing.domain.config import ConfigSnapshot, Policy
from routing.domain.decision import LadderRefusal, NoRoute, RoutePlan, decide_as, followed
from routing.domain.recording import (
    Estimate,
    Recalled,
    RecordedInputs,
    UnreadableInputs,
    read_inputs,
    recalled,
)
from routing.domain.situation import Situation, quality_by_tier

NOBODY: Final = ""  # the route of a request that nothing can serve
_STEP: Final = log(1.02)  # of the latency figures: they are exact to 2 %


def snapshot_with(snapshot: ConfigSnapshot, policy: Policy) -> ConfigSnapshot:
    """The configuration as if `policy` were in force in the place of the one with its id."""
    policies = {name: one for name, one in snapshot.policies.items() if one.id != policy.id}
    policies[policy.name] = policy
    return replace(snapshot, policies=policies, task_policies=policies_by_task(policies.values()))


def without_callers(snapshot: ConfigSnapshot) -> ConfigSnapshot:
    """What a replay needs of it: it is handed to other processes, and a rule's own test cannot be."""
    return replace(snapshot, callers_by_digest={}, callers_by_key_id={}, rules=())


def replayed(
    inputs: RecordedInputs, policy: Policy, snapshot: ConfigSnapshot, estimate: Estimate = quality_by_tier
) -> RoutePlan:
    """The decision that `policy` makes of these inputs; raises as `decide`, and UnreadableInputs."""
    return _decided(recalled(inputs, snapshot, estimate), policy, snapshot)


def _decided(was: Recalled, policy: Policy, snapshot: ConfigSnapshot) -> RoutePlan:
    choice = followed(policy, snapshot, was.caller, was.situation, how="replayed")
    return decide_as(choice, snapshot, was.caller, was.request, was.situation)


# --- what it comes to ---------------------------------------------------------------------------------------------


class Latencies(Struct):
    """How often which latency was expected, by its logarithm; `unknown` had none."""

    counts: Counter[int] = msgspec.field(default_factory=Counter)
    unknown: int = 0

    def add(self, latency_ms: float | None) -> None:
        if latency_ms is None:
            self.unknown += 1
        else:
            self.counts[round(log(max(latency_ms, 0.01)) / _STEP)] += 1

    def merge(self, other: "Latencies") -> None:
        self.counts.update(other.counts)
        self.unknown += other.unknown

    def percentile(self, share: float) -> float | None:
        """Nearest rank, in milliseconds; None of nothing."""
        rank = share * self.counts.total()
        for step, count in sorted(self.counts.items()):
            rank -= count
            if rank <= 0:
                return round(exp(step * _STEP), 1)
        return None


class Breaches(Struct):
    """What went or would go against the rules or the caller: requests above a ceiling by what they really cost, or took
    where they stay; refused by the ladder; and those that nothing can serve."""

    over_cost: int = 0
    over_latency: int = 0
    refused: int = 0
    unserved: int = 0

    def merge(self, other: "Breaches") -> None:
        self.over_cost += other.over_cost
        self.over_latency += other.over_latency
        self.refused += other.refused
        self.unserved += other.unserved


class Side(Struct):
    """One set of rules. Money is nano-USD."""

    cost_nano: int = 0
    latencies: Latencies = msgspec.field(default_factory=Latencies)
    breaches: Breaches = msgspec.field(default_factory=Breaches)

    def merge(self, other: "Side") -> None:
        self.cost_nano += other.cost_nano
        self.latencies.merge(other.latencies)
        self.breaches.merge(other.breaches)


class TeamShare(Struct):
    """What a team would notice."""

    requests: int = 0
    moved: int = 0
    before_nano: int = 0
    after_nano: int = 0
    before: Breaches = msgspec.field(default_factory=Breaches)
    after: Breaches = msgspec.field(default_factory=Breaches)

    def merge(self, other: "TeamShare") -> None:
        self.requests += other.requests
        self.moved += other.moved
        self.before_nano += other.before_nano
        self.after_nano += other.after_nano
        self.before.merge(other.before)
        self.after.merge(other.after)


class RouteShare(Struct):
    """Requests that went one way and would go another, and what they cost there and here."""

    requests: int = 0
    before_nano: int = 0
    after_nano: int = 0

    def merge(self, other: "RouteShare") -> None:
        self.requests += other.requests
        self.before_nano += other.before_nano
        self.after_nano += other.after_nano


class Sums(Struct):
    """Of any number of decisions; sums of parts merge into those of the whole.

    `unpriced` are left out of both costs: on one side nobody knows the price. `quality_gain` is the sum over all
    requests of how much better (0 to 1) the new model is expected to answer. `unclassified` were decided without
    anybody asking for the kind of work.
    """

    requests: int = 0
    unreadable: int = 0
    unpriced: int = 0
    unclassified: int = 0
    moved: int = 0
    quality_gain: float = 0.0
    before: Side = msgspec.field(default_factory=Side)
    after: Side = msgspec.field(default_factory=Side)
    routes: dict[tuple[str, str], RouteShare] = {}
    teams: dict[int, TeamShare] = {}

    def merge(self, other: "Sums") -> None:
        self.requests += other.requests
        self.unreadable += other.unreadable
        self.unpriced += other.unpriced
        self.unclassified += other.unclassified
        self.moved += other.moved
        self.quality_gain += other.quality_gain
        self.before.merge(other.before)
        self.after.merge(other.after)
        for way, route in other.routes.items():
            self.routes.setdefault(way, RouteShare()).merge(route)
        for team_id, team in other.teams.items():
            self.teams.setdefault(team_id, TeamShare()).merge(team)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one set of rules makes of one request. Without a target, `breach` says which kind it is."""

    target: Deployment | None
    breach: str = ""  # "refused" | "unserved"

    @property
    def name(self) -> str:
        return self.target.name if self.target else NOBODY


class Replayer:
    """Decides recorded inputs by the rules of `base` and of `draft`, two versions of one policy."""

    def __init__(
        self, snapshot: ConfigSnapshot, base: Policy, draft: Policy, estimate: Estimate = quality_by_tier
    ) -> None:
        self._base, self._draft, self._estimate = base, draft, estimate
        self._before, self._after = snapshot_with(snapshot, base), snapshot_with(snapshot, draft)

    def sums(self, packed: Iterable[bytes | memoryview]) -> Sums:
        """Of recorded inputs as they are kept. Those that cannot be read are counted."""
        sums = Sums()
        for one in packed:
            try:
                self.add(read_inputs(one), sums)
            except UnreadableInputs:
                sums.unreadable += 1
        return sums

    def add(self, inputs: RecordedInputs, sums: Sums) -> None:
        """:raises UnreadableInputs:"""
        if self._base.name not in {inputs.entry, inputs.policy}:
            return  # another policy's: it handed nothing over
        was = recalled(inputs, self._before, self._estimate)
        before, after = self.before(was, inputs), self.after(was, inputs)
        paid, would_pay = inputs.outcome.cost_nano, cost_after(inputs, before, after)
        team = sums.teams.setdefault(inputs.team_id, TeamShare())
        sums.requests += 1
        team.requests += 1
        sums.unclassified += inputs.task is None
        is_moved = before.name != after.name
        if paid is None or would_pay is None:
            sums.unpriced += 1
            paid = would_pay = 0
        sums.before.cost_nano += paid
        sums.after.cost_nano += would_pay
        team.before_nano += paid
        team.after_nano += would_pay
        if is_moved:
            sums.moved += 1
            team.moved += 1
            sums.quality_gain += self.gain(was.situation, before, after)
            route = sums.routes.setdefault((before.name, after.name), RouteShare())
            route.merge(RouteShare(1, paid, would_pay))
        _judge(sums.before, team.before, before, self._base, inputs, was.situation, paid)
        _judge(sums.after, team.after, after, self._draft, inputs, was.situation, would_pay)

    def before(self, was: Recalled, inputs: RecordedInputs) -> Verdict:
        return _verdict(was, inputs, self._base, self._before)

    def after(self, was: Recalled, inputs: RecordedInputs) -> Verdict:
        return _verdict(was, inputs, self._draft, self._after)

    def gain(self, situation: Situation, before: Verdict, after: Verdict) -> float:
        """How much better the one model is expected to answer than the other; 0 where there is only one."""
        if before.target is None or after.target is None:
            return 0.0
        return _quality(after.target, situation) - _quality(before.target, situation)


def _verdict(was: Recalled, inputs: RecordedInputs, policy: Policy, snapshot: ConfigSnapshot) -> Verdict:
    entry = snapshot.policies.get(inputs.entry, policy)
    try:
        return Verdict(_decided(was, entry, snapshot).targets[0])
    except LadderRefusal:
        return Verdict(None, "refused")
    except NoRoute:
        return Verdict(None, "unserved")


def cost_after(inputs: RecordedInputs, before: Verdict, after: Verdict) -> int | None:
    """What the request would cost there; None when nobody knows the price. Whoever stays pays what was paid, and so
    does a kept answer: nothing."""
    outcome = inputs.outcome
    if before.name == after.name or outcome.cache == "hit":
        return outcome.cost_nano
    if after.target is None:
        return 0
    used = outcome.all_input_tokens + outcome.output_tokens
    if not used:  # nothing was answered, and would not be there
        return outcome.cost_nano
    if after.target.price is None:
        return None
    return cost_nano(_usage_at(after.target, inputs), after.target.price)


def _usage_at(target: Deployment, inputs: RecordedInputs) -> Usage:
    """The tokens that it had. What a vendor had in its cache it only has for the model that answered before."""
    outcome = inputs.outcome
    read = 0
    if target.name == inputs.pinned and Capability.PROMPT_CACHING in target.capabilities:
        read = min(outcome.cache_read_input_tokens or inputs.cached_input, outcome.all_input_tokens)
    return Usage(outcome.all_input_tokens - read, cache_read_input_tokens=read, output_tokens=outcome.output_tokens)


def _judge(
    side: Side, team: Breaches, verdict: Verdict, policy: Policy, inputs: RecordedInputs, situation: Situation,
    paid: int,
) -> None:  # fmt: skip
    if verdict.target is None:
        found = Breaches(refused=verdict.breach == "refused", unserved=verdict.breach == "unserved")
    else:
        latency = _latency(verdict.target, inputs, situation)
        side.latencies.add(latency)
        found = Breaches(
            over_cost=policy.max_cost_nano is not None and paid > policy.max_cost_nano,
            over_latency=policy.max_latency_ms is not None and _took(verdict.target, inputs) > policy.max_latency_ms,
        )
    side.breaches.merge(found)
    team.merge(found)


def _latency(target: Deployment, inputs: RecordedInputs, situation: Situation) -> float | None:
    """What it took at that moment until an answer began, else what is expected of it, else what this answer took."""
    measured = situation.standing(target).latency_ms
    if measured is not None:
        return measured
    if target.expected_latency_ms is not None:
        return float(target.expected_latency_ms)
    return _took(target, inputs) or None


def _took(target: Deployment, inputs: RecordedInputs) -> float:
    """How long the request really waited for this model, in milliseconds; 0 when another one served it."""
    outcome = inputs.outcome
    if target.name != outcome.deployment:
        return 0.0
    return outcome.ttft_ms if inputs.is_stream and outcome.ttft_ms else outcome.latency_ms


def _quality(target: Deployment, situation: Situation) -> float:
    question = QualityQuestion(target.model, target.cost_tier, situation.task, situation.tag)
    return situation.quality(question).mean


def told(sums: Sums, *, by_name: Callable[[int], str] = str) -> dict[str, Any]:
    """As JSON: what a replay keeps as its result. Shares are 0 to 1, money is nano-USD, the dearest change first."""
    return {
        "requests": sums.requests,
        "unreadable": sums.unreadable,
        "unpriced": sums.unpriced,
        "unclassified": sums.unclassified,
        "moved": sums.moved,
        "quality_change": round(sums.quality_gain / sums.requests, 6) if sums.requests else 0.0,
        "before": _side_told(sums.before),
        "after": _side_told(sums.after),
        "routes": [
            {"from": way[0], "to": way[1], **msgspec.structs.asdict(route)}
            for way, route in sorted(sums.routes.items(), key=lambda item: (-item[1].requests, item[0]))
        ],
        "teams": [
            {"team_id": team_id, "team": by_name(team_id), **msgspec.to_builtins(team)}
            for team_id, team in sorted(sums.teams.items(), key=lambda item: (-item[1].moved, item[0]))
        ],
    }


def _side_told(side: Side) -> Mapping[str, Any]:
    return {
        "cost_nano": side.cost_nano,
        "p50_ms": side.latencies.percentile(0.5),
        "p95_ms": side.latencies.percentile(0.95),
        "latency_unknown": side.latencies.unknown,
        **msgspec.structs.asdict(side.breaches),
    }
