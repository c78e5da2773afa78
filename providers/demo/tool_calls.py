"""Decides which tools an answer calls, and with which arguments."""

import re

import msgspec

from providers.demo.exchange import Ask, Tool
from providers.demo.json_answers import fill
from providers.demo.markers import without_markers

MOST_CALLS = 3

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
# "in Paris and Rome": the names behind a preposition, each worth a call of its own
_PLACES = re.compile(r"\b(?:in|for|at|from|to)\s+((?:[A-Z][\w'-]*[ ,]*(?:and )?)+)")
_VERBS = {
    "get",
    "set",
    "list",
    "find",
    "fetch",
    "search",
    "look",
    "lookup",
    "make",
    "create",
    "read",
    "the",
    "for",
    "by",
}


def choose_calls(ask: Ask, wanted: tuple[str, ...]) -> list[tuple[str, str]]:
    """(tool name, JSON text of its arguments) for each call; empty to answer in words.

    A tool's answer at the end of the conversation is answered in words. Else tools are called that `[[tool=name]]`
    wants (offered or not), that the request forces, or whose name the prompt speaks of.
    """
    if ask.tool_results:
        return []
    prompt = without_markers(ask.prompt)
    offered = {tool.name: tool for tool in ask.tools}
    if wanted:
        return [_call(offered.get(name, Tool(name, {})), prompt) for name in wanted]
    if not ask.may_call or not offered:
        return []
    if ask.forced_tool is not None:
        tool = offered.get(ask.forced_tool) or _mentioned(ask.tools, prompt) or ask.tools[0]
    else:
        mentioned = _mentioned(ask.tools, prompt)
        if mentioned is None:
            return []
        tool = mentioned
    places = _places(prompt)
    if ask.parallel_calls and len(places) > 1:
        return [_call(tool, f"in {place}") for place in places[:MOST_CALLS]]
    return [_call(tool, prompt)]


def _call(tool: Tool, prompt: str) -> tuple[str, str]:
    arguments = fill(tool.parameters, prompt) if tool.parameters.get("properties") else {}
    return tool.name, msgspec.json.encode(arguments).decode()


def _mentioned(tools: tuple[Tool, ...], prompt: str) -> Tool | None:
    """The tool whose name has a telling word in the prompt: `get_weather` for "what is the weather?"."""
    said = {word.lower() for word in _WORDS.findall(prompt)}
    for tool in tools:
        telling = {word.lower() for word in _WORDS.findall(tool.name)} - _VERBS
        if telling & said or tool.name.lower() in prompt.lower():
            return tool
    return None


def _places(prompt: str) -> list[str]:
    match = _PLACES.search(prompt)
    if match is None:
        return []
    return [name.strip() for name in re.split(r",|\band\b", match.group(1)) if name.strip()]
