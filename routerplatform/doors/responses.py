"""/v1/responses and what it remembers: a request may go on from an earlier answer by its id.

Where a vendor keeps the conversation, the next request goes to that deployment; else it is kept here, and any model can
go on. Also GET and DELETE of what is kept here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from urllib.parse import parse_qs

import msgspec
from msgspec import Raw

from analytics.domain.responses import MAX_ITEMS_BYTES, KeptConversation, KeptResponse
from providers.domain.answer import Frame, Started
from providers.domain.types import ChatRequest
from routerplatform.doors.dialogue import heading_of
from routerplatform.doors.exchange import Exchange
from routerplatform.doors.formats import openai_responses
from routerplatform.doors.formats.ascii_json import encode
from routerplatform.doors.formats.openai_responses import Spoken
from routerplatform.doors.formats.openai_responses_writing import Json, ResponseWriter
from routerplatform.doors.formats.protocol import StreamWriter
from routerplatform.gateway.errors import GatewayError, InvalidRequest, PreviousResponseNotFound, ResponseNotFound
from routerplatform.gateway.pipeline import current_config
from routerplatform.gateway.runtime import Runtime
from routerplatform.gateway.steps import Opened
from routing.domain.config import Scope

PREFIX = "/v1/responses/"
METHODS = "GET, DELETE"
MOST_LOOKUPS = 4  # for one request, of items that it only names


class ResponseDialogue:
    """A `Dialogue`."""

    def __init__(self, runtime: Runtime, exchange: Exchange) -> None:
        self._runtime = runtime
        self._exchange = exchange
        self._conversations = runtime.conversations
        self._team_id = 0
        self._spoken: Spoken | None = None
        self._opened: Opened | None = None
        self._writer: ResponseWriter | Followed | None = None
        self._response: Json = {}
        self._kept_there = ""  # the id under which the vendor has the answer

    async def read(self, body: bytes) -> ChatRequest:
        self._team_id = _team_of(self._runtime, self._exchange)
        spoken = openai_responses.spoken(body)
        known = await self._known(spoken)
        if spoken.previous:
            spoken = await self._continued(spoken, body, known)
        elif known:
            spoken = openai_responses.spoken(body, known=known)
        fits = len(spoken.input) <= MAX_ITEMS_BYTES
        self._spoken = replace(spoken, store=spoken.store and self._conversations.keeps and fits)
        return spoken.request

    def whole(self, opened: Opened, frames: Sequence[Frame]) -> bytes:
        spoken = self._open(opened)
        if spoken.request.wire is opened.wire:
            self._kept_there = _started(frames)
            return b"".join(frame.raw for frame in frames)
        self._response = openai_responses.response_of(spoken, frames, heading_of(self._exchange.request_id, opened))
        return encode(self._response)

    def writer(self, opened: Opened) -> StreamWriter:
        spoken = self._open(opened)
        if spoken.request.wire is opened.wire:
            self._writer = Followed()
        else:
            self._writer = openai_responses.writer_of(spoken, heading_of(self._exchange.request_id, opened))
        return self._writer

    async def keep(self) -> None:
        assert self._spoken is not None
        assert self._opened is not None
        if not self._spoken.store:
            return
        match self._writer:
            case Followed():
                self._kept_there = self._writer.response_id
            case ResponseWriter():
                self._response = self._writer.response
        if self._response:
            items = [*openai_responses.items_of(self._spoken.input), *self._response["output"]]
            conversation = KeptConversation(encode(self._response), msgspec.json.encode(items))
            kept = KeptResponse(self._team_id, self._response["id"], conversation=conversation)
        else:
            kept = KeptResponse(self._team_id, self._kept_there, deployment=self._opened.deployment.name)
        await self._conversations.keep(kept)

    def broken(self, error: GatewayError) -> bytes:
        request_id = self._exchange.request_id
        match self._writer:
            case ResponseWriter():
                return self._writer.failed(error, request_id)
            case Followed():
                return openai_responses.error_event(error, request_id, after=self._writer.last)
        return openai_responses.error_event(error, request_id)

    def _open(self, opened: Opened) -> Spoken:
        assert self._spoken is not None
        self._opened = opened
        return self._spoken

    async def _known(self, spoken: Spoken) -> dict[str, Raw]:
        """The items that the input only names, of responses that are kept here. The last one first: what it went on
        from is kept with it."""
        known: dict[str, Raw] = {}
        lookups = 0
        for name in reversed(openai_responses.named_items(spoken.input)):
            owner = openai_responses.response_with(name)
            if owner and name not in known and lookups < MOST_LOOKUPS:
                lookups += 1
                found = await self._conversations.find(self._team_id, owner)
                if found is not None and found.conversation is not None:
                    known |= openai_responses.by_id(found.conversation.items)
        return known

    async def _continued(self, spoken: Spoken, body: bytes, known: dict[str, Raw]) -> Spoken:
        found = await self._conversations.find(self._team_id, spoken.previous)
        if found is None:
            raise PreviousResponseNotFound(spoken.previous)
        if found.conversation is None:
            return replace(spoken, request=replace(spoken.request, only_at=found.deployment))
        return openai_responses.spoken(body, found.conversation.items, known)


class Followed:
    """Passes a vendor's own stream on, and notes what it calls its answer."""

    def __init__(self) -> None:
        self.response_id = ""
        self.last = b""  # frame that went out

    def write(self, frames: Iterable[Frame]) -> bytes:
        pieces = []
        for frame in frames:
            if not self.response_id:
                self.response_id = _started([frame])
            pieces.append(frame.raw)
            self.last = frame.raw or self.last
        return b"".join(pieces)

    def end(self) -> bytes:
        return b""


def _started(frames: Iterable[Frame]) -> str:
    events = (event for frame in frames for event in frame.events)
    return next((event.id for event in events if isinstance(event, Started)), "")


def _team_of(runtime: Runtime, exchange: Exchange) -> int:
    snapshot = current_config(runtime)
    caller = runtime.authenticator.caller(snapshot, exchange.credential(), now=runtime.now(), scope=Scope.CHAT)
    return caller.team_id


# --- what is kept -------------------------------------------------------------------------------------------------


async def kept_response(runtime: Runtime, exchange: Exchange, response_id: str) -> None:
    """GET tells a response again, DELETE forgets it: those of the caller's team that are kept here."""
    team_id = _team_of(runtime, exchange)
    if "true" in parse_qs(exchange.scope["query_string"].decode("latin-1")).get("stream", ()):
        raise InvalidRequest("A response that is over is told whole, not as a stream.", param="stream")
    found = await runtime.conversations.find(team_id, response_id)
    if found is None:
        raise ResponseNotFound(f"Response with id '{response_id}' not found.")
    if found.conversation is None:
        raise ResponseNotFound(
            f"Response with id '{response_id}' is kept by its provider, at {found.deployment}, and not here: it can be "
            "continued by “previous_response_id”, but neither read nor deleted through the gateway."
        )
    if exchange.scope["method"] == "GET":
        await exchange.reply(200, found.conversation.response, [])
        return
    await runtime.conversations.forget(team_id, response_id)
    await exchange.reply(200, encode({"id": response_id, "object": "response", "deleted": True}), [])
