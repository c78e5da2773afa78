"""The page of ledger checks: green or red, when, and what."""

import pytest
from django.test import Client

from providers.admin.pages import change_url, list_url
from tests.factories import LedgerCheckFactory

pytestmark = pytest.mark.django_db
WRONG = {"what": "cost_nano", "where": "2026-03-10 team 7", "stated": 1_234_567, "proven": 0}
STALE = {"what": "stale lease", "where": "gateway-1, budget 2", "stated": 5, "proven": None}


def test_the_list_says_which_run_found_something(admin_client: Client) -> None:
    LedgerCheckFactory.create()
    LedgerCheckFactory.create(difference_count=1, differences=[WRONG], first=None, last=None)

    url = list_url(LedgerCheckFactory._meta.model)
    text = admin_client.get(url).content.decode()
    bad = admin_client.get(url, {"result": "bad"}).content.decode()
    good = admin_client.get(url, {"result": "good"}).content.decode()

    assert "3 Mar 2026 to 10 Mar 2026" in text
    assert "no usage yet" in text
    assert ("3 Mar 2026" in bad, "no usage yet" in bad) == (False, True)
    assert ("3 Mar 2026" in good, "no usage yet" in good) == (True, False)


def test_the_page_of_a_run_names_differences_and_warnings_and_how_many_are_left_out(admin_client: Client) -> None:
    check = LedgerCheckFactory.create(difference_count=41, differences=[WRONG], warnings=[STALE])

    text = admin_client.get(change_url(check)).content.decode()

    assert "Not in order" in text
    assert "2026-03-10 team 7" in text
    assert "1,234,567" in text
    assert "40 more are not shown." in text
    assert "gateway-1, budget 2" in text


def test_a_run_that_found_nothing_says_so(admin_client: Client) -> None:
    text = admin_client.get(change_url(LedgerCheckFactory.create())).content.decode()

    assert "In order" in text
    assert "None." in text
    assert "<table" not in text


def test_nobody_changes_what_was_found(admin_client: Client) -> None:
    check = LedgerCheckFactory.create()

    assert admin_client.post(change_url(check), {"records": 1}).status_code == 403
    assert admin_client.post(change_url(check).replace("change", "delete")).status_code == 403
