"""Requests of Cohere's chat wire: bytes in, an Ask out. Sources are named in cohere_wire. Date: 2026-11."""

import hashlib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from providers.demo.exchange import NOWHERE, Ask, BadField, Place, Refusal, count_prompt, model_named, read_body


class _Part(Struct):
    type: Literal["text", "image_url", "thinking", "document"]
    text: str | None = None
    thinking: str | None = None
    image_url: dict[str, Any] | None = None
    document: dict[str, Any] | None = None


class _Called(Struct):
    name: str
    arguments: str


class _Call(Struct):
    id: str
    type: Literal["function"]
    function: _Called


class _Message(Struct, forbid_unknown_fields=True):
    role: Literal["user", "assistant", "system", "tool"]
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None
    tool_plan: str | None = None
    tool_call_id: str | None = None
    citations: list[Any] | None = None

    def parts(self, kind: str) -> list[_Part]:
        return [] if not isinstance(self.content, list) else [part for part in self.content if part.type == kind]

    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        said = [part.text or "" for part in self.parts("text")]
        said += [_document_text(part.document) for part in self.parts("document")]
        return "\n".join(text for text in said if text)


class _Function(Struct):
    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Tool(Struct):
    type: Literal["function"]
    function: _Function


class _Format(Struct):
    type: Literal["text", "json_object"]
    json_schema: dict[str, Any] | None = None
    schema: dict[str, Any] | None = None


class _Thinking(Struct):
    type: Literal["enabled", "disabled"]
    token_budget: Annotated[int, Meta(ge=1)] | None = None


class _Body(Struct, forbid_unknown_fields=True):
    """Cohere refuses a parameter that it does not know; among these are OpenAI's names for what it has."""

    model: str
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=5)] | None = None
    temperature: Annotated[float, Meta(ge=0)] | None = None
    p: Annotated[float, Meta(ge=0.01, le=0.99)] | None = None
    k: Annotated[int, Meta(ge=0, le=500)] | None = None
    seed: int | None = None
    frequency_penalty: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=0, le=1)] | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["REQUIRED", "NONE"] | None = None
    strict_tools: bool | None = None
    response_format: _Format | None = None
    thinking: _Thinking | None = None
    safety_mode: Literal["CONTEXTUAL", "STRICT", "OFF"] | None = None
    documents: list[Any] | None = None
    citation_options: dict[str, Any] | None = None
    logprobs: bool | None = None
    priority: int | None = None


_DECODER = msgspec.json.Decoder(_Body)


def read_ask(body: bytes, place: Place = NOWHERE) -> Ask:
    """Raises Refusal: 400 for what cannot be read, 404 for a model that is not served here."""
    try:
        asked = read_body(body, _DECODER)
        _check(asked)
        _check_tool_turns(asked.messages)
    except BadField as error:
        raise bad_request(error) from None
    model = model_named(asked.model)
    if model is None:
        raise unknown_model(asked.model)
    users = [message for message in asked.messages if message.role == "user"]
    return Ask(
        model=model,
        stream=bool(asked.stream),
        system="\n".join(message.text() for message in asked.messages if message.role == "system"),
        history=tuple(message.text() for message in users[:-1]),
        prompt=users[-1].text() if users else "",
        digest=hashlib.sha256(body).hexdigest(),
        input_tokens=_input_tokens(asked),
        images=len(users[-1].parts("image_url")) if users else 0,
        limit=asked.max_tokens,
        stops=tuple(asked.stop_sequences or ()),
        tools={tool.function.name: tool.function.parameters or {} for tool in asked.tools or ()},
        tool_results=_tool_results(asked.messages),
        may_call=asked.tool_choice != "NONE",
        forced_tool="" if asked.tool_choice == "REQUIRED" else None,
        schema=_schema(asked.response_format),
        hides=frozenset({"cache_write"}),
        shows_thought=asked.thinking is None or asked.thinking.type == "enabled",
    )


def unknown_model(name: str) -> Refusal:
    return Refusal(404, f"model '{name}' not found, make sure the correct model ID was used")


def bad_request(error: BadField) -> Refusal:
    if error.path is None:
        return Refusal(400, f"invalid json syntax: {error.what}")
    return Refusal(400, f"invalid request: {error.path or 'body'}: {'required' if error.missing else error.what}")


def _check(asked: _Body) -> None:
    if asked.response_format and asked.response_format.type == "json_object" and asked.tools:
        raise BadField("response_format", "it is not supported together with tools")
    if asked.tool_choice is not None and not asked.tools:
        raise BadField("tool_choice", "it needs tools")
    for at, message in enumerate(asked.messages):
        if message.role == "tool" and (message.tool_call_id is None or message.content is None):
            raise BadField(f"messages[{at}].{'content' if message.tool_call_id else 'tool_call_id'}", "", missing=True)
        if message.role in {"user", "system"} and not message.content:
            raise BadField(
                f"messages[{at}].content", "message must be at least 1 token long or tool results must be given"
            )
        for part in message.parts("image_url"):
            if not str((part.image_url or {}).get("url", "")).startswith(("data:image/", "https://", "http://")):
                raise BadField(f"messages[{at}].content", "image_url must be a data URL or an address")


def _check_tool_turns(messages: list[_Message]) -> None:
    called: set[str] = set()
    for at, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id not in called:
                raise BadField(f"messages[{at}].tool_call_id", f"no tool call with id {message.tool_call_id} before it")
            called.remove(message.tool_call_id)
            continue
        if called:
            raise BadField(f"messages[{at}]", f"the tool calls {', '.join(sorted(called))} have no result")
        called = {call.id for call in message.tool_calls or ()}
    if called:
        raise BadField("messages", f"the tool calls {', '.join(sorted(called))} have no result")


def _schema(wanted: _Format | None) -> dict[str, Any] | None:
    if wanted is None or wanted.type == "text":
        return None
    return wanted.json_schema or wanted.schema or {}


def _document_text(document: Any) -> str:
    data = document.get("data") if isinstance(document, dict) else None
    if isinstance(data, dict):
        return "\n".join(str(value) for value in data.values())
    return str(data or "")


def _tool_results(messages: list[_Message]) -> tuple[str, ...]:
    results: list[str] = []
    for message in reversed(messages):
        if message.role != "tool":
            break
        results.insert(0, message.text())
    return tuple(results)


def _input_tokens(asked: _Body) -> int:
    texts = [message.text() for message in asked.messages]
    texts += [message.tool_plan for message in asked.messages if message.tool_plan]
    texts += [part.thinking or "" for message in asked.messages for part in message.parts("thinking")]
    called = [call.function for message in asked.messages for call in message.tool_calls or ()]
    values = filter(None, [*called, *(tool.function for tool in asked.tools or ()), asked.response_format])
    images = sum(len(message.parts("image_url")) for message in asked.messages)
    return count_prompt(texts, values, messages=len(asked.messages), images=images)
