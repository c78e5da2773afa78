"""The counts beside the texts are those of o200k_base (bpe-openai 0.1.4), for ten repetitions of the text."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.estimate import count_text, estimate_tokens

TEXTS = [
    pytest.param(
        "The committee met on Tuesday to discuss the proposal, which had been revised twice since spring. ",
        181,
        id="English",
    ),
    pytest.param(
        "Der Ausschuss traf sich am Dienstag, um über den Vorschlag zu beraten, der zweimal überarbeitet worden war. ",
        231,
        id="German",
    ),
    pytest.param(
        "Комитет собрался во вторник, чтобы обсудить предложение, которое с весны дважды перерабатывалось. ",
        271,
        id="Russian",
    ),
    pytest.param("委员会于星期二开会讨论这项自春季以来已经修改过两次的提案。", 220, id="Chinese"),
    pytest.param("委員会は火曜日に集まり、春から二度修正された提案について話し合いました。", 250, id="Japanese"),
    pytest.param("위원회는 화요일에 모여 봄 이후 두 번 수정된 제안을 논의했습니다. ", 220, id="Korean"),
    pytest.param("اجتمعت اللجنة يوم الثلاثاء لمناقشة الاقتراح الذي تمت مراجعته مرتين منذ الربيع. ", 241, id="Arabic"),
    pytest.param("समिति ने मंगलवार को उस प्रस्ताव पर चर्चा की जिसे दो बार संशोधित किया गया था। ", 182, id="Hindi"),
    pytest.param(
        "def total(items: list[Item]) -> int:\n"
        "    return sum(item.price * item.count for item in items if item.count > 0)\n\n",
        300,
        id="code",
    ),
    pytest.param(
        '{"id": 17, "name": "user-17", "email": "u17@example.com", "tags": ["a", "b"], "score": 23.29}, ',
        401,
        id="JSON",
    ),
    pytest.param("1234567 89.12 0.5531 2026-11-20 15:47:59 42 1000000 3.14159\n", 370, id="numbers"),
    pytest.param("Well done 🎉🎉 see you 👋🏽 at eight 🙂 ", 151, id="emoji"),
]


@pytest.mark.parametrize(("text", "tokens"), TEXTS)
def test_estimates_are_near_the_count_in_every_script(text: str, tokens: int) -> None:
    assert 0.72 * tokens <= count_text(text * 10) <= 1.35 * tokens


@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize(("text", "tokens"), TEXTS)
def test_a_requests_json_costs_about_its_texts(text: str, tokens: int, ensure_ascii: bool) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": text * 2} for _ in range(5)]}
    estimate = estimate_tokens(json.dumps(body, ensure_ascii=ensure_ascii).encode())
    assert 0.72 * tokens <= estimate <= 1.5 * (tokens + 5 * 4)


def test_an_inline_image_weighs_as_an_image_and_not_as_text() -> None:
    picture = base64.b64encode(bytes(range(256)) * 4_000).decode()
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, url]}]}
    assert 1_500 <= estimate_tokens(json.dumps(body).encode()) <= 1_600


def test_nothing_weighs_nothing_and_anything_something() -> None:
    assert count_text("") == 0
    assert count_text(" ") == 1
    assert count_text("\ud800") == 1
    assert estimate_tokens(b"") == 1
    assert estimate_tokens(b'"role""role""role"') == 1


@given(st.text(max_size=200))
def test_an_estimate_never_passes_the_bound_of_one_token_per_byte_by_much(text: str) -> None:
    assert count_text(text) <= max(1.5 * len(text.encode("utf-8", "replace")), 1)


@given(st.binary(max_size=300))
def test_any_bytes_have_an_estimate(body: bytes) -> None:
    assert estimate_tokens(body) >= 1
