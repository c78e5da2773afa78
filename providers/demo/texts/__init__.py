"""The texts of the answers, read from the TOML files beside this one, and what of them fits a prompt."""

import re
from pathlib import Path
from typing import Literal

from msgspec import Struct, toml

Kind = Literal["empty", "greeting", "arithmetic", "verse", "summary", "fact", "analysis", "code", "steps", "open"]


class KindTexts(Struct, frozen=True):
    """How one kind of answer is recognized and told; `follow_up` None is the common one."""

    says: tuple[str, ...] = ()
    leads: tuple[str, ...] = ("here it is:",)
    bare: bool = False
    terse: str = ""
    full: str = ""
    follow_up: str | None = None


class Comparison(Struct, frozen=True):
    words: tuple[str, str]
    names: tuple[str, str]
    rows: str


class Answers(Struct, frozen=True):
    """answers.toml; the order of `kinds` is that in which they are tried."""

    phrases: dict[str, str]
    words: dict[str, tuple[str, ...]]
    personas: dict[Kind, frozenset[str]]
    kinds: dict[Kind, KindTexts]
    facts: dict[str, str]
    comparisons: tuple[Comparison, ...]
    capitals: dict[str, str]
    verses: dict[str, tuple[str, ...]]
    formats: dict[str, str]


class Snippet(Struct, frozen=True):
    """A short program; without `topic` it is what its language shows when no topic fits."""

    language: str
    code: str
    note: str
    topic: str = ""


class Snippets(Struct, frozen=True):  # snippets.toml
    languages: dict[str, str]
    topics: dict[str, str]
    snippets: tuple[Snippet, ...]


class VendorError(Struct, frozen=True):  # vendor_errors.toml
    type: str
    message: str
    code: str | None = None


_FOLDER = Path(__file__).parent
ANSWERS = toml.decode((_FOLDER / "answers.toml").read_bytes(), type=Answers)
SNIPPETS = toml.decode((_FOLDER / "snippets.toml").read_bytes(), type=Snippets)
VENDOR_ERRORS = toml.decode((_FOLDER / "vendor_errors.toml").read_bytes(), type=dict[str, dict[str, VendorError]])

_CAPITAL = re.compile(r"\bcapital(?: city)? of (the )?([a-z ]+)")


def vendor_error(vendor: str, status: int, code: str | None) -> VendorError:
    known = VENDOR_ERRORS[vendor]
    return known.get(code or "") or known.get(str(status)) or known[f"{status // 100}xx"]


def fact_for(prompt: str, words: set[str]) -> str | None:
    """A true answer known by heart, or None; `words` are those of the prompt."""
    capital = _CAPITAL.search(prompt.lower())
    if capital:
        article, country = capital[1] or "", capital[2].strip()
        if country in ANSWERS.capitals:
            return f"The capital of {article}{country.title()} is **{ANSWERS.capitals[country]}**."
    return next((fact for needed, fact in ANSWERS.facts.items() if words.issuperset(needed.split())), None)


def comparison_for(prompt: str) -> Comparison | None:
    """A comparison known by heart, or None."""
    for known in ANSWERS.comparisons:
        if all(re.search(rf"\b{word}(?:s|ql|lang)?\b", prompt.lower()) for word in known.words):
            return known
    return None


def named_language(prompt: str) -> str:
    """The programming language that the prompt names, or ""."""
    said = prompt.lower()
    return next((language for language, pattern in SNIPPETS.languages.items() if re.search(pattern, said)), "")


def snippets_on(prompt: str) -> list[Snippet]:
    """The snippets whose topic the prompt speaks of."""
    said = prompt.lower()
    topics = {topic for topic, pattern in SNIPPETS.topics.items() if re.search(pattern, said)}
    return [snippet for snippet in SNIPPETS.snippets if snippet.topic in topics]


def snippet_for(prompt: str) -> Snippet:
    """The snippet of the topic in the named language, else of the language, else of the topic, else Python's."""
    language, fitting = named_language(prompt), snippets_on(prompt)
    of_language = [s for s in SNIPPETS.snippets if s.language == (language or "python") and not s.topic]
    in_language = [snippet for snippet in fitting if snippet.language == language]
    return (in_language or (of_language if language else fitting) or of_language)[0]
