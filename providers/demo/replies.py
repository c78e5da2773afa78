"""Ask + Markers -> Reply: what is said, which tools are called, where it ends, what it costs."""

import hashlib
import re
from collections.abc import Iterable

import msgspec

from providers.demo.answers import compose
from providers.demo.exchange import Ask, Finish, JsonObject, Piece, Reply, Usage, tokenize
from providers.demo.json_answers import fill, json_answer
from providers.demo.markers import Markers, without_markers

MOST_CALLS = 3

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
# "in Paris and Rome": the names behind a preposition, each worth a call of its own
_PLACES = re.compile(r"\b(?:in|for|at|from|to)\s+((?:[A-Z][\w'-]*[ ,]*(?:and )?)+)")
_VERBS = set("get set list find fetch search look lookup make create read the for by".split())


def plan_reply(ask: Ask, markers: Markers, *, created: int) -> Reply:
    """The same ask gets the same reply, `created` aside."""
    pieces, finish, stop = _content(ask, markers)
    hidden, thoughts = markers.reasoning, tokenize(markers.thought or "")
    if ask.shows_thought:
        pieces = [*(Piece(token, thought=True) for token in thoughts), *pieces]
    else:
        hidden += len(thoughts)
    if ask.limit is not None:
        hidden = min(hidden, ask.limit)
        room = ask.limit - hidden
        if len(pieces) > room:
            pieces, finish, stop = pieces[:room], "length", None
    reasoning = hidden + sum(piece.thought for piece in pieces)
    return Reply(
        model=ask.model,
        digest=ask.digest,
        created=created,
        pieces=tuple(pieces),
        finish=markers.finish or finish,
        stop_sequence=None if markers.finish else stop,
        usage=_usage(ask, markers, output=len(pieces) + hidden, reasoning=reasoning),
        show_usage=ask.include_usage and not markers.no_usage,
        show_finish=not markers.no_finish,
        show_done=not markers.no_done,
        is_signed=markers.thought is not None,
        is_refusal=markers.refusal is not None,
        wire_notes=ask.wire_notes,
    )


def _usage(ask: Ask, markers: Markers, *, output: int, reasoning: int) -> Usage:
    """Cached tokens are tokens of this prompt, so there are never more of them than it has."""
    cached = 0 if "cached" in ask.hides else min(markers.cached, ask.input_tokens)
    written = 0 if "cache_write" in ask.hides else min(markers.cache_write, ask.input_tokens - cached)
    return Usage(ask.input_tokens - cached - written, cached, written, output, reasoning)


def _content(ask: Ask, markers: Markers) -> tuple[list[Piece], Finish, str | None]:
    """The pieces, why they end, and the stop sequence that ended them."""
    text = without_markers(ask.prompt) if markers.echo else None
    text = text if markers.say is None else markers.say
    text = text if markers.refusal is None else markers.refusal
    calls = choose_calls(ask, markers.tools) if text is None or markers.tools else []
    if calls and text is None:
        return _call_pieces(ask, calls), "tool_calls", None
    if text is None:
        text = compose(ask) if ask.schema is None else json_answer(ask)
    tokens = _sized(text, markers.tokens)
    text = "".join(tokens)
    at, stop = min(((text.index(stop), stop) for stop in ask.stops if stop and stop in text), default=(None, None))
    said = [Piece(token) for token in (tokens if stop is None else tokenize(text[:at]))]
    if calls and stop is None:
        return said + _call_pieces(ask, calls), "tool_calls", None
    return said, "stop", stop


def _sized(text: str, wanted: int | None) -> list[str]:
    """The tokens of `text`, repeated or cut to exactly `wanted`."""
    tokens = tokenize(text)
    if wanted is not None and wanted > len(tokens):
        rounds = wanted // max(1, len(tokens)) + 2
        tokens = tokenize("\n\n".join([text or "demo"] * rounds))
    return tokens[:wanted]


def choose_calls(ask: Ask, wanted: tuple[str, ...]) -> list[tuple[str, str]]:
    """(tool name, JSON text of its arguments) for each call; empty to answer in words.

    A tool's answer at the end of the conversation is answered in words. Else tools are called that `[[tool=name]]`
    wants (offered or not), that the request forces, or whose name the prompt speaks of.
    """
    if ask.tool_results:
        return []
    prompt = without_markers(ask.prompt)
    if wanted:
        return [_call(name, ask.tools.get(name, {}), prompt) for name in wanted]
    if not ask.may_call or not ask.tools:
        return []
    name = ask.forced_tool if ask.forced_tool in ask.tools else _mentioned(ask.tools, prompt)
    if name is None and ask.forced_tool is None:
        return []
    name = name or next(iter(ask.tools))
    match = _PLACES.search(prompt)
    places = [place.strip() for place in re.split(r",|\band\b", match[1]) if place.strip()] if match else []
    several = ask.parallel_calls and len(places) > 1
    prompts = [f"in {place}" for place in places[:MOST_CALLS]] if several else [prompt]
    return [_call(name, ask.tools[name], prompt) for prompt in prompts]


def _call(name: str, parameters: JsonObject, prompt: str) -> tuple[str, str]:
    arguments = fill(parameters, prompt) if parameters.get("properties") else {}
    return name, msgspec.json.encode(arguments).decode()


def _mentioned(names: Iterable[str], prompt: str) -> str | None:
    """The name that has a telling word in the prompt: `get_weather` for "what is the weather?"."""
    said = {word.lower() for word in _WORDS.findall(prompt)}
    for name in names:
        telling = {word.lower() for word in _WORDS.findall(name)} - _VERBS
        if telling & said or name.lower() in prompt.lower():
            return name
    return None


def _call_pieces(ask: Ask, calls: list[tuple[str, str]]) -> list[Piece]:
    pieces: list[Piece] = []
    for call, (name, arguments) in enumerate(calls):
        seed = f"{ask.digest} {call}"
        pieces.append(Piece("", call, f"call_{hashlib.sha256(seed.encode()).hexdigest()[:24]}", name))
        pieces += [Piece(token, call) for token in tokenize(arguments)]
    return pieces
