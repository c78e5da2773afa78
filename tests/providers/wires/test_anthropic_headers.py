"""What a caller of this wire says in headers reaches the vendor; counting asks at its own address."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from providers.domain.conversation import Conversation
from providers.domain.errors import FailureKind, ProviderError
from providers.domain.types import NO_DEFAULTS, Capability, ChatRequest, PromptDefaults, Wire
from providers.wires import WIRES
from providers.wires.anthropic import count_request, read_count
from tests.providers.wires.builders import deployment, saying, sent_by_caller, user

HEARD = {"anthropic-version": "2026-10-21", "anthropic-beta": "context-1m-2025-08-07,new-1"}
PERSONA = PromptDefaults(system_prompt="You are Sage.", temperature=0.2, max_tokens=300)
TARGET = deployment(Wire.ANTHROPIC, capabilities=(Capability.TEMPERATURE,))


def asked(heard: dict[str, str], **fields: Any) -> ChatRequest:
    body = msgspec.json.encode({"model": "auto", "persona": "sage", "messages": [], **fields})
    return replace(sent_by_caller(Wire.ANTHROPIC, body, max_tokens=fields.get("max_tokens")), vendor_headers=heard)


def test_version_and_betas_of_the_caller_reach_the_vendor() -> None:
    call = WIRES[Wire.ANTHROPIC].build(asked(HEARD), TARGET, NO_DEFAULTS)
    assert call.headers == {"content-type": "application/json", **HEARD}


def test_without_them_the_gateways_version_is_said() -> None:
    call = WIRES[Wire.ANTHROPIC].build(asked({}), TARGET, NO_DEFAULTS)
    assert call.headers["anthropic-version"] == "2023-06-01"
    assert "anthropic-beta" not in call.headers


def test_headers_do_not_travel_with_a_translated_request() -> None:
    request = replace(saying(Conversation((user("Hi"),))), vendor_headers=HEARD)
    assert WIRES[Wire.ANTHROPIC].build(request, TARGET, NO_DEFAULTS).headers["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize(("version", "temperature"), [("2023-06-01", 0.2), ("2026-10-21", None), ("2027-01-01", None)])
def test_a_personas_temperature_stays_away_from_versions_that_refuse_it(
    version: str, temperature: float | None
) -> None:
    call = WIRES[Wire.ANTHROPIC].build(asked({"anthropic-version": version}), TARGET, PERSONA)
    assert msgspec.json.decode(call.body).get("temperature") == temperature


def test_counting_sends_what_would_be_sent_but_for_the_answers_side() -> None:
    call = count_request(asked(HEARD, stream=True, tools=[]), TARGET, PERSONA)
    assert call.path == "/messages/count_tokens"
    assert call.headers["anthropic-beta"] == HEARD["anthropic-beta"]
    assert msgspec.json.decode(call.body) == {
        "model": "upstream-1", "messages": [], "tools": [], "system": "You are Sage.",
    }  # fmt: skip


def test_a_count_is_read() -> None:
    assert read_count(b'{"input_tokens": 42, "new": 1}') == 42


@pytest.mark.parametrize("body", [b"", b"{}", b'{"input_tokens":"x"}', b"<html>", b'{"input_tokens":"\xff"}'])
def test_what_is_no_count_is_malformed(body: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        read_count(body)
    assert caught.value.failure.kind is FailureKind.MALFORMED
