"""What may go wrong while a batch runs: the database away, a queue that takes nothing, keys and teams switched off,
what nobody can read. Nothing that was paid for is lost, and what a batch says it has cost is what is on record."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.db import connection, models
from django.utils import timezone
from kombu import Connection, pools
from pytest_django import Settings

from analytics.models import UsageRecord
from providers.fields import seal
from routerplatform.batches.keeping import opened, sealed
from routerplatform.celery import app
from routerplatform.models import BatchItem, BatchJob, BatchState
from routerplatform.tasks import batches_queue
from routing.models import Team, VirtualKey
from tests.doors.test_batch import PATH, echo
from tests.factories import key_text_of
from tests.gateway import HELLO, Gateway, key, records
from tests.gateway_path.changes import changed, price_forget
from tests.routerplatform.test_batch_jobs import results, sent, told, until, worked
from tests.routerplatform.test_batch_tasks import sent as made
from tests.stalls import PATIENCE_S
from tests.upstreams.scripted import Upstream, drop, frames, hang, openai_answer, status

FOREIGN = "00000000" + seal("x")[8:]  # of a field key that nobody has


async def check_money(gateway: Gateway, job: dict[str, Any], count: int) -> list[UsageRecord]:
    """The sums of a batch are those of its records."""
    found, over = await records(count), await told(gateway, job)
    assert len(found) == count
    assert over["total_cost_usd"].rstrip("0") == f"{sum(record.cost_nano or 0 for record in found) / 1e9:f}".rstrip("0")
    assert over["total_cost"] == pytest.approx(sum(record.cost_nano or 0 for record in found) / 1e9)
    assert over["unpriced"] == sum(record.cost_nano is None for record in found)
    assert over["usage"]["output_tokens"] == sum(record.output_tokens for record in found)
    assert over["usage"]["input_tokens"] == sum(record.input_tokens for record in found)
    rows = await results(gateway, job)
    named = [id for row in rows for id in (*row.get("earlier_request_ids", ()), row["request_id"]) if id]
    assert {str(record.request_id) for record in found} <= set(named), "each can be found from its chat"
    counts = over["counts"]
    assert counts["ok"] + counts["error"] + counts["cancelled"] + counts["left"] == counts["total"]
    return found


# --- money --------------------------------------------------------------------------------------------------------


async def test_what_failed_fell_back_or_broke_off_is_in_the_sum(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(
        status(400, {"error": {"message": "no"}}),
        status(500),  # sage answers
        drop(),
        openai_answer(usage=None),
        frames(b'{"choices": [', content_type="application/json"),
        openai_answer(),
    )
    job = await sent(gateway, prompts=["x"] * 6, max_parallel=1)
    await worked(job)
    await check_money(gateway, job, 6)
    assert (await told(gateway, job))["state"] == "done"


async def test_a_price_that_nobody_knows_is_counted_and_not_added(gateway: Gateway) -> None:
    await changed(gateway, lambda: price_forget("alpha"))
    requests = [{"model": model} for model in ("swift", "sage", "swift")]
    job = await sent(gateway, requests=requests, messages=HELLO)
    await worked(job)
    await check_money(gateway, job, 3)
    over = await told(gateway, job)
    assert (over["unpriced"], over["total_cost_usd"]) == (2, "0.000022")


@pytest.mark.skipif(not django_settings.REDIS_URL, reason="answers are kept in Redis")
async def test_what_the_cache_answers_costs_nothing(gateway: Gateway, openai_upstream: Upstream) -> None:
    body = {"prompts": [f"equal {uuid.uuid4()}"] * 4, "model": "swift", "temperature": 0, "max_parallel": 1}
    reply = await gateway.post(PATH, {**body, "background": True}, extra={"x-router-cache": "on"})
    await worked(reply.json)
    await check_money(gateway, reply.json, 4)
    assert len(openai_upstream.calls) == 1
    assert (await told(gateway, reply.json))["total_cost_usd"] == "0.000022"


async def test_tries_at_a_provider_without_room_are_all_in_the_sum_and_all_named(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    full = status(429, {"error": {"message": "slow down"}}, {"retry-after": "0.2"})
    openai_upstream.play(full, full, openai_answer())
    job = await sent(gateway, prompts=["a"], model="swift")
    await worked(job)
    found = await check_money(gateway, job, 3)
    [row] = await results(gateway, job)
    assert row["earlier_request_ids"] == [str(record.request_id) for record in found[:2]]
    assert row["request_id"] == row["response"]["id"] == str(found[2].request_id)


async def test_cancelling_in_the_middle_of_answers_loses_no_cent(gateway: Gateway, openai_upstream: Upstream) -> None:
    openai_upstream.play(openai_answer(), openai_answer(usage=None), hang())
    job = await sent(gateway, prompts=["x"] * 30, max_parallel=8, model="swift")
    turn = asyncio.create_task(worked(job))
    await openai_upstream.asked(10)
    await gateway.post(f"{PATH}/{job['id']}/cancel", {})
    await asyncio.wait_for(turn, PATIENCE_S)
    over = await told(gateway, job)
    assert (over["state"], over["counts"]["left"]) == ("cancelled", 0)
    found = await check_money(gateway, job, 10)
    assert [record.state for record in found].count("cancelled") == 8


# --- the database, and the queue ----------------------------------------------------------------------------------


@contextmanager
def gone(model: type[models.Model]) -> Iterator[None]:
    """A table that is not there, as if the database were away for those who ask for it."""
    name = model._meta.db_table
    with connection.schema_editor() as editor:
        editor.alter_db_table(model, name, f"{name}_away")
    try:
        yield
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(model, f"{name}_away", name)


async def test_a_database_that_is_away_for_a_while_costs_no_answer(
    gateway: Gateway, openai_upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    openai_upstream.play(echo())
    job = await sent(gateway, prompts=[f"say {i}" for i in range(40)], max_parallel=2, model="swift")
    turn = asyncio.create_task(worked(job))
    await openai_upstream.asked(3)
    away = gone(BatchItem)
    await sync_to_async(away.__enter__)()
    try:

        async def waits() -> bool:
            return "waits for the database" in caplog.text

        await until(waits)
        reply = await gateway.get(f"{PATH}/{job['id']}/results")
        assert (reply.status, reply.error["code"]) == (503, "unavailable")
        assert "database" in reply.error["message"]
    finally:
        await sync_to_async(away.__exit__)(None, None, None)
    await asyncio.wait_for(turn, PATIENCE_S)
    assert (await told(gateway, job))["counts"]["ok"] == 40
    assert [row["response"]["content"] for row in await results(gateway, job)] == [f"say {i}" for i in range(40)]
    assert len(openai_upstream.calls) == 40, "nothing was asked twice"
    await check_money(gateway, job, 40)


async def test_a_batch_that_cannot_be_kept_is_refused_and_nothing_of_it_is_there(gateway: Gateway) -> None:
    away = gone(BatchItem)
    await sync_to_async(away.__enter__)()
    try:
        reply = await gateway.post(PATH, {"prompts": ["x"], "background": True})
    finally:
        await sync_to_async(away.__exit__)(None, None, None)
    assert (reply.status, reply.error["code"]) == (503, "unavailable")
    assert await sync_to_async(BatchJob.objects.count)() == 0


@pytest.fixture
def full_queue(tmp_path: Path) -> Iterator[None]:
    """A queue in a folder that takes no message: a file stands there."""
    place = tmp_path / "no-folder"
    place.write_text("x")
    folders = dict.fromkeys(("data_folder_in", "data_folder_out", "control_folder"), str(place / "queue"))
    before = app.amqp.producer_pool
    app.amqp._producer_pool = pools.producers[Connection("filesystem://", transport_options=folders)]
    yield
    app.amqp._producer_pool = before


@pytest.mark.django_db
def test_a_queue_that_takes_nothing_keeps_no_batch_from_the_next_round(full_queue: None) -> None:
    job = made()
    assert batches_queue() == 0
    job.refresh_from_db()
    assert (job.state, job.queued_at) == ("waiting", None)


async def test_a_batch_is_accepted_though_its_queue_takes_nothing(full_queue: None, gateway: Gateway) -> None:
    job = await sent(gateway, prompts=["a"])
    assert (await told(gateway, job))["state"] == "waiting"
    assert await worked(job)


# --- who asks -----------------------------------------------------------------------------------------------------


async def test_the_batch_of_a_team_that_is_switched_off_fails_and_asks_nobody(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    job = await sent(gateway, prompts=["x"] * 3)

    def switch_off() -> None:
        team = Team.objects.get()
        team.is_active = False
        team.save()

    await changed(gateway, switch_off)
    assert await worked(job)
    row = await sync_to_async(BatchJob.objects.get)()
    assert (row.state, row.error_code, row.failed) == ("failed", "invalid_api_key", 3)
    assert "revoked" in row.error
    assert openai_upstream.calls == []
    assert (await gateway.get(PATH)).status == 401


async def test_a_key_that_has_lost_its_scope_ends_the_batch_with_that(gateway: Gateway) -> None:
    job = await sent(gateway, prompts=["x"] * 2)

    def narrow() -> None:
        known = VirtualKey.objects.get()
        known.scopes = ["models"]
        known.save()
        key(2, known.team)

    await changed(gateway, narrow)
    await worked(job)
    gateway.key = key_text_of(2)
    over = await told(gateway, job)
    assert (over["state"], over["error"]["code"], over["counts"]["error"]) == ("failed", "permission_denied", 2)


async def test_a_batch_that_is_deleted_while_it_runs_is_let_go_and_what_ran_is_on_record(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    openai_upstream.play(hang())
    job = await sent(gateway, prompts=["x"] * 3, max_parallel=2, model="swift")
    turn = asyncio.create_task(worked(job))
    await openai_upstream.asked(2)
    await sync_to_async(BatchJob.objects.all().delete)()
    await asyncio.wait_for(turn, PATIENCE_S)
    assert {record.state for record in await records(2)} == {"cancelled"}
    assert (await gateway.get(f"{PATH}/{job['id']}")).status == 404


async def test_two_workers_at_one_batch_ask_each_chat_once(gateway: Gateway, openai_upstream: Upstream) -> None:
    job = await sent(gateway, prompts=["x"] * 20, model="swift", max_parallel=4)
    turns = await asyncio.gather(*(worked(job) for _ in range(3)))
    assert sorted(turns) == [False, False, True]
    over = await told(gateway, job)
    if over["state"] == "running":  # one that was busy came after
        await worked(job)
    assert (await told(gateway, job))["counts"]["ok"] == 20
    assert len(openai_upstream.calls) == 20


# --- what nobody can read -----------------------------------------------------------------------------------------


async def test_what_was_answered_before_an_unreadable_chat_is_kept(gateway: Gateway, openai_upstream: Upstream) -> None:
    job = await sent(gateway, prompts=["x"] * 5, model="swift", max_parallel=1)
    await sync_to_async(BatchItem.objects.filter(index=2).update)(asked=FOREIGN)
    await worked(job)
    over = await told(gateway, job)
    assert (over["state"], over["error"]["code"]) == ("failed", "internal_error")
    assert (over["counts"]["ok"], over["counts"]["error"]) == (2, 3)
    await check_money(gateway, job, 2)
    assert [row["status"] for row in await results(gateway, job)] == ["ok", "ok", "error", "error", "error"]


@pytest.mark.parametrize("shared", [FOREIGN, sealed("nothing of this kind")], ids=["foreign", "damaged"])
async def test_a_batch_whose_common_part_nobody_can_read_ends(gateway: Gateway, shared: str) -> None:
    job = await sent(gateway, prompts=["x"] * 2)
    await sync_to_async(BatchJob.objects.update)(shared=shared)
    assert not await worked(job)
    over = await told(gateway, job)
    assert (over["state"], over["error"]["code"], over["counts"]["error"]) == ("failed", "internal_error", 2)
    assert over["finished_at"]


async def test_halves_of_characters_in_what_a_vendor_says_are_no_obstacle(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "so \ud83d"}, "finish_reason": "stop"}
    refusal = {"error": {"message": "bad \ud83d prompt"}}
    openai_upstream.play(status(200, {"id": "c", "choices": [choice]}), status(400, refusal))
    for is_background in (True, False):
        body = {"prompts": ["a", "b"], "model": "swift", "max_parallel": 1, "background": is_background}
        reply = await gateway.post(PATH, body)
        if is_background:
            await worked(reply.json)
            rows = await results(gateway, reply.json)
        else:
            rows = reply.json["results"]
        assert [row["status"] for row in rows] == ["ok", "error"] if is_background else ["error", "error"]
        assert "bad" in rows[1]["error"]["message"]


async def test_without_a_configuration_no_chat_is_given_up(gateway: Gateway, openai_upstream: Upstream) -> None:
    job = await sent(gateway, prompts=["x"] * 3, model="swift")
    away = gone(Team)
    await sync_to_async(away.__enter__)()
    try:
        assert not await worked(job)
    finally:
        await sync_to_async(away.__exit__)(None, None, None)
    half = await told(gateway, job)
    assert (half["state"], half["counts"]["left"]) == ("running", 3)
    assert await worked(job)
    assert (await told(gateway, job))["counts"]["ok"] == 3


# --- many, and odd ------------------------------------------------------------------------------------------------


async def test_ten_thousand_chats_are_taken_in_counted_paged_and_cancelled(gateway: Gateway) -> None:
    prompts = [f"Grüße {i} \U0001f600" for i in range(10_000)]
    job = await sent(gateway, prompts=prompts)
    assert job["counts"] == {"total": 10_000, "ok": 0, "error": 0, "cancelled": 0, "left": 10_000}
    page = (await gateway.get(f"{PATH}/{job['id']}/results?limit=200&starting_after=9898")).json
    assert ([row["index"] for row in page["data"]], page["has_more"]) == (list(range(9_899, 10_000)), False)
    over = (await gateway.post(f"{PATH}/{job['id']}/cancel", {})).json
    assert (over["state"], over["counts"]["cancelled"]) == ("cancelled", 10_000)
    lines = await gateway.get(f"{PATH}/{job['id']}/results.jsonl")
    assert lines.body.count(b'"status":"cancelled"') == 10_000
    last = await sync_to_async(BatchItem.objects.get)(index=9_999)
    assert opened(last.asked, dict[str, str]) == {"prompt": prompts[-1]}
    more = await gateway.post(PATH, {"prompts": ["x"] * (django_settings.BATCH_MAX_ITEMS + 1)})
    assert (more.status, more.error["param"]) == (400, "prompts")


@pytest.mark.parametrize(
    "cursor", ["-1", "1.5", "1e3", "²", "%00", "9" * 30, "2147483648", "' OR 1=1", "null", "0x10", "%F0%9F%98%80"]
)
async def test_a_forged_place_in_the_results_is_refused_by_its_name(gateway: Gateway, cursor: str) -> None:
    job = await sent(gateway, prompts=["x"])
    reply = await gateway.get(f"{PATH}/{job['id']}/results?starting_after={cursor}")
    assert (reply.status, reply.error["param"]) == (400, "starting_after")
    listed = await gateway.get(f"{PATH}?starting_after={cursor}")
    assert (listed.status, listed.error["param"]) == (400, "starting_after")


@pytest.mark.parametrize("path", ["", "/results", "/results.jsonl", "/cancel"])
@pytest.mark.parametrize("id", ["x", "1", "00000000-0000-0000-0000-000000000000", "%00", "../models"])
async def test_what_is_no_batch_is_not_found(gateway: Gateway, path: str, id: str) -> None:
    asking = gateway.post(f"{PATH}/{id}{path}", {}) if path == "/cancel" else gateway.get(f"{PATH}/{id}{path}")
    assert (await asking).status in {404, 405}


async def test_a_batch_is_cancelled_in_every_state_and_only_one_that_is_open_changes(gateway: Gateway) -> None:
    job = await sent(gateway, prompts=["x"] * 2)

    def put(state: str) -> None:
        BatchJob.objects.update(state=state, worker=None, leased_until=None, wants_cancel=False, cancelled=0)
        BatchItem.objects.update(state="waiting")

    for state in BatchState.values:
        await sync_to_async(put)(state)
        reply = await gateway.post(f"{PATH}/{job['id']}/cancel", {})
        is_open = state in {"waiting", "running"}
        assert reply.status == 200
        assert reply.json["state"] == ("cancelled" if is_open else state)
        assert reply.json["counts"]["cancelled"] == (2 if is_open else 0)


async def test_one_that_was_cancelled_while_it_changed_hands_ends_as_soon_as_somebody_looks(gateway: Gateway) -> None:
    job = await sent(gateway, prompts=["x"] * 2)
    await sync_to_async(BatchJob.objects.update)(wants_cancel=True, state="running")
    assert not await worked(job)
    over = await told(gateway, job)
    assert (over["state"], over["error"], over["counts"]["cancelled"]) == ("cancelled", None, 2)


async def test_a_clock_that_is_set_back_tells_no_negative_time(gateway: Gateway) -> None:
    job = await sent(gateway, prompts=["x"] * 2)
    ahead = timezone.now() + timedelta(hours=1)
    await sync_to_async(BatchJob.objects.update)(state="running", started_at=ahead, ok=1)
    assert (await told(gateway, job))["seconds_left"] == 0.0


async def test_a_repetition_with_a_key_is_the_same_batch_and_another_body_is_refused(
    gateway: Gateway, settings: Settings
) -> None:
    once = {"idempotency-key": "night"}
    first = await gateway.post(PATH, {"prompts": ["a"], "background": True}, extra=once)
    again = await gateway.post(PATH, {"prompts": ["a"], "background": True}, extra=once)
    other = await gateway.post(PATH, {"prompts": ["b"], "background": True}, extra=once)
    assert (first.status, again.status, other.status) == (202, 202, 422)
    assert (again.body, again.headers["location"]) == (first.body, first.headers["location"])
    assert again.headers["idempotent-replayed"] == "true"
    assert await sync_to_async(BatchJob.objects.count)() == 1
