"""An explanation as a page shows it: figures in words, bars, and the prompt with its telling words marked."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from analytics import presentation
from routerplatform.gateway.explaining import Explained, Looked
from routing.domain.config import STRATEGY_LABELS, TASK_LABELS, TaskType

WORD: Final = re.compile(r"\w+(?:['’]\w+)*")
LONGEST_SHOWN: Final = 4_000  # of a prompt that is shown with its words marked
SCORES_SHOWN, LEAST_SHOWN = 3, 0.005
FAINT, STRONG = 0.34, 0.67  # of the strongest word


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the prompt. `mark` is “” or how much it speaks for what was found, “for-1” to “for-3”, or against."""

    text: str
    mark: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate. `rank` is 1 for the first that is asked, 0 for those that are not."""

    rank: int
    looked: Looked
    quality_percent: int | None
    quality: str
    latency: str
    cost: str
    score: str
    notes: tuple[str, ...]

    @property
    def deployment(self) -> str:
        return self.looked.considered.deployment

    @property
    def alias(self) -> str:
        """The name that it was found by, where that says more than its own."""
        alias = self.looked.considered.alias
        return "" if self.deployment == alias or self.deployment.endswith(f"/{alias}") else alias


@dataclass(frozen=True, slots=True)
class Side:
    """What one set of rules would do."""

    name: str
    told: Explained
    facts: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    pieces: tuple[Piece, ...]

    @property
    def chosen(self) -> str:
        return self.told.plan.targets[0].name if self.told.plan else ""

    @property
    def is_passed_over(self) -> bool:
        """The first choice would not be asked just now."""
        return bool(self.chosen) and self.told.asked_first != self.chosen


def side_of(name: str, told: Explained, prompt: str) -> Side:
    weights = {word.text.lower(): word.weight for word in told.words}
    return Side(
        name=name,
        told=told,
        facts=tuple(facts(told)),
        rows=tuple(rows(told)),
        pieces=tuple(pieces(prompt[:LONGEST_SHOWN], weights)) if weights else (),
    )


def facts(told: Explained) -> Iterator[tuple[str, str]]:
    """What the decision went by, in the order in which it did."""
    policy, situation, plan = told.policy, told.situation, told.plan
    if policy is not None:
        yield "Strategy", STRATEGY_LABELS[policy.strategy]
    if situation.rule is not None:
        yield "Operator’s rule", situation.rule.name
    if task := _task(told):
        yield "Kind of work", task
    if plan is not None and plan.template:
        yield "Prompt template", plan.template
    if plan is not None and plan.arm:
        yield "Side of an experiment", plan.arm
    if told.step_in_words:
        yield "Budget", told.step_in_words
    if plan is not None and plan.sticks:
        yield "Conversation", "stays with the model that has answered it"
    if situation.usual_output is not None:
        yield "Usual answer", f"{presentation.tokens(situation.usual_output)} tokens"
    yield "Asked by", f"{told.question.caller.key_name}, {told.question.caller.team_name}"
    yield "Configuration", f"revision {told.snapshot.revision}, artefact {told.snapshot.artefact or 'as shipped'}"


def _task(told: Explained) -> str:
    rule, task = told.situation.rule, told.situation.task
    if rule is not None and rule.task_type is not None:
        return f"{TASK_LABELS[rule.task_type]}, says the rule"
    if task is None:
        return ""
    is_unsure = task.label is TaskType.ANY
    scores = sorted(task.scores.items(), key=lambda one: (-one[1], one[0]))
    others = [(label, score) for label, score in scores if label is not task.label and score >= LEAST_SHOWN]
    shown = others[: SCORES_SHOWN if is_unsure else SCORES_SHOWN - 1]
    near = ", ".join(f"{TASK_LABELS[label]} {presentation.percent(score)}" for label, score in shown)
    if is_unsure:
        return f"not sure enough to say: {near}" if near else "not sure enough to say"
    sure = f"{TASK_LABELS[task.label]}, {presentation.percent(task.confidence)} sure"
    return f"{sure}; then {near}" if near else sure


def rows(told: Explained) -> Iterator[Row]:
    """The candidates, those that can serve in the order of asking first."""
    fallbacks = {one.alias.name for one in told.policy.candidates if one.is_fallback} if told.policy else set()
    for place, one in enumerate(told.candidates, 1):
        is_target = one.considered.verdict != "skipped"
        score = one.considered.score
        estimate, standing, deployment = one.estimate, one.standing, one.deployment
        measured = standing.latency_ms if standing else None
        expected = deployment.expected_latency_ms if deployment else None
        yield Row(
            rank=place if is_target else 0,
            looked=one,
            quality_percent=round(estimate.mean * 100) if estimate else None,
            quality=f"{estimate.basis}, {estimate.samples:,} graded" if estimate else "",
            latency=presentation.duration(expected if measured is None else measured),
            cost=_exact(one.considered.estimated_cost_nano),
            score="" if score is None else f"{score:.4g}",
            notes=tuple(_notes(one, is_fallback=is_target and one.considered.alias in fallbacks)),
        )


def _notes(one: Looked, *, is_fallback: bool) -> Iterator[str]:
    """What speaks against it; nothing of one that is preferred and well."""
    if is_fallback:
        yield "fallback"
    if one.considered.reason:
        yield one.considered.reason
    if one.out_of_service:
        yield f"passed over now: {one.out_of_service}"
    elif one.keys_awake < one.keys:
        yield f"{one.keys_awake} of {one.keys} keys usable"


def _exact(nano: int | None) -> str:
    """Six decimals: what one request costs is a small part of a cent."""
    return "unpriced" if nano is None else f"${presentation.usd(nano):,.6f}"


def pieces(prompt: str, weights: Mapping[str, float]) -> Iterator[Piece]:
    """The prompt, word by word and what is between; `weights` by the word in lower case."""
    most = max((abs(weight) for weight in weights.values()), default=0.0)
    done = 0
    for found in WORD.finditer(prompt):
        weight = weights.get(found[0].lower())
        if not weight or not most:
            continue
        if found.start() > done:
            yield Piece(prompt[done : found.start()])
        yield Piece(found[0], _mark(weight / most), f"{weight:+.2f}")
        done = found.end()
    if done < len(prompt):
        yield Piece(prompt[done:])


def _mark(share: float) -> str:
    """`share` of the strongest word, negative where it speaks against."""
    strength = 1 if abs(share) < FAINT else 2 if abs(share) < STRONG else 3
    return f"{'for' if share > 0 else 'against'}-{strength}"
