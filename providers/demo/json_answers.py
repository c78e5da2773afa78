"""JSON mode and the arguments of tools: values that fit a JSON schema, filled from the prompt where a name says how."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from providers.demo.answers import pick, quoted, subject_of
from providers.demo.exchange import Ask, JsonObject
from providers.demo.markers import without_markers
from providers.demo.texts import ANSWERS

DEEPEST = 8
LARGEST = 1e15
LONGEST = 10_000
MOST_VALUES = 2_000  # a schema may refer to itself in many places

_PLACE = re.compile(r"\b(?:in|for|at|from|to)\s+((?:[A-Z][\w'-]*\s?){1,3})")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def json_answer(ask: Ask) -> str:
    """The JSON text of an answer: by the schema, or a small object when any JSON will do."""
    prompt = without_markers(ask.prompt)
    answer = {"answer": f"A demo answer to “{quoted(prompt)}”.", "topic": subject_of(prompt)}
    value = fill(ask.schema, prompt) if ask.schema else {**answer, "model": ask.model.id, "demo": True}
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
        """`name` is that of the property, with a number behind it in an array."""
        self._left -= 1
        if not isinstance(schema, Mapping) or depth > DEEPEST or self._left < 0:
            return None
        schema = self._resolved(schema)
        options = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(options, list) and options:
            said = (option for option in options if option and str(option).lower() in self._prompt.lower())
            return next(said, pick(f"{name} {self._prompt}", options))
        match _type_of(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "integer" | "number" as kind:
                return self._number(schema, whole=kind == "integer")
            case "boolean":
                return True
            case "string":
                return self._string(schema, name)
        return None

    def _resolved(self, schema: JsonObject) -> JsonObject:
        """`schema` with `$ref` followed and the first branch of a choice taken, rather not `null`."""
        for _ in range(DEEPEST):
            branches = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
            useful = [one for one in branches if isinstance(one, Mapping)] if isinstance(branches, list) else []
            if isinstance(schema.get("$ref"), str):
                found: Any = self._root
                for key in filter(None, schema["$ref"].removeprefix("#").split("/")):
                    found = found.get(key) if isinstance(found, Mapping) else None
                schema = found if isinstance(found, Mapping) else {}
            elif useful:
                schema = min(useful, key=lambda one: one.get("type") == "null")
            else:
                return schema
        return {"type": "null"}

    def _object(self, schema: JsonObject, depth: int) -> dict[str, Any]:
        """All properties, but in the depth only those that are required."""
        properties, required = schema.get("properties"), schema.get("required")
        if not isinstance(properties, Mapping):
            return {}
        needed = required if isinstance(required, list) else []
        names = [name for name in properties if name in needed or depth < DEEPEST // 2]
        return {name: self.value(properties[name], name, depth + 1) for name in names}

    def _array(self, schema: JsonObject, name: str, depth: int) -> list[Any]:
        wanted = 2 if depth < 2 else 1 if depth < DEEPEST - 1 else 0
        count = int(min(max(_limit(schema, "minItems", 0), wanted), _limit(schema, "maxItems", 20), 20))
        items, singular = schema.get("items", {"type": "string"}), name.removesuffix("s")
        return [self.value(items, f"{singular} {at + 1}", depth + 1) for at in range(count)]

    def _number(self, schema: JsonObject, *, whole: bool) -> float:
        """The first number of the prompt when it fits, else 1, else the one that is nearest to it."""
        step = 1 if whole else 0.5
        low = max(_limit(schema, "minimum", -LARGEST), _limit(schema, "exclusiveMinimum", -2 * LARGEST) + step)
        high = min(_limit(schema, "maximum", LARGEST), _limit(schema, "exclusiveMaximum", 2 * LARGEST) - step)
        for number in map(float, _NUMBER.findall(self._prompt)):
            if low <= number <= high and (not whole or number == int(number)):
                return int(number) if whole else number
        nearest = min(max(1.0, low), high)
        return int(nearest) if whole else nearest

    def _string(self, schema: JsonObject, name: str) -> str:
        """By the format, else by the meaning of the property's name, else its name."""
        key, known = name.partition(" ")[0].lower(), ANSWERS.formats.get(str(schema.get("format")))
        if known:
            return known
        text = ANSWERS.formats.get(key, f"demo {name.replace('_', ' ')}")
        if key in ANSWERS.words["place_fields"]:
            place = _PLACE.search(self._prompt)
            text = place[1].strip() if place else "Paris"
        elif key in ANSWERS.words["sentence_fields"]:
            text = f"A demo {key} for “{quoted(self._prompt)}”."
        elif key in ANSWERS.words["title_fields"]:
            text = subject_of(self._prompt)
        least, most = _limit(schema, "minLength", 0), _limit(schema, "maxLength", LONGEST)
        return text.ljust(int(min(least, LONGEST)), ".")[: int(most)]


def _type_of(schema: JsonObject) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _limit(schema: JsonObject, key: str, default: float) -> float:
    """A number of the schema, kept inside what JSON libraries write."""
    value = schema.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return default
    return max(-LARGEST, min(LARGEST, value))
