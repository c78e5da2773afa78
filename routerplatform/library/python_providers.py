"""Providers that are a Python class of the program's own: `async def call_model(model_name, prompt)`.

The gateway asks them as it asks any vendor, through its transport, in OpenAI's chat wire: so retries, fallbacks,
breakers, budgets and records hold. Nothing listens on a port for that: `LibraryTransport` hands the call over in this
process. Other processes of the installation see such a provider as one that cannot be reached.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

from providers.domain.errors import Failure, FailureKind, ProviderError
from providers.domain.types import Credential, Endpoint, UpstreamRequest
from providers.transport import Transport, UpstreamReply
from providers.wires.failure_reading import clean
from routerplatform.library.program_calls import ProgramCalls

ADDRESS: Final = "http://python.invalid/"
"""Where the provider “custom” has `ADDRESS + "custom"`: a name that never resolves. Source: RFC 6761, section 6.4."""

LONGEST_TEXT: Final = 300  # of an exception, in an error
MOST_TOKENS: Final = 1_000_000_000  # of one answer; what is more is a mistake, and would be billed
CallerLoop = ContextVar[asyncio.AbstractEventLoop | None]


class LibraryTransport(Transport):
    """The usual way out, and the one to this program's own classes, by their providers' names."""

    def __init__(self, caller_loop: CallerLoop) -> None:
        super().__init__()
        self.providers: dict[str, Any] = {}
        self._caller_loop = caller_loop
        self._calls: defaultdict[str, ProgramCalls] = defaultdict(ProgramCalls)  # by provider: one may hang

    @asynccontextmanager
    async def post(
        self,
        endpoint: Endpoint,
        credential: Credential | None,
        call: UpstreamRequest,
        *,
        timeout_s: float,
        head_within_s: float | None = None,
    ) -> AsyncIterator[UpstreamReply]:
        """As `Transport.post`."""
        if not endpoint.base_url.startswith(ADDRESS):
            async with super().post(
                endpoint, credential, call, timeout_s=timeout_s, head_within_s=head_within_s
            ) as reply:
                yield reply
            return
        provider = self.providers.get(endpoint.name)
        if provider is None:
            text = f"{endpoint.name} is a Python class of another program: router.providers has none of this name here"
            raise ProviderError(Failure(FailureKind.CONNECT, text, dispatched=False))
        patience = min(timeout_s, endpoint.timeout_s, head_within_s or timeout_s)
        yield await self._answered(endpoint.name, provider, json.loads(call.body), patience)

    async def _answered(self, name: str, provider: Any, body: Mapping[str, Any], patience_s: float) -> UpstreamReply:
        """In a task of its own, so that whatever a program's class raises or never returns stays there."""
        model, prompt = str(body["model"]), prompt_of(body["messages"])
        call = self._calls[name].call(provider.call_model, model, prompt, loop=self._caller_loop.get())
        asking = asyncio.create_task(call)
        asking.add_done_callback(_looked_at)
        try:
            await asyncio.wait([asking], timeout=patience_s)
        finally:  # also for a caller who leaves
            is_late = not asking.done()
            asking.cancel()
        if is_late:
            raise _failed(FailureKind.TIMEOUT, f"no answer from {name} within {patience_s:g} s")
        if asking.cancelled():
            raise _failed(FailureKind.SERVER_ERROR, f"{name} cancelled itself")
        if (error := asking.exception()) is not None:
            text = clean(f"{name} raised {type(error).__name__}: {error}")[:LONGEST_TEXT]
            raise _failed(FailureKind.SERVER_ERROR, text) from error
        return _Said(_answer_body(asking.result(), body, name), is_stream=bool(body.get("stream")))


def _looked_at(task: asyncio.Task[Any]) -> None:
    """What one raises that was left behind is nobody's business."""
    if not task.cancelled():
        task.exception()


class _Said(UpstreamReply):
    """An answer that is there already, as one piece."""

    def __init__(self, body: Mapping[str, Any], *, is_stream: bool) -> None:
        self.status = 200
        self.headers = {"content-type": "text/event-stream" if is_stream else "application/json"}
        self._body = _stream(body) if is_stream else json.dumps(body).encode()

    async def piece(self) -> bytes:
        piece, self._body = self._body, b""
        return piece

    async def read_error(self) -> bytes:
        return self._body


def prompt_of(messages: list[Mapping[str, Any]]) -> str:
    """What a class that takes one text is given: the message of a single turn, else all of them, each with its role."""
    texts = [(str(message["role"]), _text(message.get("content"))) for message in messages]
    if len(texts) == 1:
        return texts[0][1]
    return "\n\n".join(f"{role}: {text}" for role, text in texts)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _answer_body(said: Any, body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """OpenAI's answer, from a text or from `{"text": ..., "usage": {"input_tokens": ..., "output_tokens": ...}}`.

    :raises ProviderError: it is neither.
    """
    text = said.get("text", said.get("response")) if isinstance(said, Mapping) else said
    if not isinstance(text, str):
        raise _failed(
            FailureKind.MALFORMED,
            f"call_model of {name} returned {type(said).__name__}: return a text, or a dict with “text”",
        )
    answer: dict[str, Any] = {
        "id": "python",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }
    usage = said.get("usage") if isinstance(said, Mapping) else None
    if usage is not None:
        answer["usage"] = _usage(usage, name)
    return answer


def _usage(usage: Any, name: str) -> dict[str, int]:
    """In the names of OpenAI's chat wire. A class may use these too, as one that wraps such a vendor has them."""
    said = usage if isinstance(usage, Mapping) else {}
    counts = [
        said.get("input_tokens", said.get("prompt_tokens")),
        said.get("output_tokens", said.get("completion_tokens")),
    ]
    known = [0 if count is None else count for count in counts]
    if counts == [None, None] or not all(type(count) is int and 0 <= count <= MOST_TOKENS for count in known):
        raise _failed(FailureKind.MALFORMED, f"the usage of {name} is no count of input_tokens and output_tokens")
    return {"prompt_tokens": known[0], "completion_tokens": known[1], "total_tokens": sum(known)}


def _stream(answer: Mapping[str, Any]) -> bytes:
    head = {**answer, "object": "chat.completion.chunk"}
    text = answer["choices"][0]["message"]["content"]
    chunks = [
        {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    chunks[0].pop("usage", None)
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def _failed(kind: FailureKind, message: str) -> ProviderError:
    return ProviderError(Failure(kind, message))
