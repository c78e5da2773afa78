"""A body just below the limit reaches every vendor whole, in its own words."""

import base64

import pytest

from tests.conformance.callers import CALLERS
from tests.conformance.installation import ONE_OF_EACH, Grid
from tests.conformance.scenarios import Image, Scenario, user

pytestmark = pytest.mark.asyncio(loop_scope="module")

LARGE = base64.b64encode(bytes(14 * 1024 * 1024)).decode()  # close to the 20 MiB that a body may have
PICTURE = Scenario((user("[[say=All black]] What is it?", images=(Image(data=LARGE),)),), says="All black")


@pytest.mark.parametrize("kind", [kind for kind in ONE_OF_EACH if kind != "vllm"])
async def test_a_large_picture_arrives_over_every_wire(grid: Grid, kind: str) -> None:
    caller = CALLERS["chat"]
    reply = await grid.post_large(caller.path, caller.body(kind, PICTURE, stream=False))
    assert reply.status == 200, reply.body[:300]
    assert caller.read(reply).text == "All black"
    request_id = reply.headers["x-request-id"]
    record = (await grid.records({request_id}))[request_id]
    [bill] = await grid.bills(request_id)
    assert record.input_tokens == bill["input_tokens"] < 1_000


@pytest.mark.parametrize("name", CALLERS)
async def test_a_body_over_the_limit_is_refused_in_the_callers_own_shape(grid: Grid, name: str) -> None:
    caller = CALLERS[name]
    scenario = Scenario((user("x" * 22_000_000),), is_text=True)
    reply = await grid.post_large(caller.path, caller.body("openai", scenario, stream=False))
    assert reply.status == 413
    assert caller.error_of(reply)["code"] == "request_too_large"
