"""What the page of a replay shows: how far it is, what it found in a few figures, and what to make of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.contrib.auth.models import AnonymousUser, User

from analytics import presentation
from analytics.exports import Cell, cost_cell
from analytics.models import Replay, ReplayState
from analytics.presentation import NBSP, Tone
from analytics.selectors.replays import decisions_since, replays_of, standing
from analytics.services.replays import is_outdated
from routing.models import DraftState, PolicyDraft
from routing.policy_access import may_edit_draft

RANGES: Final = {"24h": ("the last 24 hours", timedelta(hours=24)), "7d": ("the last 7 days", timedelta(days=7))}
WAITS_LONG: Final = timedelta(seconds=15)
SEEN_BY: Final = ("routing.view_policydraft", "routing.view_routingpolicy", "routing.approve_policydraft")
RUN_BY: Final = ("routing.change_policydraft", "routing.add_policydraft", "routing.approve_policydraft")
CLOSED: Final = (DraftState.PUBLISHED, DraftState.WITHDRAWN)
BREACHES: Final = {
    "unserved": "nothing can serve",
    "refused": "refused, a budget fills",
    "over_cost": "over the cost ceiling",
    "over_latency": "over the latency ceiling",
}
FIELDS: Final = {
    "quality_floor": "quality floor",
    "within_of_best": "close enough to the best",
    "cost_weight": "what a cent is worth",
}
STATES: Final = {  # tone and icon of a label
    ReplayState.WAITING: ("default", "hourglass_empty"),
    ReplayState.RUNNING: ("info", "sync"),
    ReplayState.DONE: ("success", "check_circle"),
    ReplayState.CANCELLED: ("default", "block"),
    ReplayState.FAILED: ("danger", "error"),
}
Person = User | AnonymousUser


def may_see(user: Person) -> bool:
    """Whoever sees policies or changes of them."""
    return any(user.has_perm(one) for one in SEEN_BY)


def may_run(user: Person) -> bool:
    """Whoever proposes or reviews changes of policies: a replay takes processors."""
    return any(user.has_perm(one) for one in RUN_BY)


@dataclass(frozen=True, slots=True)
class Card:
    """One figure; `tone` is worse or better where that can be said."""

    title: str
    figure: str
    note: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class RouteLine:
    """Requests that would go another way; `share` of all moved ones, 0 to 1. An empty name is nobody."""

    before: str
    after: str
    requests: int
    share: float
    before_nano: int
    after_nano: int
    change: presentation.Change | None


@dataclass(frozen=True, slots=True)
class TeamLine:
    """What a team would notice; `breaches` in words, those that the new rules add with a plus."""

    name: str
    requests: int
    moved: float
    before_nano: int
    after_nano: int
    change: presentation.Change | None
    breaches: str
    is_worse: bool


@dataclass(frozen=True, slots=True)
class DialView:
    """The threshold that was looked for; `words` say what was found."""

    state: str
    wanted: int  # percent
    words: str
    can_use: bool


@dataclass(frozen=True, slots=True)
class ReplayView:
    """All of one replay's page. `tone` and `icon` are those of its state's label. `warnings` say why its result may not
    hold any more, `notes` what it does not know."""

    replay: Replay
    tone: str
    icon: str
    is_open: bool
    percent: float
    progress: str
    warnings: Sequence[str]
    cards: Sequence[Card]
    routes: Sequence[RouteLine]
    teams: Sequence[TeamLine]
    notes: Sequence[str]
    dial: DialView | None


def view_of(replay: Replay, user: Person, *, now: datetime) -> ReplayView:
    found = replay.result if replay.state == ReplayState.DONE else {}
    is_empty = not found.get("requests")
    now_at = standing(replay, now=now)
    return ReplayView(
        replay=replay,
        tone=STATES[ReplayState(replay.state)][0],
        icon=STATES[ReplayState(replay.state)][1],
        is_open=now_at.is_open,
        percent=round(now_at.share * 100, 1),
        progress=_progress(replay, now_at.left, now),
        warnings=warnings_of(replay) if found else [],
        cards=[] if is_empty else _cards(found),
        routes=[] if is_empty else _routes(found),
        teams=[] if is_empty else [_team(one) for one in found["teams"]],
        notes=[] if is_empty else _notes(found),
        dial=_dial(replay, found.get("dial"), user),
    )


def _progress(replay: Replay, left: timedelta | None, now: datetime) -> str:
    if replay.state == ReplayState.WAITING:
        late = now - replay.created_at > WAITS_LONG
        return "Waits for a worker. If it does not begin soon, none is running." if late else "Waits for a worker."
    if not replay.total:
        return "Counts the decisions."
    done = f"{replay.done:,} of {replay.total:,} decisions"
    return done if left is None else f"{done}, about {presentation.duration(left.total_seconds() * 1000)} left"


def warnings_of(replay: Replay) -> list[str]:
    """Why the result may not say any more what would happen; empty while it does."""
    found: list[str] = []
    if replay.draft is not None and replay.draft.state in CLOSED:
        return found  # it tells what was known when that was decided
    if replay.policy.version != replay.base_version:
        found.append(
            f"Version {replay.policy.version} of {replay.policy} is in force, and this compares with version "
            f"{replay.base_version}. Replay it again once the draft is rebased."
        )
    if is_outdated(replay):
        found.append("The draft has been edited since. Replay it again.")
    return found


# --- figures ------------------------------------------------------------------------------------------------------


def _cards(found: Mapping[str, Any]) -> list[Card]:
    before, after = found["before"], found["after"]
    cost = presentation.change(after["cost_nano"], before["cost_nano"], less_is_better=True)
    money = f"{presentation.money(after['cost_nano'])} instead of {presentation.money(before['cost_nano'])}"
    latency = presentation.change(after["p95_ms"], before["p95_ms"], less_is_better=True)
    slow = f"{presentation.duration(after['p95_ms'])} instead of {presentation.duration(before['p95_ms'])}"
    moved = f"{found['moved']:,} of {found['requests']:,} requests"
    points = found["quality_change"] * 100
    breaches = sum(after[name] for name in BREACHES)
    return [
        Card("Cost", cost.text if cost else presentation.UNKNOWN, money, cost.tone if cost else ""),
        Card("p95 until it begins", latency.text if latency else presentation.UNKNOWN, slow, _tone(latency)),
        Card("Go elsewhere", presentation.percent(presentation.ratio(found["moved"], found["requests"])), moved),
        Card("Expected quality", _points(points), "good answers in 100, as estimated", _tone_of(points)),
        Card(
            "Violations",
            f"{breaches:,}",
            _breaches(after) or "none by the draft’s rules",
            "worse" if breaches > sum(before[name] for name in BREACHES) else "",
        ),
    ]


def _tone(change: presentation.Change | None) -> Tone:
    return change.tone if change else ""


def _tone_of(points: float) -> Tone:
    return "" if abs(points) < 0.5 else "better" if points > 0 else "worse"


def _points(points: float) -> str:
    if abs(points) < 0.05:
        return "unchanged"
    return f"{'+' if points > 0 else '−'}{abs(points):.1f}"


def _breaches(side: Mapping[str, int]) -> str:
    return ", ".join(f"{side[name]:,} {words}" for name, words in BREACHES.items() if side[name])


def _routes(found: Mapping[str, Any]) -> list[RouteLine]:
    return [
        RouteLine(
            one["from"],
            one["to"],
            one["requests"],
            one["requests"] / found["moved"],
            one["before_nano"],
            one["after_nano"],
            presentation.change(one["after_nano"], one["before_nano"], less_is_better=True),
        )
        for one in found["routes"]
    ]


def _team(one: Mapping[str, Any]) -> TeamLine:
    added = {name: one["after"][name] - one["before"][name] for name in BREACHES}
    words = [
        f"{one['after'][name]:,} {words}{f' ({added[name]:+,})' if added[name] else ''}"
        for name, words in BREACHES.items()
        if one["after"][name] or added[name]
    ]
    return TeamLine(
        one["team"],
        one["requests"],
        one["moved"] / one["requests"] if one["requests"] else 0.0,
        one["before_nano"],
        one["after_nano"],
        presentation.change(one["after_nano"], one["before_nano"], less_is_better=True),
        ", ".join(words) or "none",
        any(number > 0 for number in added.values()),
    )


def _notes(found: Mapping[str, Any]) -> list[str]:
    """What the figures leave out or take for granted."""
    notes = ["Priced with the tokens that each request had: another model may answer at another length."]
    if found["unpriced"]:
        notes.append(f"{found['unpriced']:,} requests are in neither sum: nobody knows the price on one of the sides.")
    if found["unclassified"] == found["requests"]:
        notes.append("No kind of work is known of these requests: the rules of then did not ask for it.")
    elif found["unclassified"]:
        notes.append(f"Of {found['unclassified']:,} requests no kind of work is known.")
    if found["after"]["latency_unknown"]:
        unknown = found["after"]["latency_unknown"]
        notes.append(f"Of {unknown:,} requests nobody knows how long the new model would take.")
    if found["unreadable"]:
        notes.append(f"{found['unreadable']:,} kept decisions could not be read and are left out.")
    return notes


# --- the dial -----------------------------------------------------------------------------------------------------


def _dial(replay: Replay, dial: Mapping[str, Any] | None, user: Person) -> DialView | None:
    if not dial:
        return None
    wanted = round(-100 * dial["wanted"])
    if dial["state"] != "done":
        return DialView(dial["state"], wanted, dial.get("error", ""), can_use=False)
    can_use = replay.draft is not None and may_edit_draft(user, replay.draft)
    return DialView("done", wanted, _found_words(dial, wanted), can_use)


def _found_words(dial: Mapping[str, Any], wanted: int) -> str:
    change, points = abs(round(100 * dial["change"], 1)), dial["quality_change"] * 100
    costs = f"{change:g}{NBSP}% {'less' if dial['change'] <= 0 else 'more'} cost"
    quality = "quality unchanged" if abs(points) < 0.05 else f"{_points(points)} good answers in 100"
    setting = f"“{FIELDS[dial['field']]}” at {dial['value']:g}: {costs}, {quality}"
    sample = f"(tried on {dial['requests']:,} decisions of the range)"
    if dial["is_reached"]:
        return f"{setting} {sample}."
    return f"{wanted}{NBSP}% cannot be reached with these models. The furthest is {setting} {sample}."


# --- the panel of a draft -----------------------------------------------------------------------------------------


def panel_of(draft: PolicyDraft, user: Person, *, now: datetime) -> dict[str, Any]:
    """The part of a draft's page: its latest replay, and the form for another one."""
    latest = replays_of(draft, limit=5)
    view = view_of(latest[0], user, now=now) if latest else None
    return {
        "draft": draft,
        "view": view,
        "earlier": latest[1:],
        "kept_since": decisions_since(draft.policy.name),
        "sample_percent": draft.policy.sample_percent,
        "may_run": may_run(user) and not (view and view.is_open),
        "may_cancel": may_run(user),
        "ranges": [(name, words) for name, (words, _) in RANGES.items()],
        "now": now,
    }


