"""No request may say what a generation of models refuses; the names tell the generations apart."""

from typing import Any

import pytest

from providers.domain.conversation import Reasoning
from providers.wires.gemini_models import NEWEST, generation, thinking_config
from tests.providers.wires.gemini_words import model


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("gemini-2.0-flash", (2, 0)),
        ("gemini-2.5-pro", (2, 5)),
        ("gemini-2.5-flash-preview-09-2025", (2, 5)),
        ("gemini-3-pro-preview", (3, 0)),
        ("gemini-3.1-pro-preview", (3, 1)),
        ("models/gemini-3.8-flash", (3, 8)),
        ("gemini-4-argon", (4, 0)),
        ("gemini-12.10-flash", (12, 10)),
        ("gemini-flash-latest", NEWEST),
        ("gemma-3-27b-it", NEWEST),
        ("tunedModels/mine", NEWEST),
    ],
)
def test_the_name_tells_the_generation(name: str, version: tuple[int, int]) -> None:
    assert generation(name) == version


def thinking(name: str, **asked: Any) -> dict[str, object] | None:
    return thinking_config(model(name), Reasoning(show=False, **asked))


@pytest.mark.parametrize(
    ("name", "effort", "level"),
    [
        ("gemini-3-flash-preview", "none", "minimal"),
        ("gemini-3-flash-preview", "minimal", "minimal"),
        ("gemini-3.5-flash-lite", "low", "low"),
        ("gemini-3.5-flash", "medium", "medium"),
        ("gemini-3.5-flash", "xhigh", "high"),
        ("gemini-3.5-flash", "max", "high"),
        ("gemini-3-pro-preview", "minimal", "low"),
        ("gemini-3-pro-preview", "medium", "high"),
        ("gemini-3.1-pro-preview", "none", "low"),
        ("gemini-3.1-pro-preview", "medium", "medium"),
        ("gemini-3.8-flash", "none", "low"),
        ("gemini-3.8-flash", "high", "high"),
        ("gemini-4-argon", "minimal", "low"),
        ("gemini-flash-latest", "minimal", "low"),
    ],
)
def test_an_effort_is_the_next_level_that_the_model_has(name: str, effort: str, level: str) -> None:
    assert thinking(name, effort=effort) == {"thinkingLevel": level}


@pytest.mark.parametrize(
    ("budget", "level"),
    [(0, "minimal"), (1024, "low"), (4096, "low"), (8000, "medium"), (16384, "medium"), (32000, "high")],
)
def test_a_budget_is_a_level_from_gemini_3_on(budget: int, level: str) -> None:
    assert thinking("gemini-3.5-flash", budget_tokens=budget) == {"thinkingLevel": level}


@pytest.mark.parametrize(
    ("name", "asked", "budget"),
    [
        ("gemini-2.5-flash", {"effort": "none"}, 0),
        ("gemini-2.5-flash", {"effort": "minimal"}, 1024),
        ("gemini-2.5-flash", {"effort": "low"}, 1024),
        ("gemini-2.5-flash", {"effort": "medium"}, 8192),
        ("gemini-2.5-flash", {"effort": "high"}, 24576),
        ("gemini-2.5-flash", {"budget_tokens": 7}, 7),
        ("gemini-2.5-flash", {"budget_tokens": 100_000}, 24576),
        ("gemini-2.5-flash", {"budget_tokens": -1}, -1),
        ("gemini-2.5-flash", {"effort": "high", "budget_tokens": 2000}, 2000),
        ("gemini-2.5-flash-lite", {"budget_tokens": 7}, 512),
        ("gemini-2.5-flash-lite", {"effort": "none"}, 0),
        ("gemini-2.5-pro", {"effort": "none"}, 128),
        ("gemini-2.5-pro", {"budget_tokens": 100_000}, 32768),
    ],
)
def test_gemini_2_5_gets_a_budget_within_its_bounds(name: str, asked: dict[str, Any], budget: int) -> None:
    assert thinking(name, **asked) == {"thinkingBudget": budget}


@pytest.mark.parametrize("name", ["gemini-2.5-pro", "gemini-3.5-flash"])
@pytest.mark.parametrize("effort", ["", "a-new-word"])
def test_without_a_known_measure_the_model_decides(name: str, effort: str) -> None:
    assert thinking(name, effort=effort) == {}


def test_a_model_that_does_not_think_has_no_configuration() -> None:
    assert thinking("gemini-2.0-flash", effort="high") is None


def test_a_name_without_a_version_thinks_when_the_catalogue_says_so() -> None:
    gemma = "gemma-3-27b-it"
    assert thinking(gemma, effort="high") == {"thinkingLevel": "high"}
    assert thinking_config(model(gemma, can=()), Reasoning(effort="high")) is None


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (Reasoning(effort="high"), True),
        (Reasoning(), True),
        (Reasoning(effort="high", show=False), False),
        (Reasoning(effort="none"), False),
        (Reasoning(budget_tokens=0), False),
    ],
)
@pytest.mark.parametrize("name", ["gemini-2.5-flash", "gemini-3.5-flash", "gemini-4-argon"])
def test_thoughts_come_along_when_there_are_any_and_somebody_wants_to_read_them(
    name: str, asked: Reasoning, shown: bool
) -> None:
    config = thinking_config(model(name), asked)
    assert config is not None
    assert config.get("includeThoughts", False) is shown
