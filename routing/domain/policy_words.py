"""A policy's rules as a person would say them, sentence by sentence. Pure: of a document, in force or not."""

from collections.abc import Sequence

from routing.domain.config import BY_QUALITY, Strategy, TaskType
from routing.domain.documents import CandidateDocument, PolicyDocument
from routing.domain.policy_diff import ESCALATION_WORDS, money_words, names_words, task_words

STRATEGY_HELP = {
    Strategy.PRIORITY: "The first model that fits serves; the others are asked when it fails.",
    Strategy.WEIGHTED: "Each request draws a model, in proportion to the weights. Weight 0 is only asked at the end.",
    Strategy.ROUND_ROBIN: "The models take turns, request by request.",
    Strategy.LEAST_BUSY: "The model with the fewest requests under way serves.",
    Strategy.LOWEST_COST: "The cheapest model that is good enough serves; those that are not come last, the best of "
    "them first.",
    Strategy.LOWEST_LATENCY: "The model that has been quickest of late serves; those of which nobody knows come last.",
    Strategy.USAGE_BASED: "The model with the most room under its rate limits serves.",
    Strategy.TASK_BASED: "The models that are preferred for this kind of work go first, the others by cost. A kind of "
    "work that no model here is preferred for goes to the policy that is made for it, if there is one.",
    Strategy.BEST_QUALITY: "The model that is expected to answer best serves, whatever it costs within the ceiling.",
    Strategy.BALANCED: "Expected quality, less what a cent and a second are worth to you: the highest serves.",
}


def rules_in_words(document: PolicyDocument) -> list[str]:
    """What it tries in which order, what it skips, and what it does besides; only what is not usual is said."""
    said = [*_order(document), *_skipped(document), *_ladder(document), *_escalation(document)]
    return [*said, *_sticky(document), *_kept(document), *_learning(document)]


# --- the order ------------------------------------------------------------------------------------------------------


def _order(document: PolicyDocument) -> list[str]:
    preferred = [one for one in document.candidates if not one.is_fallback]
    fallbacks = [one.alias for one in document.candidates if one.is_fallback]
    if not preferred and not fallbacks:
        return ["It has no models, so it can serve nothing: add one below."]
    if not preferred:
        return [f"Tries {', then '.join(fallbacks)}."]
    tried = _preferred(document, preferred)
    return [f"{tried} When these fail: {', then '.join(fallbacks)}."] if fallbacks else [tried]


SIMPLE = {
    Strategy.ROUND_ROBIN: "Tries {} in turn.",
    Strategy.LEAST_BUSY: "Tries the least busy of {} first.",
    Strategy.LOWEST_LATENCY: "Tries the quickest of {} first.",
    Strategy.USAGE_BASED: "Tries the one of {} with the most room under its rate limits first.",
    Strategy.BEST_QUALITY: "Tries the one of {} that is expected to answer best first.",
}


def _preferred(document: PolicyDocument, preferred: Sequence[CandidateDocument]) -> str:
    names = [one.alias for one in preferred]
    match document.strategy:
        case Strategy.WEIGHTED:
            return _weighted(preferred)
        case Strategy.TASK_BASED:
            return _by_task(document, preferred)
        case Strategy.LOWEST_COST if len(names) > 1:
            return f"Tries the cheapest of {_among(names)}{_good_enough(document)} first."
        case Strategy.BALANCED if len(names) > 1:
            weights = f"{document.cost_weight:g} per cent and {document.latency_weight:g} per second"
            return f"Tries the one of {_among(names)} first whose expected quality is the highest, less {weights}."
        case simple if simple in SIMPLE and len(names) > 1:
            return SIMPLE[Strategy(simple)].format(_among(names))
    return f"Tries {', then '.join(names)}."


def _weighted(preferred: Sequence[CandidateDocument]) -> str:
    total = sum(one.weight for one in preferred)
    if not total:
        return f"Would draw one of {_among([one.alias for one in preferred])}, but all weights are 0."
    shares = [f"{one.alias} ({_percent(one.weight / total)})" for one in preferred if one.weight]
    last = [one.alias for one in preferred if not one.weight]
    said = f"Shares requests out by weight: {', '.join(shares)}."
    return f"{said} Only when these fail: {', '.join(last)}." if last else said