def range_of(asked: Mapping[str, str], *, now: datetime) -> tuple[datetime, datetime]:
    """The range that a form or a body asks for: `last` (24h, 7d), or `since` and `until` in UTC.

    :raises ValueError: neither; the text says what is missing.
    """
    last = asked.get("last", "")
    if last in RANGES:
        return now - RANGES[last][1], now
    if last:
        raise ValueError(f"“last” is one of {', '.join(RANGES)}.")
    since, until = _moment(asked.get("since", "")), _moment(asked.get("until", ""))
    if since is None:
        raise ValueError("Say from when: a day and a time in UTC, as 2026-03-10T12:00.")
    return since, until or now


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: a year that no calendar has
        raise ValueError(f"“{text}” is no moment. Write it as 2026-03-10T12:00, in UTC.") from None


# --- as data ------------------------------------------------------------------------------------------------------


def row_of(replay: Replay, *, now: datetime) -> dict[str, Any]:
    """As the API tells it; `result` only of one that is done."""
    now_at = standing(replay, now=now)
    is_done = replay.state == ReplayState.DONE
    return {
        "object": "replay",
        "id": replay.pk,
        "policy": replay.policy.name,
        "policy_id": replay.policy_id,
        "draft": replay.draft_id,
        "base_version": replay.base_version,
        "since": replay.since,
        "until": replay.until,
        "state": replay.state,
        "error": replay.error,
        "done": replay.done,
        "total": replay.total,
        "percent": round(now_at.share * 100, 1),
        "seconds_left": None if now_at.left is None else round(now_at.left.total_seconds(), 1),
        "warnings": warnings_of(replay) if is_done else [],
        "created_at": replay.created_at,
        "finished_at": replay.finished_at,
        "result": replay.result if is_done else None,
    }


ROUTE_HEADER: Final = ("from", "to", "requests", "cost_before_usd", "cost_after_usd")
TEAM_HEADER: Final = (
    "team", "requests", "moved", "cost_before_usd", "cost_after_usd",
    *(f"{name}_before" for name in BREACHES), *(f"{name}_after" for name in BREACHES),
)  # fmt: skip


def csv_of(replay: Replay, table: str) -> tuple[Sequence[str], Iterator[Sequence[Cell]]]:
    """Header and rows of the routes, or of the teams."""
    if table == "teams":
        return TEAM_HEADER, (_team_row(one) for one in replay.result.get("teams", ()))
    return ROUTE_HEADER, (
        (one["from"], one["to"], one["requests"], cost_cell(one["before_nano"]), cost_cell(one["after_nano"]))
        for one in replay.result.get("routes", ())
    )


def _team_row(one: Mapping[str, Any]) -> Sequence[Cell]:
    before, after = ([one[side][name] for name in BREACHES] for side in ("before", "after"))
    costs = cost_cell(one["before_nano"]), cost_cell(one["after_nano"])
    return [one["team"], one["requests"], one["moved"], *costs, *before, *after]
