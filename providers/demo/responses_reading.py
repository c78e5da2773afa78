"""Requests of OpenAI's Responses wire: bytes in, an Ask out.

Source: OpenAI API reference, "Create a model response", guides "Conversation state", "Function calling" and
"Reasoning models"; field names checked with the openai SDK 3.52 (`ResponseCreateParams`, `ResponseInputItem`).
Date: 2026-11.
"""

import hashlib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from providers.demo.exchange import (
    NOWHERE,
    Ask,
    BadField,
    JsonObject,
    Place,
    Refusal,
    count_prompt,
    model_named,
    proof_of,
    read_body,
)
from providers.demo.openai_wire import field_refusal, unknown_model

LEAST_TOKENS = 16
# What chat completions call otherwise, or what this API does not have: OpenAI refuses unknown names here.
_CHAT_NAMES = (
    "messages", "stop", "max_tokens", "max_completion_tokens", "response_format", "reasoning_effort", "n", "seed",
    "frequency_penalty", "presence_penalty", "logit_bias", "functions", "function_call",
)  # fmt: skip
_PARTS = {
    "user": ("input_text", "input_image", "input_file"),
    "system": ("input_text", "input_image", "input_file"),
    "developer": ("input_text", "input_image", "input_file"),
    "assistant": ("output_text", "refusal"),
}
_ID_BEGINS = {"message": "msg", "function_call": "fc", "function_call_output": "fc", "reasoning": "rs"}
_BUILT_IN = ("web_search", "web_search_preview", "file_search", "code_interpreter", "image_generation", "mcp", "custom")


class _Part(Struct):
    type: str
    text: str | None = None
    refusal: str | None = None


class _Summary(Struct):
    type: Literal["summary_text"]
    text: str