def _percent(share: float) -> str:
    """“75%”; “under 1%” and “over 99%” are not said to be nothing and all."""
    if share < 0.01:
        return "under 1%"
    return "over 99%" if 0.99 < share < 1 else f"{share:.0%}"


def _by_task(document: PolicyDocument, preferred: Sequence[CandidateDocument]) -> str:
    by_task: dict[str, list[str]] = {}
    for one in preferred:
        if one.task_type != TaskType.ANY.value:
            by_task.setdefault(one.task_type, []).append(one.alias)
    tasks = [f"for {task_words(task)} prefers {', then '.join(names)}" for task, names in by_task.items()]
    cheapest = f"the cheapest of {_among([one.alias for one in preferred])}{_good_enough(document)}"
    if not tasks:
        return f"Tries {cheapest} first, but hands kinds of work over to the policies that are made for them."
    said = "; ".join(tasks)
    return f"{said[0].upper()}{said[1:]}; then, and for all else, {cheapest}."


def _good_enough(document: PolicyDocument) -> str:
    asked = []
    if document.quality_floor is not None:
        asked.append(f"has an expected quality of at least {document.quality_floor:g}")
    if document.within_of_best is not None:
        asked.append(f"is at most {document.within_of_best:g} worse than the best")
    return f" that {' and '.join(asked)}" if asked else ""


def _among(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# --- the rest -------------------------------------------------------------------------------------------------------


def _skipped(document: PolicyDocument) -> list[str]:
    limits = []
    if document.max_cost_nano is not None:
        limits.append(f"would cost more than {money_words(document.max_cost_nano)} or has no known price")
    if document.max_latency_ms is not None:
        limits.append(f"is expected to take longer than {document.max_latency_ms:,} ms")
    if document.required:
        limits.append(f"lacks {names_words(document.required)}")
    if document.regions:
        limits.append(f"is not served in {' or '.join(document.regions)}")
    return [f"Skips a model that {', or '.join(limits)}."] if limits else []


def _ladder(document: PolicyDocument) -> list[str]:
    ladder = document.ladder
    steps = (
        (ladder.cap_at, f"shortens answers to {ladder.cap_tokens:,} tokens"),
        (ladder.cheaper_at, "tries cheaper models first"),
        (ladder.cache_only_at, "gives kept answers only"),
        (ladder.refuse_at, "refuses"),
    )
    said = [f"at {at} % {what}" for at, what in steps if at is not None]
    return [f"As a budget fills: {', '.join(said)}."] if said else []


def _escalation(document: PolicyDocument) -> list[str]:
    reasons = [ESCALATION_WORDS.get(name, name) for name in document.escalate_on]
    return [f"Asks the next model when an answer {' or '.join(reasons)}."] if reasons else []


def _sticky(document: PolicyDocument) -> list[str]:
    if not document.is_sticky:
        return []
    floor = document.quality_floor if document.strategy in BY_QUALITY else None
    too_bad = "" if floor is None else f" or has an expected quality below {floor:g}"
    return [f"A conversation stays with the model that has answered it, unless that cannot go on{too_bad}."]


def _kept(document: PolicyDocument) -> list[str]:
    for_so_long = f" for {document.cache_ttl_s:,} s" if document.cache_ttl_s else ""
    match document.cache_mode:
        case "always":
            return [f"Keeps every answer{for_so_long} and gives it again to equal requests of the team."]
        case "never":
            return ["Keeps no answer, whatever a request asks for."]
    return [f"Keeps answers at temperature 0{for_so_long}."] if for_so_long else []


def _learning(document: PolicyDocument) -> list[str]:
    said = []
    if document.sample_percent < 100:
        said.append(f"Of {document.sample_percent} % of the requests the decision is kept for replays and learning.")
    if document.keeps_prompts:
        said.append("The last human turn is kept with the decision, encrypted.")
    return said
