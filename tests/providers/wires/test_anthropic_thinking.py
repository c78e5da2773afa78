"""A wish to think, said to Claude models of all ages, and kept below the limit of the answer."""

import dataclasses
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from providers.domain.conversation import (
    Conversation,
    Reasoning,
    ReasoningPart,
    ResponseFormat,
    Tool,
    ToolCallPart,
    ToolChoice,
)
from providers.domain.conversation import ToolResultPart as Result
from providers.domain.types import NO_DEFAULTS, Capability, Deployment, UpstreamRequest, Wire
from providers.wires import WIRES
from providers.wires.anthropic_thinking import fitted, lacks_thought
from providers.wires.sealed_thought import SealedThought, seal
from tests.providers.wires.builders import assistant, deployment, saying, sent_by_caller, user

THINKS = (Capability.REASONING, Capability.TEMPERATURE, Capability.JSON_SCHEMA)
OLD, NEW, ALWAYS = "claude-haiku-4-5", "claude-opus-4-8", "claude-fable-5-2"
TOOL = Tool("f", "", Raw(b"{}"))
OWN = ReasoningPart("hm", "EqQB", vendor="anthropic")


def model(name: str, *, capabilities: tuple[Capability, ...] = THINKS, longest: int | None = None) -> Deployment:
    made = deployment(Wire.ANTHROPIC, capabilities=capabilities, max_output_tokens=longest)
    return dataclasses.replace(made, upstream_model=name)


def call(name: str, reasoning: Reasoning | None, *, limit: int = 10_000, **said: Any) -> UpstreamRequest:
    messages = said.pop("messages", (user("Hi"),))
    capabilities = said.pop("capabilities", THINKS)
    conversation = Conversation(messages, reasoning=reasoning, max_tokens=limit, **said)
    return WIRES[Wire.ANTHROPIC].build(saying(conversation), model(name, capabilities=capabilities), NO_DEFAULTS)