class Item(Struct):
    """One item of the input, of any type; a message may leave its type out."""

    type: Literal["message", "function_call", "function_call_output", "reasoning", "item_reference"] = "message"
    id: str | None = None
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[_Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[_Part] | None = None
    summary: list[_Summary] | None = None
    encrypted_content: str | None = None

    def text(self) -> str:
        content = self.output if self.type == "function_call_output" else self.content
        if isinstance(content, list):
            return "\n".join(text for part in content if (text := part.text or part.refusal))
        return content or ""

    def images(self) -> int:
        return sum(part.type == "input_image" for part in self.content) if isinstance(self.content, list) else 0


class _Tool(Struct):
    type: str
    name: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Choice(Struct):
    type: str
    name: str | None = None


class _Format(Struct):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None


class _Text(Struct):
    format: _Format | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class _Reasoning(Struct):
    effort: str | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class _Body(Struct):
    model: str
    input: str | Annotated[list[Item], Meta(min_length=1)]
    instructions: str | None = None
    previous_response_id: str | None = None
    stream: bool | None = None
    store: bool | None = None
    include: list[str] | None = None
    max_output_tokens: Annotated[int, Meta(ge=LEAST_TOKENS)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | _Choice | None = None
    parallel_tool_calls: bool | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    background: Literal[False] | None = None
    metadata: dict[str, str] | None = None


_DECODER = msgspec.json.Decoder(_Body)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[Item])


def read_ask(body: bytes, place: Place = NOWHERE) -> Ask:
    """Raises Refusal: 400 for what cannot be read or follows on nothing, 404 for a model that is not served here."""
    try:
        asked = read_body(body, _DECODER)
        fields = read_body(body, _FIELDS)
    except BadField as error:
        raise field_refusal(error) from None
    if known := sorted(name for name in _CHAT_NAMES if name in fields):
        name = known[0]
        raise Refusal(400, f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
    new = [Item(role="user", content=asked.input)] if isinstance(asked.input, str) else asked.input
    items = [*_earlier(asked, place), *new]
    try:
        for at, item in enumerate(items):
            _check_item(item, f"input[{at}]")
        _check_tools(asked)
        _check_calls(items)
        return _ask(asked, items, body)
    except BadField as error:
        raise field_refusal(error) from None


def _earlier(asked: _Body, place: Place) -> list[Item]:
    if asked.previous_response_id is None:
        return []
    if asked.previous_response_id not in place.kept:
        message = f"Previous response with id '{asked.previous_response_id}' not found."
        raise Refusal(400, message, code="previous_response_not_found", param="previous_response_id")
    return _ITEMS.decode(msgspec.json.encode(place.kept[asked.previous_response_id]))


def _check_item(item: Item, path: str) -> None:
    begins = _ID_BEGINS.get(item.type, "")
    if item.id is not None and not item.id.startswith(begins):
        raise BadField(f"{path}.id", f"'{item.id}'. Expected an ID that begins with '{begins}'")
    if item.type == "message":
        if item.role is None:
            raise BadField(f"{path}.role", "", missing=True)
        for at, part in enumerate(item.content if isinstance(item.content, list) else []):
            if part.type not in _PARTS[item.role]:
                supported = "', '".join(_PARTS[item.role])
                raise BadField(f"{path}.content[{at}].type", f"'{part.type}'. Supported values are: '{supported}'")
    needed = {"function_call": ("call_id", "name", "arguments"), "function_call_output": ("call_id", "output")}
    for name in (*needed.get(item.type, ()), *(("summary",) if item.type == "reasoning" else ())):
        if getattr(item, name) is None:
            raise BadField(f"{path}.{name}", "", missing=True)
    if item.type == "reasoning" and item.encrypted_content is not None:
        thought = "\n\n".join(part.text for part in item.summary or ())
        if item.encrypted_content not in {proof_of(thought), proof_of("")} and thought:
            raise BadField(f"{path}.encrypted_content", "The encrypted content could not be verified")
    if item.type == "item_reference":
        raise BadField(path, f"Item with id '{item.id}' not found")


def _check_tools(asked: _Body) -> None:
    for at, tool in enumerate(asked.tools or ()):
        if tool.type == "function" and tool.name is None:
            raise BadField(f"tools[{at}].name", "", missing=True)
        if tool.type not in {"function", *_BUILT_IN}:
            raise BadField(f"tools[{at}].type", f"'{tool.type}'")
    wanted = asked.text.format if asked.text else None
    if wanted and wanted.type == "json_schema" and (wanted.name is None or wanted.schema is None):
        raise BadField(f"text.format.{'schema' if wanted.name else 'name'}", "", missing=True)


def _check_calls(items: list[Item]) -> None:
    """Each call has an output behind it, and no output stands without its call."""
    called = [item.call_id for item in items if item.type == "function_call"]
    answered = [item.call_id for item in items if item.type == "function_call_output"]
    for call_id in called:
        if call_id not in answered:
            raise BadField("input", f"No tool output found for function call {call_id}")
    for call_id in answered:
        if call_id not in called:
            raise BadField("input", f"No tool call found for function call output with call_id {call_id}")


def _lost_thought(items: list[Item]) -> str:
    """A call that is given back with its id follows on the thought that led to it, in each step of the last turn."""
    last = max((at for at, item in enumerate(items) if item.role == "user"), default=-1)
    has_thought = False
    for item in items[last + 1 :]:
        if item.type == "function_call" and item.id and not has_thought:
            return f"Item '{item.id}' of type 'function_call' was provided without its required 'reasoning' item."
        has_thought = item.type == "reasoning" or (has_thought and item.type != "function_call_output")
    return ""


def _ask(asked: _Body, items: list[Item], body: bytes) -> Ask:
    model = model_named(asked.model)
    if model is None:
        raise unknown_model(asked.model)
    users = [item for item in items if item.role == "user"]
    functions = [tool for tool in asked.tools or () if tool.type == "function"]
    wanted = asked.text.format if asked.text else None
    system = [asked.instructions or "", *(item.text() for item in items if item.role in {"system", "developer"})]
    return Ask(
        model=model,
        stream=bool(asked.stream),
        system="\n".join(part for part in system if part),
        history=tuple(item.text() for item in users[:-1]),
        prompt=users[-1].text() if users else "",
        digest=hashlib.sha256(body).hexdigest(),
        input_tokens=_input_tokens(asked, items, functions),
        images=users[-1].images() if users else 0,
        limit=asked.max_output_tokens,
        tools={tool.name or "": tool.parameters or {} for tool in functions},
        tool_results=_tool_results(items),
        may_call=asked.tool_choice != "none",
        forced_tool=_forced_tool(asked.tool_choice),
        parallel_calls=asked.parallel_tool_calls is not False,
        schema=(wanted.schema or {}) if wanted and wanted.type != "text" else None,
        shows_thought=bool(asked.reasoning and asked.reasoning.summary),
        lost_thought=_lost_thought(items),
        wire_notes=_notes(asked, items, body),
    )


def _tool_results(items: list[Item]) -> tuple[str, ...]:
    results: list[str] = []
    for item in reversed(items):
        if item.type != "function_call_output":
            break
        results.insert(0, item.text())
    return tuple(results)


def _forced_tool(choice: str | _Choice | None) -> str | None:
    if isinstance(choice, _Choice):
        return choice.name or ""
    return "" if choice == "required" else None


def _input_tokens(asked: _Body, items: list[Item], functions: list[_Tool]) -> int:
    texts = [asked.instructions or "", *(item.text() for item in items)]
    texts += [part.text for item in items for part in item.summary or ()]
    calls = [{"name": item.name, "arguments": item.arguments} for item in items if item.type == "function_call"]
    values = [*calls, *({"name": tool.name, "parameters": tool.parameters} for tool in functions)]
    if asked.text and asked.text.format:
        values.append({"schema": asked.text.format.schema})
    return count_prompt(texts, values, messages=len(items), images=sum(item.images() for item in items))


def _notes(asked: _Body, items: list[Item], body: bytes) -> JsonObject:
    """What the answer repeats of the request, and what is kept of it."""
    sent = _FIELDS.decode(body)
    repeated = ("instructions", "metadata", "temperature", "tool_choice", "tools", "top_p", "max_output_tokens", "text")
    proven = asked.store is False and "reasoning.encrypted_content" in (asked.include or ())
    return {
        "echo": {name: sent[name] for name in (*repeated, "previous_response_id", "reasoning") if name in sent},
        "store": asked.store is not False,
        "encrypted": proven,
        "items": tuple(msgspec.to_builtins(item) for item in items),
    }
