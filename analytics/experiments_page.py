"""What the pages of experiments show: both arms side by side, what tells them apart, the guards, and what happened."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Count

from analytics.domain.experiments import (
    Comparison,
    GuardState,
    Moments,
    Share,
    compared_means,
    compared_shares,
    next_stage,
    p_value,
)
from analytics.models import UsageRecord
from analytics.presentation import NBSP, UNKNOWN, count, duration, money, percent, tokens
from analytics.selectors.experiments import CHALLENGER, CONTROL, ArmResults, arm_name, guards_of
from routing.models import Experiment, ExperimentKind, ExperimentState, ExperimentUnit

Shown = Callable[[float], str]

CHANGE: Final = "routing.change_experiment"
SURELY: Final = 0.001  # the share that is seen is not the share that was set
BARS_SPAN: Final = 1.15  # a picture's edge, as a multiple of the furthest end of its interval
NEAR: Final = 0.5  # of a guard's limit
MANIFOLD: Final = 1_000  # times as much or more are all the same


@dataclass(frozen=True, slots=True)
class Label:
    """A word with the tone and picture of components/state.html."""

    text: str
    tone: str
    picture: str = ""


STATES: Final = {
    ExperimentState.DRAFT: Label("Not started", "idle"),
    ExperimentState.RUNNING: Label("Running", "ok"),
    ExperimentState.STOPPED: Label("Stopped", "warn", "stopped"),
    ExperimentState.PROMOTED: Label("Promoted", "ok", "up"),
}
UNITS: Final = {
    ExperimentUnit.REQUEST: "requests",
    ExperimentUnit.CONVERSATION: "conversations",
    ExperimentUnit.KEY: "keys",
}
GUARDS: Final = {"errors": "More errors", "latency": "Slower", "cost": "Dearer"}


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval as a picture of 100 units from left to right, with no difference in the middle."""

    low: float
    width: float
    at: float


