"""The kinds of provider the platform knows: one row each, no code. A new OpenAI-compatible vendor is a new row."""

from dataclasses import dataclass
from urllib.parse import urljoin

from providers.domain.types import AuthStyle, Wire

CHAT = (Wire.OPENAI,)
CHAT_AND_EMBEDDINGS = (Wire.OPENAI, Wire.OPENAI_EMBEDDINGS)
CHAT_AND_RESPONSES = (Wire.OPENAI, Wire.OPENAI_RESPONSES)
OPEN_MODELS = (Wire.OPENAI, Wire.OPENAI_COMPLETIONS, Wire.OPENAI_EMBEDDINGS)
ALL_OF_OPENAI = (Wire.OPENAI, Wire.OPENAI_RESPONSES, Wire.OPENAI_COMPLETIONS, Wire.OPENAI_EMBEDDINGS)


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """What is true of every provider of this kind.

    `wires` are the APIs it speaks; the first for an operation is what requests are translated to. OpenAI's Responses
    are among them where the vendor keeps them: elsewhere they are translated, and the gateway keeps them itself.
    An empty `base_url` has to be entered; `example_url` shows what one looks like. `prices_id` is the vendor's name in
    genai-prices. `max_tokens_field` is the body field that limits the answer. `models_path` is where its models are
    listed, relative to the base URL; `list_checks_key` is False where anybody may read that list, and
    `lists_deployments` where its names are not what is called.
    """

    label: str
    wires: tuple[Wire, ...]
    base_url: str
    prices_id: str = ""
    max_tokens_field: str = "max_tokens"
    needs_key: bool = True
    auth: AuthStyle = AuthStyle.BEARER
    models_path: str = "models"
    list_checks_key: bool = True
    lists_deployments: bool = True
    example_url: str = "https://models.example.com/v1"

    def models_url(self, base_url: str) -> str:
        """Where a provider of this kind at `base_url` lists its models."""
        return urljoin(base_url.rstrip("/") + "/", self.models_path)


