"""Every kind of provider: what its row promises, and how its models are asked for and read."""

from collections.abc import Iterator
from typing import Any

import pytest
from genai_prices.data_snapshot import get_snapshot

from providers.domain.types import AuthStyle, Operation, Wire
from providers.health_checks import provider_check
from providers.registry import PROVIDER_KINDS, WIRE_LABELS, kind_choices, kinds_without_address
from providers.wires import WIRES
from tests.factories import NOON, ProviderFactory, ProviderKeyFactory
from tests.upstreams.listing import ListingVendor, listing_vendor, openai_list

KINDS = sorted(PROVIDER_KINDS)
SECRET = "sk-registry-0123456789"
WANTED = {
    *("openai", "anthropic", "gemini", "cohere", "ollama", "groq", "mistral", "together", "openrouter", "deepseek"),
    *("xai", "perplexity", "fireworks", "ai21", "azure-openai", "vllm", "tgi", "lm-studio", "openai-compatible"),
}


@pytest.fixture
def vendor() -> Iterator[ListingVendor]:
    with listing_vendor() as running:
        yield running


def test_the_nineteen_kinds_are_there_and_one_for_copies_of_anthropic() -> None:
    assert set(PROVIDER_KINDS) == WANTED | {"anthropic-compatible"}
    assert dict(kind_choices())["tgi"] == "Hugging Face TGI"


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_speaks_apis_that_are_built_and_can_chat(kind: str) -> None:
    wires = PROVIDER_KINDS[kind].wires
    assert len(set(wires)) == len(wires)
    assert all(wire in WIRES and wire in WIRE_LABELS for wire in wires)
    assert wires[0].operation is Operation.CHAT


@pytest.mark.parametrize("kind", KINDS)
def test_an_address_has_no_slash_at_its_end_and_is_called_safely(kind: str) -> None:
    row = PROVIDER_KINDS[kind]
    address = row.base_url or row.example_url
    assert not address.endswith("/")
    assert address.startswith("https://") or not row.needs_key


def test_the_price_list_knows_the_vendors_by_the_names_that_rows_give_them() -> None:
    known = {provider.id for provider in get_snapshot().providers}
    assert {row.prices_id for row in PROVIDER_KINDS.values()} - {""} <= known


def test_kinds_that_need_an_address_are_named_with_an_example() -> None:
    said = kinds_without_address()
    assert "Azure OpenAI (https://my-resource.openai.azure.com/openai/v1)" in said
    assert said.endswith("and Anthropic-compatible (https://models.example.com/v1)")
    assert "Ollama" not in said


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("openai", "https://api.openai.com/v1/models"),
        ("anthropic", "https://api.anthropic.com/v1/models?limit=1000"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta/models?pageSize=1000"),
        ("cohere", "https://api.cohere.com/v1/models?page_size=1000"),
        ("ollama", "http://localhost:11434/api/tags"),
        ("deepseek", "https://api.deepseek.com/models"),
        ("perplexity", "https://api.perplexity.ai/v1/models"),
    ],
)
def test_models_are_listed_where_the_vendor_lists_them(kind: str, url: str) -> None:
    row = PROVIDER_KINDS[kind]
    assert row.models_url(row.base_url) == url


def test_perplexity_is_asked_for_responses_and_azure_by_its_own_header() -> None:
    assert PROVIDER_KINDS["perplexity"].wires == (Wire.OPENAI_RESPONSES,)
    assert PROVIDER_KINDS["azure-openai"].auth is AuthStyle.API_KEY


# --- each asked in its own way ------------------------------------------------------------------------------------

GEMINI_LIST = {
    "models": [
        {"name": "models/gemini-3.8-flash", "supportedGenerationMethods": ["generateContent"]},
        {"name": "models/gemini-embedding-2", "supportedGenerationMethods": ["embedContent"]},
    ]
}
COHERE_LIST = {"models": [{"name": "command-a-03-2025", "endpoints": ["chat"]}, {"name": "embed-v4.0"}]}
OLLAMA_LIST = {"models": [{"name": "llama3.3:latest", "model": "llama3.3:latest"}, {"name": "bge-m3:latest"}]}
TOGETHER_LIST = [{"id": "a/one", "type": "chat"}, {"id": "b/two", "type": "image"}]
LISTS: dict[str, Any] = {
    "gemini": GEMINI_LIST,
    "cohere": COHERE_LIST,
    "ollama": OLLAMA_LIST,
    "together": TOGETHER_LIST,
}
HEADERS = {
    "anthropic": "x-api-key",
    "anthropic-compatible": "x-api-key",
    "gemini": "x-goog-api-key",
    "azure-openai": "api-key",
}


@pytest.mark.django_db
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_checked_for_free_with_its_key_in_its_header(vendor: ListingVendor, kind: str) -> None:
    vendor.listed = (200, LISTS.get(kind, openai_list("one", "two")))
    provider = ProviderFactory.create(kind=kind, base_url=vendor.url, allowed_networks="127.0.0.1/32")
    ProviderKeyFactory.create(provider=provider, secret=SECRET)

    done = provider_check(provider=provider, now=NOON)

    assert (done.health, done.note) == ("healthy", "lists 2 models")
    [(path, headers, _)] = vendor.asked
    assert f"http://127.0.0.1:{vendor.port}{path}" == PROVIDER_KINDS[kind].models_url(vendor.url)
    name = HEADERS.get(kind, "authorization")
    assert headers[name] == (f"Bearer {SECRET}" if name == "authorization" else SECRET)
    assert [header for header in headers if SECRET in headers[header]] == [name]


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [name for name in KINDS if not PROVIDER_KINDS[name].needs_key])
def test_a_server_of_ones_own_is_checked_without_a_key(vendor: ListingVendor, kind: str) -> None:
    vendor.listed = (200, LISTS.get(kind, openai_list("one")))
    provider = ProviderFactory.create(kind=kind, base_url=vendor.url, allowed_networks="127.0.0.1/32")

    assert provider_check(provider=provider, now=NOON).health == "healthy"
    [(_, headers, _)] = vendor.asked
    assert not {"authorization", "x-api-key", "api-key"} & headers.keys()
