"""Chooses the short program that fits a prompt."""

import re

from providers.demo.snippet_library import SNIPPETS, Snippet

_LANGUAGES = (
    (r"\bpython\b|\bdjango\b|\bpytest\b", "python"),
    (r"\btypescript\b|\bts\b", "typescript"),
    (r"\bjavascript\b|\bjs\b|\bnode\b|\breact\b", "javascript"),
    (r"\bgolang\b|\bin go\b|\bgo (?:function|program|code)\b", "go"),
    (r"\brust\b", "rust"),
    (r"\bjava\b", "java"),
    (r"\bsql\b|\bquery\b|\bpostgres", "sql"),
    (r"\bbash\b|\bshell\b|\bcurl\b|\bcommand line\b", "bash"),
    (r"\bcss\b", "css"),
    (r"\bhtml\b", "html"),
)


def named_language(prompt: str) -> str:
    """The programming language that the prompt names, or ""."""
    said = prompt.lower()
    return next((language for pattern, language in _LANGUAGES if re.search(pattern, said)), "")


def has_topic(prompt: str) -> bool:
    said = prompt.lower()
    return any(snippet.topic and re.search(snippet.topic, said) for snippet in SNIPPETS)


def snippet_for(prompt: str) -> Snippet:
    """The snippet of the topic in the named language, else of the language, else of the topic, else Python's."""
    said, language = prompt.lower(), named_language(prompt)
    fitting = [snippet for snippet in SNIPPETS if snippet.topic and re.search(snippet.topic, said)]
    wanted = [snippet for snippet in fitting if snippet.language == language]
    if not wanted and language:
        wanted = [snippet for snippet in SNIPPETS if snippet.language == language and not snippet.topic]
    if not wanted:
        wanted = fitting or [snippet for snippet in SNIPPETS if snippet.language == "python" and not snippet.topic]
    return wanted[0]
