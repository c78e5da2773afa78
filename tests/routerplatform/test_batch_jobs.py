"""Batches in the background, over HTTP, with a worker's turn run in this process."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from providers.fields import seal
from routerplatform.batches import running
from routerplatform.batches.running import batch_run
from routerplatform.models import BatchItem, BatchJob
from routing.models import VirtualKey
from routing.services.access import key_revoke
from tests.doors.test_batch import PATH, echo, hang_for_a_moment, key_set
from tests.factories import TeamFactory, UserFactory, VirtualKeyFactory
from tests.gateway import HELLO, Gateway, key, records
from tests.gateway_path.changes import changed
from tests.gateway_path.test_hard_budgets import Limit, limit  # noqa: F401  # a fixture
from tests.stalls import PATIENCE_S, Stalls
from tests.upstreams.scripted import Upstream, hang, openai_answer


async def sent(gateway: Gateway, **body: Any) -> dict[str, Any]:
    """A batch for the workers; nobody has looked at it yet."""
    reply = await gateway.post(PATH, {"background": True, **body})
    assert reply.status == 202, reply.body
    assert reply.headers["location"] == f"{PATH}/{reply.json['id']}"
    return reply.json


async def worked(job: dict[str, Any]) -> bool:
    """A worker's turn at it, to its end."""

    def turn() -> bool:
        try:
            return batch_run(job_id=uuid.UUID(job["id"]))
        finally:
            connection.close()

    return await sync_to_async(turn, thread_sensitive=False)()


async def told(gateway: Gateway, job: dict[str, Any]) -> dict[str, Any]:
    return (await gateway.get(f"{PATH}/{job['id']}")).json


async def results(gateway: Gateway, job: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await gateway.get(f"{PATH}/{job['id']}/results")).json["data"]
    return rows


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - somebody else's doing
            await asyncio.sleep(0.02)


