"""The kinds of provider the platform knows: one row each, no code. A new OpenAI-compatible vendor is a new row."""

from dataclasses import dataclass

from providers.domain.types import Wire


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """What is true of every provider of this kind.

    `prices_id` is the vendor's name in genai-prices. `max_tokens_field` is the body field that limits the answer.
    """

    label: str
    wire: Wire
    base_url: str
    prices_id: str = ""
    max_tokens_field: str = "max_tokens"
    needs_key: bool = True


# Addresses and limit fields. Source: Groq, "OpenAI compatibility" and API reference (max_tokens is deprecated); Google,
# "OpenAI compatibility"; Cohere, "Using Cohere models via the OpenAI SDK"; OpenAI, "Create chat completion" (reasoning
# models refuse max_tokens). Looked up 2026-11-20.
PROVIDER_KINDS: dict[str, ProviderKind] = {
    "openai": ProviderKind("OpenAI", Wire.OPENAI, "https://api.openai.com/v1", "openai", "max_completion_tokens"),
    "anthropic": ProviderKind("Anthropic", Wire.ANTHROPIC, "https://api.anthropic.com/v1", "anthropic"),
    "groq": ProviderKind("Groq", Wire.OPENAI, "https://api.groq.com/openai/v1", "groq", "max_completion_tokens"),
    "gemini": ProviderKind(
        "Google Gemini", Wire.OPENAI, "https://generativelanguage.googleapis.com/v1beta/openai", "google"
    ),
    "cohere": ProviderKind("Cohere", Wire.OPENAI, "https://api.cohere.ai/compatibility/v1", "cohere"),
    "openai-compatible": ProviderKind("OpenAI-compatible", Wire.OPENAI, "", needs_key=False),
    "anthropic-compatible": ProviderKind("Anthropic-compatible", Wire.ANTHROPIC, "", needs_key=False),
}


def kind_choices() -> list[tuple[str, str]]:
    """Choices for forms; a callable, so that a new row needs no migration."""
    return [(name, kind.label) for name, kind in PROVIDER_KINDS.items()]