@dataclass(frozen=True, slots=True)
class Line:
    """One measure. `hint` says what it counts; what is only shown has no verdict."""

    name: str
    control: str
    challenger: str
    hint: str = ""
    difference: str = ""
    between: str = ""
    verdict: Label | None = None
    more: str = ""
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class GuardLine:
    name: str
    limit: str
    now: str
    state: Label


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an experiment."""

    at: datetime
    text: str
    by: str


@dataclass(frozen=True, slots=True)
class ListLine:
    """An experiment in the list, with how many requests each arm has seen."""

    experiment: Experiment
    state: Label
    what: str
    control: int
    challenger: int


# --- the list -------------------------------------------------------------------------------------------------------


def experiment_lines(experiments: Sequence[Experiment]) -> list[ListLine]:
    """Two queries for all of them."""
    names = [arm_name(one, side) for one in experiments for side in (CONTROL, CHALLENGER)]
    counted = UsageRecord.objects.filter(arm__in=names).order_by().values_list("arm").annotate(number=Count("pk"))
    seen = dict(counted.values_list("arm", "number"))
    return [
        ListLine(
            experiment=one,
            state=STATES[ExperimentState(one.state)],
            what=share_in_words(one),
            control=seen.get(arm_name(one, CONTROL), 0),
            challenger=seen.get(arm_name(one, CHALLENGER), 0),
        )
        for one in experiments
    ]


def share_in_words(experiment: Experiment) -> str:
    """“30 % of conversations follow the challenger”."""
    what = UNITS[ExperimentUnit(experiment.unit)]
    if experiment.kind == ExperimentKind.SHADOW:
        return f"{experiment.percent}{NBSP}% of {what} are asked again"
    if experiment.kind == ExperimentKind.CANARY:
        stages = ", ".join(str(stage) for stage in experiment.stages)
        return f"{experiment.percent}{NBSP}% of {what} follow the challenger (stages {stages}{NBSP}%)"
    return f"{experiment.percent}{NBSP}% of {what} follow the challenger"


# --- side by side ---------------------------------------------------------------------------------------------------


def result_lines(control: ArmResults, challenger: ArmResults, *, least: int) -> list[Line]:
    """Every measure of both sides; the first three are what guards look at."""
    one, two = control.figures, challenger.figures
    return [
        _share_line("Errors", one.errors, two.errors, least=least, hint="failed or broke off"),
        _means_line("Latency", one.latency, two.latency, duration, least=least, hint="mean, to the last byte"),
        _means_line("Cost per 1,000", one.cost, two.cost, _per_thousand, least=least, hint="answered requests"),
        Line("Latency p50", duration(control.latency_p50), duration(challenger.latency_p50)),
        Line("Latency p95", duration(control.latency_p95), duration(challenger.latency_p95)),
        Line("First token p50", duration(control.ttft_p50), duration(challenger.ttft_p50), "of streams"),
        Line("First token p95", duration(control.ttft_p95), duration(challenger.ttft_p95), "of streams"),
        Line("Tokens per request", _each(control), _each(challenger), "in and out"),
        Line("Cost in all", money(one.spent_nano), money(two.spent_nano), _unpriced(control, challenger)),
        _share_line(
            "Valid JSON", control.valid, challenger.valid, least=least, hint="where JSON was asked for",
            less_is_better=False,
        ),
        _share_line(
            "Thumbs up", control.liked, challenger.liked, least=least, hint="of answers that people rated",
            less_is_better=False,
        ),
        Line("Mean grade", _grade(control), _grade(challenger), "0 to 1, by people and judges"),
    ]  # fmt: skip


def _share_line(
    name: str, control: Share, challenger: Share, *, least: int, hint: str, less_is_better: bool = True
) -> Line:
    found = compared_shares(control, challenger, least=least, less_is_better=less_is_better)
    return _line(name, _share(control), _share(challenger), found, hint, _points)


def _means_line(name: str, control: Moments, challenger: Moments, shown: Shown, *, least: int, hint: str) -> Line:
    found = compared_means(control, challenger, least=least)
    texts = [shown(one.mean) if one.count else UNKNOWN for one in (control, challenger)]
    return _line(name, texts[0], texts[1], found, hint, _relative)


def _line(name: str, control: str, challenger: str, found: Comparison, hint: str, shown: Shown) -> Line:
    if found.change is None or found.low is None or found.high is None:
        return Line(name, control, challenger, hint)
    verdict, more = _verdict(found)
    return Line(
        name=name,
        control=control,
        challenger=challenger,
        hint=hint,
        difference=shown(found.change),
        between=f"{shown(found.low)} to {shown(found.high)}",
        verdict=verdict,
        more=more,
        interval=_interval(found.change, found.low, found.high),
    )


def _verdict(found: Comparison) -> tuple[Label, str]:
    match found.verdict:
        case "better":
            return Label("Better", "ok"), ""
        case "worse":
            return Label("Worse", "bad"), ""
        case "early":
            return Label("Not enough yet", "idle"), f"{count(found.more)} more requests per arm"
        case "alike":
            return Label("No difference", "idle"), "none that more requests would show"
    more = f"about {count(_about(found.more))} more per arm" if found.more else ""
    return Label("Not told apart", "idle"), more


def _about(number: int) -> int:
    """With two digits: more of them would promise too much."""
    return round(number, 2 - len(str(number)))


def _interval(change: float, low: float, high: float) -> Interval:
    """Ends are drawn where they are, seen from the middle; the picture is as wide as the further of the two."""
    edge = max(abs(low), abs(high), 1e-9) * BARS_SPAN
    places = [50 + 50 * max(-1.0, min(1.0, value / edge)) for value in (low, high, change)]
    return Interval(round(places[0], 2), round(max(0.5, places[1] - places[0]), 2), round(places[2], 2))


def _share(share: Share) -> str:
    return f"{percent(share.value)}" if share.count else UNKNOWN


def _points(value: float) -> str:
    return f"{_sign(value)}{abs(value) * 100:.1f}{NBSP}pp"


def _relative(value: float) -> str:
    """“+25.0 %”, “12 ×”. An interval of few requests may end at a figure of twenty digits, which says no more."""
    if value > MANIFOLD:
        return f">{MANIFOLD:,}{NBSP}×"
    return f"{1 + value:,.0f}{NBSP}×" if value >= 10 else f"{_sign(value)}{abs(value) * 100:,.1f}{NBSP}%"


def _sign(value: float) -> str:
    return "+" if value > 0 else "−" if value < 0 else ""


def _per_thousand(nano: float) -> str:
    return money(round(nano * 1000))


def _each(arm: ArmResults) -> str:
    requests = arm.figures.requests + arm.cancelled
    return tokens(round(arm.tokens / requests)) if requests else UNKNOWN


def _grade(arm: ArmResults) -> str:
    return UNKNOWN if arm.grade is None else f"{arm.grade:.2f} ({count(arm.grades)})"


def _unpriced(control: ArmResults, challenger: ArmResults) -> str:
    number = control.unpriced + challenger.unpriced
    return f"{count(number)} of unknown price are not in it" if number else ""


# --- guards ---------------------------------------------------------------------------------------------------------


def guard_lines(states: Iterable[GuardState], experiment: Experiment, challenger: ArmResults) -> list[GuardLine]:
    """Each guard with its limit and where it stands; the experiment's own budget is one too."""
    lines = [_guard_line(state) for state in states]
    limit = guards_of(experiment).max_cost_nano
    if limit is not None:
        spent = challenger.figures.spent_nano
        tone = Label("Used up", "bad") if spent >= limit else Label("Within", "ok")
        lines.append(GuardLine("Own budget", money(limit), money(spent), tone))
    return lines


