"""Tuning knobs and thinking on chat completions: what each kind of provider takes, and what is told as dropped."""

from typing import Any

import pytest

from providers.domain.conversation import Conversation, Reasoning
from providers.domain.types import NO_DEFAULTS, Capability, Deployment, UpstreamRequest, Wire
from providers.wires import WIRES
from tests.providers.wires.builders import body_of, saying, user
from tests.providers.wires.test_openai_said import at

ALL_KNOBS: dict[str, Any] = {
    "seed": 7, "frequency_penalty": 0.5, "presence_penalty": -0.5, "top_k": 40, "verbosity": "low",
}  # fmt: skip
PLAIN = Capability.TEMPERATURE
THINKS = Capability.REASONING


def call(target: Deployment, **more: Any) -> UpstreamRequest:
    return WIRES[Wire.OPENAI].build(saying(Conversation((user("Hi"),), **more)), target, NO_DEFAULTS)


@pytest.mark.parametrize(
    ("target", "sent", "dropped"),
    [
        (at("openai"), {"seed", "frequency_penalty", "presence_penalty", "verbosity"}, {"top_k"}),
        (at("openrouter"), set(ALL_KNOBS), set()),
        (at("vllm"), {"seed", "frequency_penalty", "presence_penalty", "top_k"}, {"verbosity"}),
        (at("mistral"), {"random_seed", "frequency_penalty", "presence_penalty"}, {"top_k", "verbosity"}),
        (at("deepseek"), {"frequency_penalty", "presence_penalty"}, {"seed", "top_k", "verbosity"}),
        (at("ai21"), set(), set(ALL_KNOBS)),
        (at("xai", "grok", PLAIN), {"seed", "frequency_penalty", "presence_penalty"}, {"top_k", "verbosity"}),
        (at("xai", "grok", PLAIN, THINKS), {"seed"}, {"frequency_penalty", "presence_penalty", "top_k", "verbosity"}),
        (at("openai", "gpt", THINKS), {"seed", "verbosity"}, {"frequency_penalty", "presence_penalty", "top_k"}),
        (at("somebody-new"), {"seed", "frequency_penalty", "presence_penalty"}, {"top_k", "verbosity"}),
    ],
)
def test_each_kind_gets_the_knobs_that_it_takes(target: Deployment, sent: set[str], dropped: set[str]) -> None:
    body = body_of(saying(Conversation((user("Hi"),), **ALL_KNOBS)), target)
    assert body.keys() - {"model", "messages"} == sent
    assert set(call(target, **ALL_KNOBS).dropped) == dropped


def test_what_the_caller_could_not_say_at_all_is_named_first_and_once() -> None:
    assert call(at("openai"), top_k=1, dropped=("logit_bias", "top_k")).dropped == ("logit_bias", "top_k")


def test_sampling_that_a_model_refuses_is_named() -> None:
    target = at("openai", "gpt", THINKS)
    assert call(target, temperature=0.5, top_p=0.9).dropped == ("temperature", "top_p")
    assert call(target).dropped == ()


@pytest.mark.parametrize(
    ("kind", "wanted", "sent", "dropped"),
    [
        ("openai", Reasoning("high"), {"reasoning_effort": "high"}, ()),
        ("openai", Reasoning("minimal"), {"reasoning_effort": "minimal"}, ()),
        ("openai", Reasoning("none"), {"reasoning_effort": "none"}, ()),
        ("openai", Reasoning(budget_tokens=1024), {"reasoning_effort": "low"}, ()),
        ("openai", Reasoning(budget_tokens=8192), {"reasoning_effort": "medium"}, ()),
        ("openai", Reasoning(budget_tokens=30_000), {"reasoning_effort": "high"}, ()),
        ("openai", Reasoning(budget_tokens=0), {"reasoning_effort": "none"}, ()),
        ("openai", Reasoning(show=False), {}, ()),
        ("openai", None, {}, ()),
        ("groq", Reasoning("xhigh"), {"reasoning_effort": "high"}, ()),
        ("groq", Reasoning("minimal"), {"reasoning_effort": "low"}, ()),
        ("groq", Reasoning("none"), {}, ("reasoning_effort",)),
        ("deepseek", Reasoning("max"), {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}, ()),
        ("deepseek", Reasoning("none"), {"thinking": {"type": "disabled"}}, ()),
        ("xai", Reasoning("high"), {}, ("reasoning_effort",)),
        ("mistral", Reasoning(budget_tokens=5), {}, ("reasoning_effort",)),
        ("openrouter", Reasoning("low", 500), {"reasoning": {"effort": "low"}}, ()),
        ("openrouter", Reasoning(budget_tokens=500), {"reasoning": {"max_tokens": 500}}, ()),
        ("openrouter", Reasoning(show=False), {"reasoning": {"exclude": True}}, ()),
    ],
)
def test_how_much_to_think_in_each_vendors_words(
    kind: str, wanted: Reasoning | None, sent: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    body = body_of(saying(Conversation((user("Hi"),), reasoning=wanted)), at(kind))
    assert {name: value for name, value in body.items() if name not in {"model", "messages"}} == sent
    assert call(at(kind), reasoning=wanted).dropped == dropped


@pytest.mark.parametrize(
    ("wanted", "dropped"), [(Reasoning("high"), ("reasoning_effort",)), (Reasoning("none"), ()), (Reasoning(), ())]
)
def test_a_model_that_does_not_think_is_left_in_peace(wanted: Reasoning, dropped: tuple[str, ...]) -> None:
    target = at("openai", "gpt-4o", PLAIN)
    assert "reasoning_effort" not in body_of(saying(Conversation((user("Hi"),), reasoning=wanted)), target)
    assert call(target, reasoning=wanted).dropped == dropped
