"""The queue of prompts to label: which comes first, what a press does, who may, and what is never shown."""

from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.messages import get_messages
from django.test import Client
from pytest_django import Settings

from analytics.models import DecisionRecord
from analytics.selectors.learning import prompt_of
from analytics.services.decisions import prompts_expire
from tests.analytics.learned import decided
from tests.factories import NOON, UserFactory
from tests.routerplatform.test_permissions import staff_with

pytestmark = pytest.mark.django_db
QUEUE = "/admin/analytics/decisionrecord/queue/"
LIST = "/admin/analytics/decisionrecord/"


def shown(client: Client) -> str | None:
    """The prompt that stands there."""
    context = client.get(QUEUE).context
    return None if context["record"] is None else str(context["prompt"])


def press(client: Client, label: str, record: DecisionRecord | None = None) -> Any:
    """A button of the prompt that stands there."""
    chosen = record or client.get(QUEUE).context["record"]
    return client.post(QUEUE, {"record": str(chosen.pk) if chosen else "", "label": label})


def complaints(answer: Any) -> list[str]:
    return [str(message) for message in get_messages(answer.wsgi_request)]


def test_the_least_certain_comes_first_and_the_next_one_follows(admin_client: Client) -> None:
    decided("certain", confidence=0.9), decided("guessed", confidence=0.2), decided("unsure", confidence=0.4)
    decided("", confidence=0.1)
    assert shown(admin_client) == "guessed"
    answer = press(admin_client, "CREATIVE")
    assert (answer.status_code, answer.headers["location"]) == (302, QUEUE)
    labelled = DecisionRecord.objects.get(label="CREATIVE")
    assert (prompt_of(labelled), str(labelled.labelled_by)) == ("guessed", "admin")
    assert labelled.labelled_at is not None
    assert shown(admin_client) == "unsure"
    progress = admin_client.get(QUEUE).context["progress"]
    assert (progress.labelled, progress.waiting, progress.all) == (1, 2, 3)


def test_what_none_of_the_kinds_fits_leaves_the_queue_too(admin_client: Client) -> None:
    decided("???")
    press(admin_client, "ANY")
    assert shown(admin_client) is None
    assert DecisionRecord.objects.get().label == "ANY"


def test_what_is_skipped_comes_back_when_asked_for(admin_client: Client) -> None:
    decided("hard", confidence=0.1), decided("easy", confidence=0.9)
    press(admin_client, "skip")
    assert shown(admin_client) == "easy"
    press(admin_client, "skip")
    page = admin_client.get(QUEUE).content.decode()
    assert "Nothing to label" in page
    assert "Show the skipped ones again" in page
    press(admin_client, "again")
    assert shown(admin_client) == "hard"
    assert not DecisionRecord.objects.exclude(label="").exists()


def test_every_button_has_its_key(admin_client: Client) -> None:
    decided("Which?", task_type="ANALYSIS")
    page = admin_client.get(QUEUE).content.decode()
    for key, value in enumerate(["CODING", "CREATIVE", "ANALYSIS", "COMPLEX_REASONING", "SIMPLE_QA", "ANY"], 1):
        assert f'name="label" value="{value}" data-key="{key}"' in page
    assert 'value="skip" data-key="0"' in page
    assert 'class="labels-kind guessed" name="label" value="ANALYSIS"' in page
    assert "js/labels.js" in page


def test_a_prompt_is_text_and_nothing_else(admin_client: Client) -> None:
    decided("<script>alert(1)</script>")
    page = admin_client.get(QUEUE).content.decode()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize("label", ["POETRY", "", "coding"])
def test_what_is_no_kind_of_work_is_refused(admin_client: Client, label: str) -> None:
    decided()
    assert "Choose one of the kinds of work." in complaints(press(admin_client, label))
    assert DecisionRecord.objects.get().label == ""


@pytest.mark.parametrize("label", ["CODING", "skip"])
def test_an_address_that_is_no_request_breaks_nothing(admin_client: Client, label: str) -> None:
    decided("still there")
    answer = admin_client.post(QUEUE, {"record": "../../etc", "label": label})
    assert "Choose one of the kinds of work." in complaints(answer)
    assert shown(admin_client) == "still there"


def test_a_prompt_that_is_gone_meanwhile_is_said_to_be(admin_client: Client) -> None:
    record = decided()
    assert prompts_expire(now=NOON.replace(year=2027), days=30) == 1
    assert "This prompt is not kept any more." in complaints(press(admin_client, "CODING", record))
    assert DecisionRecord.objects.get().label == ""
    assert shown(admin_client) is None


def test_a_prompt_whose_field_key_is_gone_is_skipped_over(admin_client: Client, settings: Settings) -> None:
    decided("sealed with the old key")
    settings.FIELD_KEYS = [Fernet.generate_key().decode()]
    page = admin_client.get(QUEUE)
    assert "cannot be opened" in page.content.decode()
    press(admin_client, "skip")
    assert shown(admin_client) is None


def test_without_kept_prompts_the_page_says_how_to_keep_them(admin_client: Client) -> None:
    decided("")
    assert "Switch on “keep prompts for learning”" in admin_client.get(QUEUE).content.decode()


def test_only_who_may_label_reads_prompts(client: Client) -> None:
    record = decided("between us")
    viewer, labeller = staff_with("analytics.view_decisionrecord"), staff_with("analytics.change_decisionrecord")
    client.force_login(viewer)
    assert client.get(QUEUE).status_code == 403
    assert client.post(QUEUE, {"record": str(record.pk), "label": "CODING"}).status_code == 403
    for address in (LIST, f"{LIST}{record.pk}/change/"):
        page = client.get(address)
        assert page.status_code == 200
        assert "between us" not in page.content.decode()
        assert "Label prompts" not in page.content.decode()
    client.force_login(labeller)
    assert shown(client) == "between us"
    client.force_login(UserFactory(is_staff=True))
    assert client.get(QUEUE).status_code == 403


def test_a_decision_is_found_by_its_whole_id_only(admin_client: Client) -> None:
    record = decided()
    decided()
    found = admin_client.get(LIST, {"q": str(record.pk)}).context["cl"].result_list
    assert [one.pk for one in found] == [record.pk]
    assert list(admin_client.get(LIST, {"q": "0199"}).context["cl"].result_list) == []
