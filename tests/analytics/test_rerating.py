"""Re-rating: records stay, differences are posted beside them, once, and windows, hours and pages follow."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection

from analytics.domain.rollup import DayRange
from analytics.models import BudgetWindow, UsageAdjustment, UsageRecord, UsageSource, UsageState
from analytics.selectors.adjustments import adjustments_of_request, corrections_of
from analytics.selectors.sums import dirty_hours, usage_sums
from analytics.services.rerating import RerateReport, RerateScope, usage_rerate
from analytics.services.rollups import rollups_refresh
from analytics.services.verification import ledger_check
from providers.models import CatalogueModel, Price
from tests.factories import (
    NOON,
    BudgetFactory,
    BudgetLeaseFactory,
    BudgetWindowFactory,
    CatalogueModelFactory,
    DeploymentFactory,
    ModelAliasFactory,
    PersonaFactory,
    PriceFactory,
    ProviderFactory,
    UsageRecordFactory,
    UserFactory,
    mark_hour,
)

pytestmark = pytest.mark.django_db
MARCH = NOON.replace(day=1, hour=0)
ALL = RerateScope(MARCH, NOON + timedelta(days=1))
BEFORE = {"id": 1, "input": 10**9, "output": 2 * 10**9, "cache_read": None, "cache_write": None, "per_request": 0}
BILLED = 1_400_000  # 1,000 tokens in and 200 out, at $1 and $2 per million


@pytest.fixture
def model() -> CatalogueModel:
    """The model of the records, at $1 in and $2 out since January."""
    model = CatalogueModelFactory.create(name="model")
    PriceFactory.create(model=model)
    return model


@pytest.fixture
def right_price(model: CatalogueModel) -> Price:
    """What it should have cost since the 1st of March: $3 in, $5 out, so 4,000,000 for a record as below."""
    return PriceFactory.create(model=model, effective_from=MARCH, input_usd=Decimal(3), output_usd=Decimal(5))


def used(**fields: Any) -> UsageRecord:
    return UsageRecordFactory.create(**{"cost_nano": BILLED, "price": BEFORE} | fields)


def rerate(scope: RerateScope = ALL, **options: Any) -> RerateReport:
    return usage_rerate(scope=scope, reason="the list was wrong", **options)


def deltas() -> list[int]:
    return list(UsageAdjustment.objects.order_by("pk").values_list("delta_nano", flat=True))


# --- what is posted -----------------------------------------------------------------------------------------------


def test_the_difference_is_posted_beside_the_record_which_stays_as_it_was(right_price: Price) -> None:
    record, person = used(), UserFactory.create()

    report = rerate(by=person)

    [posted] = adjustments_of_request(request_id=record.pk)
    assert (posted.delta_nano, posted.was_unpriced, posted.started_at) == (2_600_000, False, record.started_at)
    assert (posted.reason, posted.batch, posted.created_by) == ("the list was wrong", report.batch, person)
    assert posted.price is not None
    assert (posted.price["id"], posted.price["input"]) == (right_price.pk, 3 * 10**9)
    before = UsageRecord.objects.filter(pk=record.pk).values().get()
    assert (before["cost_nano"], before["price"]) == (BILLED, BEFORE)
    [(of, row)] = report.rows.items()
    assert of == ("model", record.team_name)
    assert (row.requests, row.newly_priced, row.before_nano, row.delta_nano) == (1, 0, BILLED, 2_600_000)


def test_what_is_right_is_left_alone(model: CatalogueModel) -> None:
    used()
    assert (rerate().requests, deltas()) == (0, [])


def test_the_second_run_posts_nothing_and_a_further_price_posts_only_what_is_missing(right_price: Price) -> None:
    used()
    rerate()
    assert (rerate().requests, deltas()) == (0, [2_600_000])

    PriceFactory.create(
        model=right_price.model, effective_from=MARCH + timedelta(days=1), input_usd=Decimal(2), output_usd=Decimal(5)
    )
    report = rerate()

    assert deltas() == [2_600_000, -1_000_000]
    [row] = report.rows.values()
    assert (row.before_nano, row.delta_nano) == (4_000_000, -1_000_000)


def test_a_dry_run_tells_the_same_and_writes_nothing(right_price: Price) -> None:
    used()
    report = rerate(dry_run=True)
    assert (report.is_dry_run, report.requests, report.delta_nano) == (True, 1, 2_600_000)
    assert (deltas(), dirty_hours()) == ([], [])


@pytest.mark.parametrize("reason", ["", "  ", "x" * 201])
def test_a_reason_is_asked_for(right_price: Price, reason: str) -> None:
    used()
    with pytest.raises(ValidationError, match="Say why"):
        usage_rerate(scope=ALL, reason=reason)
    assert deltas() == []


@pytest.mark.parametrize(
    ("fields", "cost"),
    [
        ({"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 10}, 3_000),  # 0.3 per read
        ({"input_tokens": 0, "output_tokens": 0, "cache_creation_input_tokens": 10}, 40_000),
        (
            {
                "input_tokens": 0,
                "output_tokens": 0,
                "cache_creation_input_tokens": 10,
                "cache_creation_1h_input_tokens": 4,
            },
            24_000 + 24_000,
        ),
        ({"input_tokens": 200_000, "output_tokens": 0}, 600_000_000),
        ({"input_tokens": 200_001, "output_tokens": 100}, 200_001 * 6_000 + 100 * 22_500),
    ],
)
def test_every_bucket_and_tier_is_re_rated(model: CatalogueModel, fields: dict[str, int], cost: int) -> None:
    PriceFactory.create(
        model=model,
        effective_from=MARCH,
        input_usd=Decimal(3),
        output_usd=Decimal(15),
        cache_read_usd=Decimal("0.3"),
        cache_write_usd=Decimal(4),
        cache_write_1h_usd=Decimal(6),
        tiers=[{"above": 200_000, "input_usd": "6", "output_usd": "22.5"}],
    )
    used(**fields)
    rerate()
    assert deltas() == [cost - BILLED]


# --- what was unpriced or in doubt --------------------------------------------------------------------------------


def test_a_request_of_unknown_price_becomes_priced_once(model: CatalogueModel) -> None:
    record = used(cost_nano=None, price=None)
    mark_hour(record.started_at)

    report = rerate()

    assert [row.newly_priced for row in report.rows.values()] == [1]
    assert (deltas(), UsageAdjustment.objects.get().was_unpriced) == ([BILLED], True)
    assert rerate().requests == 0
    [sums] = usage_sums("day", team_ids=None, days=DayRange(NOON.date(), NOON.date())).values()
    assert (sums.unpriced, sums.cost_nano) == (0, BILLED)


def test_a_free_model_prices_its_unpriced_requests_at_nothing(model: CatalogueModel) -> None:
    Price.objects.update(input_usd=0, output_usd=0)
    used(cost_nano=None, price=None)
    rerate()
    assert (deltas(), UsageAdjustment.objects.get().was_unpriced) == ([0], True)
    assert rerate().requests == 0


def test_what_nobody_knows_a_price_for_stays_unpriced_and_is_counted() -> None:
    used(cost_nano=None, price=None)
    report = rerate()
    assert (report.requests, report.unpriced, deltas()) == (0, 1, [])


def test_a_price_that_lacks_a_rate_takes_no_cost_away(model: CatalogueModel) -> None:
    PriceFactory.create(model=model, effective_from=MARCH, input_usd=None)
    used()
    assert (rerate().requests, deltas()) == (0, [])


def test_earlier_attempts_keep_what_they_were_billed(right_price: Price) -> None:
    attempts = [{"deployment": "x/y", "provider": "x", "failure": "timeout", "billed_nano": 700}, {"deployment": "v/m"}]
    used(cost_nano=BILLED + 700, attempts=attempts)
    rerate()
    assert deltas() == [2_600_000]


def test_a_request_whose_gateway_was_killed_is_re_rated_by_its_bound(model: CatalogueModel) -> None:
    """All its input may have been written to the cache, which is the dearest that input can be."""
    PriceFactory.create(
        model=model, effective_from=MARCH, input_usd=Decimal(3), output_usd=Decimal(5), cache_write_usd=Decimal(4)
    )
    used(state=UsageState.EXPIRED, usage_source=UsageSource.BOUND, cost_nano=BILLED)
    rerate()
    assert deltas() == [5_000_000 - BILLED]


@pytest.mark.parametrize(
    "fields",
    [
        # the bound of the attempt that was in doubt stands there, its tokens do not
        {
            "usage_source": UsageSource.BOUND,
            "input_tokens": 0,
            "output_tokens": 0,
            "cost_nano": 900,
            "attempts": [{"deployment": "v/m", "failure": "timeout", "billed_nano": 900}],
        },
        # nobody knew what the first attempt cost, and what was sent is not known any more
        {"cost_nano": None, "attempts": [{"deployment": "x/y", "failure": "timeout"}, {"deployment": "v/m"}]},
    ],
)
def test_a_bill_that_cannot_be_made_again_is_left_alone_and_counted(right_price: Price, fields: dict[str, Any]) -> None:
    used(**fields)
    report = rerate()
    assert (report.requests, report.unknowable, deltas()) == (0, 1, [])


@pytest.mark.parametrize(
    "attempt",
    [
        {"failure": "rate_limited", "http_status": 429},
        {"failure": "timeout", "http_status": 408},
        {"failure": "connect_failed"},
    ],
)
def test_an_earlier_attempt_that_was_free_is_no_doubt(model: CatalogueModel, attempt: dict[str, Any]) -> None:
    used(cost_nano=None, attempts=[{"deployment": "x/y", **attempt}, {"deployment": "vendor/model"}])
    assert (rerate().requests, deltas()) == (1, [BILLED])


@pytest.mark.parametrize("source", [UsageSource.NONE, "cache"])
def test_what_used_nothing_at_a_vendor_is_not_looked_at(right_price: Price, source: str) -> None:
    used(usage_source=source, cost_nano=0, input_tokens=0, output_tokens=0)
    assert rerate().looked_at == 0


# --- which prices and requests ------------------------------------------------------------------------------------


def test_each_request_is_billed_at_the_price_of_its_own_time(model: CatalogueModel) -> None:
    PriceFactory.create(model=model, effective_from=NOON, input_usd=Decimal(3), output_usd=Decimal(5))
    used(at=NOON - timedelta(microseconds=1))
    after = used(at=NOON)
    rerate()
    assert list(UsageAdjustment.objects.values_list("request_id", flat=True)) == [after.pk]


def test_a_deployments_own_price_comes_first_and_one_that_is_gone_costs_what_its_model_does(
    model: CatalogueModel,
) -> None:
    vendor = ProviderFactory.create(name="vendor")
    deployment = DeploymentFactory.create(provider=vendor, model=model, upstream_model="model")
    PriceFactory.create(model=None, deployment=deployment, input_usd=Decimal(10), output_usd=Decimal(0))
    used()
    used(deployment="gone/model")
    rerate()
    assert deltas() == [10_000_000 - BILLED]


@pytest.mark.parametrize(
    ("scope", "found"),
    [
        (ALL, 3),
        (RerateScope(NOON, NOON + timedelta(hours=1)), 1),
        (RerateScope(MARCH, NOON), 0),
        (RerateScope(MARCH, ALL.until, model="model"), 2),
        (RerateScope(MARCH, ALL.until, model="other"), 1),
        (RerateScope(MARCH, ALL.until, deployment="beta/model"), 1),
        (RerateScope(MARCH, ALL.until, model="other", deployment="beta/model"), 0),
    ],
)
def test_only_the_requests_that_were_named_are_looked_at(right_price: Price, scope: RerateScope, found: int) -> None:
    PriceFactory.create(model=CatalogueModelFactory.create(name="other"), input_usd=Decimal(9))
    used()
    used(at=NOON + timedelta(hours=1), model="other")
    used(at=NOON + timedelta(hours=2), deployment="beta/model")
    assert rerate(scope).looked_at == found
    assert len(deltas()) == found


def test_a_price_row_names_what_it_is_in_force_for(right_price: Price) -> None:
    later = PriceFactory.create(model=right_price.model, effective_from=NOON, input_usd=Decimal(7))
    used(at=NOON - timedelta(days=40))
    during, after = used(at=NOON - timedelta(hours=1)), used(at=NOON + timedelta(hours=1))

    rerate(RerateScope.of_price(right_price, since=NOON - timedelta(days=60), until=ALL.until))
    assert corrections_of(request_ids=[during.pk, after.pk]) == {during.pk: 2_600_000}

    rerate(RerateScope.of_price(later, since=MARCH, until=ALL.until))
    assert set(corrections_of(request_ids=[during.pk, after.pk])) == {during.pk, after.pk}


# --- many requests ------------------------------------------------------------------------------------------------


def test_a_run_that_was_stopped_goes_on_where_it_was(right_price: Price) -> None:
    records = [used(at=NOON + timedelta(seconds=n // 3)) for n in range(7)]  # three at each moment

    def stop(report: RerateReport, at: datetime) -> None:
        assert at in {record.started_at for record in records}
        if report.looked_at == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rerate(on_progress=stop, batch_size=2)
    assert len(deltas()) == 4

    report = rerate()

    assert (report.looked_at, report.requests) == (7, 3)
    assert corrections_of(request_ids=[record.pk for record in records]) == {record.pk: 2_600_000 for record in records}


@pytest.mark.django_db(transaction=True)
def test_three_runs_at_once_post_every_difference_once(right_price: Price) -> None:
    window = BudgetWindowFactory.create()
    records = [used(at=NOON + timedelta(seconds=n), charges={str(window.pk): BILLED}) for n in range(20)]
    start = threading.Barrier(3)

    def run() -> int:
        try:
            start.wait()
            return rerate(batch_size=3).requests
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as threads:
        found = [threads.submit(run) for _ in range(3)]

    assert sum(one.result() for one in found) == len(records)
    assert deltas() == [2_600_000] * len(records)
    assert amounts(window) == (20 * 2_600_000, 20 * 2_600_000, 0)


# --- what follows -------------------------------------------------------------------------------------------------


def charged(budget: Any, record: UsageRecord, **window: Any) -> BudgetWindow:
    """March of a budget, charged for one record."""
    made = BudgetWindowFactory.create(budget=budget, **{"spent_nano": record.cost_nano or 0} | window)
    if record.cost_nano:
        record.charges = {**(record.charges or {}), str(made.pk): record.cost_nano}
        UsageRecord.objects.filter(pk=record.pk).update(charges=record.charges)
    return made


def amounts(window: BudgetWindow) -> tuple[int, int, int]:
    window.refresh_from_db()
    return window.spent_nano, window.overrun_nano, window.leased_nano


def test_windows_hours_and_rollups_follow_and_the_ledger_is_in_order(right_price: Price) -> None:
    record = used()
    window = charged(BudgetFactory.create(team=record.team, created_at=MARCH), record)
    mark_hour(record.started_at)
    rollups_refresh()
    assert dirty_hours() == []

    rerate()

    assert amounts(window) == (4_000_000, 2_600_000, 0)
    assert UsageAdjustment.objects.get().charges == {str(window.pk): 2_600_000}
    assert dirty_hours() == [NOON]
    assert ledger_check(now=NOON).differences == ()
    rollups_refresh()
    assert ledger_check(now=NOON).differences == ()
    [sums] = usage_sums("team_id", team_ids=[record.team_id], days=DayRange(NOON.date(), NOON.date())).values()
    assert sums.cost_nano == 4_000_000


def test_a_window_that_is_leased_to_its_limit_still_takes_a_correction(right_price: Price) -> None:
    record = used()
    budget = BudgetFactory.create(team=record.team, max_budget=Decimal("0.01"), created_at=MARCH)
    window = charged(budget, record, leased_nano=10_000_000 - BILLED)
    BudgetLeaseFactory.create(window=window, amount_nano=10_000_000 - BILLED)
    rerate()
    assert amounts(window) == (4_000_000, 2_600_000, 10_000_000 - BILLED)


@pytest.mark.parametrize(("overrun", "left"), [(0, 0), (300_000, 0), (400_000, 0), (900_000, 500_000)])
def test_money_that_comes_back_is_taken_from_the_overrun_first(model: CatalogueModel, overrun: int, left: int) -> None:
    PriceFactory.create(model=model, effective_from=MARCH, input_usd=Decimal(1), output_usd=Decimal(0))
    record = used()
    window = charged(BudgetFactory.create(team=record.team, created_at=MARCH), record, overrun_nano=overrun)
    rerate()
    assert deltas() == [-400_000]
    assert amounts(window) == (1_000_000, left, 0)


def test_a_window_that_is_gone_is_passed_by(right_price: Price) -> None:
    used(charges={"12345": BILLED})
    rerate()
    assert UsageAdjustment.objects.get().charges == {}


@pytest.mark.parametrize("cost", [None, 0])
@pytest.mark.parametrize("scope", ["team", "key", "persona", "alias"])
def test_a_request_that_charged_nothing_is_charged_to_the_windows_of_its_time(
    right_price: Price, scope: str, cost: int | None
) -> None:
    """What costs nothing, or nobody knows what, names no window on its record."""
    alias, persona = ModelAliasFactory.create(name="fast"), PersonaFactory.create(slug="analyst")
    listed = [{"deployment": "x/y", "alias": "slow"}, {"deployment": "vendor/model", "alias": "fast"}]
    record = used(cost_nano=cost, charges=None, persona="analyst", decision={"candidates": listed})
    subjects = {"team": record.team, "key": record.key, "persona": persona, "alias": alias}
    budget = BudgetFactory.create(**{"scope": scope, "team": None, scope: subjects[scope], "created_at": MARCH})
    window = BudgetWindowFactory.create(budget=budget)
    another = BudgetWindowFactory.create()
    february = BudgetWindowFactory.create(budget=budget, starts_at=MARCH - timedelta(days=28), ends_before=MARCH)
    mark_hour(record.started_at)

    rerate()

    assert amounts(window) == (4_000_000, 4_000_000, 0)
    assert amounts(another) == amounts(february) == (0, 0, 0)
    assert ledger_check(now=NOON).differences == ()


def test_an_alias_pays_only_for_what_it_served(right_price: Price) -> None:
    """The first attempt, in doubt, went through another alias: what it was billed stays as it is."""
    listed = [{"deployment": "x/y", "alias": "slow"}, {"deployment": "vendor/model", "alias": "fast"}]
    attempts = [{"deployment": "x/y", "failure": "timeout", "billed_nano": 2_000_000}, {"deployment": "vendor/model"}]
    slow, fast = (
        BudgetWindowFactory.create(
            budget=BudgetFactory.create(scope="alias", team=None, alias=ModelAliasFactory.create(name=name)),
            spent_nano=spent,
        )
        for name, spent in (("slow", 2_000_000), ("fast", BILLED))
    )
    used(
        cost_nano=BILLED + 2_000_000,
        attempts=attempts,
        decision={"candidates": listed},
        charges={str(slow.pk): 2_000_000, str(fast.pk): BILLED},
    )

    rerate()

    assert amounts(slow) == (2_000_000, 0, 0)
    assert amounts(fast) == (4_000_000, 2_600_000, 0)


def test_a_window_that_the_record_names_is_charged_whatever_its_subject_is_called_now(right_price: Price) -> None:
    alias, persona = ModelAliasFactory.create(name="renamed"), PersonaFactory.create(slug="renamed")
    windows = [
        BudgetWindowFactory.create(budget=BudgetFactory.create(scope=scope, team=None, **{scope: subject}))
        for scope, subject in (("alias", alias), ("persona", persona))
    ]
    listed = [{"deployment": "vendor/model", "alias": "fast"}]
    charges = {str(window.pk): BILLED for window in windows}
    used(persona="analyst", decision={"candidates": listed}, charges=charges)
    rerate()
    assert [amounts(window)[0] for window in windows] == [2_600_000] * 2


@pytest.mark.parametrize("decision", [{}, [], {"candidates": None}, {"candidates": ["x"]}])
def test_a_decision_of_another_shape_names_no_alias(right_price: Price, decision: Any) -> None:
    alias = ModelAliasFactory.create(name="fast")
    window = BudgetWindowFactory.create(budget=BudgetFactory.create(scope="alias", team=None, alias=alias))
    used(cost_nano=0, decision=decision)
    rerate()
    assert amounts(window) == (0, 0, 0)


def test_a_batch_takes_a_bounded_number_of_queries(
    right_price: Price, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    records = [used() for _ in range(12)]
    window = BudgetWindowFactory.create(spent_nano=12 * BILLED)
    UsageRecord.objects.update(charges={str(window.pk): BILLED})
    with django_assert_max_num_queries(13):
        rerate()
    assert amounts(window)[0] == len(records) * 4_000_000
    assert UsageAdjustment.objects.filter(started_at__gte=datetime(2026, 1, 1, tzinfo=UTC)).count() == 12
