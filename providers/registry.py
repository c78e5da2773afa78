"""The kinds of provider the platform knows: one row each, no code. A new OpenAI-compatible vendor is a new row."""

from dataclasses import dataclass

from providers.domain.types import AuthStyle, Wire

CHAT = (Wire.OPENAI,)
CHAT_AND_EMBEDDINGS = (Wire.OPENAI, Wire.OPENAI_EMBEDDINGS)
SERVER = (Wire.OPENAI, Wire.OPENAI_RESPONSES, Wire.OPENAI_COMPLETIONS, Wire.OPENAI_EMBEDDINGS)
"""What the model servers that people run themselves speak."""


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """What is true of every provider of this kind.

    `wires` are the APIs it speaks; the first for an operation is what requests are translated to. `prices_id` is
    the vendor's name in genai-prices. `max_tokens_field` is the body field that limits the answer.
    """

    label: str
    wires: tuple[Wire, ...]
    base_url: str
    prices_id: str = ""
    max_tokens_field: str = "max_tokens"
    needs_key: bool = True
    auth: AuthStyle = AuthStyle.BEARER


# Addresses and limit fields. Source: Groq, "OpenAI compatibility" and API reference (max_tokens is deprecated); OpenAI,
# "Create chat completion" (reasoning models refuse max_tokens). Looked up 2026-11-20.
PROVIDER_KINDS: dict[str, ProviderKind] = {
    "openai": ProviderKind(
        "OpenAI",
        (Wire.OPENAI, Wire.OPENAI_RESPONSES, Wire.OPENAI_EMBEDDINGS),
        "https://api.openai.com/v1",
        "openai",
        "max_completion_tokens",
    ),
    "anthropic": ProviderKind(
        "Anthropic", (Wire.ANTHROPIC,), "https://api.anthropic.com/v1", "anthropic", auth=AuthStyle.X_API_KEY
    ),
    "groq": ProviderKind("Groq", CHAT, "https://api.groq.com/openai/v1", "groq", "max_completion_tokens"),
    "gemini": ProviderKind("Google Gemini", CHAT, "https://generativelanguage.googleapis.com/v1beta/openai", "google"),
    "cohere": ProviderKind("Cohere", CHAT, "https://api.cohere.ai/compatibility/v1", "cohere"),
    "openai-compatible": ProviderKind("OpenAI-compatible", CHAT_AND_EMBEDDINGS, "", needs_key=False),
    "anthropic-compatible": ProviderKind(
        "Anthropic-compatible", (Wire.ANTHROPIC,), "", needs_key=False, auth=AuthStyle.X_API_KEY
    ),
}


WIRE_LABELS = {
    Wire.OPENAI: "OpenAI chat completions",
    Wire.OPENAI_RESPONSES: "OpenAI responses",
    Wire.OPENAI_COMPLETIONS: "OpenAI completions (legacy)",
    Wire.OPENAI_EMBEDDINGS: "OpenAI embeddings",
    Wire.ANTHROPIC: "Anthropic messages",
    Wire.GEMINI: "Gemini generateContent",
    Wire.GEMINI_EMBEDDINGS: "Gemini embeddings",
    Wire.COHERE: "Cohere chat v2",
    Wire.COHERE_EMBEDDINGS: "Cohere embed v2",
    Wire.OLLAMA: "Ollama chat",
    Wire.OLLAMA_EMBEDDINGS: "Ollama embed",
}


def kind_choices() -> list[tuple[str, str]]:
    """Choices for forms; a callable, so that a new row needs no migration."""
    return [(name, kind.label) for name, kind in PROVIDER_KINDS.items()]


def wire_choices() -> list[tuple[str, str]]:
    return [(wire.value, label) for wire, label in WIRE_LABELS.items()]
