"""What changes from one set of a policy's rules to another, in words; and two such changes put together."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from routing.domain.config import STRATEGY_LABELS, TASK_LABELS, TaskType
from routing.domain.documents import UNORDERED, CandidateDocument, LadderDocument, PolicyDocument

NANO: Final = 1_000_000_000
NONE: Final = "none"
ESCALATION_WORDS: Final = {
    "refusal": "refuses",
    "empty": "is empty",
    "invalid_json": "is no valid JSON",
    "low_logprob": "is unsure",
}
TASKS: Final = {task.value: label.lower() for task, label in TASK_LABELS.items()}
STRATEGIES: Final = {strategy.value: label.lower() for strategy, label in STRATEGY_LABELS.items()}
CACHE_WORDS: Final = {"auto": "requests at temperature 0", "always": "every request", "never": "nothing"}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `field` is the document's field, of the ladder “ladder.<step>”, of a model “candidates”;
    `before` and `after` are in words with units, one of them is empty where something is added or taken away."""

    field: str
    label: str
    before: str
    after: str

    def __str__(self) -> str:
        """“cost ceiling: $0.05 → $0.02”, “model: adds demo-deep as fallback”."""
        if not self.before:
            return f"{self.label}: {self.after}"
        return f"{self.label}: {self.before} → {self.after}" if self.after else f"{self.label}: {self.before}"


def policy_changes(before: PolicyDocument, after: PolicyDocument) -> list[Change]:
    """Every difference, in the order in which a policy's page shows its fields; empty when the rules are the same."""
    return [*_models(before.candidates, after.candidates), *_fields(before, after)]


class Collision(Exception):
    """Both changes are about the same fields; `labels` names them."""

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__(", ".join(labels))
        self.labels = list(labels)


def rebased(base: PolicyDocument, theirs: PolicyDocument, ours: PolicyDocument) -> PolicyDocument:
    """The change from `base` to `ours`, made on top of `theirs`. The models with their order are one field.

    :raises Collision: both have changed the same field, and not to the same.
    """
    values, labels = {}, []
    for name in (*(field.name for field in FIELDS), "candidates"):
        was, there, here = (_value(document, name) for document in (base, theirs, ours))
        if here in (was, there):
            values[name] = there
        elif there == was:
            values[name] = here
        else:
            labels.append(LABELS[name])
    if labels:
        raise Collision(labels)
    ladder = {name.removeprefix("ladder."): value for name, value in values.items() if name.startswith("ladder.")}
    rest = {name: value for name, value in values.items() if not name.startswith("ladder.")}
    return PolicyDocument(**rest, ladder=LadderDocument(**ladder))


# --- how values are said --------------------------------------------------------------------------------------------


def money_words(nano: int | None) -> str:
    """“$0.05”, exact; “none” for no ceiling."""
    if nano is None:
        return NONE
    whole, _, fraction = f"{nano / NANO:,.9f}".partition(".")
    return f"${whole}.{fraction.rstrip('0').ljust(2, '0')}"


def names_words(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ").replace("json", "JSON") for name in names) or NONE


def task_words(name: str) -> str:
    """“coding”; the name itself when nobody knows it."""
    return TASKS.get(name, name)


def strategy_words(name: str) -> str:
    return STRATEGIES.get(name, name)


def _switch(value: bool) -> str:
    return "yes" if value else "no"


def _with(unit: str) -> Callable[[Any], str]:
    return lambda value: NONE if value is None else f"{value:,}{unit}"


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:g}"


def _escalations(names: Sequence[str]) -> str:
    return ", ".join(ESCALATION_WORDS.get(name, name) for name in names) or NONE


def _regions(names: Sequence[str]) -> str:
    return ", ".join(names) or "all"


def _ttl(seconds: int | None) -> str:
    return "as the settings say" if seconds is None else f"{seconds:,} s"


# --- the fields -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    label: str
    words: Callable[[Any], str]


