"""What the grid asks: requests free of any format, and what has to come back. The demo provider's markers fix it."""

from dataclasses import dataclass, field
from typing import Any

from providers.domain.types import Wire

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
PDF = "JVBERi0xLjQKJcOkw7zDtsOfCg=="
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
LONG = "The quick brown fox jumps over the lazy dog, again and again, until the dog has had enough of it and leaves."


@dataclass(frozen=True)
class Image:
    """Inline as a PNG in base64, or by address."""

    data: str = ""
    url: str = ""


@dataclass(frozen=True)
class Called:
    id: str
    name: str
    arguments: str = "{}"


@dataclass(frozen=True)
class Said:
    """One message: several texts are several parts; an assistant's calls, a user's images and documents."""

    role: str
    texts: tuple[str, ...]
    images: tuple[Image, ...] = ()
    calls: tuple[Called, ...] = ()
    documents: tuple[str, ...] = ()  # PDFs in base64


@dataclass(frozen=True)
class Result:
    call_id: str
    name: str
    text: str


@dataclass(frozen=True)
class Tool:
    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


WEATHER = Tool("get_weather", "The weather of a city", CITY)
CLOCK = Tool("get_time")


@dataclass(frozen=True)
class Scenario:
    """`says` is the exact answer and `speaks_of` a part of it, where the scenario fixes them; `calls` are the tools
    that are asked for. `answers` are their results, in a second request that gives the first answer back; `then_says`
    is what the second one says. `json` wants JSON: True for any object. `refused_by` are the wires that cannot do it:
    a clear 400. `thinks` is the thought that is shown. `is_text` can be asked by a caller of legacy completions.
    """

    turns: tuple[Said | Result, ...]
    tools: tuple[Tool, ...] = ()
    choice: str = ""  # "none", "required", or a tool's name
    limit: int = 1000
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    user: str = ""
    json: dict[str, Any] | bool = False
    reasons: bool = False
    says: str | None = None
    speaks_of: str = ""
    finish: str = "stop"
    calls: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    then_says: str = ""
    thinks: str = ""
    cached: bool = False
    refused_by: frozenset[Wire] = frozenset()
    is_text: bool = False


def user(*texts: str, images: tuple[Image, ...] = ()) -> Said:
    return Said("user", texts, images)


def system(text: str) -> Said:
    return Said("system", (text,))


def assistant(text: str = "", *calls: Called) -> Said:
    return Said("assistant", (text,) if text else (), calls=calls)


TWO_CALLS = (Called("call_a", "get_weather", '{"city": "Berlin"}'), Called("call_b", "get_time"))

