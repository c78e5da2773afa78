"""Read a Responses body into a `Conversation`, for targets that speak another wire.

Source: developers.openai.com/api/reference/resources/responses/methods/create, /api/docs/guides/function-calling,
/guides/reasoning, and openai 3.52 `ResponseCreateParams`, `ResponseInputItemParam` (2026-11).
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from providers.domain.conversation import (
    Conversation,
    DocumentPart,
    ImagePart,
    Message,
    Part,
    Reasoning,
    ReasoningPart,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.wires.protocol import UnsupportedFeature
from providers.wires.sealed_thought import unseal
from routerplatform.doors.formats.openai_body import decode_fields
from routerplatform.gateway.errors import InvalidRequest

# What the gateway does itself. Every other field that is not read below is a knob that no other wire has: dropped.
DONE_HERE = frozenset(
    {"model", "persona", "router", "stream", "stream_options", "store", "metadata", "background", "conversation"}
)
# Features whose loss would change the meaning of the answer: refused. The last one is set only for a request that goes
# on from what a vendor keeps.
ONLY_ON_OPENAI = ("prompt", "moderation", "top_logprobs", "previous_response_id")
DONE_ANYWAY = ("reasoning.encrypted_content",)  # of `include`
ROLES = {"system": Role.SYSTEM, "developer": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT}
MOST_NAMED = 20  # of what is left out: the names stand in a header
ABSENT = (b"", b"null", b"false", b"[]", b"{}", b"0", b'"auto"', b'"default"')
FILE_TYPES = {
    "pdf": "application/pdf", "txt": "text/plain", "md": "text/markdown", "html": "text/html", "csv": "text/csv",
    "json": "application/json",
}  # fmt: skip

ItemIn = dict[str, Any]


class ToolIn(Struct):
    """A tool of any type; the rest is a function's."""

    type: str = "function"
    name: str = ""
    description: str | None = None
    parameters: Raw = Raw(b"null")
    strict: bool | None = None


class FormatIn(Struct):
    type: str = "text"
    name: str = ""
    schema: Raw = Raw(b"{}")
    strict: bool | None = None


class TextIn(Struct):
    format: FormatIn | None = None
    verbosity: str | None = None


class ReasoningIn(Struct):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None  # the older name


class Known(Struct):
    """The fields that a `Conversation` can carry."""

    input: str | list[ItemIn] | None = None
    instructions: str | None = None
    tools: list[ToolIn] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextIn | None = None
    reasoning: ReasoningIn | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    include: list[str] | None = None
    truncation: str | None = None
    safety_identifier: str | None = None
    user: str | None = None


UNDERSTOOD = DONE_HERE.union(ONLY_ON_OPENAI, Known.__struct_fields__)


def read_conversation(fields: dict[str, Raw]) -> Conversation:
    """All of a request, free of its wire.

    :raises InvalidRequest: a part that cannot be read; `param` names it.
    :raises UnsupportedFeature: a feature that only OpenAI's wire has.
    """
    known = decode_fields(fields, Known)
    for name in ONLY_ON_OPENAI:
        if _is_set(fields, name):
            raise UnsupportedFeature(name)
    messages, passed_over = _messages(known)
    tools, choice, left_out = _tools(known)
    return Conversation(
        messages=messages,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=known.parallel_tool_calls,
        response_format=_format(known.text.format if known.text else None),
        max_tokens=known.max_output_tokens,
        temperature=known.temperature,
        top_p=known.top_p,
        user=known.safety_identifier or known.user or "",
        reasoning=_reasoning(known.reasoning),
        verbosity=(known.text and known.text.verbosity) or "",
        dropped=tuple(dict.fromkeys([*_dropped(known, fields), *left_out, *passed_over]))[:MOST_NAMED],
    )


def _is_set(fields: dict[str, Raw], name: str) -> bool:
    return bytes(fields.get(name, Raw())) not in ABSENT


