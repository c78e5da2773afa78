"""What workers are told of batches, and what they do about them; the page and the lists of batches."""

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from celery.signals import before_task_publish, worker_shutting_down
from cryptography.fernet import Fernet
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from providers.fields import key_id_of, seal
from routerplatform.batches.running import batch_run, stopping
from routerplatform.batches.selectors import batch_told, batches_of, results_all, results_page
from routerplatform.batches.services import batch_claim, batch_create, batch_end, expired
from routerplatform.doors.batch_items import Said
from routerplatform.doors.formats.batch import Bounds, parse
from routerplatform.models import BatchItem, BatchJob, BatchState
from routerplatform.tasks import batches_queue, carry_on_batches, expire_batches, run_batch
from tests.factories import UserFactory, VirtualKeyFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/routerplatform/batchjob/"


def sent(chats: int = 2, **fields: Any) -> BatchJob:
    """A batch whose prompts nobody but its team may see."""
    key = VirtualKeyFactory()
    body = json.dumps({"prompts": ["my secret prompt"] * chats}).encode()
    batch = parse(body, Bounds(most_items=1000, most_parallel=8))
    job = batch_create(batch=batch, team_id=key.team_id, key_id=key.pk, said=Said(), now=timezone.now())
    BatchJob.objects.filter(pk=job.pk).update(**fields)
    job.refresh_from_db()
    return job


@pytest.fixture
def messages() -> Iterator[list[Any]]:
    """What is sent to the workers: name and arguments of each task."""
    heard: list[Any] = []

    def listen(sender: str = "", body: Any = None, **_: Any) -> None:
        heard.append((sender, body[0], body[1]))

    before_task_publish.connect(listen, weak=False)
    yield heard
    before_task_publish.disconnect(listen)


# --- the queue ----------------------------------------------------------------------------------------------------


def test_a_message_holds_the_id_of_a_batch_and_nothing_else(messages: list[Any]) -> None:
    job = sent()
    assert batches_queue() == 1
    [(task, arguments, named)] = messages
    assert (task, list(arguments), named) == ("routerplatform.tasks.run_batch", [str(job.pk)], {})


def test_the_next_round_tells_of_those_whose_message_was_lost(messages: list[Any]) -> None:
    job = sent()
    assert (carry_on_batches(), carry_on_batches()) == (1, 0)
    BatchJob.objects.update(queued_at=timezone.now() - timedelta(minutes=2))
    assert carry_on_batches() == 1
    assert [list(arguments) for _, arguments, _ in messages] == [[str(job.pk)]] * 2


def test_a_message_about_a_batch_that_is_over_or_gone_does_nothing() -> None:
    job = sent(state=BatchState.CANCELLED)
    assert run_batch(str(job.pk)) is False
    assert run_batch(str(uuid.uuid4())) is False


def test_a_worker_that_is_told_to_end_takes_nothing_up() -> None:
    job = sent(queued_at=timezone.now())
    worker_shutting_down.send(sender="worker")
    try:
        assert stopping.is_set()
        assert batch_run(job_id=job.pk) is False
    finally:
        stopping.clear()
    job.refresh_from_db()
    assert (job.state, job.queued_at) == ("waiting", None)  # another one hears of it at once


def test_what_is_over_its_time_goes_with_the_next_round(settings: Settings) -> None:
    settings.BATCH_KEPT_DAYS = 3
    for days in (2, 4):
        sent(state=BatchState.DONE, finished_at=timezone.now() - timedelta(days=days))
    assert (expire_batches(), expire_batches()) == (1, 0)
    assert (BatchJob.objects.count(), BatchItem.objects.count()) == (1, 2)


# --- what is kept -------------------------------------------------------------------------------------------------


def test_batches_are_sealed_anew_when_field_keys_are_changed(settings: Settings) -> None:
    job = sent()
    settings.FIELD_KEYS = [Fernet.generate_key().decode(), *settings.FIELD_KEYS]
    call_command("rotate_field_keys", stdout=StringIO())
    job.refresh_from_db()
    newest = key_id_of(seal("x"))
    assert {key_id_of(job.shared), *map(key_id_of, BatchItem.objects.values_list("asked", flat=True))} == {newest}
    settings.FIELD_KEYS = settings.FIELD_KEYS[:1]
    assert batch_claim(job_id=job.pk, now=timezone.now()) is not None


def test_looking_at_batches_costs_the_same_however_many_there_are() -> None:
    job = sent()
    with CaptureQueriesContext(connection) as few:
        [batch_told(one, now=timezone.now()) for one in batches_of(job.team_id)]
    for _ in range(4):
        BatchJob.objects.filter(pk=sent(chats=9).pk).update(team=job.team)
    with CaptureQueriesContext(connection) as many:
        found = [batch_told(one, now=timezone.now()) for one in batches_of(job.team_id)]
    assert (len(found), len(many), len(few)) == (5, 1, 1)
    assert "shared" not in many[0]["sql"].partition("FROM")[0]


def test_all_results_are_read_some_at_a_time_and_in_order() -> None:
    job = sent(chats=230)
    with CaptureQueriesContext(connection) as queries:
        rows = list(results_all(job.pk))
    assert [row["index"] for row in rows] == list(range(230))
    assert len(queries) == 4
    assert results_page(job.pk, after=228, limit=5) == rows[229:]
    assert rows[0] == {"index": 0, "custom_id": None, "status": "waiting", "request_id": None}


def test_what_ended_early_says_why_for_the_batch_and_for_each_chat_that_was_left() -> None:
    job = sent()
    work = batch_claim(job_id=job.pk, now=timezone.now())
    assert work is not None
    from_elsewhere = sent()
    error = expired(job.deadline_at)
    batch_end(lease=work.lease, state=BatchState.FAILED, error=error, now=timezone.now())
    job.refresh_from_db()
    told = batch_told(job, now=timezone.now())
    assert (told["state"], told["error"]) == ("failed", {"code": "batch_expired", "message": error.message})
    assert {row["error"]["message"] for row in results_page(job.pk, after=-1, limit=9)} == {error.message}
    from_elsewhere.refresh_from_db()
    assert from_elsewhere.state == "waiting"


# --- the admin ----------------------------------------------------------------------------------------------------


def person(*permissions: str) -> Client:
    user = UserFactory(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_nothing_that_was_asked_stands_in_the_admin() -> None:
    job = sent()
    client = person("view_batchjob")
    for address in (LIST, f"{LIST}{job.pk}/change/"):
        page = client.get(address)
        assert page.status_code == 200
        assert "secret prompt" not in page.content.decode()
        assert job.shared not in page.content.decode()


def test_who_may_only_look_cancels_nothing() -> None:
    job = sent()
    form = {"action": "cancel_all", "_selected_action": [str(job.pk)]}
    person("view_batchjob").post(LIST, form, follow=True)
    job.refresh_from_db()
    assert job.state == "waiting"
    person("view_batchjob", "change_batchjob").post(LIST, form, follow=True)
    job.refresh_from_db()
    assert (job.state, job.cancelled) == ("cancelled", 2)
    again = person("view_batchjob", "change_batchjob").post(LIST, form, follow=True)
    assert "Nothing was under way" in again.content.decode()


@pytest.mark.parametrize("state", BatchState.values)
def test_every_state_has_its_label(state: str) -> None:
    sent(state=state, started_at=timezone.now(), ok=1, failed=1, unpriced=1, error="Because.")
    page = person("view_batchjob").get(LIST).content.decode()
    assert BatchState(state).label in page
    assert "1 of unknown price" in page
