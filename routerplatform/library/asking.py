"""One request of a program, through the gateway's one path; and its answer as a program gets it."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

import msgspec

from analytics.domain.usage import UsageEntry
from providers.domain.answer import Frame
from providers.domain.types import ChatRequest
from routerplatform.doors.formats.native import Delta, NativeWriter
from routerplatform.doors.formats.prompted import read_route, route_answer
from routerplatform.gateway.conversation_pins import HINT as CONVERSATION
from routerplatform.gateway.errors import GatewayError
from routerplatform.gateway.ids import new_request_id
from routerplatform.gateway.page_tokens import PageTokens
from routerplatform.gateway.pipeline import Call, answered, serve
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.situations import TAG, TASK_TYPE
from routerplatform.gateway.steps import Closed, Opened
from routerplatform.library.engine import Engine
from routerplatform.library.engine import Opened as Library
from routerplatform.library.errors import BadRequestError, RouterError, from_gateway, is_number

DOOR: Final = "library"
NANO: Final = 1_000_000_000
MOST_USD: Final = 1e9
QUEUE_LENGTH: Final = 64  # pieces that a slow reader may lag behind before the provider is made to wait
NOBODY: Final = 0  # no person signs the library's tokens
Prompt = str | Sequence[Mapping[str, Any]]
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What a program asks: OpenAI's chat fields in `body`, and what is said beside them. `max_cost` is USD."""

    body: dict[str, Any]
    hints: dict[str, str] = field(default_factory=dict)
    cache: str = ""
    max_cost: float | None = None

    @property
    def model(self) -> str:
        return str(self.body.get("model", "auto"))


def question_of(prompt: Prompt, said: Mapping[str, Any], *, stream: bool = False) -> Question:
    """A question from what `route` was given.

    :raises BadRequestError: a prompt of the wrong type, or a value that JSON cannot say.
    """
    fields = {name: value for name, value in said.items() if value is not None}
    hints = {
        name: str(fields.pop(key))
        for key, name in (("task_type", TASK_TYPE), ("tag", TAG), ("conversation", CONVERSATION))
        if key in fields
    }
    max_cost, cache = fields.pop("max_cost", None), str(fields.pop("cache", ""))
    if fields.pop("stream", False) and not stream:
        raise BadRequestError("invalid_request", "Here the answer comes whole: use route_stream.", param="stream")
    if max_cost is not None and not (is_number(max_cost) and 0 <= max_cost < MOST_USD):
        raise BadRequestError("invalid_request", "max_cost is an amount in USD, from 0 on.", param="max_cost")
    if isinstance(prompt, str):
        fields["prompt"] = prompt
    elif isinstance(prompt, list | tuple) and all(isinstance(turn, Mapping) for turn in prompt):
        fields["messages"] = list(prompt)
    else:
        text = f"A prompt is a text or a list of messages, not a {type(prompt).__name__}."
        raise BadRequestError("invalid_request", text, param="prompt")
    return Question(fields | ({"stream": True} if stream else {}), hints, cache, max_cost)


