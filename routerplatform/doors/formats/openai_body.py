"""What the bodies of OpenAI's requests have in common: JSON, read as far as the gateway understands it."""

import re
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from providers.wires.half_pairs import mended
from routerplatform.gateway.errors import InvalidRequest

T = TypeVar("T")

MOST_TOKENS = 2**31 - 1  # what a record holds
MOST_CHOICES = 128  # of OpenAI's `n`
_fields = msgspec.json.Decoder(dict[str, Raw])


class StreamOptions(Struct):
    include_usage: bool | None = None


def decode_body(raw: bytes, decoder: "msgspec.json.Decoder[T]") -> tuple[T, dict[str, Raw]]:
    """The body as far as it is understood, and all of it by top-level key.

    :raises InvalidRequest: not UTF-8, not JSON (NaN, truncated, too deep), or a wrong field, which `param` names.
    """
    try:
        raw.decode()
        return decoder.decode(raw), _fields.decode(raw)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8 (byte {error.start}).") from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply.") from error
    except msgspec.ValidationError as error:
        raise wrong_field(error) from error
    except msgspec.DecodeError as error:
        if mended(raw) is not raw:
            raise InvalidRequest(
                "A text in the body has half of a surrogate pair, like “\\ud83d” without its other half, which is no "
                "character. Cut texts between characters."
            ) from error
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from error


def decode_fields(fields: dict[str, Raw], into: type[T]) -> T:
    """The caller's fields as a struct. :raises InvalidRequest: one of the wrong type; `param` names it."""
    try:
        return msgspec.json.decode(msgspec.json.encode(fields), type=into)
    except msgspec.ValidationError as error:
        raise wrong_field(error) from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply.") from error


def wrong_field(error: msgspec.ValidationError) -> InvalidRequest:
    """A field of the wrong type, or one that is missing: `param` is the path to it."""
    text = str(error)
    where = re.search(r"`\$\.?([^`]*)`", text)
    missing = re.search(r"required field `(\w+)`", text)
    param = ".".join(part for part in (where[1] if where else "", missing[1] if missing else "") if part)
    return InvalidRequest(text.replace("`", "“", 1).replace("`", "”", 1) + ".", param=param or None)


def check_limit(limit: int | None, name: str) -> None:
    """:raises InvalidRequest: an answer's longest length that makes no sense."""
    if limit is not None and not 1 <= limit <= MOST_TOKENS:
        raise InvalidRequest(f"“{name}” must be at least 1 and at most {MOST_TOKENS:,}.", param=name)


def check_choices(number: int | None, name: str = "n") -> None:
    """:raises InvalidRequest:"""
    if number is not None and not 1 <= number <= MOST_CHOICES:
        raise InvalidRequest(f"“{name}” must be at least 1 and at most {MOST_CHOICES}.", param=name)


def check_temperature(temperature: float | None) -> None:
    """:raises InvalidRequest:"""
    if temperature is not None and not 0 <= temperature <= 2:
        raise InvalidRequest("“temperature” must lie between 0 and 2.", param="temperature")
