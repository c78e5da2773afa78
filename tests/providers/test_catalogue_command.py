"""`manage.py catalogue_load` after people have worked on what it once loaded."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from providers.admin.pages import change_url
from providers.catalogue import read_catalogue
from providers.models import CatalogueModel, Price, PriceSource
from routing.models import ConfigRevision
from tests.admin_pages import page_of, submit
from tests.factories import PriceFactory

pytestmark = pytest.mark.django_db
CURRENT = "gpt-4o-mini"


def load(*options: str) -> dict[str, list[str]]:
    out = StringIO()
    call_command("catalogue_load", "--json", *options, stdout=out)
    report: dict[str, list[str]] = json.loads(out.getvalue())
    return report


@pytest.fixture
def model(db: None) -> CatalogueModel:
    load()
    return CatalogueModel.objects.get(name=CURRENT)


def test_an_edit_in_the_admin_stays_and_is_told(admin_client: Client, model: CatalogueModel) -> None:
    submit(admin_client, change_url(model), strengths="What we use it for", cost_tier="premium")
    report = load()
    assert report["left_alone"] == [CURRENT]
    assert report["updated"] == report["created"] == report["prices_added"] == []
    model.refresh_from_db()
    assert (model.strengths, model.cost_tier) == ("What we use it for", "premium")


def test_a_model_that_was_deleted_in_the_admin_stays_deleted(admin_client: Client, model: CatalogueModel) -> None:
    answer = admin_client.post(page_of(model, "delete"), {"post": "yes"}, follow=True)
    assert answer.status_code == 200
    for _ in range(2):
        assert CURRENT in load()["left_alone"]
    assert not CatalogueModel.objects.filter(name=CURRENT).exists()
    assert not Price.objects.filter(model__name=CURRENT).exists()


def test_a_save_without_a_change_does_not_take_the_row_over(admin_client: Client, model: CatalogueModel) -> None:
    assert submit(admin_client, change_url(model)).status_code == 302
    assert load()["left_alone"] == []


def test_an_own_price_stays_beside_the_list(admin_client: Client, model: CatalogueModel) -> None:
    listed = Price.objects.filter(model=model, source=PriceSource.GENAI_PRICES).count()
    own = PriceFactory(model=model)
    report = load()
    assert report["prices_added"] == report["prices_dropped"] == report["prices_left_alone"] == []
    own.refresh_from_db()
    assert Price.objects.filter(model=model, source=PriceSource.GENAI_PRICES).count() == listed


def test_a_list_price_that_somebody_took_away_stays_away(admin_client: Client, model: CatalogueModel) -> None:
    """The admin refuses to delete a price that has begun; a person at the database may."""
    for price in Price.objects.filter(model=model):
        price.delete()
    assert CURRENT in load()["prices_left_alone"]
    assert not Price.objects.filter(model=model).exists()


def test_loading_again_is_no_edit_of_the_configuration(model: CatalogueModel) -> None:
    before = ConfigRevision.objects.get().revision
    report = load()
    assert not any(report[name] for name in ("created", "updated", "prices_added", "prices_dropped"))
    assert ConfigRevision.objects.get().revision == before


def test_a_dry_run_says_so_and_a_load_with_nothing_to_do_too() -> None:
    out = StringIO()
    call_command("catalogue_load", "--dry-run", stdout=out)
    assert "This was a dry run: nothing has been changed." in out.getvalue()
    assert f"Created ({len(read_catalogue().entries)}): " in out.getvalue()
    assert not CatalogueModel.objects.exists()
    load()
    out = StringIO()
    call_command("catalogue_load", stdout=out)
    assert "Nothing to change." in out.getvalue()


@pytest.mark.parametrize("options", [["--jsn"], ["gpt-4o"], ["--dry-run=yes"]])
def test_what_the_command_does_not_know_it_refuses(options: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("catalogue_load", *options, stdout=StringIO())
    assert not CatalogueModel.objects.exists()


def test_what_a_person_emptied_stays_empty(admin_client: Client, model: CatalogueModel) -> None:
    answer = submit(admin_client, change_url(model), context_window="", list_price_per_1k="", capabilities=[])
    assert answer.status_code == 302
    load()
    model.refresh_from_db()
    assert (model.context_window, model.list_price_per_1k, model.capabilities) == (None, None, [])