def body(name: str, reasoning: Reasoning | None, **said: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(call(name, reasoning, **said).body)
    return decoded


@pytest.mark.parametrize(
    ("wanted", "budget"),
    [
        (Reasoning("minimal"), 1_024),
        (Reasoning("low"), 2_000),
        (Reasoning("medium"), 5_000),
        (Reasoning(), 5_000),
        (Reasoning("high"), 8_000),
        (Reasoning("xhigh"), 9_500),
        (Reasoning("max"), 9_500),
        (Reasoning("low", 3_000), 3_000),
        (Reasoning(budget_tokens=20_000), 9_999),
        (Reasoning(budget_tokens=10), 1_024),
    ],
)
def test_an_older_model_gets_a_budget_below_its_limit(wanted: Reasoning, budget: int) -> None:
    sent = body(OLD, wanted)
    assert sent["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert "output_config" not in sent


@pytest.mark.parametrize(
    ("wanted", "thinking", "effort"),
    [
        (Reasoning("minimal"), "summarized", "low"),
        (Reasoning("high"), "summarized", "high"),
        (Reasoning("max"), "summarized", "max"),
        (Reasoning("xhigh", show=False), "omitted", "xhigh"),
        (Reasoning(budget_tokens=4_000), "summarized", None),
        (Reasoning("extreme"), "summarized", None),
    ],
)
def test_a_current_model_gets_an_effort(wanted: Reasoning, thinking: str, effort: str | None) -> None:
    for name in (NEW, ALWAYS):
        sent = body(name, wanted)
        assert sent["thinking"] == {"type": "adaptive", "display": thinking}
        assert sent.get("output_config") == ({"effort": effort} if effort else None)


def test_an_effort_that_a_model_does_not_know_is_the_next_below() -> None:
    assert body("claude-sonnet-4-6", Reasoning("xhigh"))["output_config"] == {"effort": "high"}


def test_no_thinking_is_said_only_where_a_model_would_think_by_itself() -> None:
    none = Reasoning("none")
    assert "thinking" not in body(OLD, none)
    assert body(NEW, none)["thinking"] == {"type": "disabled"}
    always = call(ALWAYS, none)
    assert "thinking" not in msgspec.json.decode(always.body)
    assert always.dropped == ("reasoning",)


def test_nothing_is_said_of_thinking_when_nobody_asked() -> None:
    for name in (OLD, NEW, ALWAYS):
        assert not {"thinking", "output_config"} & body(name, None).keys()


def test_a_model_that_does_not_think_drops_the_wish_and_says_so() -> None:
    plain = (Capability.TEMPERATURE,)
    sent = call(NEW, Reasoning("high"), capabilities=plain)
    assert "thinking" not in msgspec.json.decode(sent.body)
    assert sent.dropped == ("reasoning",)
    assert call(NEW, Reasoning("none"), capabilities=plain).dropped == ()


def test_a_limit_that_leaves_no_room_for_a_budget_drops_the_wish() -> None:
    sent = call(OLD, Reasoning("high"), limit=1_024)
    assert "thinking" not in msgspec.json.decode(sent.body)
    assert sent.dropped == ("reasoning",)
    assert body(OLD, Reasoning("high"), limit=1_025)["thinking"]["budget_tokens"] == 1_024


@pytest.mark.parametrize("choice", [ToolChoice("required"), ToolChoice("named", "f")])
def test_a_forced_tool_excludes_thinking(choice: ToolChoice) -> None:
    old = call(OLD, Reasoning("high"), tools=(TOOL,), tool_choice=choice)
    new = call(NEW, Reasoning("high"), tools=(TOOL,), tool_choice=choice)
    highest = call(NEW, Reasoning("max"), tools=(TOOL,), tool_choice=choice)
    for sent in (old, new, highest):
        assert "thinking" not in msgspec.json.decode(sent.body)
        assert sent.dropped == ("reasoning",)
    assert msgspec.json.decode(new.body)["output_config"] == {"effort": "high"}
    assert "output_config" not in msgspec.json.decode(highest.body)


def test_an_effort_and_a_schema_stand_side_by_side() -> None:
    wanted = ResponseFormat("json_schema", "x", Raw(b'{"type":"object"}'))
    sent = body(NEW, Reasoning("low"), response_format=wanted)
    assert sent["output_config"] == {
        "effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}},
    }  # fmt: skip


def test_sampling_gives_way_to_thinking_and_is_named() -> None:
    sent = call(OLD, Reasoning("high"), temperature=0.5, top_p=0.9, top_k=40)
    assert not {"temperature", "top_p", "top_k"} & msgspec.json.decode(sent.body).keys()
    assert set(sent.dropped) == {"temperature", "top_p", "top_k"}


# --- a turn that goes on -------------------------------------------------------------------------------------------

CALL, ANSWER = ToolCallPart("a", "f", "{}"), Result("a", "7")


def test_a_budget_needs_the_thought_before_the_tool_call_and_adaptive_thinking_does_not() -> None:
    forgotten = (user("Hi"), assistant(CALL), user(ANSWER))
    kept = (user("Hi"), assistant(OWN, CALL), user(ANSWER))
    without = call(OLD, Reasoning("high"), messages=forgotten, tools=(TOOL,))
    assert "thinking" not in msgspec.json.decode(without.body)
    assert without.dropped == ("reasoning",)
    assert body(OLD, Reasoning("high"), messages=kept, tools=(TOOL,))["thinking"]["type"] == "enabled"
    assert body(NEW, Reasoning("high"), messages=forgotten, tools=(TOOL,))["thinking"]["type"] == "adaptive"


def test_a_thought_of_another_vendor_is_none_and_the_budget_goes_with_it() -> None:
    foreign = ReasoningPart("hm", "sig", vendor="gemini")
    sent = body(OLD, Reasoning("high"), messages=(user("Hi"), assistant(foreign, CALL), user(ANSWER)), tools=(TOOL,))
    assert [block["type"] for block in sent["messages"][1]["content"]] == ["tool_use"]
    assert "thinking" not in sent


def test_turns_that_are_over_need_no_thought() -> None:
    over = (user("Hi"), assistant(CALL), user(ANSWER), assistant("Seven."), user("And now?"))
    assert body(OLD, Reasoning("high"), messages=over, tools=(TOOL,))["thinking"]["type"] == "enabled"


def test_an_answer_to_be_continued_keeps_no_thought_when_thinking_is_off() -> None:
    sent = body(OLD, None, messages=(user("Hi"), assistant(OWN, "The")))
    assert sent["messages"][-1] == {"role": "assistant", "content": [{"type": "text", "text": "The"}]}
    alone = body(OLD, None, messages=(user("Hi"), assistant(OWN)))
    assert [turn["role"] for turn in alone["messages"]] == ["user"]


@pytest.mark.parametrize(
    ("turns", "lacking"),
    [
        ([], False),
        ([{"role": "user", "content": "Hi"}], False),
        ([{"role": "assistant", "content": "So"}], True),
        ([{"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}], False),
        ([{"role": "user", "content": [{"type": "tool_result"}]}], False),
    ],
)
def test_whether_the_last_turn_lacks_its_thought(turns: list[dict[str, object]], lacking: bool) -> None:
    assert lacks_thought(turns) is lacking


# --- the caller's own words ------------------------------------------------------------------------------------------


def own_call(fields: dict[str, Any], *, limit: int | None, longest: int | None = None) -> UpstreamRequest:
    request = sent_by_caller(Wire.ANTHROPIC, msgspec.json.encode(fields), max_tokens=limit)
    return WIRES[Wire.ANTHROPIC].build(request, model(OLD, longest=longest), NO_DEFAULTS)


def test_a_budget_stays_below_a_limit_that_was_cut() -> None:
    thinking = {"type": "enabled", "budget_tokens": 8_000, "display": "omitted", "new": 1}
    fields = {"messages": [], "max_tokens": 16_000, "thinking": thinking}
    sent = msgspec.json.decode(own_call(fields, limit=16_000, longest=5_000).body)
    assert (sent["max_tokens"], sent["thinking"]) == (5_000, {**thinking, "budget_tokens": 4_999})


def test_a_budget_above_a_limit_that_nobody_cut_is_for_the_vendor_to_judge() -> None:
    """With interleaved thinking it may be: then the budget is for the whole turn."""
    thinking = {"type": "enabled", "budget_tokens": 8_000}
    fields = {"messages": [], "max_tokens": 4_000, "thinking": thinking}
    sent = own_call(fields, limit=4_000)
    assert (msgspec.json.decode(sent.body)["thinking"], sent.dropped) == (thinking, ())


def test_a_budget_that_finds_no_room_goes_and_is_named() -> None:
    fields = {"messages": [], "max_tokens": 16_000, "thinking": {"type": "enabled", "budget_tokens": 8_000}}
    sent = own_call(fields, limit=1_000)
    assert "thinking" not in msgspec.json.decode(sent.body)
    assert sent.dropped == ("thinking",)


@pytest.mark.parametrize("thinking", [b'{"type":"adaptive"}', b'{"type":"enabled","budget_tokens":8}', b"[]", b"7"])
def test_all_other_thinking_passes_as_it_came(thinking: bytes) -> None:
    assert fitted(Raw(thinking), 1_000) is None


def test_thoughts_of_other_vendors_never_reach_anthropic() -> None:
    foreign = {"type": "thinking", "thinking": "hm", "signature": seal(SealedThought("gemini", signature="s"))}
    tool = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "7"}]}
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [foreign, tool]}, result]
    fields = {"messages": turns, "max_tokens": 9_000, "thinking": {"type": "enabled", "budget_tokens": 2_000}}
    sent = own_call(fields, limit=9_000)
    assert msgspec.json.decode(sent.body)["messages"] == [turns[0], {"role": "assistant", "content": [tool]}, result]
    assert sent.dropped == ("thinking",)
