"""The model catalogue and its dated prices: loaded again and again, and never over somebody's work."""

import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command

from providers.catalogue import Catalogue, CatalogueEntry, read_catalogue
from providers.catalogue_services import catalogue_load
from providers.domain.types import Capability
from providers.models import CatalogueModel, Deployment, ModelStatus, Price, PriceSource
from providers.prices_source import EPOCH, DatedTerms, PriceList, Rates, Terms, listed_prices
from providers.registry import PROVIDER_KINDS
from providers.selectors import active_deployments
from routing.selectors import config_revision
from tests.factories import DeploymentFactory, ProviderFactory, ProviderKeyFactory

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


def rates(input_usd: str, output_usd: str) -> Rates:
    return Rates(Decimal(input_usd), Decimal(output_usd))


def entry(name: str = "swift-1", **changes: Any) -> CatalogueEntry:
    values: dict[str, Any] = {
        "name": name,
        "label": name.title(),
        "kind": "openai",
        "maker": "OpenAI",
        "capabilities": (Capability.STREAMING,),
        "context_window": 1000,
        "max_output_tokens": 100,
        "cost_tier": "economy",
        "strengths": "Tests",
    }
    return CatalogueEntry(**{**values, **changes})


def catalogue(*entries: CatalogueEntry) -> Catalogue:
    return Catalogue({entry.name: entry for entry in entries}, {})


def prices(*dated: tuple[datetime, Rates]) -> PriceList:
    """A price list that asks the same for every model."""
    return lambda prices_id, model: [DatedTerms(start, Terms(rates)) for start, rates in dated]


NO_PRICES = prices()


def price_rows() -> list[tuple[Any, ...]]:
    return list(Price.objects.order_by("effective_from").values_list("effective_from", "input_usd", "output_usd"))


# --- what is in it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "per_1k"),
    [
        ("gpt-4o", "0.005"),
        ("gpt-4o-mini", "0.00015"),
        ("claude-3-5-sonnet-20241022", "0.003"),
        ("claude-3-5-sonnet-20240620", "0.003"),
        ("claude-3-haiku-20240307", "0.00025"),
        ("llama-3.3-70b-versatile", "0.00059"),
        ("llama-3.1-8b-instant", "0.00005"),
        ("mixtral-8x7b-32768", "0.00024"),
        ("gpt-4", "0.01"),
    ],
)
def test_the_promised_models_are_there_with_their_single_figure_and_strengths(name: str, per_1k: str) -> None:
    model = read_catalogue().entries[name]
    assert model.list_price_per_1k == Decimal(per_1k)
    assert model.strengths


def test_about_thirty_models_are_current_and_every_vendor_has_models_to_begin_with() -> None:
    found = read_catalogue()
    current = [model for model in found.entries.values() if not model.is_retired(NOW.date())]
    assert 30 <= len(current) <= 45
    for kind, names in found.start_with.items():
        assert PROVIDER_KINDS[kind].needs_key
        assert all(found.entries[name].kind == kind for name in names)
        assert all(not found.entries[name].is_retired(NOW.date()) for name in names)


def test_reasoning_models_that_refuse_a_temperature_do_not_claim_it() -> None:
    models = read_catalogue().entries
    for name in ("gpt-6-luna", "gpt-5.2", "claude-opus-5-5", "gemini-4-argon"):
        assert Capability.TEMPERATURE not in models[name].capabilities
    for name in ("gpt-4o", "claude-haiku-4-5", "gemini-3.5-flash", "openai/gpt-oss-20b"):
        assert Capability.TEMPERATURE in models[name].capabilities


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('a = { label = "A", can = "none", window = 1, out = 1, tier = "free", strengths = "" }', "not a set"),
        (
            'a = { label = "A", can = "s", window = 1, out = 1, tier = "free", strengths = "", use = "b" }',
            "not listed: b",
        ),
        (
            'a = { label = "A", can = "s", window = 1, out = 1, tier = "free", strengths = "", use = "b" }\n'
            'b = { label = "B", can = "s", window = 1, out = 1, tier = "free", strengths = "", retires = 2020-01-01 }',
            "does not outlive",
        ),
    ],
)
def test_a_slip_in_the_catalogue_is_named(text: str, complaint: str) -> None:
    head = '[sets]\ns = ["streaming"]\n[kinds.openai]\nvendor = "OpenAI"\nstart_with = []\n[kinds.openai.models]\n'
    row = 'label = "", window = 1, out = 1, tier = "free", strengths = ""'
    with pytest.raises(ValueError, match=complaint):
        read_catalogue(head + text.replace("ROW", row))