def _guard_line(state: GuardState) -> GuardLine:
    shown = _points if state.name == "errors" else _relative
    found, limit = state.comparison, f"+{state.limit * 100:g}{NBSP}{'pp' if state.name == 'errors' else '%'}"
    if found.verdict == "early":
        return GuardLine(GUARDS[state.name], limit, UNKNOWN, Label(f"After {count(found.more)} more per arm", "idle"))
    if found.change is None:
        return GuardLine(GUARDS[state.name], limit, UNKNOWN, Label("Cannot tell: one side is free", "warn"))
    if state.is_breached:
        label = Label("Breached", "bad")
    elif state.is_reached:
        label = Label("Past it, perhaps by chance", "warn")
    elif found.change > 0 and found.change >= state.limit * NEAR:
        label = Label("Near", "warn")
    else:
        label = Label("Within", "ok")
    return GuardLine(GUARDS[state.name], limit, shown(found.change), label)


# --- how it goes ----------------------------------------------------------------------------------------------------


def events_of(experiment: Experiment) -> list[Event]:
    """What happened, the latest first: from the history of its row."""
    rows = experiment.history.select_related("history_user").order_by("-history_date", "-history_id")
    return [Event(row.history_date, _event_text(row), str(row.history_user or "the platform")) for row in rows]


def _event_text(row: Experiment) -> str:
    """A move's own words; a row without any is one that was entered or edited."""
    reason = getattr(row, "history_change_reason", "") or ""
    if not reason:
        return "Set up" if getattr(row, "history_type", "") == "+" else "Edited"
    if row.state in {ExperimentState.STOPPED, ExperimentState.PROMOTED} and row.stop_reason:
        return f"{reason.capitalize()}: {row.stop_reason}"
    if row.state == ExperimentState.RUNNING and reason == "started":
        return f"Started with {row.percent}{NBSP}%"
    return reason.capitalize()


def is_ready(experiment: Experiment, challenger: ArmResults, *, now: datetime) -> bool:
    """Whether a canary has been through all of its stages and nothing stopped it."""
    if experiment.kind != ExperimentKind.CANARY or experiment.state != ExperimentState.RUNNING:
        return False
    if experiment.stage_since is None or next_stage(tuple(experiment.stages), experiment.percent) is not None:
        return False
    has_lasted = now >= experiment.stage_since + timedelta(minutes=experiment.stage_minutes)
    return has_lasted and challenger.figures.requests >= experiment.min_samples


def missing_share(experiment: Experiment, control: ArmResults, challenger: ArmResults) -> str:
    """What to look at when far fewer requests were seen on one side than were to go there; empty when none is."""
    if experiment.kind != ExperimentKind.AB or experiment.unit != ExperimentUnit.REQUEST:
        return ""
    seen = challenger.figures.requests + challenger.cancelled
    whole = seen + control.figures.requests + control.cancelled
    share = experiment.percent / 100
    if not whole or not 0 < share < 1:
        return ""
    difference = seen / whole - share
    if p_value(difference, share * (1 - share) / whole, 0.1) > SURELY:
        return ""
    side = "challenger" if difference < 0 else "control"
    return (
        f"{percent(seen / whole)} of the requests here are the challenger’s, {experiment.percent}{NBSP}% should be. "
        f"What its rules refuse before any model is asked has no record: try the {side}’s rules in the test box."
    )


def may_change(user: User | AnonymousUser) -> bool:
    return user.has_perm(CHANGE)