FIELDS: Final = (
    _Field("task_type", "made for", task_words),
    _Field("strategy", "order", strategy_words),
    _Field("quality_floor", "quality floor", _share),
    _Field("within_of_best", "close enough to the best", _share),
    _Field("cost_weight", "what a cent is worth", _share),
    _Field("latency_weight", "what a second is worth", _share),
    _Field("max_cost_nano", "cost ceiling", money_words),
    _Field("max_latency_ms", "latency ceiling", _with(" ms")),
    _Field("required", "required capabilities", names_words),
    _Field("regions", "allowed regions", _regions),
    _Field("is_sticky", "keeps a conversation where it is", _switch),
    _Field("escalate_on", "asks the next model when an answer", _escalations),
    _Field("ladder.cap_at", "shortens answers at", _with(" % of a budget")),
    _Field("ladder.cap_tokens", "shortened answers have", _with(" tokens")),
    _Field("ladder.cheaper_at", "prefers cheaper models at", _with(" % of a budget")),
    _Field("ladder.cache_only_at", "answers from the cache only at", _with(" % of a budget")),
    _Field("ladder.refuse_at", "refuses at", _with(" % of a budget")),
    _Field("cache_mode", "keeps answers of", lambda mode: CACHE_WORDS.get(mode, mode)),
    _Field("cache_ttl_s", "keeps them for", _ttl),
    _Field("sample_percent", "decisions kept", _with(" %")),
    _Field("keeps_prompts", "keeps prompts for learning", _switch),
)
LABELS: Final = {**{field.name: field.label for field in FIELDS}, "candidates": "models"}


def _fields(before: PolicyDocument, after: PolicyDocument) -> Iterator[Change]:
    for field in FIELDS:
        was, now = _value(before, field.name), _value(after, field.name)
        if was != now:
            yield Change(field.name, field.label, field.words(was), field.words(now))


def _value(document: PolicyDocument, name: str) -> Any:
    value: Any = document
    for part in name.split("."):
        value = getattr(value, part)
    return tuple(sorted(set(value))) if name in UNORDERED else value


def _models(before: Sequence[CandidateDocument], after: Sequence[CandidateDocument]) -> Iterator[Change]:
    were, are = {one.alias: one for one in before}, {one.alias: one for one in after}
    for alias, one in were.items():
        if alias not in are:
            yield Change("candidates", "model", f"removes {_model(one)}", "")
    for alias, one in are.items():
        if alias not in were:
            yield Change("candidates", "model", "", f"adds {_model(one)}")
        elif one != were[alias]:
            yield from _model_changes(were[alias], one)
    kept = [are[one.alias] for one in before if one.alias in are]
    added = [one for one in after if one.alias not in were]
    if _as_tried([*kept, *added]) != _as_tried(after):  # else it is said already: what is new goes behind the others
        yield Change("candidates", "tried in the order", _names(before), _names(after))


def _as_tried(candidates: Sequence[CandidateDocument]) -> list[str]:
    return [one.alias for one in sorted(candidates, key=lambda one: one.is_fallback)]


def _model(one: CandidateDocument) -> str:
    weight = f", weight {one.weight}" if one.weight != CandidateDocument(alias="").weight else ""
    task = f", preferred for {task_words(one.task_type)}" if one.task_type != TaskType.ANY.value else ""
    return f"{one.alias} as {_group(one)}{weight}{task}"


def _model_changes(was: CandidateDocument, now: CandidateDocument) -> Iterator[Change]:
    if was.is_fallback != now.is_fallback:
        yield Change("candidates", f"{now.alias} is", _group(was), _group(now))
    if was.weight != now.weight:
        yield Change("candidates", f"weight of {now.alias}", str(was.weight), str(now.weight))
    if was.task_type != now.task_type:
        tasks = (_preferred_for(was.task_type), _preferred_for(now.task_type))
        yield Change("candidates", f"{now.alias} is preferred for", *tasks)


def _group(one: CandidateDocument) -> str:
    return "fallback" if one.is_fallback else "preferred"


def _preferred_for(task: str) -> str:
    return "nothing" if task == TaskType.ANY.value else task_words(task)


def _names(candidates: Sequence[CandidateDocument]) -> str:
    return ", then ".join(_as_tried(candidates))


def as_json(changes: Sequence[Change]) -> list[dict[str, str]]:
    """For APIs: each change with its sentence."""
    return [{**msgspec.to_builtins(change), "text": str(change)} for change in changes]
