"""What the rules find in rows: each at its edges, through the evaluation that the worker runs."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from analytics.models import Alert, AlertKind, AlertRule, AlertState, BudgetDuration, BudgetMode, Severity, UsageSource
from analytics.services.alerts import alerts_evaluate, ledger_alert, rules_ensure
from analytics.services.rollups import rollups_refresh
from providers.models import Health
from routing.models import VirtualKey
from tests.factories import (
    NOON,
    BudgetFactory,
    CatalogueModelFactory,
    DeploymentFactory,
    ModelAliasFactory,
    PersonaFactory,
    PriceFactory,
    ProviderFactory,
    UsageAdjustmentFactory,
    UsageRecordFactory,
    VirtualKeyFactory,
    mark_hour,
)

pytestmark = pytest.mark.django_db
USD = 10**9
MINUTE, HOUR, DAY, WEEK = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(days=7)


@pytest.fixture
def key() -> VirtualKey:
    return VirtualKeyFactory.create()


def spend(usd: str, **fields: Any) -> Any:
    record = UsageRecordFactory(cost_nano=int(Decimal(usd) * USD), **{"at": NOON - MINUTE, **fields})
    mark_hour(record.started_at)
    return record


def open_alerts(kind: AlertKind) -> list[Alert]:
    return list(Alert.objects.filter(rule__kind=kind).exclude(state=AlertState.RESOLVED).order_by("pk"))


def thresholds(kind: AlertKind = AlertKind.BUDGET_THRESHOLD) -> list[str]:
    return [alert.threshold for alert in open_alerts(kind)]


def test_every_rule_is_there_from_the_first_migration_and_is_not_made_twice() -> None:
    assert set(AlertRule.objects.values_list("kind", flat=True)) == set(AlertKind.values)
    assert rules_ensure() == 0


def test_nothing_to_tell_tells_nothing() -> None:
    BudgetFactory()
    ProviderFactory(health=Health.HEALTHY)
    assert alerts_evaluate(now=NOON) == 0
    assert not Alert.objects.exists()


# --- budgets --------------------------------------------------------------------------------------------------------


def test_an_alert_opens_at_each_threshold_once(key: VirtualKey) -> None:
    BudgetFactory(team=key.team, max_budget=Decimal(10), budget_duration=BudgetDuration.DAY, created_at=NOON - 5 * DAY)
    found = []
    for usd in ("4.99", "0.01", "3", "0", "5"):
        spend(usd, key=key)
        alerts_evaluate(now=NOON)
        found.append(thresholds())
    assert found == [[], ["50"], ["50", "80"], ["50", "80"], ["50", "80", "100"]]
    full = Alert.objects.get(threshold="100")
    assert (full.value, full.limit, full.severity) == (13 * USD, 10 * USD, Severity.CRITICAL)
    assert "$13.00 of $10.00 since 10 Mar 2026, 00:00 UTC" in full.text
    assert "refused" in full.text
    assert full.team == key.team


def test_the_next_window_resolves_the_old_alerts_and_opens_its_own(key: VirtualKey) -> None:
    BudgetFactory(team=key.team, max_budget=Decimal(10), budget_duration=BudgetDuration.DAY, created_at=NOON - 5 * DAY)
    spend("6", key=key)
    alerts_evaluate(now=NOON)
    spend("7", key=key, at=NOON + DAY - MINUTE)
    alerts_evaluate(now=NOON + DAY)
    old, new = Alert.objects.filter(rule__kind=AlertKind.BUDGET_THRESHOLD).order_by("window_starts_at")
    assert (old.state, old.resolved_at, new.state) == (AlertState.RESOLVED, NOON + DAY, AlertState.OPEN)
    assert new.window_starts_at - old.window_starts_at == DAY
    assert old.fingerprint != new.fingerprint
    alerts_evaluate(now=NOON + 2 * DAY)
    assert thresholds() == []


@pytest.mark.parametrize("scope", ["team", "key", "persona", "alias"])
def test_a_budget_of_any_scope_is_told_about_and_leads_see_their_own(scope: str) -> None:
    subjects: dict[str, Any] = {
        "key": VirtualKeyFactory(),
        "persona": PersonaFactory(slug="analyst"),
        "alias": ModelAliasFactory(name="swift"),
    }
    subjects["team"] = subjects["key"].team
    subject = subjects[scope]
    BudgetFactory(**{"team": None, "scope": scope, scope: subject}, max_budget=Decimal(10), created_at=NOON - 40 * DAY)
    spend("8", key=subjects["key"], persona="analyst", requested_model="swift")
    alerts_evaluate(now=NOON)
    [half, most] = open_alerts(AlertKind.BUDGET_THRESHOLD)
    assert str(subject) in half.title
    assert most.subject_name == str(subject)
    assert most.team == (subjects["team"] if scope in {"team", "key"} else None)


def test_the_budgets_own_warning_is_one_more_alert(key: VirtualKey) -> None:
    BudgetFactory(team=key.team, max_budget=Decimal(100), soft_budget=Decimal(30))
    spend("29.99", key=key)
    alerts_evaluate(now=NOON)
    assert thresholds() == []
    spend("0.01", key=key)
    alerts_evaluate(now=NOON)
    [alert] = open_alerts(AlertKind.BUDGET_THRESHOLD)
    assert (alert.threshold, alert.limit) == ("soft", 30 * USD)
    assert "warns at $30.00" in alert.text


def test_a_lowered_budget_opens_what_it_has_passed_and_a_raised_one_resolves_it(key: VirtualKey) -> None:
    budget = BudgetFactory(team=key.team, max_budget=Decimal(100))
    spend("10", key=key)
    alerts_evaluate(now=NOON)
    assert thresholds() == []
    for usd, now, found in ((20, NOON, ["50"]), (1000, NOON + 4 * MINUTE, [])):
        budget.max_budget = Decimal(usd)
        budget.save()
        alerts_evaluate(now=now)
        assert thresholds() == found


@pytest.mark.parametrize("fields", [{"is_active": False}, {"mode": BudgetMode.SHADOW}])
def test_a_budget_that_is_off_or_only_counts_is_not_told_about(key: VirtualKey, fields: dict[str, Any]) -> None:
    BudgetFactory(team=key.team, max_budget=Decimal(1), **fields)
    spend("500", key=key)
    alerts_evaluate(now=NOON)
    assert not Alert.objects.exists()


def test_requests_of_unknown_price_open_no_budget_alert_but_are_named_in_one(key: VirtualKey) -> None:
    BudgetFactory(team=key.team, max_budget=Decimal("0.10"))
    mark_hour(UsageRecordFactory(key=key, cost_nano=None, at=NOON - MINUTE).started_at)
    alerts_evaluate(now=NOON)
    assert thresholds() == []
    spend("0.10", key=key)
    alerts_evaluate(now=NOON)
    assert "1 requests of unknown price" in open_alerts(AlertKind.BUDGET_THRESHOLD)[0].text


def test_thresholds_are_those_that_the_rule_says(key: VirtualKey) -> None:
    AlertRule.objects.filter(kind=AlertKind.BUDGET_THRESHOLD).update(parameters={"percents": [10, 90]})
    BudgetFactory(team=key.team, max_budget=Decimal(10))
    spend("5", key=key)
    alerts_evaluate(now=NOON)
    assert thresholds() == ["10"]


def test_a_budget_that_will_not_last_is_told_until_it_will(key: VirtualKey) -> None:
    """Ten of a hundred dollars a day: used up on the 11th, and the month has 31 days."""
    AlertRule.objects.filter(kind=AlertKind.BUDGET_FORECAST).update(parameters={"from_percent": 10})
    budget = BudgetFactory(team=key.team, max_budget=Decimal(100), created_at=NOON - 40 * DAY)
    now = NOON.replace(day=5, hour=0)
    spend("40", key=key, at=now - HOUR)
    alerts_evaluate(now=now)
    [alert] = open_alerts(AlertKind.BUDGET_FORECAST)
    assert "lasts until 11 Mar at this rate" in alert.title
    assert "comes to $310.00" in alert.text
    budget.max_budget = Decimal(290)  # 107 %
    budget.save()
    alerts_evaluate(now=now + 10 * MINUTE)
    assert len(open_alerts(AlertKind.BUDGET_FORECAST)) == 1
    budget.max_budget = Decimal(320)  # 97 %: on its way out, and not called off yet
    budget.save()
    alerts_evaluate(now=now + 20 * MINUTE)
    assert len(open_alerts(AlertKind.BUDGET_FORECAST)) == 1
    budget.max_budget = Decimal(400)
    budget.save()
    alerts_evaluate(now=now + 30 * MINUTE)
    assert open_alerts(AlertKind.BUDGET_FORECAST) == []


@pytest.mark.parametrize(
    ("usd", "hours", "duration"),
    [
        ("30", 5, BudgetDuration.MONTH),  # too early in the period
        ("19", 30, BudgetDuration.MONTH),  # too little was spent
        ("40", 24 * 20, BudgetDuration.MONTH),  # it lasts
        ("90", 100, BudgetDuration.TOTAL),  # it has no end
    ],
)
def test_no_wolf_is_cried(key: VirtualKey, usd: str, hours: int, duration: BudgetDuration) -> None:
    first = NOON.replace(day=1, hour=0)
    BudgetFactory(team=key.team, max_budget=Decimal(100), budget_duration=duration, created_at=first)
    now = first + hours * HOUR
    spend(usd, key=key, at=first + hours * HOUR / 2)
    alerts_evaluate(now=now)
    assert open_alerts(AlertKind.BUDGET_FORECAST) == []


# --- spend ----------------------------------------------------------------------------------------------------------


def weeks_of(usd: str, key: VirtualKey, weeks: int) -> None:
    for week in range(1, weeks + 1):
        spend(usd, key=key, at=NOON - week * WEEK + 20 * MINUTE)
    rollups_refresh()


@pytest.mark.parametrize(
    ("weeks", "usd", "minutes", "is_told"),
    [
        (6, "40", 30, True),  # this hour so far
        (6, "40", -30, True),  # the hour before
        (6, "40", -90, False),  # over
        (6, "14", 30, False),  # not by enough dollars
        (3, "40", 30, False),  # too young to have habits
    ],
)
def test_a_team_that_spends_far_more_than_at_this_hour_of_the_week_is_told(
    key: VirtualKey, weeks: int, usd: str, minutes: int, is_told: bool
) -> None:
    weeks_of("10", key, weeks)
    for week in range(1, weeks + 1):
        spend("10", key=key, at=NOON - week * WEEK - 40 * MINUTE)
    rollups_refresh()
    spend(usd, key=key, at=NOON + minutes * MINUTE)
    alerts_evaluate(now=NOON + 45 * MINUTE)
    alerts = open_alerts(AlertKind.SPEND_ANOMALY)
    assert bool(alerts) is is_told
    if is_told:
        assert alerts[0].title == f"{key.team.name} spends $40.00 an hour instead of $10.00"
        assert f"team={key.team.slug}" in alerts[0].link
        assert alerts[0].team == key.team


def test_a_quiet_hour_of_an_old_team_counts_as_history(key: VirtualKey) -> None:
    spend("1", key=key, at=NOON - 5 * WEEK - 30 * HOUR)
    rollups_refresh()
    spend("6", key=key, at=NOON + MINUTE)
    alerts_evaluate(now=NOON + 5 * MINUTE)
    [alert] = open_alerts(AlertKind.SPEND_ANOMALY)
    assert "instead of $0.00" in alert.title


def test_teams_are_looked_at_in_as_many_queries_as_one(django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    for _ in range(5):
        weeks_of("10", VirtualKeyFactory(), 5)
    with django_assert_max_num_queries(60):
        alerts_evaluate(now=NOON)


# --- prices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "is_told"),
    [
        ({"cost_nano": None}, True),
        ({"cost_nano": None, "at": NOON - 59 * MINUTE}, True),
        ({"cost_nano": None, "at": NOON - 61 * MINUTE}, False),
        ({"cost_nano": None, "input_tokens": 0, "output_tokens": 0}, False),
        ({"cost_nano": 0}, False),
        ({"cost_nano": 5}, False),
    ],
)
def test_usage_of_unknown_price_is_told_for_an_hour(fields: dict[str, Any], is_told: bool) -> None:
    UsageRecordFactory(**{"at": NOON - MINUTE, "deployment": "vendor/new-model", "model": "new-model", **fields})
    alerts_evaluate(now=NOON)
    assert bool(open_alerts(AlertKind.UNPRICED_USAGE)) is is_told


def test_unpriced_usage_is_one_alert_per_model_and_is_over_once_it_is_rated() -> None:
    first = UsageRecordFactory(at=NOON - MINUTE, cost_nano=None, deployment="vendor/new", model="new")
    UsageRecordFactory(at=NOON - MINUTE, cost_nano=None, deployment="vendor/new", model="new")
    UsageRecordFactory(at=NOON - MINUTE, cost_nano=None, deployment="vendor/other", model="other")
    alerts_evaluate(now=NOON)
    alerts = {alert.subject: alert for alert in open_alerts(AlertKind.UNPRICED_USAGE)}
    assert {subject: alert.value for subject, alert in alerts.items()} == {
        "deployment:vendor/new": 2,
        "deployment:vendor/other": 1,
    }
    assert "manage.py rerate" in alerts["deployment:vendor/new"].text
    UsageAdjustmentFactory(request_id=first.pk, started_at=first.started_at, was_unpriced=True)
    alerts_evaluate(now=NOON)
    assert Alert.objects.get(subject="deployment:vendor/new").value == 1


@pytest.mark.parametrize(
    ("input_usd", "fields", "is_told"),
    [
        ("1", {}, True),
        ("0", {}, False),  # free is free
        ("1", {"cost_nano": 3}, False),
        ("1", {"input_tokens": 0, "output_tokens": 0}, False),
        ("1", {"usage_source": "cache"}, False),  # a cached answer costs nothing
        ("1", {"at": NOON - 61 * MINUTE}, False),
    ],
)
def test_priced_usage_that_cost_nothing_is_told(input_usd: str, fields: dict[str, Any], is_told: bool) -> None:
    model = CatalogueModelFactory(name="sage")
    PriceFactory(model=model, input_usd=Decimal(input_usd), output_usd=Decimal(input_usd))
    deployment = DeploymentFactory(model=model, provider__name="vendor", upstream_model="sage")
    UsageRecordFactory(
        **{
            "at": NOON - MINUTE,
            "cost_nano": 0,
            "model": "sage",
            "deployment": f"{deployment.provider.name}/sage",
            "usage_source": UsageSource.PROVIDER,
            **fields,
        }
    )
    alerts_evaluate(now=NOON)
    assert bool(open_alerts(AlertKind.ZERO_COST)) is is_told


# --- providers ------------------------------------------------------------------------------------------------------


def test_a_provider_that_is_down_is_told_and_resolves_when_it_is_back() -> None:
    provider = ProviderFactory(health=Health.DOWN, health_note="connection refused", checked_at=NOON - MINUTE)
    ProviderFactory(health=Health.DOWN, is_active=False)
    ProviderFactory(health=Health.DEGRADED)
    alerts_evaluate(now=NOON)
    [alert] = open_alerts(AlertKind.PROVIDER_DOWN)
    assert (alert.subject, alert.severity) == (f"provider:{provider.name}", Severity.CRITICAL)
    assert "As of 10 Mar 2026, 11:59 UTC: connection refused" in alert.text
    provider.health = Health.HEALTHY
    provider.save()
    alerts_evaluate(now=NOON + 2 * MINUTE)
    assert len(open_alerts(AlertKind.PROVIDER_DOWN)) == 1  # it may be down again in a minute
    alerts_evaluate(now=NOON + 3 * MINUTE)
    alert.refresh_from_db()
    assert (alert.state, alert.resolved_at, alert.resolved_by) == (AlertState.RESOLVED, NOON + 3 * MINUTE, None)


def attempts(provider: Any, count: int, failure: str = "") -> None:
    attempt = {"provider": provider.name, "deployment": "d", "latency_ms": 1.0, "failure": failure}
    UsageRecordFactory(at=NOON - MINUTE, attempts=[attempt] * count)


@pytest.mark.parametrize(
    ("good", "bad", "failure", "health", "is_told"),
    [
        (14, 6, "server_error", Health.DEGRADED, True),
        (15, 5, "server_error", Health.DEGRADED, False),  # 25 % is not above 25 %
        (12, 7, "server_error", Health.DEGRADED, False),  # too few
        (10, 10, "bad_request", Health.HEALTHY, False),  # the caller's fault
        (10, 10, "timeout", Health.DOWN, False),  # that is told already
    ],
)
def test_a_provider_that_fails_too_often_is_told(
    good: int, bad: int, failure: str, health: Health, is_told: bool
) -> None:
    provider = ProviderFactory(health=health)
    attempts(provider, good)
    attempts(provider, bad, failure)
    alerts_evaluate(now=NOON)
    alerts = open_alerts(AlertKind.ERROR_RATE)
    assert bool(alerts) is is_told
    if is_told:
        assert (alerts[0].value, alerts[0].limit) == (30, 25)
        assert f"30.0\N{NO-BREAK SPACE}% of the requests to {provider.label} fail" in alerts[0].title


def test_a_provider_that_is_off_is_not_told_about() -> None:
    provider = ProviderFactory(is_active=False)
    attempts(provider, 30, "server_error")
    alerts_evaluate(now=NOON)
    assert not Alert.objects.exists()


# --- the ledger -----------------------------------------------------------------------------------------------------


def test_a_ledger_that_is_not_in_order_is_told_until_a_check_finds_it_in_order() -> None:
    ledger_alert(differences=[f"requests (day {n})" for n in range(7)], is_whole=True, now=NOON)
    [alert] = open_alerts(AlertKind.LEDGER)
    assert (alert.value, alert.severity) == (7, Severity.CRITICAL)
    assert "requests (day 4); and 2 more" in alert.text
    alerts_evaluate(now=NOON + 10 * MINUTE)  # looks at other things
    ledger_alert(differences=[], is_whole=False, now=NOON + HOUR)  # looked at a week only
    ledger_alert(differences=["lately"], is_whole=False, now=NOON + HOUR)  # is told already
    assert open_alerts(AlertKind.LEDGER) == [alert]
    ledger_alert(differences=[], is_whole=True, now=NOON + DAY)
    assert open_alerts(AlertKind.LEDGER) == []


# --- all of them ----------------------------------------------------------------------------------------------------


def test_a_rule_that_fails_is_logged_and_keeps_no_other_from_its_work(caplog: pytest.LogCaptureFixture) -> None:
    ProviderFactory(health=Health.DOWN)
    BudgetFactory(team=spend("90").team)
    alerts_evaluate(now=NOON)
    AlertRule.objects.filter(kind=AlertKind.BUDGET_THRESHOLD).update(parameters={"percents": ["many"]})
    spend("1")
    ProviderFactory(health=Health.DOWN)
    alerts_evaluate(now=NOON + 10 * MINUTE)
    assert "the alert rule budget_threshold failed" in caplog.text
    assert len(open_alerts(AlertKind.PROVIDER_DOWN)) == 2
    assert thresholds() == ["50", "80"]  # not resolved by a rule that could not look


def test_a_rule_that_is_switched_off_opens_nothing_and_resolves_what_is_open() -> None:
    ProviderFactory(health=Health.DOWN)
    alerts_evaluate(now=NOON)
    AlertRule.objects.filter(kind=AlertKind.PROVIDER_DOWN).update(is_active=False)
    alerts_evaluate(now=NOON + 4 * MINUTE)
    assert open_alerts(AlertKind.PROVIDER_DOWN) == []
    ledger = AlertRule.objects.filter(kind=AlertKind.LEDGER)
    ledger.update(is_active=False)
    ledger_alert(differences=["x"], is_whole=True, now=NOON)
    assert open_alerts(AlertKind.LEDGER) == []