async def test_a_batch_in_the_background_ends_with_what_a_chat_would_have_answered(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(echo())
    requests = [{"custom_id": f"n{i}", "prompt": f"say {i}"} for i in range(6)] + [{"prompt": "x", "temperature": 9}]
    job = await sent(gateway, requests=requests, model="swift", max_parallel=3)
    assert (job["object"], job["state"], job["counts"]["left"]) == ("batch.job", "waiting", 7)
    assert (job["seconds_left"], job["total_cost_usd"]) == (None, "0.00")
    assert {row["status"] for row in await results(gateway, job)} == {"waiting"}

    assert await worked(job)

    over = await told(gateway, job)
    assert (over["state"], over["error"], over["seconds_left"]) == ("done", None, 0.0)
    assert over["counts"] == {"total": 7, "ok": 6, "error": 1, "cancelled": 0, "left": 0}
    assert (over["total_cost"], over["total_cost_usd"], over["unpriced"]) == (132e-6, "0.000132", 0)
    assert over["usage"] == {"input_tokens": 72, "output_tokens": 30, "cache_read_input_tokens": 0}
    rows = await results(gateway, job)
    assert [row["index"] for row in rows] == list(range(7))
    assert [row["response"]["content"] for row in rows[:6]] == [f"say {i}" for i in range(6)]
    assert rows[6]["error"]["param"] == "temperature"
    assert "earlier_request_ids" not in rows[0]
    chat = (await gateway.post("/api/v1/chat", {"model": "swift", "messages": HELLO})).json
    assert rows[0]["response"].keys() == chat.keys()
    found = await records(7)
    assert [record.door for record in found] == ["batch"] * 6 + ["rest"]
    assert {str(record.request_id) for record in found[:6]} == {row["request_id"] for row in rows[:6]}


async def test_results_come_in_pages_and_as_lines(gateway: Gateway) -> None:
    job = await sent(gateway, prompts=["a", "b", "c"])
    await worked(job)
    first = (await gateway.get(f"{PATH}/{job['id']}/results?limit=2")).json
    rest = (await gateway.get(f"{PATH}/{job['id']}/results?limit=2&starting_after=1")).json
    assert [(len(page["data"]), page["has_more"]) for page in (first, rest)] == [(2, True), (1, False)]
    lines = await gateway.get(f"{PATH}/{job['id']}/results.jsonl")
    assert lines.headers["content-type"] == "application/jsonl"
    assert [json.loads(line) for line in lines.body.splitlines()] == first["data"] + rest["data"]
    assert (await gateway.get(f"{PATH}/{job['id']}/results?limit=0")).error["param"] == "limit"


async def test_a_large_batch_goes_to_the_workers_and_its_repetition_is_the_same_one(
    gateway: Gateway, settings: Settings
) -> None:
    settings.BATCH_INLINE_MAX = 2
    bodies = [await gateway.post(PATH, {"prompts": ["a"] * 3}, extra={"idempotency-key": "large"}) for _ in range(2)]
    assert [reply.status for reply in bodies] == [202, 202]
    assert bodies[0].json == bodies[1].json
    assert await sync_to_async(BatchJob.objects.count)() == 1


async def test_the_list_has_the_teams_batches_the_latest_first(gateway: Gateway) -> None:
    jobs = [await sent(gateway, prompts=["a"]) for _ in range(3)]
    page = (await gateway.get(f"{PATH}?limit=2")).json
    assert [job["id"] for job in page["data"]] == [jobs[2]["id"], jobs[1]["id"]]
    rest = (await gateway.get(f"{PATH}?starting_after={jobs[1]['id']}")).json
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == ([jobs[0]["id"]], False)
    for nonsense in ("x", str(uuid.uuid4())):
        assert (await gateway.get(f"{PATH}?starting_after={nonsense}")).error["param"] == "starting_after"


async def test_another_teams_batch_is_not_there(gateway: Gateway) -> None:
    job = await sent(gateway, prompts=["a"])
    stranger = ""

    def invite() -> None:
        nonlocal stranger
        stranger = key(2, TeamFactory())

    await changed(gateway, invite)
    for path in ("", "/results", "/results.jsonl"):
        reply = await gateway.get(f"{PATH}/{job['id']}{path}", key=stranger)
        assert (reply.status, reply.error["code"]) == (404, "not_found")
    assert (await gateway.post(f"{PATH}/{job['id']}/cancel", {}, key=stranger)).status == 404
    assert (await gateway.get(PATH, key=stranger)).json["data"] == []
    assert (await gateway.get(f"{PATH}?starting_after={job['id']}", key=stranger)).status == 400
    assert (await told(gateway, job))["state"] == "waiting"
    assert (await gateway.get(f"{PATH}/{job['id']}", key="rp_wrong")).status == 401


async def test_nothing_of_it_can_be_read_in_the_database(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(echo())
    body = {"prompts": ["my secret prompt"], "system": "my secret prompt", "background": True}
    job = (await gateway.post(PATH, body, extra={"x-own": "my secret prompt"})).json
    await worked(job)

    def columns() -> str:
        return str([list(BatchJob.objects.values()), list(BatchItem.objects.values())])

    text = await sync_to_async(columns)()
    assert "my secret" not in text
    assert gateway.key not in text
    assert (await results(gateway, job))[0]["response"]["content"] == "my secret prompt"


async def test_a_budget_of_nothing_refuses_each_of_them(gateway: Gateway, limit: Limit) -> None:  # noqa: F811
    await limit("0")
    job = await sent(gateway, prompts=["a", "b"])
    await worked(job)
    assert (await told(gateway, job))["counts"]["error"] == 2
    assert {row["error"]["code"] for row in await results(gateway, job)} == {"insufficient_quota"}


async def test_those_that_meet_a_rate_limit_wait_for_their_turn(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(hang_for_a_moment(0.1))
    await key_set(gateway, max_parallel_requests=1)
    job = await sent(gateway, prompts=["a", "b", "c"], max_parallel=3, model="swift")
    await worked(job)
    assert (await told(gateway, job))["counts"]["ok"] == 3


async def test_with_a_revoked_key_the_rest_fails(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_answer(), hang_for_a_moment(1.5))
    job = await sent(gateway, prompts=["x"] * 40, max_parallel=1, model="swift")
    turn = asyncio.create_task(worked(job))
    await openai_upstream.asked(2)
    other = ""

    def revoke() -> None:
        nonlocal other
        known = VirtualKey.objects.get()
        other = key(2, known.team)
        key_revoke(key=known, by=UserFactory())

    await sync_to_async(revoke)()
    await asyncio.wait_for(turn, PATIENCE_S)
    gateway.key = other  # of the same team

    async def is_known() -> bool:
        return (await gateway.get(PATH)).status == 200

    await until(is_known)
    over = await told(gateway, job)
    assert (over["state"], over["error"]["code"]) == ("failed", "invalid_api_key")
    assert over["counts"]["left"] == 0
    assert over["counts"]["ok"] in {2, 3, 4}
    assert (await results(gateway, job))[-1]["error"]["code"] == "invalid_api_key"
    assert len(openai_upstream.calls) == over["counts"]["ok"]


async def test_cancelling_stops_what_runs_within_two_seconds_and_bills_it(
    gateway: Gateway, openai_upstream: Upstream, stalls: Stalls
) -> None:
    openai_upstream.play(openai_answer(), hang())
    job = await sent(gateway, prompts=["x"] * 9, max_parallel=2, model="swift")
    turn = asyncio.create_task(worked(job))
    await openai_upstream.asked(3)
    watch = stalls.watch()
    assert (await gateway.post(f"{PATH}/{job['id']}/cancel", {})).status == 200
    await asyncio.wait_for(openai_upstream.calls[-1].cut.wait(), PATIENCE_S)
    assert watch.seconds <= 2
    await asyncio.wait_for(turn, PATIENCE_S)
    over = await told(gateway, job)
    assert over["state"] == "cancelled"
    assert over["counts"] == {"total": 9, "ok": 1, "error": 0, "cancelled": 8, "left": 0}
    found = await records(3)
    assert sorted(record.state for record in found) == ["cancelled", "cancelled", "settled"]
    assert over["total_cost"] == pytest.approx(sum(record.cost_nano or 0 for record in found) / 1e9)
    assert len(openai_upstream.calls) == 3


async def test_one_that_waits_is_cancelled_at_once_and_stays_so(gateway: Gateway, openai_upstream: Upstream) -> None:
    job = await sent(gateway, prompts=["x"] * 3)
    reply = await gateway.post(f"{PATH}/{job['id']}/cancel", {})
    assert (reply.json["state"], reply.json["counts"]["cancelled"]) == ("cancelled", 3)
    assert not await worked(job)
    assert (await gateway.post(f"{PATH}/{job['id']}/cancel", {})).json == reply.json
    assert openai_upstream.calls == []


async def test_a_worker_that_is_told_to_end_leaves_the_rest_to_others(
    gateway: Gateway, openai_upstream: Upstream, letting_go: None
) -> None:
    openai_upstream.play(openai_answer(), hang(), openai_answer())
    job = await sent(gateway, prompts=["x"] * 3, max_parallel=1, model="swift")
    turn = asyncio.create_task(worked(job))
    await openai_upstream.asked(2)
    running.stopping.set()
    assert await asyncio.wait_for(turn, PATIENCE_S)
    half = await told(gateway, job)
    assert (half["state"], half["counts"]["ok"], half["counts"]["left"]) == ("running", 1, 2)
    assert not await worked(job)  # this one takes nothing up any more
    running.stopping.clear()
    assert await worked(job)
    over = await told(gateway, job)
    assert (over["state"], over["counts"]["ok"]) == ("done", 3)
    [again] = [row for row in await results(gateway, job) if "earlier_request_ids" in row]
    found = await records(4)
    [cut] = [record for record in found if record.state == "cancelled"]
    assert again["earlier_request_ids"] == [str(cut.request_id)]
    assert over["total_cost"] == pytest.approx(sum(record.cost_nano or 0 for record in found) / 1e9)


async def test_what_has_not_begun_when_its_time_is_over_fails(gateway: Gateway, openai_upstream: Upstream) -> None:
    job = await sent(gateway, prompts=["x"] * 3)
    await sync_to_async(BatchJob.objects.update)(deadline_at=timezone.now() - timedelta(seconds=1))
    assert not await worked(job)
    over = await told(gateway, job)
    assert (over["state"], over["error"]["code"], over["counts"]["error"]) == ("failed", "batch_expired", 3)
    assert openai_upstream.calls == []


async def test_a_batch_that_cannot_be_opened_any_more_fails(gateway: Gateway, settings: Settings) -> None:
    job = await sent(gateway, prompts=["x"] * 2)
    foreign = seal("x").replace(seal("x").partition(":")[0], "00000000")
    await sync_to_async(BatchItem.objects.update)(asked=foreign)
    assert await worked(job)
    over = await told(gateway, job)
    assert (over["state"], over["error"]["code"]) == ("failed", "internal_error")


async def test_a_team_may_have_so_many_under_way(gateway: Gateway) -> None:
    job = await sent(gateway, prompts=["x"])

    def fill() -> None:
        row = BatchJob.objects.get(pk=job["id"])
        for _ in range(99):
            row.pk = uuid.uuid4()
            row.save(force_insert=True)

    await sync_to_async(fill)()
    reply = await gateway.post(PATH, {"prompts": ["x"], "background": True})
    assert (reply.status, reply.error["code"]) == (429, "rate_limit_exceeded")


@pytest.mark.django_db
def test_the_admin_shows_how_far_it_is_and_cancels(client: Client) -> None:
    owner = VirtualKeyFactory()
    job = BatchJob.objects.create(
        id=uuid.uuid4(), team=owner.team, key=owner, shared=seal("{}"), max_parallel=8, total=1500, ok=300,
        deadline_at=timezone.now(),
    )  # fmt: skip
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    address = "/admin/routerplatform/batchjob/"
    page = client.get(address).content.decode()
    assert "300 of 1,500" in page
    assert owner.team.name in page
    assert client.get(f"{address}{job.pk}/change/").status_code == 200
    done = client.post(address, {"action": "cancel_all", "_selected_action": [str(job.pk)]}, follow=True)
    assert "1 cancelled" in done.content.decode()
    job.refresh_from_db()
    assert job.state == "cancelled"


@pytest.fixture
def letting_go() -> Iterator[None]:
    """Whatever happens, the worker of the next test is not told to end."""
    yield
    running.stopping.clear()
