"""What vendors say when they list their models, whatever shape they give it.

Three shapes are known: `{"data": [{"id": …}]}` (OpenAI and its copies, Anthropic), `{"models": [{"name": …}]}` (Gemini,
Cohere, Ollama) and a bare array (Together). What else they tell of a model is taken where a field says it in so many
words, and left open where it does not: nothing here is guessed from a name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MOST_MODELS = 5_000
LONGEST_NAME = 120  # of `Deployment.upstream_model`


class ModelUse(StrEnum):
    """What a listed model is for; OTHER is anything that no API of ours reaches (images, speech, ranking)."""

    UNKNOWN = "unknown"
    CHAT = "chat"
    EMBEDDINGS = "embeddings"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ListedModel:
    """One model of a list, by the name it is called with; sizes in tokens, None where the vendor does not say."""

    name: str
    use: ModelUse = ModelUse.UNKNOWN
    context_window: int | None = None
    max_output_tokens: int | None = None


# The field that holds it, by vendor. Looked up 2026-11-21: Anthropic `max_input_tokens`; Gemini `inputTokenLimit`;
# Cohere, OpenRouter, Together, Fireworks `context_length`; Mistral `max_context_length`; Groq `context_window`;
# vLLM `max_model_len`; LM Studio `max_context_length`.
_WINDOW = (
    *("context_window", "context_length", "max_context_length", "max_model_len"),
    *("max_input_tokens", "inputTokenLimit"),
)
# Groq `max_completion_tokens`; Gemini `outputTokenLimit`; Anthropic `max_tokens`.
_LONGEST_ANSWER = ("max_completion_tokens", "outputTokenLimit", "max_output_tokens", "max_tokens")
# Where a vendor says what a model is for: Gemini's methods, Cohere's endpoints, Together's and LM Studio's type,
# Ollama's and others' capabilities.
_USES = ("supportedGenerationMethods", "endpoints", "type", "capabilities")
_CHAT_WORDS = frozenset({"generateContent", "chat", "llm", "vlm", "language", "completion", "completion_chat"})
_EMBEDDING_WORDS = frozenset({"embedContent", "embed", "embedding", "embeddings"})


# What a name may lack of the one that is listed: Ollama's tag, or the date of a version (Anthropic lists
# claude-haiku-4-5-20251001, which claude-haiku-4-5 stands for).
_VERSION = re.compile(r"(:latest|[-@]\d{8}|-\d{4}-\d{2}-\d{2})?")


def stands_for(called: str, listed: str) -> bool:
    """Whether the name that is `called` reaches the model that is `listed`."""
    return listed.startswith(called) and _VERSION.fullmatch(listed, len(called)) is not None


def read_model_list(answer: object) -> list[ListedModel] | None:
    """The models of a list, each name once, in the vendor's order; None when `answer` is no list of models."""
    rows: object = answer
    if isinstance(answer, Mapping):
        rows = next((answer[name] for name in ("data", "models") if isinstance(answer.get(name), list)), None)
    if not isinstance(rows, list) or answer == []:  # a bare array that is empty could be anything
        return None
    found: dict[str, ListedModel] = {}
    for row in rows[:MOST_MODELS]:
        if isinstance(row, Mapping) and (name := _name(row)):
            found.setdefault(name, _listed(name, row))
    return list(found.values())


def is_cut_short(answer: object) -> bool:
    """Whether the vendor has more models than it gave at once."""
    if not isinstance(answer, Mapping):
        return False
    return answer.get("has_more") is True or bool(answer.get("nextPageToken") or answer.get("next_page_token"))


def _name(row: Mapping[str, Any]) -> str:
    """Gemini writes “models/” before it, which calls do without."""
    name = next((row[field] for field in ("id", "name", "model") if isinstance(row.get(field), str)), "")
    name = name.removeprefix("models/").strip()
    return name if name.isprintable() and len(name) <= LONGEST_NAME else ""


def _listed(name: str, row: Mapping[str, Any]) -> ListedModel:
    return ListedModel(name, _use(row), _first_count(row, _WINDOW), _first_count(row, _LONGEST_ANSWER))


def _use(row: Mapping[str, Any]) -> ModelUse:
    said = [word for field in _USES for word in _words(row.get(field))]
    if _CHAT_WORDS.intersection(said):
        return ModelUse.CHAT
    if _EMBEDDING_WORDS.intersection(said):
        return ModelUse.EMBEDDINGS
    says_it_all = row.get("supportedGenerationMethods") or row.get("endpoints") or isinstance(row.get("type"), str)
    return ModelUse.OTHER if says_it_all and row.get("type") != "model" else ModelUse.UNKNOWN


def _words(said: object) -> Iterable[str]:
    """A word, a list of words, or flags by word (Mistral: {"completion_chat": true})."""
    if isinstance(said, str):
        return [said]
    if isinstance(said, list):
        return [word for word in said if isinstance(word, str)]
    if isinstance(said, Mapping):
        return [word for word, holds in said.items() if holds is True]
    return []


def _first_count(row: Mapping[str, Any], names: Iterable[str]) -> int | None:
    for name in names:
        value = row.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31:
            return value
    return None
