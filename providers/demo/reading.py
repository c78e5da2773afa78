"""Reads a JSON body into a typed value, or says where it is wrong."""

import hashlib
import re
from typing import Any, TypeVar

from msgspec import DecodeError, ValidationError
from msgspec.json import Decoder, encode

T = TypeVar("T")

_PLACE = re.compile(r"(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>\w+)`")


class MalformedBody(ValueError):
    """Not JSON: broken, cut off, not UTF-8, or nested too deep."""


class BadField(ValueError):
    """A field of the wrong shape: `path` like `messages[0].role`, empty for the body itself."""

    def __init__(self, path: str, what: str, *, missing: bool) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path
        self.what = what
        self.missing = missing


def read_body(body: bytes, decoder: Decoder[T]) -> T:
    """Raises MalformedBody or BadField."""
    try:
        return decoder.decode(body)
    except ValidationError as error:
        raise bad_field(str(error)) from None
    except (DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(str(error)) from None
    except RecursionError:
        raise MalformedBody("it is nested too deep") from None


def bad_field(text: str) -> BadField:
    match = _PLACE.fullmatch(text)
    what, path = (match["what"], match["path"] or "") if match else (text, "")
    missing = _MISSING.fullmatch(what)
    if missing:
        path = f"{path}.{missing['field']}"
    return BadField(path.lstrip("."), what, missing=missing is not None)


def digest_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def json_text(value: Any, path: str) -> str:
    """The JSON text of a part of the body. Raises BadField for a number that JSON libraries do not write again."""
    try:
        return encode(value).decode()
    except (OverflowError, ValueError):
        raise BadField(path, "Number out of range", missing=False) from None
    except RecursionError:
        raise BadField(path, "Nested too deep", missing=False) from None
