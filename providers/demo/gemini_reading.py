"""Requests of Google's Gemini wire: bytes in, an Ask out. Sources are named in gemini_wire. Date: 2026-11."""

import base64
import binascii
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

# What the proto of `Schema` has no field for; a whole JSON schema goes into `parametersJsonSchema`.
_NO_SCHEMA_FIELDS = ("$schema", "oneOf", "allOf", "not", "const", "patternProperties", "exclusiveMinimum")


class Strict(Struct, rename="camel", forbid_unknown_fields=True):
    """Google refuses a name that its proto does not have."""


class _Blob(Strict):
    mime_type: str
    data: str


class _File(Strict):
    file_uri: Annotated[str, Meta(min_length=1)]
    mime_type: str | None = None


class _Call(Strict):
    name: Annotated[str, Meta(min_length=1)]
    args: dict[str, Any] | None = None
    id: str | None = None


class _Response(Strict):
    name: Annotated[str, Meta(min_length=1)]
    response: dict[str, Any]
    id: str | None = None
    parts: list[dict[str, Any]] | None = None
    will_continue: bool | None = None


class _Part(Strict):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: _Blob | None = None
    file_data: _File | None = None
    function_call: _Call | None = None
    function_response: _Response | None = None

    def has_data(self) -> bool:
        return any(
            value is not None
            for value in (self.text, self.inline_data, self.file_data, self.function_call, self.function_response)
        )


class Content(Strict):
    parts: Annotated[list[_Part], Meta(min_length=1)]
    role: Literal["user", "model"] | None = None

    def text(self) -> str:
        return "\n".join(part.text for part in self.parts if part.text and not part.thought)

    def calls(self) -> list[_Part]:
        return [part for part in self.parts if part.function_call is not None]

    def responses(self) -> list[_Response]:
        return [part.function_response for part in self.parts if part.function_response is not None]

    def images(self) -> int:
        """Documents are read, but counted as no image."""
        inline = [part.inline_data.mime_type for part in self.parts if part.inline_data is not None]
        linked = [part.file_data.mime_type or "image/" for part in self.parts if part.file_data is not None]
        return sum(kind.startswith("image/") for kind in inline + linked)


class _Declaration(Strict):
    name: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.:-]{0,127}\Z")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    parameters_json_schema: dict[str, Any] | None = None
    behavior: str | None = None


class _Tool(Strict):
    function_declarations: list[_Declaration] | None = None
    google_search: dict[str, Any] | None = None
    code_execution: dict[str, Any] | None = None
    url_context: dict[str, Any] | None = None


class _CallingConfig(Strict):
    mode: Literal["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"] | None = None
    allowed_function_names: list[str] | None = None


class _ToolConfig(Strict):
    function_calling_config: _CallingConfig | None = None


class _Thinking(Strict):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: Literal["minimal", "low", "medium", "high", "MINIMAL", "LOW", "MEDIUM", "HIGH"] | None = None


