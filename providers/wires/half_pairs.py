r"""Joins characters that a vendor has cut in half: one piece of its answer ends in "\ud83d", the next begins "\ude00".

JSON allows to write half of a surrogate pair (RFC 8259, section 8.2), and vendors that cut by UTF-16 units do; msgspec,
like UTF-8, has no place for it. So what could not be read is tried once more with its halves put together. A half
whose other one never comes is left out.
"""

import json
import re
from typing import Any

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_UTF_16 = "utf-16-le"

Path = tuple[str | int, ...]


class HalfPairs:
    """The halves that one answer has left open, by the place where their text stands."""

    def __init__(self) -> None:
        self._open: dict[Path, str] = {}

    def mend(self, data: bytes) -> bytes:
        """The same JSON without halves; unchanged where there are none, or when it is no JSON."""
        if not _HALF.search(data):
            return data
        try:
            return json.dumps(self._whole(json.loads(data), ())).encode()
        except (ValueError, RecursionError):
            return data

    def _whole(self, value: Any, path: Path) -> Any:
        match value:
            case str():
                return self._joined(value, path)
            case dict():
                return {_paired(name): self._whole(item, (*path, name)) for name, item in value.items()}
            case list():
                return [self._whole(item, (*path, _place(item, i))) for i, item in enumerate(value)]
        return value

    def _joined(self, text: str, path: Path) -> str:
        text = self._open.pop(path, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._open[path] = text[-1]
            text = text[:-1]
        return _paired(text)


def mended(body: bytes) -> bytes:
    """A whole answer without halves."""
    return HalfPairs().mend(body)


def _paired(text: str) -> str:
    return text.encode(_UTF_16, "surrogatepass").decode(_UTF_16, "ignore")


def _place(item: Any, position: int) -> int:
    """Choices and tool calls say which they are; a piece of the second one may come alone."""
    index = item.get("index") if isinstance(item, dict) else None
    return index if isinstance(index, int) else position
