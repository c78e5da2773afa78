"""Ask + Markers -> Reply: what is said, which tools are called, where it ends, what it costs."""

import hashlib
from dataclasses import dataclass

from providers.demo.answers import compose
from providers.demo.exchange import ArgumentsPiece, Ask, Finish, Piece, Reply, TextPiece, ToolPiece, Usage
from providers.demo.json_answers import json_answer
from providers.demo.markers import Markers, without_markers
from providers.demo.tokens import tokenize
from providers.demo.tool_calls import choose_calls


@dataclass(frozen=True, slots=True)
class _Content:
    pieces: tuple[Piece, ...]
    finish: Finish
    stop_sequence: str | None = None


def plan_reply(ask: Ask, markers: Markers, *, created: int) -> Reply:
    """The same ask gets the same reply, `created` aside."""
    content = _content(ask, markers)
    reasoning = markers.reasoning
    if ask.limit is not None:
        reasoning = min(reasoning, ask.limit)
        room = ask.limit - reasoning
        if len(content.pieces) > room:
            content = _Content(content.pieces[:room], Finish.LENGTH)
    if markers.finish:
        content = _Content(content.pieces, Finish(markers.finish))
    return Reply(
        model=ask.model,
        digest=ask.digest,
        created=created,
        pieces=content.pieces,
        finish=content.finish,
        stop_sequence=content.stop_sequence,
        usage=_usage(ask, markers, output=len(content.pieces) + reasoning, reasoning=reasoning),
        show_usage=ask.include_usage and not markers.no_usage,
        show_finish=not markers.no_finish,
        show_done=not markers.no_done,
    )


def _content(ask: Ask, markers: Markers) -> _Content:
    said = markers.say is not None or markers.echo
    calls = [] if said else choose_calls(ask, markers.tools)
    if calls:
        return _Content(_call_pieces(ask, calls), Finish.TOOL_CALLS)
    tokens = _sized(_text(ask, markers), markers.tokens)
    text, stop = _stopped("".join(tokens), ask.stops)
    if stop is not None:
        tokens = tokenize(text)
    return _Content(tuple(TextPiece(token) for token in tokens), Finish.STOP, stop)


def _call_pieces(ask: Ask, calls: list[tuple[str, str]]) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    for index, (name, arguments) in enumerate(calls):
        seed = f"{ask.digest} {index}"
        pieces.append(ToolPiece(index, f"call_{hashlib.sha256(seed.encode()).hexdigest()[:24]}", name))
        pieces += [ArgumentsPiece(index, token) for token in tokenize(arguments)]
    return tuple(pieces)


def _text(ask: Ask, markers: Markers) -> str:
    if markers.say is not None:
        return markers.say
    if markers.echo:
        return without_markers(ask.prompt)
    if ask.schema is not None:
        return json_answer(ask)
    return compose(ask)


def _sized(text: str, wanted: int | None) -> list[str]:
    """The tokens of `text`, repeated or cut to exactly `wanted`."""
    tokens = tokenize(text)
    if wanted is None:
        return tokens
    if wanted > len(tokens):
        rounds = wanted // max(1, len(tokens)) + 1
        tokens = tokenize("\n\n".join([text or "demo"] * (rounds + 1)))
    return tokens[:wanted]


def _stopped(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    """`text` up to the first stop sequence in it, and that sequence."""
    found = [(text.index(stop), stop) for stop in stops if stop and stop in text]
    if not found:
        return text, None
    at, stop = min(found)
    return text[:at], stop


def _usage(ask: Ask, markers: Markers, *, output: int, reasoning: int) -> Usage:
    """Cached tokens are tokens of this prompt, so there are never more of them than it has."""
    cached = min(markers.cached, ask.input_tokens)
    written = min(markers.cache_write, ask.input_tokens - cached)
    return Usage(
        input_tokens=ask.input_tokens - cached - written,
        cache_read_input_tokens=cached,
        cache_creation_input_tokens=written,
        output_tokens=output,
        reasoning_tokens=reasoning,
    )