SCENARIOS: dict[str, Scenario] = {
    "plain": Scenario((user("[[say=Hello there]] Hi"),), says="Hello there", is_text=True),
    "an answer of its own": Scenario((user("why is the sky blue?"),), speaks_of="demo provider", is_text=True),
    "system first": Scenario((system("You are a pirate."), user("a story about rain")), speaks_of="As a pirate, "),
    "system in the middle": Scenario(
        (user("One"), assistant("Uno"), user("And"), system("Now in short."), user("[[say=Two]] Go on")), says="Two"
    ),
    "developer role": Scenario((Said("developer", ("Be brief.",)), user("[[say=Fine]] How?")), says="Fine"),
    "a long conversation": Scenario(
        (
            user("First"),
            assistant("Answer"),
            user("Second"),
            user("Third, at once"),
            assistant("Another"),
            user("[[say=Last]] Fourth"),
        ),
        says="Last",
    ),
    "parts of text": Scenario((user("[[say=Both]]", "read"),), says="Both"),
    "other scripts": Scenario((user("[[say=Grüße, 你好, 🙂]] Hallo"),), says="Grüße, 你好, 🙂", is_text=True),
    "an inline image": Scenario((user("[[say=A dot]] What is it?", images=(Image(data=PIXEL),)),), says="A dot"),
    "two images": Scenario(
        (user("What are these?", images=(Image(data=PIXEL), Image(data=PIXEL))),), speaks_of="2 images"
    ),
    "an image by address": Scenario(
        (user("[[say=A cat]] What is it?", images=(Image(url="https://example.com/cat.png"),)),),
        says="A cat",
        refused_by=frozenset({Wire.OLLAMA}),
    ),
    "a document": Scenario(
        (Said("user", ("[[say=It is empty]] What is in it?",), documents=(PDF,)),),
        says="It is empty",
        refused_by=frozenset({Wire.COHERE, Wire.OLLAMA}),
    ),
    "cut at the limit": Scenario((user("[[tokens=50]] Tell me more"),), limit=20, finish="length", is_text=True),
    "a stop sequence": Scenario(
        (user("[[say=one two three]] Count"),),
        stop=(" three",),
        says="one two",
        refused_by=frozenset({Wire.OPENAI_RESPONSES}),
        is_text=True,
    ),
    "one tool": Scenario(
        (user("[[tool=get_weather]] Weather in Berlin?"),), (WEATHER,), finish="tool_calls", calls=("get_weather",)
    ),
    "two tools at once": Scenario(
        (user("[[tool=get_weather]] [[tool=get_time]] Berlin?"),),
        (WEATHER, CLOCK),
        finish="tool_calls",
        calls=("get_weather", "get_time"),
    ),
    "the same tool twice": Scenario(
        (user("What is the weather in Paris and Rome?"),),
        (WEATHER,),
        finish="tool_calls",
        calls=("get_weather", "get_weather"),
        answers=("19 degrees", "24 degrees"),
        then_says="24 degrees",
    ),
    "a tool without arguments": Scenario(
        (user("[[tool=get_time]] How late is it?"),),
        (CLOCK,),
        finish="tool_calls",
        calls=("get_time",),
        answers=("noon",),
        then_says="noon",
    ),
    "a tool that must be called": Scenario(
        (user("Hello"),),
        (CLOCK,),
        choice="required",
        finish="tool_calls",
        calls=("get_time",),
        refused_by=frozenset({Wire.OLLAMA}),
    ),
    "a tool that must not be called": Scenario(
        (user("What is the weather in Paris?"),), (WEATHER,), choice="none", speaks_of="demo provider"
    ),
    "text beside a call": Scenario(
        (user("[[say=Let me look.]] [[tool=get_weather]] Berlin?"),),
        (WEATHER,),
        says="Let me look.",
        finish="tool_calls",
        calls=("get_weather",),
        answers=("21 degrees",),
        then_says="Let me look.",
    ),
    "results of two tools": Scenario(
        (
            user("Weather and time in Berlin?"),
            assistant("I look.", *TWO_CALLS),
            Result("call_a", "get_weather", "21 degrees"),
            Result("call_b", "get_time", "12:00"),
        ),
        (WEATHER, CLOCK),
        speaks_of="12:00",
    ),
    "a word after a tool's result": Scenario(
        (
            user("Weather in Berlin?"),
            assistant("", TWO_CALLS[0]),
            Result("call_a", "get_weather", '{"degrees": 21}'),
            user("[[say=Warm]] So?"),
        ),
        (WEATHER,),
        says="Warm",
    ),
    "sampling knobs": Scenario(
        (user("[[say=Knobs]] Hi"),), says="Knobs", temperature=0.3, top_p=0.9, user="u-1", is_text=True
    ),
    "JSON by a schema": Scenario((user("The city of Rome"),), json=CITY, speaks_of='"city"'),
    "JSON of any shape": Scenario(
        (user("As JSON: who are you?"),), json=True, speaks_of='"demo"', refused_by=frozenset({Wire.ANTHROPIC})
    ),
    "a thought": Scenario(
        (user("[[thought=Warm there, surely.]] [[say=Warm]] And?"),),
        reasons=True,
        says="Warm",
        thinks="Warm there, surely.",
        limit=4000,
    ),
    "a thought that comes back with its call": Scenario(
        (user("[[thought=I have to look.]] [[tool=get_weather]] [[tool=get_time]] Berlin?"),),
        (WEATHER, CLOCK),
        reasons=True,
        finish="tool_calls",
        calls=("get_weather", "get_time"),
        thinks="I have to look.",
        answers=("21 degrees", "noon"),
        then_says="21 degrees",
        limit=4000,
    ),
    "hidden reasoning": Scenario((user("[[reasoning=30]] [[say=Done]] Think"),), says="Done", is_text=True),
    "cached tokens": Scenario(
        (user(f"[[cached=20]] [[cache_write=9]] [[say=Again]] {LONG}"),), says="Again", cached=True, is_text=True
    ),
    "a refusal": Scenario((user("[[refusal=I will not.]] Do it"),), says="I will not.", finish="refused"),
    "a content filter": Scenario(
        (user("[[finish=content_filter]] [[say=Up to]] Do it"),), says="Up to", finish="content_filter", is_text=True
    ),
}
