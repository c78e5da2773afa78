"""JSON mode: values that fit a JSON schema, filled from the prompt where a field's name says how."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from providers.demo.exchange import Ask, JsonObject
from providers.demo.markers import without_markers
from providers.demo.phrasing import pick, quoted, subject_of

DEEPEST = 8
LARGEST = 1e15
MOST_VALUES = 2_000  # a schema may refer to itself in many places

_FORMATS = {
    "date": "2026-01-15",
    "date-time": "2026-01-15T09:30:00Z",
    "time": "09:30:00Z",
    "duration": "PT15M",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/demo",
    "url": "https://example.com/demo",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_SENTENCES = {"answer", "text", "summary", "description", "reason", "explanation", "message", "content", "body"}
_TITLES = {"title", "name", "subject", "topic", "label", "query"}
_PLACE_FIELDS = {"city", "location", "place", "town", "country", "destination", "address"}
_PLACE = re.compile(r"\b(?:in|for|at|from|to)\s+((?:[A-Z][\w'-]*\s?){1,3})")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def json_answer(ask: Ask) -> str:
    """The JSON text of an answer: by the schema, or a small object when any JSON will do."""
    prompt = without_markers(ask.prompt)
    value: Any = {
        "answer": f"A demo answer to “{quoted(prompt)}”.",
        "topic": subject_of(prompt),
        "model": ask.model.id,
        "demo": True,
    }
    if ask.schema:
        value = fill(ask.schema, prompt)
    return msgspec.json.encode(value).decode()


def fill(schema: JsonObject, prompt: str) -> Any:
    """A value that fits `schema`, for the keywords that schemas of answers and tools use."""
    return _Filler(schema, prompt).value(schema, "value", 0)


class _Filler:
    def __init__(self, root: JsonObject, prompt: str) -> None:
        self._root = root
        self._prompt = prompt
        self._left = MOST_VALUES

    def value(self, schema: Any, name: str, depth: int) -> Any:
        self._left -= 1
        if not isinstance(schema, Mapping) or depth > DEEPEST or self._left < 0:
            return None
        schema = self._resolved(schema)
        options = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(options, list) and options:
            return self._chosen(options, name)
        makers: dict[str, Callable[[], Any]] = {
            "object": lambda: self._object(schema, depth),
            "array": lambda: self._array(schema, name, depth),
            "integer": lambda: int(self._number(schema, step=1)),
            "number": lambda: self._number(schema, step=0.5),
            "boolean": lambda: True,
            "string": lambda: self._string(schema, name),
        }
        return makers.get(_type_of(schema), lambda: None)()

    def _resolved(self, schema: JsonObject, rounds: int = DEEPEST) -> JsonObject:
        """`schema` with `$ref` followed, the first useful branch of `anyOf`/`oneOf` taken and `allOf` laid together."""
        self._left -= 1
        if rounds == 0 or self._left < 0:
            return {"type": "null"}
        if isinstance(schema.get("$ref"), str):
            return self._resolved(self._target(schema["$ref"]), rounds - 1)
        if branches := _branches(schema):
            return self._resolved(branches[0], rounds - 1)
        if isinstance(schema.get("allOf"), list):
            parts = [self._resolved(part, rounds - 1) for part in schema["allOf"] if isinstance(part, Mapping)]
            return _merged([{key: value for key, value in schema.items() if key != "allOf"}, *parts])
        return schema

    def _target(self, ref: str) -> JsonObject:
        found: Any = self._root
        for key in ref.removeprefix("#").strip("/").split("/"):
            found = (
                found.get(key.replace("~1", "/").replace("~0", "~")) if key and isinstance(found, Mapping) else found
            )
        return found if isinstance(found, Mapping) else {}

    def _chosen(self, options: list[Any], name: str) -> Any:
        said = self._prompt.lower()
        for option in options:
            if isinstance(option, str) and option and option.lower() in said:
                return option
        return pick(f"{name} {self._prompt}", options)

    def _object(self, schema: JsonObject, depth: int) -> dict[str, Any]:
        """All properties, but in the depth only those that are required."""
        properties = schema.get("properties")
        if not isinstance(properties, Mapping):
            return {}
        required = schema.get("required")
        needed = set(required) if isinstance(required, list) else set()
        names = [name for name in properties if name in needed or depth < DEEPEST // 2]
        return {name: self.value(properties[name], name, depth + 1) for name in names}

    def _array(self, schema: JsonObject, name: str, depth: int) -> list[Any]:
        least, most = _whole(schema.get("minItems"), 0), _whole(schema.get("maxItems"), 100)
        if depth >= DEEPEST - 1 and not least:
            return []
        count = min(max(least, 2 if depth < 2 else 1), most, 20)
        items = schema.get("items", {"type": "string"})
        singular = name[:-1] if name.endswith("s") else name
        return [self.value(items, f"{singular} {at + 1}", depth + 1) for at in range(count)]

    def _number(self, schema: JsonObject, step: float) -> float:
        """The first number of the prompt when it fits, else the lowest that does."""
        low, high = _bounds(schema, step)
        factor = schema.get("multipleOf")
        for text in _NUMBER.findall(self._prompt):
            number = float(text)
            whole = step == 1 and number != int(number)
            if low <= number <= high and not whole and not isinstance(factor, (int, float)):
                return number
        start = low if low > 1 or high < 1 else 1.0
        start = high if start < -LARGEST else start
        if isinstance(factor, (int, float)) and factor > 1e-6 and abs(start) < LARGEST:
            start = -(-start // factor) * factor
        return start

    def _string(self, schema: JsonObject, name: str) -> str:
        known = _FORMATS.get(str(schema.get("format", "")))
        if known:
            return known
        text = self._words(name.partition(" ")[0].lower(), name)
        least, most = _whole(schema.get("minLength"), 0), _whole(schema.get("maxLength"), 10_000)
        return text.ljust(least, ".")[:most]

    def _words(self, key: str, name: str) -> str:
        place = _PLACE.search(self._prompt)
        if key in _PLACE_FIELDS:
            return place.group(1).strip() if place else "Paris"
        if key in _SENTENCES:
            return f"A demo {key} for “{quoted(self._prompt)}”."
        if key in _TITLES:
            return subject_of(self._prompt)
        if key in {"email", "url", "date"}:
            return _FORMATS[key]
        return f"demo {name.replace('_', ' ')}"


def _type_of(schema: JsonObject) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _branches(schema: JsonObject) -> list[JsonObject]:
    """The branches of a choice, `null` last."""
    options = schema.get("anyOf") or schema.get("oneOf")
    if not isinstance(options, list):
        return []
    return sorted((one for one in options if isinstance(one, Mapping)), key=lambda one: one.get("type") == "null")


def _merged(parts: list[JsonObject]) -> JsonObject:
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            old = merged.get(key)
            if isinstance(old, Mapping) and isinstance(value, Mapping):
                merged[key] = {**old, **value}
            elif isinstance(old, list) and isinstance(value, list):
                merged[key] = [*old, *value]
            else:
                merged[key] = value
    return merged


def _bounds(schema: JsonObject, step: float) -> tuple[float, float]:
    def number(key: str, shift: float, default: float) -> float:
        value = schema.get(key)
        return value + shift if isinstance(value, (int, float)) and not isinstance(value, bool) else default

    low = max(number("minimum", 0, -2 * LARGEST), number("exclusiveMinimum", step, -2 * LARGEST))
    high = min(number("maximum", 0, 2 * LARGEST), number("exclusiveMaximum", -step, 2 * LARGEST))
    return low, high


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default
