"""What a Claude model takes, told by the names that vendors and clouds give it."""

import pytest

from providers.wires.anthropic_models import OLDER, traits_of

TO_46 = ("low", "medium", "high", "max")
FROM_47 = ("low", "medium", "high", "xhigh", "max")


@pytest.mark.parametrize(
    ("name", "thinking", "efforts", "system_anywhere"),
    [
        ("claude-sonnet-4-6", "adaptive", TO_46, False),
        ("claude-opus-4-7", "adaptive", FROM_47, False),
        ("claude-opus-4-8-20260528", "adaptive", FROM_47, True),
        ("claude-opus-5", "adaptive", FROM_47, True),
        ("claude-sonnet-5-20260630", "adaptive", FROM_47, True),
        ("claude-haiku-5-5", "adaptive", FROM_47, True),
        ("anthropic/claude-opus-4.8", "adaptive", FROM_47, True),
        ("us.anthropic.claude-sonnet-4-6-v1:0", "adaptive", TO_46, False),
        ("claude-fable-5-2", "always", FROM_47, True),
        ("claude-mythos-preview", "always", FROM_47, True),
    ],
)
def test_current_models_decide_for_themselves(
    name: str, thinking: str, efforts: tuple[str, ...], system_anywhere: bool
) -> None:
    traits = traits_of(name)
    assert (traits.thinking, traits.efforts, traits.system_anywhere) == (thinking, efforts, system_anywhere)


@pytest.mark.parametrize(
    "name",
    [
        "claude-haiku-4-5",
        "claude-haiku-4-5-20251001",
        "claude-opus-4-20250514",
        "claude-3-7-sonnet-20250219",
        "claude-3-5-sonnet-20241022",
        "claude-instant",
        "deepseek-chat",
        "MiniMax-M2",
        "",
    ],
)
def test_older_models_and_those_of_compatible_servers_take_a_budget(name: str) -> None:
    assert traits_of(name) == OLDER
