"""Every list of the admin opens, is searched, and takes as many queries for twenty rows as for two."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from providers.admin.pages import list_url
from tests import factories as make
from tests.admin_pages import queries_of
from tests.admin_rows import LISTED, ROWS


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_list_takes_as_many_queries_for_twenty_rows_as_for_two(admin_client: Client, name: str) -> None:
    for number in range(2):
        ROWS[name](number)
    url = list_url(LISTED[name])
    admin_client.get(url)  # fills the caches that live as long as the process
    with_two = queries_of(admin_client, url)
    for number in range(2, 20):
        ROWS[name](number)
    assert queries_of(admin_client, url) == with_two


@pytest.mark.parametrize("name", sorted(LISTED))
def test_a_list_opens_without_rows_and_can_be_searched(admin_client: Client, name: str) -> None:
    url = list_url(LISTED[name])
    assert admin_client.get(url).status_code == 200
    assert admin_client.get(url, {"q": "something"}).status_code == 200


@pytest.mark.parametrize("name", sorted(ROWS))
def test_every_row_has_a_page_that_opens(admin_client: Client, name: str) -> None:
    ROWS[name](1)
    model = LISTED[name]
    row = model._default_manager.first()
    assert row is not None
    assert admin_client.get(f"{list_url(model)}{row.pk}/change/").status_code == 200


def test_rows_are_never_deleted_by_the_handful(admin_client: Client) -> None:
    make.ProviderFactory()
    page = admin_client.get(list_url(LISTED["providers.provider"]))
    offered = {value for value, _ in page.context["action_form"].fields["action"].choices}
    assert {"switch_on", "switch_off"} <= offered
    assert "delete_selected" not in offered


def test_what_ops_do_not_need_is_not_there() -> None:
    assert "axes.accesslog" not in LISTED
    assert "django_celery_beat.solarschedule" not in LISTED
    assert {User, PeriodicTask, CrontabSchedule} <= set(LISTED.values())
