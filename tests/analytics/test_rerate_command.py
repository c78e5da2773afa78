"""`manage.py rerate` as a person types it."""

import json
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from analytics.models import UsageAdjustment
from providers.models import Price
from tests.factories import NOON, CatalogueModelFactory, PriceFactory, UsageRecordFactory

pytestmark = pytest.mark.django_db
MARCH = ("--from=2026-03-01", "--to=2026-03-31")
WHY = "--reason=the list was wrong"


@pytest.fixture
def price() -> Price:
    """The model of the records costs $3 in and $5 out; two of its requests were billed a cent, one was unpriced."""
    price = PriceFactory.create(
        model=CatalogueModelFactory.create(name="model"), input_usd=Decimal(3), output_usd=Decimal(5)
    )
    for cost_nano in (10_000_000, 10_000_000, None):
        UsageRecordFactory.create(cost_nano=cost_nano)
    return price


def said(*options: str) -> str:
    output = StringIO()
    call_command("rerate", *options, stdout=output, stderr=StringIO())
    return output.getvalue()


def refused(*options: str) -> CommandError:
    with pytest.raises(CommandError) as caught:
        said(*options)
    return caught.value


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((WHY,), "--from is missing"),
        (("--from=2026-03-01",), "--reason is missing"),
        (("--from=2026-03-01", "--reason= "), "--reason is missing"),
        (("--from=2026-03-02", "--to=2026-03-01", WHY), "--to is before --from"),
        (("--price=999", WHY), "there is no price 999"),
        ((*MARCH, "--yes", f"--reason={'x' * 201}"), "at most 200 characters"),
    ],
)
def test_what_is_not_said_or_makes_no_sense_is_refused(price: Price, options: tuple[str, ...], complaint: str) -> None:
    error = refused(*options)
    assert complaint in str(error)
    assert error.returncode == 2
    assert not UsageAdjustment.objects.exists()


def test_a_price_says_already_of_what(price: Price) -> None:
    assert "leave --model" in str(refused(f"--price={price.pk}", "--model=model", WHY))


def test_a_dry_run_shows_what_would_change_per_model_and_team(price: Price) -> None:
    text = said(*MARCH, "--dry-run")
    head, *lines, _, last = text.splitlines()
    assert head.split() == ["Model", "Team", "Requests", "Unpriced", "Cost", "so", "far", "Difference", "Cost", "then"]
    assert len(lines) == 3
    assert sorted(line.split()[-3:] for line in lines) == [
        ["$0.000000000", "$0.004000000", "$0.004000000"],
        ["$0.010000000", "−$0.006000000", "$0.004000000"],
        ["$0.010000000", "−$0.006000000", "$0.004000000"],
    ]
    assert last == "3 requests looked at; 3 would be corrected; by −$0.008000000."
    assert not UsageAdjustment.objects.exists()


def test_without_a_person_to_ask_nothing_is_posted_unless_told_so(price: Price) -> None:
    error = refused(*MARCH, WHY)
    assert "Add --yes" in str(error)
    assert error.returncode == 2
    assert not UsageAdjustment.objects.exists()

    assert "3 were corrected" in said(*MARCH, WHY, "--yes")
    assert UsageAdjustment.objects.filter(reason="the list was wrong").count() == 3


def test_a_second_run_says_that_there_is_nothing_to_do_and_asks_nobody(price: Price) -> None:
    said(*MARCH, WHY, "--yes")
    assert said(*MARCH, WHY) == "3 requests looked at; 0 would be corrected.\n"


def test_a_price_has_its_own_beginning_and_model(price: Price) -> None:
    PriceFactory.create(model=CatalogueModelFactory.create(name="other"))
    UsageRecordFactory.create(model="other")
    assert "3 requests looked at; 3 were corrected" in said(f"--price={price.pk}", WHY, "--yes")


def test_days_are_whole_and_both_included(price: Price) -> None:
    assert "0 requests looked at" in said("--from=2026-03-11", "--dry-run")
    assert "3 requests looked at" in said("--from=2026-03-10", "--to=2026-03-10", "--dry-run")
    assert "0 requests looked at" in said("--from=2026-03-01", "--to=2026-03-09", "--dry-run")


def test_requests_that_stay_as_they_are_are_told(price: Price) -> None:
    Price.objects.all().delete()
    assert "1 stay unpriced: no price is known for their time" in said(*MARCH, "--dry-run")
    doubt = [{"deployment": "v/m", "failure": "timeout", "billed_nano": 9}]
    UsageRecordFactory.create(usage_source="bound", input_tokens=0, output_tokens=0, cost_nano=9, attempts=doubt)
    assert "1 stay as they are: they were in doubt" in said(*MARCH, "--dry-run")


def test_a_program_gets_one_json_object(price: Price) -> None:
    shown = json.loads(said(*MARCH, "--dry-run", "--json"))
    assert (shown["dry_run"], shown["batch"], shown["corrected"]) == (True, None, 3)
    posted = json.loads(said(*MARCH, WHY, "--yes", "--json"))
    assert (posted["dry_run"], posted["delta_nano"], posted["looked_at"]) == (False, -8_000_000, 3)
    assert {row["model"] for row in posted["rows"]} == {"model"}
    assert sum(row["newly_priced"] for row in posted["rows"]) == 1
    assert UsageAdjustment.objects.filter(batch=posted["batch"], started_at=NOON).count() == 3
