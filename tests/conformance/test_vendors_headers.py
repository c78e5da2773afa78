"""What a vendor says beside its answer is passed on: its own id of the request, and when to come again."""

import pytest

from providers.domain.types import Wire
from tests.conformance.callers import CALLERS
from tests.conformance.installation import ONE_OF_EACH, Grid
from tests.conformance.scenarios import SCENARIOS, Scenario, user

pytestmark = pytest.mark.asyncio(loop_scope="module")

WITHOUT_ID = {Wire.GEMINI, Wire.COHERE, Wire.OLLAMA}  # Cohere's trace id is in no document
LIMITED = Scenario((user("[[status=429]] [[retry_after=9]] Hi"),), is_text=True)


@pytest.mark.parametrize("kind", ONE_OF_EACH)
async def test_the_vendors_id_of_a_request_and_its_time_to_wait_are_passed_on(grid: Grid, kind: str) -> None:
    """A vendor that named a time is not asked before it: its key rests, and the caller hears how long."""
    for name in CALLERS:
        for stream in (False, True):
            body = CALLERS[name].body(kind, SCENARIOS["plain"], stream=stream)
            reply = await grid.post(CALLERS[name].path, body)
            assert reply.status == 200
            told = reply.headers.get("x-router-upstream-request-id", "")
            assert ONE_OF_EACH[kind] in WITHOUT_ID or told.startswith("req_"), (name, told)
    first = await grid.post(CALLERS["chat"].path, CALLERS["chat"].body(kind, LIMITED, stream=True))
    assert (first.status, first.error["code"]) == (429, "upstream_rate_limited")
    assert first.headers["retry-after"] == "9"
    for name, caller in CALLERS.items():
        again = await grid.post(caller.path, caller.body(kind, SCENARIOS["plain"], stream=name == "chat"))
        assert (again.status, caller.error_of(again)["code"]) == (429, "upstream_rate_limited"), name
        assert 1 <= int(again.headers["retry-after"]) <= 9
        assert await grid.bills(again.headers["x-request-id"]) == []
