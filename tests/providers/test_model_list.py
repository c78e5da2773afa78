"""Reading lists of models, in every shape that vendors give them."""

from typing import Any

import pytest

from providers.domain.model_list import MOST_MODELS, ListedModel, ModelUse, is_cut_short, read_model_list, stands_for


def only(row: dict[str, Any]) -> ListedModel:
    [found] = read_model_list({"data": [row]}) or []
    return found


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        ({"object": "list", "data": [{"id": "gpt-6-luna"}, {"id": "gpt-4o"}]}, ["gpt-6-luna", "gpt-4o"]),
        ({"data": [{"type": "model", "id": "claude-opus-5-5"}], "has_more": False}, ["claude-opus-5-5"]),
        ({"models": [{"name": "models/gemini-3.8-flash"}]}, ["gemini-3.8-flash"]),
        ({"models": [{"name": "command-a-03-2025"}]}, ["command-a-03-2025"]),
        ({"models": [{"name": "llama3.3:70b", "model": "llama3.3:70b"}]}, ["llama3.3:70b"]),
        ([{"id": "meta-llama/Llama-4"}], ["meta-llama/Llama-4"]),
        ({"data": []}, []),
        ({"models": []}, []),
    ],
)
def test_names_are_found_in_every_shape(answer: object, names: list[str]) -> None:
    found = read_model_list(answer)
    assert found is not None
    assert [model.name for model in found] == names


@pytest.mark.parametrize("answer", [None, "models", 3, [], {}, {"data": 3}, {"error": {"message": "no"}}])
def test_what_is_no_list_is_none(answer: object) -> None:
    assert read_model_list(answer) is None


def test_rows_that_cannot_be_called_by_a_name_are_passed_over() -> None:
    rows = [{"id": ""}, {"id": 7}, "one", None, {"id": "a\nb"}, {"id": "x" * 121}, {"id": "good"}, {"id": "good"}]
    assert read_model_list({"data": rows}) == [ListedModel("good")]


def test_a_list_without_end_is_cut() -> None:
    found = read_model_list({"data": [{"id": f"m{number}"} for number in range(MOST_MODELS + 10)]})
    assert found is not None
    assert len(found) == MOST_MODELS


@pytest.mark.parametrize(
    ("row", "window", "longest"),
    [
        ({"id": "a", "max_input_tokens": 1_000_000, "max_tokens": 128_000}, 1_000_000, 128_000),
        ({"name": "models/a", "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536}, 1_048_576, 65_536),
        ({"name": "a", "context_length": 256_000}, 256_000, None),
        ({"id": "a", "context_window": 131_072, "max_completion_tokens": 65_536}, 131_072, 65_536),
        ({"id": "a", "max_model_len": 32_768}, 32_768, None),
        ({"id": "a", "max_context_length": 131_072}, 131_072, None),
        ({"id": "a", "context_length": "many", "max_tokens": 0}, None, None),
        ({"id": "a", "context_length": True, "max_tokens": 2**40}, None, None),
    ],
)
def test_sizes_are_taken_from_the_field_that_says_them(
    row: dict[str, Any], window: int | None, longest: int | None
) -> None:
    found = only(row)
    assert (found.context_window, found.max_output_tokens) == (window, longest)


@pytest.mark.parametrize(
    ("row", "use"),
    [
        ({"id": "a", "supportedGenerationMethods": ["generateContent", "countTokens"]}, ModelUse.CHAT),
        ({"id": "a", "supportedGenerationMethods": ["embedContent"]}, ModelUse.EMBEDDINGS),
        ({"id": "a", "supportedGenerationMethods": ["predict"]}, ModelUse.OTHER),
        ({"id": "a", "endpoints": ["embed", "classify"]}, ModelUse.EMBEDDINGS),
        ({"id": "a", "endpoints": ["rerank"]}, ModelUse.OTHER),
        ({"id": "a", "type": "chat"}, ModelUse.CHAT),
        ({"id": "a", "type": "embedding"}, ModelUse.EMBEDDINGS),
        ({"id": "a", "type": "image"}, ModelUse.OTHER),
        ({"id": "a", "capabilities": {"completion_chat": True, "vision": False}}, ModelUse.CHAT),
        ({"id": "a", "capabilities": ["embedding"]}, ModelUse.EMBEDDINGS),
        ({"id": "a", "type": "model", "capabilities": {"batch": {"supported": True}}}, ModelUse.UNKNOWN),
        ({"id": "text-embedding-3-small", "object": "model"}, ModelUse.UNKNOWN),
    ],
)
def test_what_a_model_is_for_is_taken_at_the_vendors_word_and_never_guessed(row: dict[str, Any], use: ModelUse) -> None:
    assert only(row).use is use


@pytest.mark.parametrize(
    ("answer", "cut"),
    [
        ({"data": [], "has_more": True}, True),
        ({"models": [], "nextPageToken": "abc"}, True),
        ({"models": [], "next_page_token": ""}, False),
        ({"data": [], "has_more": False}, False),
        ([], False),
    ],
)
def test_a_list_that_goes_on_says_so(answer: object, cut: bool) -> None:
    assert is_cut_short(answer) is cut


@pytest.mark.parametrize(
    ("called", "listed", "same"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("llama3.3", "llama3.3:latest", True),
        ("llama3.3", "llama3.3:70b", False),
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001", True),
        ("gpt-4.1", "gpt-4.1-2025-04-14", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4", "gpt-4o", False),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5", False),
    ],
)
def test_a_short_name_stands_for_its_latest_or_dated_version_and_no_other(called: str, listed: str, same: bool) -> None:
    assert stands_for(called, listed) is same