class Asker:
    """Asks for one router: with its key, and telling `settled` of every record."""

    def __init__(self, api_key: str, settled: Callable[[UsageEntry], None]) -> None:
        self._api_key = api_key
        self._settled = settled
        self._tokens = PageTokens()

    def credential(self, library: Library) -> str:
        return self._api_key or self._tokens.issue(key_id=library.key_id, user_id=NOBODY)

    def call(self, library: Library, question: Question) -> Call:
        """:raises BadRequestError: a value that no JSON can hold."""
        try:
            raw = msgspec.json.encode(question.body)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise BadRequestError("invalid_request", f"A value cannot be sent: {error}.") from None
        most_nano = None if question.max_cost is None else round(question.max_cost * NANO)

        async def read() -> ChatRequest:
            request, _ = read_route(raw)
            return request if most_nano is None else dataclasses.replace(request, max_cost_nano=most_nano)

        return Call(
            new_request_id(), DOOR, self.credential(library), time.perf_counter(), read, self._settled,
            question.cache, hints=question.hints,
        )  # fmt: skip

    async def whole(self, library: Library, question: Question) -> Result:
        """:raises RouterError: nothing, or not all, was answered."""
        call = self.call(library, question)
        try:
            opened, frames, entry = await answered(library.runtime, call)
        except GatewayError as error:
            raise _explained(error, call.request_id, library.runtime) from error
        return _result(opened, frames, entry)

    async def pieces(self, library: Library, question: Question, room: asyncio.Semaphore, put: "Put") -> None:
        """Put the pieces of an answer, as far as there is `room` for them, then its result.

        :raises RouterError: nothing, or not all, was answered.
        """
        call = self.call(library, question)
        writer, frames, opened = NativeWriter(call.request_id), list[Frame](), None
        try:
            async with aclosing(serve(library.runtime, call)) as steps:
                async for step in steps:
                    if isinstance(step, Opened):
                        opened = step
                        continue
                    fresh = step.frames if isinstance(step, Closed) else step
                    frames += fresh
                    for text in _texts(writer, fresh):
                        await room.acquire()
                        put(text)
                    if isinstance(step, Closed) and opened is not None:
                        put(_result(opened, frames, step.entry))
        except GatewayError as error:
            raise _explained(error, call.request_id, library.runtime) from error


def _texts(writer: NativeWriter, frames: Sequence[Frame]) -> Iterator[str]:
    return (piece.text for piece in writer.frames(frames) if isinstance(piece, Delta) and piece.text)


@dataclass(slots=True)
class _Ended:
    """What a stream has come to."""

    result: Result = field(default_factory=dict)


class RouteStream:
    """The pieces of an answer's text, as they come. `result` is what `route` returns, once the last has come.

    Leaving early ends the call at the provider; what came until then is on record.
    """

    def __init__(self, engine: Engine, ask: "Ask") -> None:
        self._ended = _Ended()
        self._pieces = _read(engine, ask, self._ended)  # knows nothing of `self`: whoever drops that ends the call

    @property
    def result(self) -> Result:
        return self._ended.result

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        await self._pieces.aclose()


Put = Callable[[str | Result], None]
Ask = Callable[[Library, asyncio.Semaphore, Put], Coroutine[Any, Any, None]]
"""Asks from the engine's loop and puts what comes: pieces, and at last the result."""


async def _read(engine: Engine, ask: Ask, ended: _Ended) -> AsyncGenerator[str, None]:
    """Here, in the program's loop: what `ask` puts into the queue from the engine's."""
    pieces: asyncio.Queue[str | Result] = asyncio.Queue()
    room = asyncio.Semaphore(QUEUE_LENGTH)
    here = asyncio.get_running_loop()

    def put(piece: str | Result) -> None:
        with suppress(RuntimeError):  # the program has closed its loop
            here.call_soon_threadsafe(pieces.put_nowait, piece)

    asking = asyncio.wrap_future(engine.submit(lambda library: ask(library, room, put), here))
    asking.add_done_callback(lambda _: pieces.put_nowait({}))
    try:
        while isinstance(piece := await pieces.get(), str):
            engine.soon(room.release)
            yield piece
        ended.result = piece
        await asking
    finally:
        asking.cancel()


def _result(opened: Opened, frames: Sequence[Frame], entry: UsageEntry) -> Result:
    """As `/api/v1/route` answers, with the time in seconds too."""
    told = route_answer(opened, frames, entry)
    return {**told, "latency": told["latency_ms"] / 1000}


def _explained(error: GatewayError, request_id: str, runtime: Runtime) -> RouterError:
    """Where there is not a single model, that is what a program has to be told."""
    if error.http_status in {400, 404} and not runtime.config.current().deployments:
        text = (
            "There is no model yet. Set OPENAI_API_KEY, ANTHROPIC_API_KEY or GROQ_API_KEY (or another vendor’s) before "
            "the program starts, or add a model: router.registry.models[…] = ModelConfig(…)."
        )
        return BadRequestError("no_models", text, request_id=request_id)
    return from_gateway(error, request_id)
