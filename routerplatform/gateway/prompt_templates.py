"""Put the texts of prompt templates into a request, before anybody looks at it: what is decided, counted and kept is
the prompt as the model gets it.

Two fields of any body speak to this: `template` (“welcome”, “welcome@3”) and `variables`. A template's system text goes
where a persona's goes, its messages before the caller's own. A persona may have a template too, which comes first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
from msgspec import Raw

from providers.domain.conversation import Conversation, Message, Role, TextPart
from providers.domain.estimate import count_text, estimate_tokens
from providers.domain.types import ChatRequest, Operation
from providers.wires.request_fields import is_set
from routerplatform.gateway.errors import InvalidRequest, InvalidVariables, TemplateNotFound
from routing.domain.config import ConfigSnapshot
from routing.domain.templates import (
    Rendered,
    TemplateVersion,
    UnknownTemplate,
    VariablesError,
    declared_by,
    render,
    template_named,
)

TEMPLATE: Final = "template"
VARIABLES: Final = "variables"
LONGEST_NAME: Final = 60  # of a variable, as an error repeats it

_NUMBERS: Final = frozenset(b"-0123456789")
_text = msgspec.json.Decoder(str).decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode


def with_templates(snapshot: ConfigSnapshot, request: ChatRequest) -> ChatRequest:
    """The request with its templates filled in; itself where it has none. A request that is filled in names none any
    more, so it is filled in once, whatever its values say.

    :raises TemplateNotFound: there is no such template or version.
    :raises InvalidVariables: a value is missing, unknown, too long or no text.
    :raises InvalidRequest: `template` is no text; the template has messages, and the format takes none; nobody says
        anything.
    """
    fields = request.fields
    if not (snapshot.has_templated_personas or TEMPLATE in fields or VARIABLES in fields):
        return request
    names = is_set(fields, TEMPLATE)
    given = _given(fields[VARIABLES]) if is_set(fields, VARIABLES) else {}
    if request.operation is Operation.EMBEDDINGS:
        if names or given:
            raise InvalidRequest(
                "What is embedded is not made from a template.", param=TEMPLATE if names else VARIABLES
            )
        return replace(request, fields=_without_own(fields)) if TEMPLATE in fields or VARIABLES in fields else request
    persona = snapshot.personas.get(request.persona or request.model)
    versions = [persona.template] if persona is not None and persona.template is not None else []
    if names:
        versions.append(_named(snapshot, fields[TEMPLATE]))
    if not versions and given:
        raise InvalidVariables("There is nothing to fill in: name a “template”, or a persona that has one.", VARIABLES)
    return _filled_in(request, versions, _rendered(versions, given))


def _named(snapshot: ConfigSnapshot, raw: Raw) -> TemplateVersion:
    try:
        return template_named(snapshot.templates, _text(raw))
    except msgspec.DecodeError as error:
        raise InvalidRequest("“template” must be a text, like “welcome” or “welcome@3”.", param=TEMPLATE) from error
    except UnknownTemplate as error:
        raise TemplateNotFound(str(error)) from error


def _rendered(versions: Sequence[TemplateVersion], given: Mapping[str, str]) -> Rendered:
    try:
        return render(versions, given)
    except VariablesError as error:
        param = f"{VARIABLES}.{error.name[:LONGEST_NAME]}" if error.name else VARIABLES
        raise InvalidVariables(str(error), param, declared=_declared(versions)) from error


def _declared(versions: Sequence[TemplateVersion]) -> list[dict[str, Any]]:
    return [
        {
            "name": one.name,
            "description": one.description,
            "required": one.default is None,
            "max_length": one.max_length,
        }
        for one in declared_by(versions).values()
    ]


def _given(raw: Raw) -> dict[str, str]:
    """The values as texts."""
    try:
        values = _object(raw)
        return {name: _value(name, value) for name, value in values.items()}
    except msgspec.DecodeError as error:
        raise InvalidVariables("“variables” must be an object of names and values.", VARIABLES) from error


def _value(name: str, raw: Raw) -> str:
    """Numbers, true and false as the caller wrote them."""
    written = bytes(raw)
    if written[:1] == b'"':
        return _text(raw)
    if written[0] in _NUMBERS or written in {b"true", b"false"}:
        return written.decode()
    raise InvalidVariables(
        f"“{name[:LONGEST_NAME]}” must be a text, a number, true or false.", f"{VARIABLES}.{name[:LONGEST_NAME]}"
    )


# --- the request, filled in ---------------------------------------------------------------------------------------


def _filled_in(request: ChatRequest, versions: Sequence[TemplateVersion], rendered: Rendered) -> ChatRequest:
    fields = _without_own(request.fields)
    removed = b"".join(bytes(value) for name, value in request.fields.items() if name not in fields)
    first = b",".join(msgspec.json.encode({"role": role, "content": text}) for role, text in rendered.messages)
    if "messages" in fields:
        fields["messages"] = _before(first, fields["messages"])
        if fields["messages"] == Raw(b"[]"):
            raise InvalidRequest("“messages” must hold at least one message: the template has none.", param="messages")
    elif first:
        raise InvalidRequest(
            f"“{versions[-1].label}” has messages, which only a conversation can begin with. Ask for it on "
            "/v1/chat/completions, or use a template of a system text alone.",
            param=TEMPLATE,
        )
    weight = count_text(rendered.system) + (estimate_tokens(first) if first else 0)
    return replace(
        request,
        fields=fields,
        conversation=_conversation(request.conversation, rendered),
        # the system text is counted with the persona's, by who adds that
        input_tokens_bound=request.input_tokens_bound - len(removed) + len(first),
        input_tokens_estimate=max(
            request.input_tokens_estimate - (estimate_tokens(removed) if removed else 0) + weight, 1
        ),
        system=rendered.system,
        template=", ".join(version.label for version in versions),
        turns_before=len(rendered.messages),
    )


def _without_own(fields: Mapping[str, Raw]) -> dict[str, Raw]:
    return {name: value for name, value in fields.items() if name not in {TEMPLATE, VARIABLES}}


def _before(first: bytes, array: Raw) -> Raw:
    """A JSON array with more items in front, the rest byte for byte."""
    rest = bytes(array)[1:].lstrip()
    comma = b"" if not first or rest.startswith(b"]") else b","
    return Raw(b"[" + first + comma + rest)


def _conversation(read: Callable[[], Conversation], rendered: Rendered) -> Callable[[], Conversation]:
    first = tuple(Message(Role(role), (TextPart(text),)) for role, text in rendered.messages)

    def filled_in() -> Conversation:
        said = read()
        dropped = tuple(name for name in said.dropped if name not in {TEMPLATE, VARIABLES})
        return msgspec.structs.replace(said, messages=(*first, *said.messages), dropped=dropped)

    return filled_in
