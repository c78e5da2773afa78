"""How budgets read: when they start again, what to expect, and the bars of a budget's chart."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from analytics.budget_page import (
    DAYS_SHOWN,
    LINES_SHOWN,
    budget_lines,
    chart_of,
    forecast_words,
    is_running_out,
    local_text,
    most_spent,
    resets_words,
)
from analytics.domain.forecast import Forecast
from analytics.models import Budget, BudgetDuration, BudgetMode, BudgetWindow
from analytics.selectors import BudgetState
from analytics.selectors.budgets import budget_states
from analytics.services.budgets import budget_window_open
from routing.models import TeamRole
from tests.factories import (
    NOON,
    BudgetFactory,
    MembershipFactory,
    UsageRecordFactory,
    VirtualKeyFactory,
    key_budget,
    mark_hour,
)

USD = 10**9
DAY = timedelta(days=1)


def state(**fields: Any) -> BudgetState:
    given = {
        "budget": Budget(max_budget=Decimal(100)), "begins_at": NOON - 10 * DAY, "ends_before": NOON + 20 * DAY,
        "spent_nano": 40 * USD, "limit_nano": 100 * USD, "as_of": NOON,
    }  # fmt: skip
    return BudgetState(**(given | fields))


def state_of(budget: Budget, now: datetime = NOON) -> BudgetState:
    [found] = budget_states([budget], now=now)
    return found


# --- words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (timedelta(days=20, hours=5), "in 20\N{NO-BREAK SPACE}d"),
        (timedelta(hours=23, minutes=59), "in 23\N{NO-BREAK SPACE}h"),
        (timedelta(minutes=2), "in 2\N{NO-BREAK SPACE}min"),
        (timedelta(seconds=59), "in less than a minute"),
        (None, "never"),
    ],
)
def test_the_next_period_begins_in_the_one_unit_that_matters(left: timedelta | None, words: str) -> None:
    assert resets_words(state(ends_before=NOON + left if left else None), NOON) == words


def test_a_moment_is_told_where_the_budget_is() -> None:
    moment = datetime(2026, 11, 30, 23, tzinfo=UTC)
    assert local_text(moment, "Europe/Berlin") == "1 Dec 2026, 00:00 CET"
    assert local_text(moment, "UTC") == "30 Nov 2026, 23:00 UTC"


@pytest.mark.parametrize(
    ("fields", "forecast", "words", "is_close"),
    [
        ({}, None, "too little use for a forecast", False),
        ({"spent_nano": 100 * USD}, None, "all of it is spent", True),
        ({"limit_nano": 0, "spent_nano": 0}, None, "all of it is spent", True),
        ({}, Forecast(USD, NOON + DAY, 120 * USD), "runs out about 11 Mar", True),
        ({}, Forecast(USD, None, 60 * USD), "lasts: about $60.00 by the end", False),
        ({"ends_before": None}, Forecast(USD, None, None), "lasts for more than a year", False),
    ],
)
def test_what_to_expect_is_a_sentence(
    fields: dict[str, Any], forecast: Forecast | None, words: str, is_close: bool
) -> None:
    assert forecast_words(state(**fields), forecast) == words
    assert is_running_out(state(**fields), forecast) is is_close


def test_of_a_day_the_hour_is_told() -> None:
    daily = state(budget=Budget(max_budget=Decimal(100), budget_duration=BudgetDuration.DAY))
    assert forecast_words(daily, Forecast(USD, NOON + timedelta(hours=3), USD)) == "runs out about 10 Mar, 15:00 UTC"


def test_of_many_budgets_those_are_shown_of_which_most_is_spent() -> None:
    states = [state(spent_nano=spent * USD) for spent in (5, 90, 40, 120)]
    assert [one.spent_nano // USD for one in most_spent(states, 2)] == [90, 120]
    assert len(budget_lines(states * LINES_SHOWN, now=NOON)) == LINES_SHOWN


# --- the chart ----------------------------------------------------------------------------------------------------


def spend(key: Any, usd: int, at: datetime) -> None:
    UsageRecordFactory(key=key, at=at, cost_nano=usd * USD)
    mark_hour(at)


@pytest.mark.django_db
def test_a_months_bars_are_its_days_up_to_today() -> None:
    key = VirtualKeyFactory()
    for days_ago, usd in ((0, 1), (3, 2), (10, 50)):
        spend(key, usd, NOON - days_ago * DAY)
    chart = chart_of(state_of(BudgetFactory(team=key.team, created_at=NOON - 90 * DAY)), now=NOON)
    assert len(chart.bars) == 31
    assert {bar.slot.title: bar.spent for bar in chart.bars if bar.spent} == {"7 March": 2 * USD, "10 March": USD}
    assert [bar.spent is None for bar in chart.bars] == [False] * 10 + [True] * 21
    assert chart.bars[9].so_far == 3 * USD


@pytest.mark.django_db
def test_a_days_bars_are_its_hours_also_when_it_has_twenty_five() -> None:
    key = VirtualKeyFactory()
    now = datetime(2026, 10, 25, 18, tzinfo=UTC)  # the clocks of Berlin went back
    budget = BudgetFactory(team=key.team, budget_duration="1d", time_zone="Europe/Berlin", created_at=now - DAY)
    spend(key, 2, now - timedelta(hours=2))
    chart = chart_of(state_of(budget, now), now=now)
    assert len(chart.bars) == 25
    assert [bar.slot.title for bar in chart.bars if bar.spent] == ["25 Oct, 16:00 UTC"]


@pytest.mark.django_db
def test_a_long_total_shows_its_last_days_on_top_of_what_was_before() -> None:
    key = VirtualKeyFactory()
    spend(key, 7, NOON - 100 * DAY)
    spend(key, 1, NOON)
    chart = chart_of(
        state_of(BudgetFactory(team=key.team, budget_duration="total", created_at=NOON - 200 * DAY)), now=NOON
    )
    assert len(chart.bars) == DAYS_SHOWN
    assert (chart.bars[0].before, chart.bars[-1].before, chart.bars[-1].so_far) == (7 * USD, 7 * USD, 8 * USD)


@pytest.mark.django_db
def test_what_was_written_off_is_there_from_the_beginning() -> None:
    budget = BudgetFactory(created_at=NOON - 90 * DAY)
    window = budget_window_open(budget=budget, now=NOON)
    BudgetWindow.objects.filter(pk=window.pk).update(opening_nano=5 * USD)
    assert chart_of(state_of(budget), now=NOON).bars[0].before == 5 * USD


# --- beside the dashboards ----------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_spend_page_tells_a_lead_what_their_budgets_come_to(client: Client) -> None:
    now = timezone.now()
    key = VirtualKeyFactory(name="nightly job")
    BudgetFactory(team=key.team, max_budget=Decimal(5), mode=BudgetMode.SHADOW)
    BudgetFactory(team__name="Somebody else's")
    window = budget_window_open(budget=key_budget(key), now=now)
    BudgetWindow.objects.filter(pk=window.pk).update(leased_nano=3 * USD)
    spend(key, 6, now)
    client.force_login(MembershipFactory(team=key.team, role=TeamRole.LEAD).user)
    page = client.get("/dashboards/").content.decode()
    assert '$6.00 <span class="soft">of $5.00</span>' in page
    assert "All of it is spent" in page
    assert ", shadow</span>" in page
    assert "nightly job" in page
    assert "$3.00 held" in page
    assert "Somebody else" not in page
    assert "/admin/analytics/budget/" not in page


@pytest.mark.django_db
def test_a_keys_budget_is_shown_beside_its_spend(client: Client) -> None:
    now = timezone.now()
    lead = MembershipFactory(role=TeamRole.LEAD)
    with_budget, without = VirtualKeyFactory(team=lead.team), VirtualKeyFactory(team=lead.team)
    key_budget(with_budget, max_budget=Decimal(8), budget_duration=BudgetDuration.DAY)
    key_budget(without, is_active=False)
    spend(with_budget, 2, now)
    client.force_login(lead.user)
    page = client.get("/dashboards/keys/").content.decode()
    assert "$2.00 of $8.00 per day" in page
    assert page.count('class="limit small"') == 1