def _dropped(known: Known, fields: dict[str, Raw]) -> Iterator[str]:
    yield from (name[:64] for name in sorted(fields.keys() - UNDERSTOOD) if _is_set(fields, name))
    if known.truncation not in {None, "disabled"}:
        yield "truncation"
    for wanted in known.include or ():
        if wanted == "message.output_text.logprobs":
            raise UnsupportedFeature(wanted)
        if wanted not in DONE_ANYWAY:
            yield f"include.{wanted}"


def _reasoning(wanted: ReasoningIn | None) -> Reasoning | None:
    if wanted is None:
        return None
    summary = wanted.summary or wanted.generate_summary
    return Reasoning(effort=wanted.effort or "", show=summary not in {None, "none"})


def _format(wanted: FormatIn | None) -> ResponseFormat | None:
    match wanted:
        case None:
            return None
        case FormatIn(type="json_schema", name=name, schema=schema, strict=strict):
            return ResponseFormat("json_schema", name or "answer", schema, strict)
        case FormatIn(type="text" | "json_object" as kind):
            return ResponseFormat(kind)
    raise InvalidRequest("“text.format” must be text, json_object or json_schema.", param="text.format")


# --- tools --------------------------------------------------------------------------------------------------------


def _tools(known: Known) -> tuple[tuple[Tool, ...], ToolChoice | None, list[str]]:
    """Functions; what the vendor itself would run, and what has a grammar instead of a schema, is left out by name."""
    functions: list[Tool] = []
    left_out: list[str] = []
    for i, tool in enumerate(known.tools or ()):
        if tool.type != "function":
            left_out.append(f"tools.{tool.type}")
        elif not tool.name:
            raise InvalidRequest("A function needs a “name”.", param=f"tools[{i}].name")
        else:
            functions.append(_function(tool))
    choice, allowed = _tool_choice(known.tool_choice)
    if allowed is not None:
        functions = [tool for tool in functions if tool.name in allowed]
    is_possible = choice is None or choice.mode != "named" or choice.name in {tool.name for tool in functions}
    if _chooses_another_type(known.tool_choice) or (left_out and not (functions and is_possible)):
        left_out += ["tool_choice"] if known.tool_choice not in (None, "auto", "none") else []
        choice = None
    return tuple(functions), choice, left_out


def _function(tool: ToolIn) -> Tool:
    schema = tool.parameters if bytes(tool.parameters) != b"null" else Raw(b'{"type":"object","properties":{}}')
    return Tool(tool.name, tool.description or "", schema, tool.strict)


def _chooses_another_type(choice: str | dict[str, Any] | None) -> bool:
    return isinstance(choice, dict) and choice.get("type", "function") not in {"function", "allowed_tools"}


def _tool_choice(choice: str | dict[str, Any] | None) -> tuple[ToolChoice | None, set[str] | None]:
    """What is to be chosen, and the names that it may be chosen from where not all of them."""
    match choice:
        case None:
            return None, None
        case "auto" | "none" | "required":
            return ToolChoice(choice), None
        case {"type": "function", "name": str(name)}:
            return ToolChoice("named", name), None
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list(tools)}:
            return ToolChoice(mode), {str(tool.get("name")) for tool in tools if isinstance(tool, dict)}
        case {"type": str()} if _chooses_another_type(choice):
            return None, None
    raise InvalidRequest(
        "“tool_choice” must be auto, none or required, name a function, or list “allowed_tools”.", param="tool_choice"
    )


# --- input items --------------------------------------------------------------------------------------------------