# --- the price list -----------------------------------------------------------------------------------------------


def test_listed_prices_are_dated_where_the_list_knows_dates() -> None:
    assert listed_prices("google", "gemini-4-argon") == [
        DatedTerms(EPOCH, Terms(Rates(Decimal(2), Decimal(10), Decimal("0.1")))),
        DatedTerms(DECEMBER, Terms(Rates(Decimal(4), Decimal(20), Decimal("0.2")))),
    ]


def dollars(*texts: str) -> list[Decimal | None]:
    return [Decimal(text) if text else None for text in texts]


@pytest.mark.parametrize(
    ("vendor", "model", "base", "above", "tier"),
    [
        (
            *("anthropic", "claude-haiku-5-5", dollars("0.1", "0.5", "0.01", "0.125", "0.2"), 100_000),
            dollars("0.5", "2.5", "0.05", "0.625", "1"),
        ),
        ("openai", "gpt-6.1-sol", dollars("2", "10", "0.1", "2.5", ""), 272_000, dollars("4", "15", "0.2", "5", "")),
        (
            "google",
            "gemini-2.5-pro",
            dollars("1.25", "10", "0.125", "", ""),
            200_000,
            dollars("2.5", "15", "0.25", "", ""),
        ),
    ],
)
def test_long_prompts_have_the_rates_of_the_list(
    vendor: str, model: str, base: list[Decimal | None], above: int, tier: list[Decimal | None]
) -> None:
    [price] = listed_prices(vendor, model)
    assert price.terms == Terms(Rates(*base), ((above, Rates(*tier)),))


def test_a_vendor_that_gave_its_long_prompts_up_has_none_from_that_day() -> None:
    before, after = listed_prices("anthropic", "claude-sonnet-4-6")
    assert [above for above, _ in before.terms.tiers] == [200_000]
    assert (after.effective_from, after.terms.tiers) == (datetime(2026, 3, 13, tzinfo=UTC), ())
    assert after.terms.rates == Rates(*dollars("3", "15", "0.3", "3.75", "6"))


def test_a_date_at_which_none_of_our_rates_moved_is_left_out() -> None:
    assert [price.effective_from for price in listed_prices("openai", "gpt-5.2")] == [EPOCH]


def test_a_dated_model_id_has_its_model_s_price() -> None:
    [price] = listed_prices("anthropic", "claude-3-5-sonnet-20240620")
    assert (price.terms.rates.input_usd, price.terms.rates.output_usd) == (Decimal(3), Decimal(15))


@pytest.mark.parametrize(
    ("vendor", "model"), [("openai", "gpt-99"), ("nobody", "gpt-4o"), ("google", "gemma-4-31b-it")]
)
def test_what_the_list_does_not_price_is_unknown_not_free(vendor: str, model: str) -> None:
    assert listed_prices(vendor, model) == []


# --- loading ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_whole_catalogue_loads_and_a_second_load_changes_nothing() -> None:
    first = catalogue_load(now=NOW)
    assert CatalogueModel.objects.count() == len(first.created) == len(read_catalogue().entries)
    revision, rows = config_revision(), price_rows()

    second = catalogue_load(now=LATER)
    assert not second.changed
    assert (config_revision(), price_rows()) == (revision, rows)


@pytest.mark.django_db
def test_models_that_their_vendor_retired_point_to_what_to_use_instead() -> None:
    catalogue_load(now=NOW)
    gpt_4 = CatalogueModel.objects.get(name="gpt-4")
    assert gpt_4.status == ModelStatus.RETIRED
    assert gpt_4.replaced_by == CatalogueModel.objects.get(name="gpt-5.6-sol")
    gpt_4o = CatalogueModel.objects.get(name="gpt-4o")
    assert (gpt_4o.status, gpt_4o.replaced_by) == (ModelStatus.CURRENT, None)


@pytest.mark.django_db
def test_a_model_retires_on_its_day_with_the_next_load() -> None:
    models = catalogue(entry("old", retires_on=date(2026, 12, 1), replaced_by="new"), entry("new"))
    catalogue_load(now=NOW, catalogue=models, price_list=NO_PRICES)
    assert catalogue_load(now=LATER, catalogue=models, price_list=NO_PRICES).updated == []
    assert catalogue_load(now=DECEMBER, catalogue=models, price_list=NO_PRICES).updated == ["old"]
    old = CatalogueModel.objects.get(name="old")
    assert (old.status, str(old.replaced_by)) == (ModelStatus.RETIRED, "new")


