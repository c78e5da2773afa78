"""Let a decided request in: what it may cost is put on record, and held of its budgets, before anything is sent.

An admitted request asks for cover before each attempt. A hard budget covers an attempt in full, or a shorter answer
than was asked for, or not at all; then the next candidate is tried, which may be cheaper.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from analytics.domain.budgets import Scope
from analytics.domain.usage import BudgetUse, UsageEntry
from analytics.ledger.leases import BudgetsUnavailable, Hold, Window
from analytics.ledger.ledger import Ledger
from providers.domain.estimate import unpriced_extra
from providers.domain.types import Deployment
from routerplatform.gateway.errors import BudgetExceeded, BudgetUnavailable, PriceUnknown
from routerplatform.gateway.tally import Tally
from routing.domain.config import Caller, TaskType
from routing.domain.decision import RoutePlan
from routing.domain.explanation import explanation

DEFAULT_ANSWER = 4096  # tokens, under a hard budget, of a request without a limit
SHORTEST_ANSWER = 64  # tokens; a shorter one is refused rather than cut, unless it was asked for
SAMPLES = 200  # answers of a deployment that its usual length is taken from
FEWEST_SAMPLES = 20
REGROW = 10  # samples after which that is computed again
LOOK_UP_WITHIN_S = 0.25  # what a request waits to hear how full its budgets are


@dataclass(slots=True)
class UsualAnswers:
    """How long the answers of each deployment are: the 95th percentile, in tokens, of the latest ones."""

    _lengths: defaultdict[int, deque[int]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=SAMPLES)))
    _usual: dict[int, int] = field(default_factory=dict)
    _seen: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))

    def note(self, deployment_id: int, output_tokens: int) -> None:
        lengths = self._lengths[deployment_id]
        lengths.append(output_tokens)
        self._seen[deployment_id] += 1
        if len(lengths) >= FEWEST_SAMPLES and self._seen[deployment_id] % REGROW == 0:
            self._usual[deployment_id] = sorted(lengths)[int(len(lengths) * 0.95)]

    def usual(self, deployment_id: int) -> int | None:
        """None while too few answers have been seen."""
        return self._usual.get(deployment_id)


@dataclass(slots=True)
class Cover:
    """What an attempt may come to: `max_tokens` per choice is to be sent upstream; None leaves it as it is."""

    max_tokens: int | None = None
    expected_output: int | None = None  # of all choices, where a budget holds only what is usual


@dataclass(slots=True)
class Admission:
    """A request that is in; `draft` becomes its usage record. One request, one task: no locks.

    `windows` are those of key, team and persona; a model alias has its own, by the attempts that it served. `skipped`
    says why a deployment of the plan was not asked after all.
    """

    draft: UsageEntry
    ledger: Ledger
    usual: UsualAnswers
    windows: tuple[Window, ...]
    now: datetime
    hold: Hold = field(default_factory=Hold)
    by_alias: dict[str, tuple[Window, ...]] = field(default_factory=dict)
    max_tokens: int | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    _would_refuse: set[int] = field(default_factory=set)
    _cover: Cover = field(default_factory=Cover)

    async def cover(self, target: Deployment, alias: str, tally: Tally) -> Cover:
        """Hold what an attempt at `target` can cost, on top of what the request has cost so far. Of the limits that a
        policy's ladder and a budget set to an answer, the shorter one is sent.

        :raises BudgetExceeded: a hard budget cannot afford even a short answer.
        :raises PriceUnknown: a hard budget applies, and nobody knows what this would cost.
        :raises BudgetUnavailable: it cannot be known now.
        """
        self._cover = Cover()
        if alias not in self.by_alias:
            self.by_alias[alias] = self.ledger.leases.applying((("alias", alias),), self.now)
        windows = (*self.windows, *self.by_alias[alias])
        self.max_tokens = tally.longest_answer(target) if tally.is_capped else None
        if any(window.terms.is_hard for window in windows):
            self._cover = await self._hold_for(target, windows, tally)
            return self._cover
        if tally.is_capped:
            self._cover = Cover(self.max_tokens)
        if windows:
            needs = self._needs(windows, target, tally.longest_answer(target), tally)
            self._note_shadows(needs)
            self.ledger.leases.take(self.hold, needs)
        return self._cover

    async def _hold_for(self, target: Deployment, windows: tuple[Window, ...], tally: Tally) -> Cover:
        if self.ledger.disk_full:
            raise BudgetUnavailable("The gateway's disk is full.")
        if tally.bound_of(target, 1) is None or tally.cost_nano is None:
            raise PriceUnknown(target.name)
        if extra := unpriced_extra(tally.request):
            raise PriceUnknown(f"{extra} at {target.name}")
        most = tally.limit or DEFAULT_ANSWER
        output = 0 if tally.is_embedding else min(most, target.max_output_tokens or most)
        needs = self._needs(windows, target, output, tally)
        self._note_shadows(needs)
        try:
            is_covered = await self.ledger.leases.fetch(self.hold, needs)
        except BudgetsUnavailable as error:
            raise BudgetUnavailable("The database that knows the budgets does not answer.") from error
        if not is_covered:
            output = self._affordable(windows, target, output, tally)
            if not output or not self.ledger.leases.take(self.hold, self._needs(windows, target, output, tally)):
                raise self._refusal(needs)
        if tally.is_embedding:
            return Cover()
        if output != tally.limit:
            self.max_tokens = output
        usual = self.usual.usual(target.id)
        return Cover(output, None if usual is None else min(usual, output) * tally.request.choices)

    def _needs(self, windows: Iterable[Window], target: Deployment, output: int, tally: Tally) -> dict[Window, int]:
        """What each window has to hold: its charge so far, and the bound of the attempt, or what is usual of it. The
        windows of aliases that were tried before keep what those attempts cost."""
        most = tally.bound_of(target, output) or 0
        usual = self.usual.usual(target.id)
        likely = most if usual is None else min(most, tally.likely_of(target, min(usual, output)) or most)
        needs = self._charges(tally)
        for window in windows:
            needs[window] += likely if window.terms.mode == "expected" else most
        return needs

    def _affordable(self, windows: Iterable[Window], target: Deployment, asked: int, tally: Tally) -> int:
        """The longest answer (tokens per choice) that every hard window has money for; 0 when it is too short."""
        charges = self._charges(tally)
        left = min(
            self.ledger.leases.affordable(self.hold, window) - charges[window]
            for window in windows
            if window.terms.is_hard
        )
        output = min(asked, tally.longest_for(target, left))
        return output if output >= min(asked, SHORTEST_ANSWER) else 0

    def grow(self, tally: Tally) -> None:
        """An answer that is longer than was held for has more held, while the budget has it. The rest is overrun."""
        held_for = self._cover.expected_output
        if held_for is None or len(tally.output) <= held_for:
            return
        choices = tally.request.choices
        longer = min(2 * held_for, (self._cover.max_tokens or 0) * choices)
        likely = tally.likely_of(tally.target, longer // choices) or 0
        charges = self._charges(tally)
        needs = {
            window: max(amount, charges[window] + likely)
            for window, amount in self.hold.amounts.items()
            if window.terms.mode == "expected"
        }
        grown = longer > held_for and bool(needs) and self.ledger.leases.take(self.hold, needs)
        self._cover.expected_output = longer if grown else None

    def fullest(self) -> Window | None:
        """Of the windows that may change what is served, the one of which the largest share is used."""
        return _fullest(self.windows)

    def with_budgets(self, tally: Tally) -> UsageEntry:
        """The draft of a request that is over, with what budgets did to it and what their windows are charged."""
        if tally.deployment is not None and tally.usage_is_final:
            self.usual.note(tally.deployment.id, tally.charge.usage.output_tokens)
        draft = self.draft if not self.skipped else self._explained()
        if not self.windows and not any(self.by_alias.values()):
            return draft
        use = BudgetUse(self.hold.peak, self.max_tokens, tuple(sorted(self._would_refuse)))
        return msgspec.structs.replace(draft, charges=_by_id(self._charges(tally)), budget=use)

    def _explained(self) -> UsageEntry:
        """The draft with the candidates that were left out in the end."""
        candidates = [
            {**one, "verdict": "skipped", "reason": self.skipped[one["deployment"]]}
            if one["deployment"] in self.skipped
            else one
            for one in self.draft.decision["candidates"]
        ]
        return msgspec.structs.replace(self.draft, decision={**self.draft.decision, "candidates": candidates})

    def charges_at_most(self, bound: int | None, alias: str, tally: Tally) -> dict[int, int] | None:
        """What each window is charged, by its id, should the attempt through `alias` that now begins cost its bound."""
        charges = self._charges(tally)
        for window in (*self.windows, *self.by_alias[alias]):
            charges[window] += bound or 0
        return _by_id(charges)

    def _charges(self, tally: Tally) -> dict[Window, int]:
        charges = dict.fromkeys(self.windows, tally.cost_nano or 0)
        for alias, windows in self.by_alias.items():
            charges |= dict.fromkeys(windows, tally.cost_by_alias.get(alias, 0))
        return charges

    def _note_shadows(self, needs: Mapping[Window, int]) -> None:
        """What is held for this request already is part of what it needs."""
        for window, amount in needs.items():
            held_by_others = window.held - self.hold.amounts.get(window, 0)
            if window.terms.mode == "shadow" and window.room - window.pending - held_by_others < amount:
                self._would_refuse.add(window.id)

    def _refusal(self, needs: Mapping[Window, int]) -> BudgetExceeded:
        """It names the window that is furthest from what is needed."""
        has = {window: self.ledger.leases.affordable(self.hold, window) for window in needs if window.terms.is_hard}
        window = min(has, key=lambda window: has[window] - needs[window])
        return BudgetExceeded(window.terms, window.span, needs_nano=needs[window], left_nano=has[window])


def _subjects(caller: Caller, persona: str) -> list[tuple[Scope, int | str]]:
    """What a request's budgets may be for, but for its model alias."""
    subjects: list[tuple[Scope, int | str]] = [("key", caller.key_id), ("team", caller.team_id)]
    return [*subjects, ("persona", persona)] if persona else subjects