class Turns:
    """Puts items together to messages: what the model thought, said and called in one go is one of them."""

    def __init__(self) -> None:
        self._turns: list[tuple[Role, list[Part]]] = []
        self._names: dict[str, str] = {}  # of the tools, by call
        self._signatures: dict[str, str] = {}  # by call

    def say(self, role: Role, parts: Iterable[Part]) -> None:
        if role is Role.ASSISTANT:
            self._answer(parts, opens=True)
        else:
            self._turns.append((role, list(parts)))

    def think(self, part: ReasoningPart) -> None:
        self._answer([part], opens=True)

    def sign(self, call_id: str, signature: str) -> None:
        """What a vendor wants back with a call that is still to come."""
        self._signatures[call_id] = signature

    def call(self, call_id: str, name: str, arguments: str) -> None:
        self._names[call_id] = name
        self._answer([ToolCallPart(call_id, name, arguments or "{}", self._signatures.get(call_id, ""))], opens=False)

    def result(self, call_id: str, text: str, media: tuple[ImagePart | DocumentPart, ...], name: str) -> None:
        part = ToolResultPart(call_id, text, media=media, name=name or self._names.get(call_id, ""))
        if self._turns and all(isinstance(known, ToolResultPart) for known in self._turns[-1][1]):
            self._turns[-1][1].append(part)
        else:
            self._turns.append((Role.USER, [part]))

    def messages(self) -> tuple[Message, ...]:
        return tuple(Message(role, tuple(parts)) for role, parts in self._turns)

    def _answer(self, parts: Iterable[Part], *, opens: bool) -> None:
        """`opens`: it begins a message of its own after one that only said something. A call never does."""
        if self._turns and self._turns[-1][0] is Role.ASSISTANT:
            known = self._turns[-1][1]
            has_said = any(isinstance(part, TextPart) for part in known)
            has_called = any(isinstance(part, ToolCallPart) for part in known)
            if not (opens and has_said and not has_called):
                known.extend(parts)
                return
        self._turns.append((Role.ASSISTANT, list(parts)))


def _messages(known: Known) -> tuple[tuple[Message, ...], list[str]]:
    """The conversation, and the types of the items that only their vendor can make sense of."""
    turns = Turns()
    passed_over: list[str] = []
    if known.instructions:
        turns.say(Role.SYSTEM, [TextPart(known.instructions)])
    if isinstance(known.input, str):
        turns.say(Role.USER, [TextPart(known.input)])
        return turns.messages(), passed_over
    for i, item in enumerate(known.input or ()):
        where = f"input[{i}]"
        kind = item.get("type") or ("message" if "role" in item else "item_reference" if "id" in item else "")
        match kind:
            case "message":
                _add_message(turns, item, where)
            case "function_call" | "custom_tool_call":
                _add_call(turns, item, where)
            case "function_call_output" | "custom_tool_call_output":
                _add_result(turns, item, where)
            case "reasoning":
                _add_thought(turns, item)
            case "item_reference" | "compaction":
                raise UnsupportedFeature(str(kind))
            case str() if kind:
                passed_over.append(f"input.{kind}")
            case _:
                raise InvalidRequest("An input item needs a “type”, or a “role”.", param=where)
    return turns.messages(), passed_over


def _add_message(turns: Turns, item: ItemIn, where: str) -> None:
    role = ROLES.get(str(item.get("role")))
    if role is None:
        raise InvalidRequest(f"“{item.get('role')}” is not a role.", param=f"{where}.role")
    turns.say(role, _parts(item.get("content"), f"{where}.content"))


def _add_call(turns: Turns, item: ItemIn, where: str) -> None:
    """The text for a custom tool stands in its one argument: elsewhere arguments are always an object."""
    match item:
        case {"type": "function_call", "call_id": str(call_id), "name": str(name), "arguments": str(arguments)}:
            turns.call(call_id, name, arguments)
        case {"type": "custom_tool_call", "call_id": str(call_id), "name": str(name), "input": str(text)}:
            turns.call(call_id, name, msgspec.json.encode({"input": text}).decode())
        case _:
            raise InvalidRequest("A call needs “call_id”, “name” and “arguments”, all of them text.", param=where)


