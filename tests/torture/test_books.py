"""The torture's own judge: it must see every kind of miss, or its zeros are worth nothing."""

import dataclasses
from typing import Any

import pytest

from tests.torture.books import Row, faults
from tests.torture.load import Question, Told, _is_whole, _told
from tests.torture.vendor import Bill

BILL = Bill("r1", "mixed-a", 60, input_tokens=10, output_tokens=5, is_whole=True)
ROW = Row("r1", "free", "settled", "provider", 20_000, 200, [{"failure": ""}])
TOLD = Told("r1", "mixed", 200, is_whole=True, is_good=True, cost_usd="0.000020000")


def other(thing: Any, **changes: Any) -> Any:
    return dataclasses.replace(thing, **changes)


def test_three_accounts_that_agree_have_no_fault() -> None:
    assert faults([ROW], [BILL], [TOLD]) == []


def test_a_doubtful_attempt_before_the_answer_is_part_of_what_is_due() -> None:
    row = other(ROW, cost_nano=27_000, attempts=[{"billed_nano": 7_000}, {"failure": ""}])
    first = other(BILL, input_tokens=6, output_tokens=0)
    assert faults([row], [first, BILL], [other(TOLD, cost_usd="")]) == []


def test_what_never_cost_anything_needs_no_record_unless_it_was_answered() -> None:
    free = other(BILL, input_tokens=0, output_tokens=0)
    assert faults([], [free], [other(TOLD, is_whole=False, is_good=False)]) == []
    assert len(faults([], [free], [other(TOLD, status=502, is_good=False)])) == 1
    assert faults([], [], [other(TOLD, status=503, is_good=False)]) == []


@pytest.mark.parametrize(
    ("what", "rows", "bills", "told"),
    [
        ("answered without a record", [], [other(BILL, request_id="r2")], [TOLD]),
        ("billed without a record", [], [BILL], []),
        ("recorded twice", [ROW, ROW], [BILL], [TOLD]),
        ("charged 19999, billed 20000", [other(ROW, cost_nano=19_999)], [BILL], []),
        ("charged None", [other(ROW, cost_nano=None)], [BILL], []),
        ("charged 20000, billed 40000", [ROW], [BILL, BILL], []),
        ("answered, due 20000", [other(ROW, cost_nano=20_001)], [BILL], [TOLD]),
        ("answered, due 20000", [other(ROW, state="expired")], [BILL], [TOLD]),
        ("answered, due 20000", [other(ROW, usage_source="counted")], [BILL], [TOLD]),
        ("told 0.000019999", [ROW], [BILL], [other(TOLD, cost_usd="0.000019999")]),
    ],
)
def test_every_kind_of_miss_is_seen(what: str, rows: list[Row], bills: list[Bill], told: list[Told]) -> None:
    assert any(fault.startswith(what) for fault in faults(rows, bills, told))


HEAD = b"HTTP/1.1 200 OK\r\nX-Request-Id: r1\r\nx-router-cost-usd: 0.000020000\r\n"
REFUSAL = HEAD.replace(b"200 OK", b"502 Bad") + b'content-length: 29\r\n\r\n{"error": {"code": "no_luck"}}'
STREAM = HEAD + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "is_whole", "is_good", "code"),
    [
        (HEAD + b"content-length: 2\r\n\r\n{}", True, True, ""),
        (HEAD + b"content-length: 3\r\n\r\n{}", False, False, ""),
        (REFUSAL, True, False, "no_luck"),
        (STREAM + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", True, True, ""),
        (STREAM + b"e\r\ndata: [DONE]\n\n\r\n", False, False, ""),
        (STREAM + b"5\r\ndata:\r\n0\r\n\r\n", True, False, ""),
        (b"", False, False, ""),
    ],
)
def test_an_answer_counts_only_with_its_last_byte(answer: bytes, is_whole: bool, is_good: bool, code: str) -> None:
    assert _is_whole(answer) == is_whole
    told = _told("mixed", answer, is_whole=is_whole)
    assert (told.is_good, told.code) == (is_good, code)
    assert (told.request_id, told.cost_usd) == (("r1", "0.000020000") if answer else ("", ""))


def test_a_key_does_not_show_in_what_is_printed() -> None:
    assert "rp_secret" not in repr(Question("rp_secret", "mixed", 60))