@pytest.mark.django_db
def test_a_new_version_of_the_catalogue_updates_what_nobody_edited() -> None:
    catalogue_load(now=NOW, catalogue=catalogue(entry(context_window=1000)), price_list=NO_PRICES)
    report = catalogue_load(now=LATER, catalogue=catalogue(entry(context_window=2000)), price_list=NO_PRICES)
    assert report.updated == ["swift-1"]
    assert CatalogueModel.objects.get().context_window == 2000


@pytest.mark.django_db
def test_a_model_that_a_person_edited_or_deleted_stays_as_it_was_left() -> None:
    catalogue_load(now=NOW, catalogue=catalogue(entry("edited"), entry("deleted")), price_list=NO_PRICES)
    CatalogueModel.objects.get(name="deleted").delete()
    edited = CatalogueModel.objects.get(name="edited")
    edited.strengths = "What we found ourselves"
    edited.save()

    models = catalogue(entry("edited", context_window=9), entry("deleted", context_window=9))
    report = catalogue_load(now=LATER, catalogue=models, price_list=NO_PRICES)
    assert sorted(report.left_alone) == ["deleted", "edited"]
    [row] = CatalogueModel.objects.all()
    assert (row.strengths, row.context_window) == ("What we found ourselves", 1000)


@pytest.mark.django_db
def test_a_model_that_a_person_made_under_the_same_name_is_theirs() -> None:
    CatalogueModel.objects.create(name="swift-1", label="Ours", vendor="Us")
    report = catalogue_load(now=NOW, catalogue=catalogue(entry()), price_list=NO_PRICES)
    assert (report.created, report.left_alone) == ([], ["swift-1"])
    assert CatalogueModel.objects.get().vendor == "Us"


# --- loading prices -----------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_past_and_announced_prices_are_loaded_with_their_dates() -> None:
    august = datetime(2026, 8, 1, tzinfo=UTC)
    listed = prices((EPOCH, rates("5", "30")), (august, rates("4", "20")), (DECEMBER, rates("6", "40")))
    catalogue_load(now=NOW, catalogue=catalogue(entry()), price_list=listed)
    assert price_rows() == [(EPOCH, 5, 30), (august, 4, 20), (DECEMBER, 6, 40)]


@pytest.mark.django_db
def test_a_changed_price_is_a_new_row_from_the_load_on_and_the_billed_one_stays() -> None:
    models = catalogue(entry())
    catalogue_load(now=NOW, catalogue=models, price_list=prices((EPOCH, rates("2", "10"))))
    billed = Price.objects.get()
    report = catalogue_load(now=LATER, catalogue=models, price_list=prices((EPOCH, rates("3", "12"))))
    assert report.prices_added == ["swift-1 from 2026-11-25"]
    assert price_rows() == [(EPOCH, 2, 10), (LATER, 3, 12)]
    billed.refresh_from_db()
    assert billed.input_usd == 2


@pytest.mark.django_db
def test_an_announced_price_that_was_called_off_or_moved_never_begins() -> None:
    models, january = catalogue(entry()), datetime(2027, 1, 1, tzinfo=UTC)
    today = (EPOCH, rates("2", "10"))
    catalogue_load(now=NOW, catalogue=models, price_list=prices(today, (DECEMBER, rates("4", "20"))))
    report = catalogue_load(now=LATER, catalogue=models, price_list=prices(today, (january, rates("3", "15"))))
    assert report.prices_dropped == ["swift-1 from 2026-12-01"]
    assert price_rows() == [(EPOCH, 2, 10), (january, 3, 15)]
    catalogue_load(now=LATER, catalogue=models, price_list=prices(today, (january, rates("5", "25"))))
    assert price_rows() == [(EPOCH, 2, 10), (january, 5, 25)]


@pytest.mark.django_db
def test_an_unknown_rate_stays_null_and_an_unknown_price_has_no_row() -> None:
    only_input = prices((EPOCH, Rates(Decimal("0.12"), None)))
    catalogue_load(now=NOW, catalogue=catalogue(entry()), price_list=only_input)
    assert price_rows() == [(EPOCH, Decimal("0.12"), None)]
    report = catalogue_load(now=NOW, catalogue=catalogue(entry("unlisted")), price_list=NO_PRICES)
    assert report.unpriced == ["unlisted"]
    assert not Price.objects.filter(model__name="unlisted").exists()