def _fullest(windows: Iterable[Window]) -> Window | None:
    counted = (window for window in windows if window.terms.mode != "shadow")
    return max(counted, key=lambda window: window.share_used, default=None)


def _by_id(charges: Mapping[Window, int]) -> dict[int, int] | None:
    return {window.id: cost for window, cost in charges.items() if cost} or None


@dataclass(frozen=True, slots=True)
class Admissions:
    """Lets requests in. Belongs to one event loop."""

    ledger: Ledger
    usual: UsualAnswers = field(default_factory=UsualAnswers)

    def budget_used(self, caller: Caller, persona: str, now: datetime) -> float:
        """How much of the fullest budget is used that applies to the key, its team or the persona, for all gateways as
        this one knows it: 0 to 1 and above, spent and held. 0 without budgets. Shadow budgets do not count: they change
        nothing."""
        window = self.fullest(caller, persona, now)
        return 0.0 if window is None else window.share_used

    def fullest(self, caller: Caller, persona: str, now: datetime) -> Window | None:
        """The budget's window that `budget_used` is of."""
        return _fullest(self._windows(caller, persona, now))

    async def look_up_budgets(self, caller: Caller, persona: str, now: datetime) -> None:
        """Have `budget_used` go by figures that are at most about a second old. Waits only where nobody has asked for
        the same budgets for a minute, and then for no longer than `LOOK_UP_WITHIN_S`."""
        if windows := self._windows(caller, persona, now):
            await self.ledger.leases.look_up(windows, within_s=LOOK_UP_WITHIN_S)

    def _windows(self, caller: Caller, persona: str, now: datetime) -> tuple[Window, ...]:
        """Nothing while the budgets have not been read: then nobody is let in."""
        try:
            return self.ledger.leases.applying(_subjects(caller, persona), now)
        except BudgetsUnavailable:
            return ()

    def admit(
        self, caller: Caller, plan: RoutePlan, *, request_id: str, door: str, is_stream: bool, now: datetime,
        config_revision: int, tag: str = "",
    ) -> Admission:  # fmt: skip
        """Open the request's record in the journal, and look up which budgets it belongs to.

        :raises BudgetUnavailable: the gateway has not been able to read the budgets yet.
        """
        try:
            windows = self.ledger.leases.applying(_subjects(caller, plan.persona), now)
        except BudgetsUnavailable as error:
            raise BudgetUnavailable("The budgets have not been read yet.") from error
        draft = UsageEntry(
            request_id=request_id,
            started_at=now.timestamp(),
            door=door,
            team_id=caller.team_id,
            team_name=caller.team_name,
            key_id=caller.key_id,
            key_name=caller.key_name,
            key_prefix=caller.key_prefix,
            requested_model=plan.requested,
            config_revision=config_revision,
            is_stream=is_stream,
            persona=plan.persona,
            policy=plan.policy,
            policy_version=plan.policy_version,
            arm=plan.arm,
            task_type="" if plan.task_type is TaskType.ANY else plan.task_type.value,
            rule=plan.rule,
            tag=tag,
            decision=explanation(plan),
        )
        self.ledger.reserve(draft)
        return Admission(draft, self.ledger, self.usual, windows, now)
