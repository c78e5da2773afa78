"""Scheduled jobs in the admin: how often they run, when they are started by hand, and what is refused."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from analytics.schedule import JOBS, schedule_ensure
from providers.admin.pages import change_url, list_url
from routerplatform.celery import app
from tests.admin_pages import errors_of, page_of, submit, submit_new
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(db: None) -> PeriodicTask:
    schedule_ensure()
    found: PeriodicTask = PeriodicTask.objects.get(name=JOBS[0].name)
    return found


@pytest.fixture
def queue() -> Iterator[None]:
    """What a test puts into the workers' queue is taken out again: nobody works here."""
    yield
    app.control.purge()


def act(client: Client, action: str, *rows: PeriodicTask) -> str:
    chosen = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(list_url(PeriodicTask), chosen, follow=True).content.decode()


@pytest.mark.usefixtures("queue")
def test_a_job_is_started_by_hand(admin_client: Client, job: PeriodicTask) -> None:
    assert "1 task was successfully run" in act(admin_client, "run_tasks", job)


def test_a_job_whose_task_is_gone_is_not_started_and_named(admin_client: Client, job: PeriodicTask) -> None:
    PeriodicTask.objects.filter(pk=job.pk).update(task="analytics.tasks.gone")
    assert "analytics.tasks.gone" in act(admin_client, "run_tasks", job)


@pytest.mark.usefixtures("queue")
def test_a_check_of_the_providers_is_put_into_the_queue_by_staff(client: Client) -> None:
    client.force_login(UserFactory(is_staff=True))
    answer = client.post("/dashboards/providers/check/")
    assert answer.headers["Location"] == "/dashboards/providers/?checking"
    page = client.get(answer.headers["Location"]).content.decode()
    assert "asked to check the providers" in page
    assert 'http-equiv="refresh"' in page
    assert 'http-equiv="refresh"' not in client.get("/dashboards/providers/").content.decode()


def test_a_change_of_the_pace_reaches_beat(admin_client: Client, job: PeriodicTask) -> None:
    """Beat reads its table again when this row says that something changed."""
    before = PeriodicTasks.last_change()
    hourly = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.HOURS)
    answer = submit(admin_client, change_url(job), interval=hourly.pk)
    assert answer.status_code == 302, errors_of(answer)
    job.refresh_from_db()
    assert job.interval == hourly
    assert PeriodicTasks.last_change() > before


def test_what_runs_when_is_said_in_words(admin_client: Client, job: PeriodicTask) -> None:
    nightly = CrontabSchedule.objects.create(minute="30", hour="3")
    PeriodicTask.objects.filter(pk=job.pk).update(interval=None, crontab=nightly)
    page = admin_client.get(list_url(PeriodicTask)).content.decode()
    assert "At 03:30" in page
    assert "every hour" in page or "every 3600 seconds" in page
    assert ">never</span>" in page


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"interval": ""}, "must be set"),
        ({"interval": "999999"}, "Select a valid choice"),
        ({"crontab": "nightly"}, "Only one of"),
    ],
)
def test_a_job_has_one_pace(admin_client: Client, job: PeriodicTask, fields: dict[str, Any], said: str) -> None:
    if fields.get("crontab"):
        fields = {"crontab": CrontabSchedule.objects.create(minute="1").pk}
    answer = submit(admin_client, change_url(job), **fields)
    assert answer.status_code == 200
    assert said in errors_of(answer)


@pytest.mark.parametrize("every", ["0", "-1", "often", ""])
def test_an_interval_is_a_whole_number_of_something(admin_client: Client, every: str) -> None:
    answer = submit_new(admin_client, f"{list_url(IntervalSchedule)}add/", every=every, period="seconds")
    assert answer.status_code == 200
    assert not IntervalSchedule.objects.filter(period="seconds", every__lte=0).exists()


@pytest.mark.parametrize("fields", [{"minute": "60"}, {"hour": "x"}, {"day_of_month": "32"}, {"month_of_year": "13"}])
def test_a_time_that_no_clock_shows_is_refused(admin_client: Client, fields: dict[str, str]) -> None:
    answer = submit_new(admin_client, f"{list_url(CrontabSchedule)}add/", **fields)
    assert answer.status_code == 200
    assert not CrontabSchedule.objects.filter(**fields).exists()


def test_name_and_task_of_a_job_are_the_codes(admin_client: Client, job: PeriodicTask) -> None:
    submit(admin_client, change_url(job), name="Renamed", task="os.system", description="Ours")
    job.refresh_from_db()
    assert (job.name, job.task, job.description) == (JOBS[0].name, JOBS[0].task, "Ours")
    assert admin_client.post(page_of(job, "delete"), {"post": "yes"}).status_code == 403


# --- people -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"username": ""}, "This field is required"),
        ({"username": "taken"}, "already exists"),
        ({"username": "two words"}, "Enter a valid username"),
        ({"password2": "another password 1"}, "didn’t match"),
        ({"password1": "12345678", "password2": "12345678"}, "too common"),
        ({"password1": "short", "password2": "short"}, "too short"),
    ],
)
def test_a_person_is_refused_in_words(admin_client: Client, fields: dict[str, str], said: str) -> None:
    UserFactory(username="taken")
    wanted = {"username": "ann", "usable_password": "true", "password1": "a long pass 1", "password2": "a long pass 1"}
    answer = submit_new(admin_client, f"{list_url(User)}add/", **wanted | fields)
    assert said in errors_of(answer)
    assert not User.objects.filter(username="ann").exists()


def test_no_page_of_a_person_shows_the_hash_of_the_password(admin_client: Client) -> None:
    person = UserFactory(password="a long test password")
    secret = person.password.rpartition("$")[2]
    for url in (change_url(person), list_url(User), page_of(person, "password")):
        assert secret not in admin_client.get(url).content.decode()