@pytest.mark.django_db
def test_a_list_that_forgets_a_model_takes_no_price_away() -> None:
    catalogue_load(now=NOW, catalogue=catalogue(entry()), price_list=prices((EPOCH, rates("2", "10"))))
    report = catalogue_load(now=LATER, catalogue=catalogue(entry()), price_list=NO_PRICES)
    assert (report.unpriced, report.changed) == ([], False)
    assert price_rows() == [(EPOCH, 2, 10)]


@pytest.mark.django_db
def test_an_own_price_bills_before_and_after_the_list_changes() -> None:
    models = catalogue(entry())
    catalogue_load(now=NOW, catalogue=models, price_list=prices((EPOCH, rates("2", "10"))))
    model = CatalogueModel.objects.get()
    Price.objects.create(model=model, effective_from=NOW, input_usd=Decimal(1), output_usd=Decimal(1))
    deployment = DeploymentFactory.create(model=model)
    catalogue_load(now=LATER, catalogue=models, price_list=prices((EPOCH, rates("3", "12"))))

    in_force = active_deployments(now=DECEMBER)[deployment.pk].price
    assert in_force
    assert in_force.input == 1_000_000_000
    assert Price.objects.filter(source=PriceSource.OVERRIDE).count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("how", ["edited", "deleted"])
def test_list_prices_that_a_person_changed_are_left_to_them(how: str) -> None:
    models = catalogue(entry())
    catalogue_load(now=NOW, catalogue=models, price_list=prices((EPOCH, rates("2", "10"))))
    row = Price.objects.get()
    if how == "edited":
        row.input_usd = Decimal("1.5")
        row.save()
    else:
        row.delete()
    before = price_rows()
    report = catalogue_load(now=LATER, catalogue=models, price_list=prices((EPOCH, rates("3", "12"))))
    assert report.prices_left_alone == ["swift-1"]
    assert price_rows() == before


@pytest.mark.django_db
def test_an_announced_price_bills_from_its_day_without_another_load() -> None:
    catalogue_load(now=NOW)
    provider = ProviderFactory.create(name="gemini", kind="gemini", base_url="")
    ProviderKeyFactory.create(provider=provider)
    model = CatalogueModel.objects.get(name="gemini-4-argon")
    deployment = Deployment.objects.create(provider=provider, model=model, upstream_model=model.name)
    before, after = (active_deployments(now=now)[deployment.pk].price for now in (NOW, DECEMBER))
    assert before
    assert after
    assert (before.output, after.output) == (10_000_000_000, 20_000_000_000)


# --- the command --------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_dry_run_tells_what_it_would_do_and_does_nothing() -> None:
    out = io.StringIO()
    call_command("catalogue_load", "--dry-run", stdout=out)
    assert f"Created ({len(read_catalogue().entries)})" in out.getvalue()
    assert "nothing has been changed" in out.getvalue()
    assert not CatalogueModel.objects.exists()


@pytest.mark.django_db
def test_the_command_reports_as_json_and_is_quiet_when_asked() -> None:
    out = io.StringIO()
    call_command("catalogue_load", "--json", stdout=out)
    report = json.loads(out.getvalue())
    assert "gpt-6-luna" in report["created"]
    assert "gpt-6.2-sol" in report["unpriced"]
    quiet = io.StringIO()
    call_command("catalogue_load", verbosity=0, stdout=quiet)
    assert quiet.getvalue() == ""


@pytest.mark.django_db
def test_loading_leaves_a_trail_that_names_no_person() -> None:
    catalogue_load(now=NOW, catalogue=catalogue(entry()), price_list=NO_PRICES)
    [line] = CatalogueModel.history.all()
    assert (line.history_user, line.history_change_reason) == (None, "catalogue_load")
    assert get_user_model().objects.count() == 0


def test_models_for_embeddings_do_nothing_else_and_have_no_window_for_a_whole_request() -> None:
    found = [model for model in read_catalogue().entries.values() if Capability.EMBEDDINGS in model.capabilities]
    assert {model.kind for model in found} == {"openai", "gemini", "cohere"}
    for model in found:
        assert model.capabilities == (Capability.EMBEDDINGS,)
        assert (model.context_window, model.max_output_tokens) == (None, None)
        assert listed_prices(PROVIDER_KINDS[model.kind].prices_id, model.name)


def test_whatever_reads_pdfs_says_so_and_nothing_does_that_cannot_see() -> None:
    models = read_catalogue().entries
    for name in ("gpt-4o", "gpt-6-luna", "claude-haiku-4-5", "gemini-3.8-flash"):
        assert Capability.DOCUMENTS in models[name].capabilities
    assert all(
        Capability.VISION in model.capabilities
        for model in models.values()
        if Capability.DOCUMENTS in model.capabilities
    )
