"""What vendors ask of the JSON of tools: schemas that are objects, arguments that are objects."""

import msgspec
from msgspec import Raw

from providers.domain.conversation import Tool, ToolCallPart
from providers.wires.protocol import UnsupportedFeature

_NO_ARGUMENTS = Raw(b"{}")
_ANY_OBJECT = Raw(b'{"type":"object","properties":{}}')


def object_schema(tool: Tool) -> object:
    """A tool's schema with the type that vendors insist on. OpenAI lets it be empty or missing for a tool without
    arguments.

    :raises UnsupportedFeature: the parameters are no JSON object.
    """
    members = members_of(bytes(tool.parameters) or b"{}")
    if members is None:
        raise UnsupportedFeature(f"tool {tool.name}, whose parameters are not an object")
    if not members:
        return _ANY_OBJECT
    if "type" in members and "properties" in members:
        return tool.parameters
    return {"type": "object", "properties": {}, **members}


def object_arguments(call: ToolCallPart) -> Raw:
    """The arguments of a call as the model wrote them.

    :raises UnsupportedFeature: they are no JSON object.
    """
    text = call.arguments.strip().encode("utf-8", "replace")
    if not text:
        return _NO_ARGUMENTS
    if members_of(text) is None:
        raise UnsupportedFeature(f"a call of tool {call.name} whose arguments are not a JSON object")
    return Raw(text)


def members_of(text: bytes) -> dict[str, Raw] | None:
    """The members of a JSON object; None when it is no object."""
    try:
        return msgspec.json.decode(text, type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
