"""What a caller says on /api/v1/batch: many chats, and what they have in common.

    {"requests": [{"custom_id": "a", "messages": [...]}, {"prompt": "..."}], "model": "auto", "max_parallel": 4}
    {"prompts": ["...", "..."], "persona": "chatbot"}

Whatever else stands at the top is a field of every chat that does not say it itself. A batch is refused as a whole
when nobody could tell its chats apart; a chat that makes no sense is an error of that chat only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from routerplatform.doors.formats.openai_body import decode_body
from routerplatform.gateway.errors import InvalidRequest

LONGEST_ID: Final = 64
OWN_FIELDS: Final = frozenset({"requests", "prompts", "max_parallel", "background"})
WHAT_IS_ASKED: Final = ("prompt", "messages", "template")

OFF: Final = frozenset({b"false", b"null"})
NOT_SET: Final = Raw(b"null")

Fields = dict[str, Raw]


class Body(Struct):
    """The fields that are the batch's own."""

    requests: list[Fields] | UnsetType = UNSET
    prompts: list[str] | UnsetType = UNSET
    max_parallel: int | None = None
    background: bool | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One chat of a batch. `fields` are the caller's own, without those that all have in common."""

    index: int
    custom_id: str | None
    fields: Fields


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it is understood. `background` None: by its size."""

    shared: Fields
    items: Sequence[Asked]
    max_parallel: int
    background: bool | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a batch may be. `usual_parallel` is for one that does not say."""

    most_items: int
    most_parallel: int
    usual_parallel: int = 8


_body = msgspec.json.Decoder(Body)
_id = msgspec.json.Decoder(str | None)


def parse(raw: bytes, bounds: Bounds) -> Batch:
    """Read the body of a batch.

    :raises InvalidRequest: not UTF-8, not JSON, nothing to ask, too many chats, ids that are there twice.
    """
    body, fields = decode_body(raw, _body)
    if (body.requests is UNSET) == (body.prompts is UNSET):
        raise InvalidRequest("A batch has either “requests”, a list of chats, or “prompts”, a list of texts.")
    shared = {name: value for name, value in fields.items() if name not in OWN_FIELDS}
    for name in ("stream", "custom_id"):
        if bytes(shared.pop(name, NOT_SET)) not in OFF:
            raise InvalidRequest(f"“{name}” is no field of a batch.", param=name)
    if isinstance(body.requests, list):
        what, items = "requests", _requests(body.requests)
    else:
        what, items = "prompts", _prompts(body.prompts or [], shared)
    if not 1 <= len(items) <= bounds.most_items:
        raise InvalidRequest(f"“{what}” holds 1 to {bounds.most_items:,} items, not {len(items):,}.", param=what)
    most = bounds.most_parallel
    parallel = body.max_parallel if body.max_parallel is not None else min(bounds.usual_parallel, most)
    if not 1 <= parallel <= most:
        raise InvalidRequest(f"“max_parallel” must be at least 1 and at most {most}.", param="max_parallel")
    return Batch(shared, items, parallel, body.background)


def _prompts(prompts: Sequence[str], shared: Mapping[str, Raw]) -> list[Asked]:
    for name in WHAT_IS_ASKED:
        if name in shared:
            raise InvalidRequest(f"Beside “prompts” there is no “{name}”: each prompt is a chat.", param=name)
    return [Asked(index, None, {"prompt": Raw(msgspec.json.encode(prompt))}) for index, prompt in enumerate(prompts)]


def _requests(requests: Sequence[Fields]) -> list[Asked]:
    items: list[Asked] = []
    seen: dict[str, int] = {}
    for index, fields in enumerate(requests):
        custom_id = _custom_id(index, fields)
        if custom_id is not None and seen.setdefault(custom_id, index) != index:
            raise InvalidRequest(
                f"The requests {seen[custom_id]} and {index} have the same “custom_id”.",
                param=f"requests[{index}].custom_id",
            )
        items.append(Asked(index, custom_id, {name: value for name, value in fields.items() if name != "custom_id"}))
    return items


def _custom_id(index: int, fields: Fields) -> str | None:
    """:raises InvalidRequest: no text, or none that can be told apart."""
    if "custom_id" not in fields:
        return None
    param = f"requests[{index}].custom_id"
    try:
        found = _id.decode(fields["custom_id"])
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidRequest("A “custom_id” is a text.", param=param) from error
    if found is not None and (not 1 <= len(found) <= LONGEST_ID or "\0" in found):
        raise InvalidRequest(f"A “custom_id” has 1 to {LONGEST_ID} characters, none of them NUL.", param=param)
    return found


def chat_body(shared: Mapping[str, Raw], own: Mapping[str, Raw]) -> bytes:
    """One chat as `/api/v1/route` reads it: what it says itself goes before what all have in common.

    :raises InvalidRequest: it wants to be streamed.
    """
    fields = {**shared, **own}
    if any(name in own for name in WHAT_IS_ASKED):  # one way of asking takes the place of the other
        fields = {name: value for name, value in fields.items() if name not in WHAT_IS_ASKED or name in own}
    if bytes(fields.pop("stream", NOT_SET)) not in OFF:
        raise InvalidRequest("Answers of a batch come whole: leave “stream” out.", param="stream")
    return msgspec.json.encode(fields)
