"""What goes wrong at a vendor, over every pair of caller's format and vendor's wire.

A stream that breaks never ends as if it were whole; an error before the first content has its HTTP status, also with
`stream: true`; the same fault is the same error whatever the vendor speaks.
"""

import pytest

from tests.conformance.callers import CALLERS, Caller
from tests.conformance.installation import FAILURES, ONE_OF_EACH, Grid, brief
from tests.conformance.scenarios import Scenario, user
from tests.gateway import Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

BREAKS = ["cut=3", "garbage=3", "no_finish", "error_in_stream=3"]
OF_A_RESPONSE = ("server_error", "rate_limit_exceeded")  # `error.code` of a response has a fixed list
REFUSALS = [
    ("[[status=400]]", 400, "upstream_rejected"),
    ("[[status=401]]", 502, "upstream_credentials"),
    ("[[status=403]]", 502, "upstream_credentials"),
    ("[[status=404]]", 502, "upstream_model_not_found"),
    ("[[status=429]]", 429, "upstream_rate_limited"),
    ("[[status=500]]", 502, "upstream_failed"),
    ("[[status=503]]", 503, "upstream_overloaded"),
    ("[[status=502]] [[html]]", 502, "upstream_failed"),
    ("[[status=400]] [[code=context_length_exceeded]]", 400, "context_length_exceeded"),
    ("[[blocked]]", 400, "content_filter"),
    ("[[cut=0]]", 502, "upstream_failed"),
]


def asked(prompt: str) -> Scenario:
    return Scenario((user(f"{prompt} [[tokens=40]] Hi"),), is_text=True)


async def post(grid: Grid, kind: str, caller: Caller, prompt: str, *, stream: bool) -> Reply:
    return await grid.post(caller.path, caller.body(kind, asked(prompt), stream=stream))


@pytest.mark.parametrize("name", CALLERS)
@pytest.mark.parametrize("kind", ONE_OF_EACH)
async def test_a_stream_that_breaks_never_ends_cleanly(grid: Grid, kind: str, name: str) -> None:
    caller, failed, ids = CALLERS[name], {}, {}
    for fault in BREAKS:
        reply = await post(grid, kind, caller, f"[[{fault}]]", stream=True)
        try:
            ids[reply.headers["x-request-id"]] = fault
            assert reply.status == 200, reply.body[:200]
            assert not caller.ends_well(reply), "it ended as if it were whole"
            error = caller.error_of(reply)
            assert error["message"], error
            assert error["code"].startswith("upstream_") or (name == "responses" and error["code"] in OF_A_RESPONSE), (
                error
            )
        except FAILURES as problem:
            failed[fault] = brief(problem)
    for request_id, record in (await grid.records(set(ids))).items():
        if (record.state, record.error_code[:9]) != ("settled", "upstream_") or not record.cost_nano:
            failed[f"{ids[request_id]} (bill)"] = f"{record.state} {record.error_code} {record.cost_nano}"
    assert not failed, "\n" + "\n".join(f"{kind} / {name} / {fault}: {what}" for fault, what in failed.items())


@pytest.mark.parametrize("name", CALLERS)
@pytest.mark.parametrize("kind", ONE_OF_EACH)
async def test_a_vendors_error_is_the_same_error_over_every_wire(grid: Grid, kind: str, name: str) -> None:
    caller, failed, ids = CALLERS[name], {}, {}
    for prompt, status, code in REFUSALS:
        for stream in (False, True):
            reply = await post(grid, kind, caller, prompt, stream=stream)
            try:
                ids[reply.headers["x-request-id"]] = code
                error = caller.error_of(reply)
                assert (reply.status, error["code"]) == (status, code), error
            except FAILURES as problem:
                failed[f"{prompt} stream={stream}"] = brief(problem)
    for request_id, record in (await grid.records(set(ids))).items():
        if record.error_code != ids[request_id]:
            failed[f"{ids[request_id]} (bill)"] = f"recorded as {record.error_code!r}"
    assert not failed, "\n" + "\n".join(f"{kind} / {name} / {fault}: {what}" for fault, what in failed.items())


@pytest.mark.parametrize("kind", ONE_OF_EACH)
async def test_a_whole_answer_that_comes_in_half_is_an_error(grid: Grid, kind: str) -> None:
    for fault in ("[[cut=3]]", "[[garbage=1]]"):
        reply = await post(grid, kind, CALLERS["chat"], fault, stream=False)
        assert reply.status == 502, reply.body
        assert reply.error["code"].startswith("upstream_")
