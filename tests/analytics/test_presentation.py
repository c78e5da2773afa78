"""How figures read, and what a chart is made of."""

import csv
from datetime import UTC, date, datetime, timedelta
from io import StringIO

import pytest
from django.test import RequestFactory

from analytics.charts import MAX_SERIES, PLOT_HEIGHT, Slot, nice_step, stacked_bars
from analytics.exports import cost_cell, csv_response, safe_cell
from analytics.periods import period_of
from analytics.presentation import (
    NBSP,
    change,
    change_of_share,
    duration,
    elapsed,
    exact_money,
    money,
    percent,
    tokens,
)

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
TODAY = NOW.date()


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (None, "unpriced"),
        (0, "$0.00"),
        (1, "<$0.0001"),
        (1_234_567, "$0.0012"),
        (10_000_000, "$0.01"),
        (1_234_567_890_000, "$1,234.57"),
    ],
)
def test_money_has_two_decimals_and_four_below_a_cent(nano: int | None, text: str) -> None:
    assert money(nano) == text


def test_a_bill_shows_every_billionth() -> None:
    assert exact_money(1_230_000) == "$0.001230000"
    assert exact_money(None) == "unpriced"


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "–"), (812, "812"), (1_000, "1.0_k"), (999_960, "1.0_M"), (35_712_004, "35.7_M"), (1_200_000_000, "1.2_B")],
)
def test_tokens_are_rounded_to_a_unit(count: int | None, text: str) -> None:
    assert tokens(count) == text.replace("_", NBSP)


@pytest.mark.parametrize(
    ("ms", "text"),
    [(None, "–"), (0.42, "0.4_ms"), (812.4, "812_ms"), (999.7, "1.00_s"), (1_240, "1.24_s"), (125_000, "2_min 5_s")],
)
def test_a_duration_names_the_unit_that_fits(ms: float | None, text: str) -> None:
    assert duration(ms) == text.replace("_", NBSP)


def test_a_share_that_is_not_zero_never_reads_as_zero() -> None:
    assert [percent(share) for share in (0, 0.0001, 0.0283, 0.9999, 1)] == [
        f"0{NBSP}%", f"<0.1{NBSP}%", f"2.8{NBSP}%", f">99.9{NBSP}%", f"100{NBSP}%",
    ]  # fmt: skip


def test_a_change_has_a_tone_only_when_it_is_notable() -> None:
    more_errors, little = change(120, 100, less_is_better=True), change(101, 100, less_is_better=True)
    assert more_errors
    assert (more_errors.text, more_errors.tone) == (f"+20.0{NBSP}%", "worse")
    assert little
    assert little.tone == ""
    assert change(5, 0) is None


def test_an_error_rate_changes_by_points() -> None:
    assert change_of_share(0.02, 0.05).text == f"−3.0{NBSP}pp"
    assert change_of_share(0.02, 0.05).tone == "better"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "just now"), (42, "42_s ago"), (125, "2_min ago"), (7_300, "2_h ago"), (200_000, "2_d ago")],
)
def test_elapsed_time_is_told_in_one_unit(seconds: int, text: str) -> None:
    assert elapsed(NOW - timedelta(seconds=seconds), NOW) == text.replace("_", NBSP)


# --- periods ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ({}, date(2026, 2, 9)),
        ({"range": "7d"}, date(2026, 3, 4)),
        ({"range": "24h"}, TODAY),
        ({"range": "mtd"}, date(2026, 3, 1)),
        ({"range": "custom", "from": "2026-03-10", "to": "2026-02-01"}, date(2026, 2, 1)),
    ],
)
def test_a_period_is_read_from_the_address(query: dict[str, str], first: date) -> None:
    period = period_of(query, today=TODAY)
    assert (period.days.first, period.days.last, period.note) == (first, TODAY, "")


@pytest.mark.parametrize(
    "query", [{"range": "x"}, {"range": "custom"}, {"range": "custom", "from": "0001-01-01", "to": "2026-01-01"}]
)
def test_an_unreadable_period_falls_back_and_says_so(query: dict[str, str]) -> None:
    period = period_of(query, today=TODAY)
    assert period.length == 30
    assert period.note


def test_a_very_long_period_is_cut_to_a_year() -> None:
    period = period_of({"range": "custom", "from": "2001-01-01", "to": "2026-03-10"}, today=TODAY)
    assert period.length == 366
    assert period.note


# --- chart --------------------------------------------------------------------------------------------------------

SLOTS = [Slot(name, name, name) for name in ("mon", "tue")]


def test_bars_are_stacked_without_a_gap_in_value() -> None:
    chart = stacked_bars(SLOTS, {"a": {"mon": 30, "tue": 10}, "b": {"mon": 20}}, {"a": "A", "b": "B"})
    lower, upper = chart.columns[0].segments
    top = chart.ticks[-1].value
    assert (lower.series.label, upper.series.label) == ("A", "B")
    assert lower.y + lower.height == pytest.approx(PLOT_HEIGHT)
    assert upper.y == pytest.approx(PLOT_HEIGHT * (1 - 50 / top), abs=0.01)
    assert [segment.value for segment in chart.columns[1].segments] == [10]


def test_more_teams_than_colours_are_summed_up_as_others() -> None:
    values = {f"t{n}": {"mon": 10.0 - n} for n in range(10)}
    chart = stacked_bars(SLOTS, values, {key: key for key in values})
    assert len(chart.legend) == MAX_SERIES
    assert (chart.legend[-1].label, chart.legend[-1].total) == ("3 others", 3 + 2 + 1)
    assert chart.columns[0].total == sum(range(1, 11))


def test_a_chart_of_nothing_has_an_axis_and_no_bars() -> None:
    chart = stacked_bars(SLOTS, {}, {})
    assert [tick.value for tick in chart.ticks] == [0, 1]
    assert all(not column.segments for column in chart.columns)


@pytest.mark.parametrize(("top", "step"), [(1.09, 0.25), (7, 2), (31, 10), (0.004, 0.001), (5e9, 1e9)])
def test_an_axis_has_round_steps(top: float, step: float) -> None:
    assert nice_step(top) == pytest.approx(step)


# --- CSV ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =1", "\r=1"])
def test_a_cell_that_a_spreadsheet_would_run_is_made_text(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


def test_numbers_and_plain_text_stay_as_they_are() -> None:
    assert [safe_cell(value) for value in (-1, 2.5, None, "Checkout, EU")] == [-1, 2.5, None, "Checkout, EU"]
    assert (cost_cell(1), cost_cell(None)) == ("0.000000001", None)


def test_a_long_export_arrives_whole_and_in_order(rf: RequestFactory) -> None:
    rows = ([n, f"name {n}"] for n in range(1201))
    response = csv_response(rf.get("/"), name="test", header=["n", "name"], rows=rows)
    parsed = list(csv.reader(StringIO(response.getvalue().decode())))
    assert parsed[0] == ["n", "name"]
    assert [row[0] for row in parsed[1:]] == [str(n) for n in range(1201)]
    assert response["Content-Disposition"] == 'attachment; filename="test.csv"'
