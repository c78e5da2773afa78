"""What wires do alike to a request: the caller's own fields pass through, and only a few are touched."""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from providers.domain.conversation import (
    Conversation,
    DocumentPart,
    ImagePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from providers.domain.types import Capability, ChatRequest, Deployment, PromptDefaults

OWN_FIELDS = ("persona", "router")
"""Top-level fields that speak to the gateway; no vendor sees them."""

JSON = {"content-type": "application/json"}

Body = dict[str, object]

NAMES: dict[type[Part], str] = {
    TextPart: "text",
    ImagePart: "an image",
    DocumentPart: "a document",
    ReasoningPart: "reasoning",
    ToolCallPart: "a tool call",
    ToolResultPart: "a tool result",
}
"""Parts as an UnsupportedFeature names them."""

_NULL = Raw(b"null")


def is_set(fields: Mapping[str, object], name: str) -> bool:
    """The caller gave a value; `null` is none."""
    value = fields.get(name)
    return value is not None and value != _NULL


def copied(request: ChatRequest, deployment: Deployment) -> Body:
    """The caller's body for this deployment's model, without the gateway's own fields."""
    body: Body = dict(request.fields)
    for name in OWN_FIELDS:
        body.pop(name, None)
    body["model"] = deployment.upstream_model
    return body


def output_limit(asked: int | None, deployment: Deployment, defaults: PromptDefaults) -> int | None:
    """The longest answer to ask for: the caller's limit, else the persona's, never more than the model can write."""
    limit = defaults.max_tokens if asked is None else asked
    known = deployment.max_output_tokens
    return limit if limit is None or known is None else min(limit, known)


def limit_of(request: ChatRequest, conversation: Conversation) -> int | None:
    return conversation.max_tokens if request.max_tokens is None else request.max_tokens


def takes_sampling(deployment: Deployment) -> bool:
    """Whether the model accepts a temperature or top_p; current reasoning models refuse both."""
    return Capability.TEMPERATURE in deployment.capabilities


def prepended(item: object, array: Raw) -> Raw | None:
    """A JSON array with one more item in front, the rest byte for byte; None when it is no array."""
    rest = bytes(array)
    if not rest.startswith(b"["):
        return None
    inner = rest[1:].lstrip()
    comma = b"" if inner.startswith(b"]") else b","
    return Raw(b"[" + msgspec.json.encode(item) + comma + inner)