# Addresses, APIs, headers, limit fields and lists, each looked up 2026-11-21:
# - OpenAI, "Create chat completion": reasoning models refuse max_tokens.
# - Anthropic, "List models": 20 unless asked, 1000 at most.
# - Google, "models.list": 50 unless asked, 1000 at most. The key goes into x-goog-api-key.
# - Cohere, "List models": GET /v1/models also for v2, 20 unless asked, 1000 at most.
# - Ollama, "List models": GET /api/tags. Nothing under /api asks for a key on a machine of one's own.
# - Groq, "OpenAI compatibility", "API reference": max_tokens is deprecated, embeddings are not served, and the
#   Responses API knows no previous_response_id.
# - Mistral, "Chat", "Embeddings", "List models".
# - Together, "OpenAI compatibility": api.together.ai since 2026-04 (togethercomputer/openapi, pull request 257).
#   Models are a bare JSON array.
# - OpenRouter, "API reference": the Responses API is a beta that keeps nothing; anybody may read the list.
# - DeepSeek, "Your first API call", "Lists models". Completions are for filling in the middle, at another address.
# - xAI, "Comparison with Chat Completions": chat is called legacy, responses are kept for 30 days; API reference:
#   max_tokens is deprecated. Its copy of Anthropic's API is "fully deprecated".
# - Perplexity, "Migrating from Sonar": Chat Completions ended on 2026-09-27; "OpenAI compatibility" of the Agent API:
#   /v1/responses. Its embeddings come as base64 of int8 only, which no client of OpenAI's can read.
# - Fireworks, "OpenAI compatibility". Names are long: accounts/fireworks/models/….
# - AI21, "Jamba API": POST /studio/v1/chat/completions; its list is empty, not refused, without a key.
# - Azure, "API version lifecycle": /openai/v1 needs no api-version; `model` is the name of the deployment, while the
#   list has what could be deployed. A key goes into api-key.
# - vLLM 0.32, "Online serving" (responses are kept only with VLLM_ENABLE_RESPONSES_API_STORE); Hugging Face,
#   "Text Generation Inference, Messages API"; LM Studio, "OpenAI compatible endpoints". Keys are optional.
PROVIDER_KINDS: dict[str, ProviderKind] = {
    "openai": ProviderKind(
        "OpenAI",
        (Wire.OPENAI, Wire.OPENAI_RESPONSES, Wire.OPENAI_EMBEDDINGS),
        "https://api.openai.com/v1",
        "openai",
        "max_completion_tokens",
    ),
    "anthropic": ProviderKind(
        "Anthropic",
        (Wire.ANTHROPIC,),
        "https://api.anthropic.com/v1",
        "anthropic",
        auth=AuthStyle.X_API_KEY,
        models_path="models?limit=1000",
    ),
    "gemini": ProviderKind(
        "Google Gemini",
        (Wire.GEMINI, Wire.GEMINI_EMBEDDINGS),
        "https://generativelanguage.googleapis.com/v1beta",
        "google",
        auth=AuthStyle.X_GOOG_API_KEY,
        models_path="models?pageSize=1000",
    ),
    "cohere": ProviderKind(
        "Cohere",
        (Wire.COHERE, Wire.COHERE_EMBEDDINGS),
        "https://api.cohere.com/v2",
        "cohere",
        models_path="../v1/models?page_size=1000",
    ),
    "groq": ProviderKind("Groq", CHAT, "https://api.groq.com/openai/v1", "groq", "max_completion_tokens"),
    "mistral": ProviderKind("Mistral", CHAT_AND_EMBEDDINGS, "https://api.mistral.ai/v1", "mistral"),
    "together": ProviderKind("Together AI", OPEN_MODELS, "https://api.together.ai/v1", "together"),
    "openrouter": ProviderKind(
        "OpenRouter", OPEN_MODELS, "https://openrouter.ai/api/v1", "openrouter", list_checks_key=False
    ),
    "deepseek": ProviderKind("DeepSeek", CHAT, "https://api.deepseek.com", "deepseek"),
    "xai": ProviderKind("xAI", CHAT_AND_RESPONSES, "https://api.x.ai/v1", "x-ai", "max_completion_tokens"),
    "perplexity": ProviderKind(
        "Perplexity", (Wire.OPENAI_RESPONSES,), "https://api.perplexity.ai/v1", "perplexity", list_checks_key=False
    ),
    "fireworks": ProviderKind("Fireworks AI", OPEN_MODELS, "https://api.fireworks.ai/inference/v1", "fireworks"),
    "ai21": ProviderKind("AI21", CHAT, "https://api.ai21.com/studio/v1", list_checks_key=False),
    "azure-openai": ProviderKind(
        "Azure OpenAI",
        (Wire.OPENAI, Wire.OPENAI_RESPONSES, Wire.OPENAI_EMBEDDINGS),
        "",
        "azure",
        "max_completion_tokens",
        auth=AuthStyle.API_KEY,
        lists_deployments=False,
        example_url="https://my-resource.openai.azure.com/openai/v1",
    ),
    "ollama": ProviderKind(
        "Ollama",
        (Wire.OLLAMA, Wire.OLLAMA_EMBEDDINGS),
        "http://localhost:11434/api",
        needs_key=False,
        models_path="tags",
    ),
    "vllm": ProviderKind("vLLM", OPEN_MODELS, "http://localhost:8000/v1", needs_key=False),
    "tgi": ProviderKind(
        "Hugging Face TGI",
        (Wire.OPENAI, Wire.OPENAI_COMPLETIONS),
        "",
        needs_key=False,
        example_url="http://tgi.internal:8080/v1",
    ),
    "lm-studio": ProviderKind("LM Studio", ALL_OF_OPENAI, "http://localhost:1234/v1", needs_key=False),
    "openai-compatible": ProviderKind("OpenAI-compatible", CHAT_AND_EMBEDDINGS, "", needs_key=False),
    "anthropic-compatible": ProviderKind(
        "Anthropic-compatible",
        (Wire.ANTHROPIC,),
        "",
        needs_key=False,
        auth=AuthStyle.X_API_KEY,
        models_path="models?limit=1000",
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


def kinds_without_address() -> str:
    """In words: the kinds whose address has to be entered, with an example for each."""
    named = [f"{kind.label} ({kind.example_url})" for kind in PROVIDER_KINDS.values() if not kind.base_url]
    return ", ".join(named[:-1]) + f" and {named[-1]}"


def wire_choices() -> list[tuple[str, str]]:
    return [(wire.value, label) for wire, label in WIRE_LABELS.items()]
