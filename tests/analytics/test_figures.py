"""What templates write: icons, moments, links that keep the address, headings that sort, states, strips of checks."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.http import QueryDict
from django.template import Context, Template
from django.test import RequestFactory

from analytics.models import UsageRecord, UsageState
from analytics.selectors import CheckMark
from analytics.templatetags import figures

NOON = datetime(2026, 3, 10, 12, 0, 5, tzinfo=UTC)
NBSP = "\N{NO-BREAK SPACE}"


def rendered(source: str, path: str = "/", **context: Any) -> str:
    request = RequestFactory().get(path)
    return Template("{% load figures %}" + source).render(Context({"request": request, **context}))


@pytest.mark.parametrize(
    ("style", "text"),
    [("second", "10 Mar 2026, 12:00:05 UTC"), ("row", "10 Mar 12:00:05"), ("clock", "12:00:05 UTC"),
     ("day", "10 Mar 2026")],
)  # fmt: skip
def test_a_moment_is_written_in_utc_with_all_of_it_behind(style: str, text: str) -> None:
    there = NOON.astimezone(ZoneInfo("America/New_York"))
    for moment in (NOON, there):
        html = figures.utc(moment, style)
        assert f">{text}</time>" in html
        assert 'datetime="2026-03-10T12:00:05+00:00"' in html
        assert 'title="2026-03-10 12:00:05 UTC"' in html


def test_no_moment_is_a_dash_and_no_visit_is_never() -> None:
    assert figures.utc(None) == "–"
    assert figures.ago(None, NOON) == "never"


def test_how_long_ago_has_the_moment_itself_in_its_tooltip() -> None:
    html = figures.ago(NOON - timedelta(minutes=2, seconds=59), NOON)
    assert f">2{NBSP}min ago</time>" in html
    assert 'title="2026-03-10 11:57:06 UTC"' in html
    assert ">just now</time>" in figures.ago(NOON + timedelta(minutes=5), NOON)


@pytest.mark.parametrize(
    ("path", "changes", "address"),
    [
        ("/", {}, "?"),
        ("/?a=1", {}, "?a=1"),
        ("/?a=1", {"b": "2"}, "?a=1&b=2"),
        ("/?a=1&b=2", {"a": ""}, "?b=2"),
        ("/?a=1", {"a": None}, "?"),
        ("/?a=1&a=2", {"a": 3}, "?a=3"),
        ("/?team=a%26b", {"by": "x&y=z"}, "?team=a%26b&by=x%26y%3Dz"),
    ],
)
def test_a_link_keeps_the_address_and_changes_what_it_says(path: str, changes: dict[str, Any], address: str) -> None:
    request = RequestFactory().get(path)
    assert figures.query(Context({"request": request}), **changes) == address
    assert QueryDict(address.removeprefix("?")) is not None


def test_a_link_in_a_page_is_escaped() -> None:
    assert rendered("{% query a='1' %}", "/?x=%22%3E%3Cb%3E&y=1") == "?x=%22%3E%3Cb%3E&amp;y=1&amp;a=1"


@pytest.mark.parametrize(
    ("sort", "text", "following", "order"),
    [
        ("-cost", False, "sort=cost", "descending"),
        ("cost", False, "sort=-cost", "ascending"),
        ("-requests", False, "sort=-cost", ""),
        ("-requests", True, "sort=cost", ""),
        ("cost", True, "sort=-cost", "ascending"),
    ],
)
def test_a_heading_sorts_and_a_second_time_turns_round(sort: str, text: bool, following: str, order: str) -> None:
    html = rendered(f"{{% sort_link 'cost' 'Spend' text={text} %}}", sort=sort)
    assert f'href="?{following}#table"' in html
    assert (f'aria-sort="{order}"' in html) is bool(order)
    assert ("#up" in html, "#down" in html) == (order == "ascending", order == "descending")


def test_a_heading_is_text() -> None:
    assert "&lt;b&gt;" in rendered("{% sort_link 'cost' label %}", sort="x", label="<b>")


@pytest.mark.parametrize(
    ("nano", "step", "label"),
    [(0, 10**9, "$0"), (2_000_000_000, 10**9, "$2"), (1_500_000_000, 5 * 10**8, "$1.50"),
     (1_234_000_000_000, 10**9, "$1,234"), (2_500_000, 2_500_000, "$0.0025")],
)  # fmt: skip
def test_an_axis_has_cents_only_where_it_needs_them(nano: float, step: float, label: str) -> None:
    assert figures.axis_money(nano, step) == label


@pytest.mark.parametrize(
    ("share", "tone", "width"),
    [(0, "", 0), (0.5, "", 50), (0.79, "", 79), (0.8, "warn", 80), (0.99, "warn", 99), (1, "bad", 100),
     (7.5, "bad", 100), (-1, "", 0)],
)  # fmt: skip
def test_a_budgets_bar_changes_colour_where_alerts_open_and_never_overflows(
    share: float, tone: str, width: float
) -> None:
    assert (figures.budget_tone(share), round(figures.hundred(share))) == (tone, width)


@pytest.mark.parametrize(
    ("usd", "text"),
    [("0", "$0.00"), ("3", "$3.00"), ("0.15", "$0.15"), ("0.075000", "$0.075"), ("1234.5", "$1,234.50"),
     ("0.000001", "$0.000001")],
)  # fmt: skip
def test_a_rate_is_exact_with_two_decimals_at_least(usd: str, text: str) -> None:
    assert figures.rate(Decimal(usd)) == text


@pytest.mark.parametrize(
    ("state", "error", "word", "tone", "notice"),
    [
        (UsageState.SETTLED, "", "Answered", "ok", "ok"),
        (UsageState.SETTLED, "upstream_failed", "Broke off", "warn", "warn"),
        (UsageState.CANCELLED, "client_closed_request", "Cancelled", "idle", ""),
        (UsageState.RELEASED, "upstream_failed", "Failed", "bad", "bad"),
        (UsageState.EXPIRED, "gateway_stopped", "Gateway stopped", "warn", "warn"),
        ("unheard-of", "", "unheard-of", "idle", ""),
    ],
)
def test_a_state_has_a_word_beside_its_colour(state: str, error: str, word: str, tone: str, notice: str) -> None:
    record = UsageRecord(state=state, error_code=error)
    assert (figures.record_word(record), figures.record_tone(record)) == (word, tone)
    assert figures.record_notice(record) == notice
    assert figures.record_picture(record) == ("stopped" if state == UsageState.CANCELLED else "")


@pytest.mark.parametrize(
    ("health", "label", "tone"),
    [("healthy", "Healthy", "ok"), ("degraded", "Degraded", "warn"), ("down", "Down", "bad"),
     ("unknown", "Not checked yet", "idle"), ("gone", "gone", "idle")],
)  # fmt: skip
def test_a_health_has_a_word_and_a_colour(health: str, label: str, tone: str) -> None:
    assert (figures.health_label(health), figures.health_tone(health)) == (label, tone)


def mark(health: str, **fields: Any) -> CheckMark:
    return CheckMark(
        **{"checked_at": NOON, "health": health, "note": "", "latency_ms": 12, "is_passive": False} | fields
    )


def test_the_latest_check_stands_at_the_right_end_as_high_as_it_is_good() -> None:
    good, bad = figures.check_slots([mark("healthy"), mark("down", note="Nothing listens.", is_passive=True)])
    assert (round(good.x, 1), round(bad.x, 1)) == (97.8, 98.9)
    assert good.height > bad.height
    assert good.y + good.height == bad.y + bad.height == figures.CHECK_HEIGHT
    assert good.title == f"12:00:05 UTC: Healthy, 12{NBSP}ms"
    assert bad.title == "12:00:05 UTC: Down, from traffic. Nothing listens"


def test_a_strip_of_checks_is_told_in_words() -> None:
    assert figures.check_summary([]) == "No checks in the last 24 hours"
    marks = [mark("healthy"), mark("down"), mark("healthy")]
    assert figures.check_summary(marks) == "Last 3 checks: 2 healthy, 1 down"


def test_tokens_in_are_all_three_buckets() -> None:
    record = SimpleNamespace(input_tokens=1, cache_read_input_tokens=20, cache_creation_input_tokens=300)
    assert figures.input_total(record) == 321


def test_an_icon_is_hidden_from_those_who_listen() -> None:
    html = figures.icon("sun")
    assert 'aria-hidden="true"' in html
    assert 'icons.svg#sun"' in html