class _Config(Strict):
    stop_sequences: Annotated[list[str], Meta(max_length=5)] | None = None
    response_mime_type: str | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: dict[str, Any] | None = None
    candidate_count: Annotated[int, Meta(ge=1, le=1)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_modalities: list[str] | None = None
    thinking_config: _Thinking | None = None


class _Body(Strict):
    contents: Annotated[list[Content], Meta(min_length=1)]
    system_instruction: Content | None = None
    tools: list[_Tool] | None = None
    tool_config: _ToolConfig | None = None
    generation_config: _Config | None = None
    safety_settings: list[dict[str, Any]] | None = None
    cached_content: str | None = None
    model: str | None = None

    def declarations(self) -> list[_Declaration]:
        return [one for tool in self.tools or () for one in tool.function_declarations or ()]


_DECODER = msgspec.json.Decoder(_Body)


def read_ask(body: bytes, place: Place = NOWHERE) -> Ask:
    """Raises Refusal: 400 for what cannot be read, 404 for a model that is not served here."""
    try:
        asked = read_body(body, _DECODER)
        _check_parts(asked)
        _check_turns(asked.contents)
        _check_schemas(asked)
    except BadField as error:
        raise bad_request(error) from None
    model = model_named(place.model)
    if model is None:
        raise unknown_model(place)
    return _ask(asked, body, place, model_id=model.id)


def unknown_model(place: Place) -> Refusal:
    what = f"models/{place.model} is not found for API version v1beta, or is not supported for {place.operation}."
    return Refusal(404, what)


def bad_request(error: BadField) -> Refusal:
    if error.path is None:
        return Refusal(400, f"Invalid JSON payload received. {error.what}.")
    if error.missing or "length >= 1" in error.what:
        return Refusal(
            400, f"* GenerateContentRequest.{error.path}: {error.path.rpartition('.')[2]} is not specified\n"
        )
    return Refusal(400, f"Invalid value at '{error.path or 'body'}': {error.what}")


def _check_parts(asked: _Body) -> None:
    for at, content in enumerate(asked.contents):
        for number, part in enumerate(content.parts):
            path = f"contents[{at}].parts[{number}]"
            if not part.has_data():
                raise BadField(f"{path}.data", "required oneof field 'data' must have one initialized field")
            if part.inline_data is not None:
                _check_base64(part.inline_data.data, f"{path}.inline_data.data")


def _check_base64(data: str, path: str) -> None:
    try:
        base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        raise BadField(path, "Base64 decoding failed") from None


def _check_turns(contents: list[Content]) -> None:
    """A call stands behind a user's turn, and is answered in the next one, each call by one response."""
    waiting: list[str] = []
    for at, content in enumerate(contents):
        names = [response.name for response in content.responses()]
        if waiting and len(names) != len(waiting):
            what = "Please ensure that the number of function response parts is equal to the number of function call"
            raise BadField(f"contents[{at}]", f"{what} parts of the function call turn.")
        if names and not waiting:
            what = "Please ensure that function response turn comes immediately after a function call turn."
            raise BadField(f"contents[{at}]", what)
        if sorted(names) != sorted(waiting):
            raise BadField(f"contents[{at}]", f"the responses are of {names}, the calls were of {waiting}")
        waiting = [part.function_call.name for part in content.calls() if part.function_call is not None]
        if waiting and (content.role != "model" or at == 0 or contents[at - 1].role == "model"):
            what = "Please ensure that function call turn comes immediately after a user turn or after a function"
            raise BadField(f"contents[{at}]", f"{what} response turn.")
    if waiting:
        raise BadField("contents", f"the calls of {waiting} have no response")


def _check_schemas(asked: _Body) -> None:
    for at, declared in enumerate(asked.declarations()):
        path = f"tools[0].function_declarations[{at}]"
        if declared.parameters is not None and declared.parameters_json_schema is not None:
            raise BadField(path, "parameters and parameters_json_schema are mutually exclusive")
        _check_proto_schema(declared.parameters, f"{path}.parameters")
    config, calling = asked.generation_config, asked.tool_config and asked.tool_config.function_calling_config
    if config is not None:
        _check_proto_schema(config.response_schema, "generation_config.response_schema")
        has_schema = config.response_schema is not None or config.response_json_schema is not None
        if has_schema and config.response_mime_type != "application/json":
            raise BadField("generation_config", "response_schema requires response_mime_type 'application/json'")
    if calling and calling.allowed_function_names and calling.mode not in {"ANY", "VALIDATED"}:
        raise BadField("tool_config", "allowed_function_names is only allowed with mode ANY or VALIDATED")


def _check_proto_schema(schema: Any, path: str) -> None:
    if isinstance(schema, list):
        for one in schema:
            _check_proto_schema(one, path)
    if not isinstance(schema, dict):
        return
    for name, value in schema.items():
        if name in _NO_SCHEMA_FIELDS:
            raise BadField(path, f'Unknown name "{name}": Cannot find field.')
        for one in value.values() if name == "properties" and isinstance(value, dict) else [value]:
            _check_proto_schema(one, path)


def call_proof(name: str, arguments: Any) -> str:
    """What shows that a call is the demo provider's own."""
    return proof_of(f"{name} {msgspec.json.encode(arguments, order='sorted').decode()}")


def _lost_thought(contents: list[Content]) -> str:
    """In the current turn, the first call of each step comes back with its signature."""
    for at in range(len(contents) - 1, -1, -1):
        content = contents[at]
        if content.role != "model" and content.text():
            return ""
        first = next(iter(content.calls()), None)
        if first is None or first.function_call is None:
            continue
        call = first.function_call
        if first.thought_signature is None:
            return (
                f"Function call is missing a thought_signature in functionCall parts: `{call.name}`, {at + 1}. content."
            )
        if first.thought_signature != call_proof(call.name, call.args or {}):
            return f"Corrupted thought signature of function call `{call.name}` in the {at + 1}. content block."
    return ""


def _ask(asked: _Body, body: bytes, place: Place, *, model_id: str) -> Ask:
    config = asked.generation_config or _Config()
    spoken = [content for content in asked.contents if content.role != "model" and (content.text() or content.images())]
    calling = (asked.tool_config and asked.tool_config.function_calling_config) or _CallingConfig()
    forced = (calling.allowed_function_names or [""])[0] if calling.mode == "ANY" else None
    model = model_named(model_id)
    assert model is not None, "it was looked up before"
    return Ask(
        model=model,
        stream=place.operation == "streamGenerateContent",
        system=asked.system_instruction.text() if asked.system_instruction else "",
        history=tuple(content.text() for content in spoken[:-1]),
        prompt=spoken[-1].text() if spoken else "",
        digest=hashlib.sha256(place.model.encode() + body).hexdigest(),
        input_tokens=_input_tokens(asked),
        images=spoken[-1].images() if spoken else 0,
        limit=config.max_output_tokens,
        stops=tuple(config.stop_sequences or ()),
        tools={one.name: one.parameters_json_schema or one.parameters or {} for one in asked.declarations()},
        tool_results=tuple(_said(response.response) for response in asked.contents[-1].responses()),
        may_call=calling.mode != "NONE",
        forced_tool=forced,
        schema=_schema(config),
        hides=frozenset({"cache_write"}),
        shows_thought=bool(config.thinking_config and config.thinking_config.include_thoughts),
        lost_thought=_lost_thought(asked.contents),
    )


def _schema(config: _Config) -> JsonObject | None:
    if config.response_mime_type != "application/json":
        return None
    return config.response_json_schema or config.response_schema or {}


def _said(response: JsonObject) -> str:
    """A tool's answer as text: the one value of it, or all of it as JSON."""
    [*values] = response.values()
    if len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return msgspec.json.encode(response).decode()


def _input_tokens(asked: _Body) -> int:
    texts = [asked.system_instruction.text() if asked.system_instruction else ""]
    values: list[Any] = [*asked.declarations()]
    images = 0
    for content in asked.contents:
        texts.append(content.text())
        values += [part.function_call for part in content.calls()]
        values += [response.response for response in content.responses()]
        images += content.images()
    if asked.generation_config and _schema(asked.generation_config):
        values.append(_schema(asked.generation_config))
    return count_prompt(texts, values, messages=len(asked.contents), images=images)