def _add_result(turns: Turns, item: ItemIn, where: str) -> None:
    call_id = item.get("call_id")
    if not isinstance(call_id, str) or not call_id:
        raise InvalidRequest("What a tool answered needs the “call_id” of its call.", param=f"{where}.call_id")
    parts = _parts(item.get("output"), f"{where}.output")
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    media = tuple(part for part in parts if isinstance(part, ImagePart | DocumentPart))
    turns.result(call_id, text, media, str(item.get("name") or ""))


def _add_thought(turns: Turns, item: ItemIn) -> None:
    """What another gateway or vendor has sealed nobody else can read: it is passed over."""
    text = "".join(
        str(part.get("text") or "")
        for name in ("summary", "content")
        for part in item.get(name) or ()
        if isinstance(part, dict)
    )
    content = item.get("encrypted_content")
    if not content:
        if text:
            turns.think(ReasoningPart(text=text))
        return
    proof = unseal(str(content))
    if proof is None or not proof.vendor:
        return
    if proof.call:
        turns.sign(proof.call, proof.signature)
        if text:
            turns.think(ReasoningPart(text=text, vendor=proof.vendor))
        return
    turns.think(ReasoningPart(text, proof.signature, proof.encrypted, proof.vendor, proof.id))


def _parts(content: Any, where: str) -> tuple[Part, ...]:
    match content:
        case None:
            return ()
        case str():
            return (TextPart(content),)
        case list():
            return tuple(_part(part, f"{where}[{i}]") for i, part in enumerate(content))
    raise InvalidRequest("Content is text, or a list of parts.", param=where)


def _part(part: Any, where: str) -> Part:
    match part:
        case {"type": "input_text" | "output_text" | "text" | "summary_text", "text": str(text)}:
            return TextPart(text)
        case {"type": "refusal", "refusal": str(text)}:
            return TextPart(text)
        case {"type": "input_image", "image_url": str(url)} if url:
            return _image(url, where)
        case {"type": "input_file", "file_url": str(url)} if url:
            return DocumentPart(url=url, name=str(part.get("filename") or ""))
        case {"type": "input_file", "file_data": str(data)} if data:
            return _document(data, str(part.get("filename") or ""), where)
        case {"type": "input_image" | "input_file" as kind, "file_id": str()}:
            raise UnsupportedFeature(f"{kind} with a file_id")
        case {"type": "input_image" | "input_file" as kind}:
            wanted = "“image_url”" if kind == "input_image" else "“file_url” or “file_data”"
            raise InvalidRequest(f"An {kind} needs {wanted}.", param=where)
        case {"type": "input_text" | "output_text" | "text" | "refusal" as kind}:
            raise InvalidRequest(f"A part of type {kind} needs its text.", param=where)
        case {"type": str(kind)}:
            raise UnsupportedFeature(kind)
    raise InvalidRequest("A content part needs a “type”.", param=where)


def _image(url: str, where: str) -> ImagePart:
    if not url.startswith("data:"):
        return ImagePart(url=url)
    media_type, data = _inline(url, "image", where)
    return ImagePart(media_type=media_type, data=data)


def _document(data: str, name: str, where: str) -> DocumentPart:
    """`file_data` is a data URL, or only its base64 part, and then the file's name tells the type."""
    if not data.startswith("data:"):
        media_type = FILE_TYPES.get(name.rpartition(".")[2].lower(), FILE_TYPES["pdf"])
        return DocumentPart(media_type=media_type, data=data, name=name)
    media_type, base64 = _inline(data, "file", where)
    return DocumentPart(media_type=media_type, data=base64, name=name)


def _inline(url: str, what: str, where: str) -> tuple[str, str]:
    head, comma, data = url[5:].partition(",")
    media_type, *options = head.split(";")
    if not comma or options[-1:] != ["base64"]:
        raise InvalidRequest(f"An inline {what} must be “data:<media type>;base64,<data>”.", param=where)
    return media_type, data
