"""How batches are read and told, without a gateway: forms, patience, sums, errors."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from routerplatform.batches.selectors import batch_told, seconds_left
from routerplatform.batches.services import expired
from routerplatform.batches.telling import answer_told, outcome_of, result_told, sums_told
from routerplatform.doors.batch_items import Item, Patience, Sums, error_told
from routerplatform.doors.formats import prompted
from routerplatform.doors.formats.batch import Asked, Batch, Bounds, chat_body, parse
from routerplatform.gateway.errors import (
    BudgetUnavailable,
    CircuitOpen,
    Forbidden,
    GatewayError,
    IdempotencyInProgress,
    InvalidRequest,
    RateLimited,
    Stopping,
    Unauthenticated,
)
from routerplatform.models import BatchJob, BatchState
from tests.analytics.ledger.samples import settled

BOUNDS = Bounds(most_items=10_000, most_parallel=32)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def read(body: dict[str, Any] | bytes) -> Batch:
    return parse(body if isinstance(body, bytes) else json.dumps(body).encode(), BOUNDS)


def refused(body: dict[str, Any] | bytes) -> tuple[str | None, str]:
    with pytest.raises(InvalidRequest) as caught:
        read(body)
    return caught.value.param, caught.value.message


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"", None, "valid JSON"),
        (b"null", None, "object"),
        (b'"prompts"', None, "object"),
        (b'{"prompts": null}', "prompts", "array"),
        (b'{"prompts": "one"}', "prompts", "array"),
        (b'{"prompts": {"0": "one"}}', "prompts", "array"),
        (b'{"prompts": ["a", null]}', "prompts[1]", "str"),
        (b'{"requests": []}', "requests", "1 to 10,000"),
        (b'{"requests": {}}', "requests", "array"),
        (b'{"requests": [[]]}', "requests[0]", "object"),
        (b'{"requests": [{}], "prompts": []}', None, "either"),
        (b'{"prompts": ["a"], "max_parallel": 1.5}', "max_parallel", "int"),
        (b'{"prompts": ["a"], "max_parallel": true}', "max_parallel", "int"),
        (b'{"prompts": ["a"], "max_parallel": "4"}', "max_parallel", "int"),
        (b'{"prompts": ["a"], "max_parallel": -1}', "max_parallel", "at most 32"),
        (b'{"prompts": ["a"], "max_parallel": 99999999999999999999}', "max_parallel", "at most 32"),
        (b'{"prompts": ["a"], "background": "yes"}', "background", "bool"),
        (b'{"prompts": ["a"], "background": 1}', "background", "bool"),
        (b'{"prompts": ["a"], "stream": true}', "stream", "no field"),
        (b'{"prompts": ["a"], "custom_id": "x"}', "custom_id", "no field"),
        (b'{"prompts": ["a"], "prompt": "x"}', "prompt", "each prompt is a chat"),
        (b'{"prompts": ["a"], "template": "x"}', "template", "each prompt is a chat"),
        (b'{"requests": [{"custom_id": ""}]}', "requests[0].custom_id", "1 to 64"),
        (b'{"requests": [{"custom_id": "a\\u0000"}]}', "requests[0].custom_id", "NUL"),
        (b'{"requests": [{}, {"custom_id": ["a"]}]}', "requests[1].custom_id", "text"),
        (b'{"requests": [{"custom_id": "a"}, {"custom_id": "\\u0061"}]}', "requests[1].custom_id", "0 and 1"),
        (b'{"requests": [{"custom_id": "\\ud83d"}]}', None, "surrogate"),
        (b'{"requests": [{"\\udc00": 1}]}', None, "surrogate"),
        (b'{"prompts": ["a"], "system": "\\ud83d"}', None, "surrogate"),
        (b'{"prompts": ["\xc3"]}', None, "UTF-8"),
        (b'{"prompts": ["a"]} more', None, "valid JSON"),
        (b'{"prompts": ["a"], "x": ' + b"[" * 200_000, None, ""),
    ],
)
def test_what_is_no_batch_is_refused_by_the_field_that_is_to_blame(body: bytes, param: str | None, words: str) -> None:
    found, message = refused(body)
    assert found == param
    assert words in message


def test_ids_are_texts_of_the_callers_own_and_none_is_none() -> None:
    ids = ["é" * 64, "\U0001f600", " ", "0", "null", None]
    batch = read({"requests": [{"custom_id": id, "prompt": "x"} for id in ids] + [{"prompt": "x"}]})
    assert [item.custom_id for item in batch.items] == [*ids, None]
    assert all(list(item.fields) == ["prompt"] for item in batch.items)


def test_ten_thousand_are_read_in_their_order_and_one_more_is_too_many() -> None:
    batch = read({"prompts": [str(i) for i in range(10_000)]})
    assert [item.index for item in batch.items] == list(range(10_000))
    assert bytes(batch.items[9_999].fields["prompt"]) == b'"9999"'
    assert refused({"prompts": ["x"] * 10_001}) == ("prompts", "“prompts” holds 1 to 10,000 items, not 10,001.")


def test_what_is_written_twice_counts_as_it_does_in_json() -> None:
    batch = read(b'{"prompts": ["a"], "max_parallel": 2, "max_parallel": 3, "model": "a", "model": "b"}')
    assert (batch.max_parallel, bytes(batch.shared["model"])) == (3, b'"b"')


@pytest.mark.parametrize("nothing", ["false", "null"])
def test_a_stream_that_is_switched_off_says_nothing(nothing: str) -> None:
    batch = read(b'{"requests": [{"prompt": "x", "stream": %s}], "stream": %s}' % ((nothing.encode(),) * 2))
    assert "stream" not in batch.shared
    assert json.loads(chat_body(batch.shared, batch.items[0].fields)) == {"prompt": "x"}


@pytest.mark.parametrize("wanted", [b"true", b'"false"', b"0", b"{}", b" false"])
def test_a_chat_that_wants_to_be_streamed_is_refused(wanted: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat_body({}, {"prompt": Raw(b'"x"'), "stream": Raw(wanted)})
    assert caught.value.param == "stream"


def test_numbers_and_texts_of_a_chat_stay_as_they_were_written() -> None:
    batch = read(b'{"requests": [{"messages": [], "seed": 12345678901234567890, "top_p": 1.10}], "user": "\\u00fc"}')
    body = chat_body(batch.shared, batch.items[0].fields)
    assert body == b'{"user":"\\u00fc","messages":[],"seed":12345678901234567890,"top_p":1.10}'


@pytest.mark.parametrize(
    ("shared", "own", "param"),
    [
        ({"prompt": "x"}, {"messages": 3}, "messages"),
        ({}, {}, "prompt"),
        ({"system": "s"}, {"messages": [{"role": "user", "content": "x"}]}, "system"),
        ({"temperature": 3}, {"prompt": "x"}, "temperature"),
        ({}, {"prompt": " "}, "prompt"),
        ({}, {"prompt": None}, "prompt"),
    ],
)
def test_a_chat_that_makes_no_sense_is_refused_as_one_alone_would_be(shared: Any, own: Any, param: str) -> None:
    batch = read({"requests": [own], **shared})
    with pytest.raises(InvalidRequest) as caught:
        prompted.read_route(chat_body(batch.shared, batch.items[0].fields))
    assert caught.value.param == param


# --- patience -----------------------------------------------------------------------------------------------------

PATIENCE = Patience(until=100.0, longest_s=10.0, tries=3)


@pytest.mark.parametrize(
    ("error", "pause_s"),
    [
        (RateLimited("", headers={}, retry_after_s=10.0), 10.0),
        (RateLimited("", headers={}, retry_after_s=10.001), None),
        (RateLimited("", headers={}, retry_after_s=0.0), 0.2),
        (RateLimited("", headers={}, retry_after_s=-5.0), 0.2),
        (BudgetUnavailable("x"), 2.0),
        (CircuitOpen("x"), None),  # an operator holds it open
        (IdempotencyInProgress(), None),  # 409: not of the moment
        (Unauthenticated(), None),
        (Stopping(), None),
    ],
)
def test_what_is_waited_for_and_how_long(error: GatewayError, pause_s: float | None) -> None:
    assert PATIENCE.pause_s(error, tries=1, now=0.0, spread=0.0) == pause_s


def test_nobody_waits_beyond_the_end() -> None:
    full = RateLimited("", headers={}, retry_after_s=1.0)
    assert [PATIENCE.pause_s(full, tries=1, now=now, spread=0.0) for now in (98.9, 99.0, 200.0)] == [1.0, None, None]


# --- telling ------------------------------------------------------------------------------------------------------


def item(index: int, *, response: Any = None, error: GatewayError | None = None, **bill: Any) -> Item:
    made = Item(Asked(index, f"c{index}", {}), request_id=f"r{index}", response=response, error=error)
    if bill:
        made.bill.append(settled(index, **bill))
    return made


def test_the_sum_is_that_of_all_records_also_of_what_failed_and_of_every_try() -> None:
    tried_twice = item(1, error=InvalidRequest("no"), cost_nano=5, input_tokens=1, output_tokens=1)
    tried_twice.bill.append(settled(9, cost_nano=7, input_tokens=2, output_tokens=0))
    items = [
        item(0, response={"content": "x"}, cost_nano=10**15 + 1, input_tokens=3, output_tokens=4),
        tried_twice,
        item(2, response={}, cost_nano=None, input_tokens=0, output_tokens=6),
        item(3, response={}, cost_nano=0, cache="hit", input_tokens=0, output_tokens=0),
        item(4, error=RateLimited("", headers={})),
    ]
    told = answer_told(items)
    assert told["counts"] == {"total": 5, "ok": 3, "error": 2}
    assert (told["total_cost_usd"], told["unpriced"]) == ("1000000.000000013", 1)
    assert told["total_cost"] == (10**15 + 13) / 1e9
    assert told["usage"]["output_tokens"] == 11
    assert [row["status"] for row in told["results"]] == ["ok", "error", "ok", "ok", "error"]
    assert [row["custom_id"] for row in told["results"]] == ["c0", "c1", "c2", "c3", "c4"]


def test_tokens_that_were_written_to_a_vendors_cache_are_input() -> None:
    sums = Sums.of([settled(1, input_tokens=7, cache_creation_input_tokens=3, cache_read_input_tokens=5)])
    assert (sums.usage()["input_tokens"], sums.usage()["cache_read_input_tokens"]) == (10, 5)
    assert sums_told(Sums()) == {
        "total_cost": 0.0, "total_cost_usd": "0.00", "unpriced": 0,
        "usage": {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0},
    }  # fmt: skip


def test_an_answer_without_a_word_is_one() -> None:
    assert item(0, response={}).is_over
    assert outcome_of(item(0, response={})) == {"response": {}}


@pytest.mark.parametrize(("error", "ends"), [(Unauthenticated(), True), (Forbidden(""), True), (Stopping(), False)])
def test_only_a_key_that_is_not_good_ends_the_rest(error: GatewayError, ends: bool) -> None:
    assert item(0, error=error).ends_batch is ends


def test_an_error_is_told_with_its_status_and_when_to_come_back() -> None:
    error = BudgetUnavailable("The database is away.")
    error.details = {"scope": "team"}
    told = error_told(error)
    assert (told["code"], told["status"], told["retry_after_s"]) == ("budget_unavailable", 503, 2)
    assert told["details"] == {"scope": "team"}
    assert "retry_after_s" not in error_told(InvalidRequest("x", param="p"))
    assert msgspec.json.decode(msgspec.json.encode(told)) == told


@pytest.mark.parametrize(
    ("tries", "request_id", "earlier"),
    [([], None, None), (["a"], "a", None), (["a", "b", "c"], "c", ["a", "b"])],
)
def test_the_last_try_is_the_chats_and_the_others_were_earlier(
    tries: list[str], request_id: str | None, earlier: list[str] | None
) -> None:
    told = result_told(0, None, tries, {}, status="cancelled")
    assert (told["request_id"], told.get("earlier_request_ids"), told["status"]) == (request_id, earlier, "cancelled")


def job(**fields: Any) -> BatchJob:
    known: dict[str, Any] = {"id": uuid.uuid4(), "total": 10, "max_parallel": 8, "deadline_at": NOON}
    return BatchJob(**{**known, "state": BatchState.RUNNING, "started_at": NOON, **fields})


@pytest.mark.parametrize(
    ("fields", "after_s", "left_s"),
    [
        ({"ok": 5}, 10, 10.0),
        ({"ok": 1, "failed": 1, "cancelled": 3}, 10, 10.0),
        ({"ok": 10}, 10, 0.0),
        ({"ok": 0}, 10, None),
        ({"ok": 5, "started_at": None}, 10, None),
        ({"ok": 5}, -3_600, 0.0),  # the clock was set back, or is another machine's
        ({"ok": 5, "state": BatchState.CANCELLED}, 10, 0.0),
        ({"ok": 0, "state": BatchState.FAILED}, 10, 0.0),
    ],
)
def test_the_time_left_goes_by_the_pace_so_far(fields: dict[str, Any], after_s: int, left_s: float | None) -> None:
    assert seconds_left(job(**fields), now=NOON + timedelta(seconds=after_s)) == left_s


def test_counts_of_a_batch_add_up_and_its_error_is_there_only_when_it_has_one() -> None:
    told = batch_told(job(ok=4, failed=3, cancelled=2), now=NOON)
    assert told["counts"] == {"total": 10, "ok": 4, "error": 3, "cancelled": 2, "left": 1}
    assert told["error"] is None
    ended = batch_told(job(error_code="batch_expired", error="Too late."), now=NOON)
    assert ended["error"] == {"code": "batch_expired", "message": "Too late."}
    assert "2026-11-21T12:00:00+00:00" in expired(NOON).message
