"""How values look in the admin: exact, in one line, with what is unknown said to be unknown."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from providers.admin import cells
from providers.admin.cells import Tone
from providers.admin.pages import CAPABILITY_CHOICES
from providers.domain.types import Capability

NASTY = '"><b>&'


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, "unknown"), (Decimal(0), "$0.00"), (Decimal("0.15"), "$0.15"), (Decimal("0.000001"), "$0.000001"),
     (Decimal("1234567.5"), "$1,234,567.50"), (Decimal("2.500000"), "$2.50"), (Decimal("1E+2"), "$100.00")],
)  # fmt: skip
def test_dollars_are_exact_and_an_unknown_price_is_not_free(amount: Decimal | None, text: str) -> None:
    assert cells.usd_text(amount) == text
    assert (">–<" in cells.usd(amount)) is (amount is None)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(None, "ms", "–"), (0, "", "0"), (128_000, "", "128,000"), (12.6, "ms", "13\N{NO-BREAK SPACE}ms"), (-5, "", "-5")],
)
def test_numbers_have_their_thousands_and_their_unit(value: float | None, unit: str, text: str) -> None:
    assert f">{text}</span>" in cells.number(value, unit)


def test_a_moment_of_this_year_is_short_and_another_has_its_year() -> None:
    now = timezone.localtime()
    recent, old = now.replace(month=1, day=2, hour=3, minute=4), datetime(2019, 3, 10, 12, 5, 6, tzinfo=UTC)
    assert ">2 Jan 03:04</time>" in cells.moment(recent)
    assert ">10 Mar 2019</time>" in cells.moment(old)
    assert 'title="Sunday, 10 March 2019, 12:05:06 UTC"' in cells.moment(old)
    assert "10 Mar 2019" in cells.moment(old.astimezone(UTC) + timedelta(hours=1))


def test_no_moment_is_a_dash_or_a_word() -> None:
    assert cells.moment(None) == cells.NOTHING
    assert ">never</span>" in cells.moment(None, empty="never")


@pytest.mark.parametrize("tone", Tone)
def test_a_label_has_its_text_beside_its_colour(tone: Tone) -> None:
    html = cells.label("Degraded", tone, icon="warning", title="slow")
    assert "Degraded" in html
    assert "slow" in html


@pytest.mark.parametrize(
    "html",
    [
        cells.code(NASTY),
        cells.clipped(NASTY),
        cells.clipped("x", title=NASTY),
        cells.aligned(NASTY, title=NASTY),
        cells.steps([NASTY, NASTY]),
        cells.moment(None, empty=NASTY),
    ],
)
def test_text_stays_text(html: str) -> None:
    assert "<b>" not in html
    assert "&quot;&gt;&lt;b&gt;&amp;" in html


def test_a_labels_text_stays_text() -> None:
    html = cells.label(NASTY, Tone.GOOD, title=NASTY)
    assert "<b>" not in html


def test_steps_name_three_and_count_the_rest() -> None:
    html = cells.steps(["a", "b", "c", "d", "e"])
    assert ">a → b → c +2</span>" in html
    assert 'title="a → b → c → d → e"' in html
    assert cells.steps([]) == cells.NOTHING
    assert cells.code("") == cells.NOTHING


def test_capabilities_are_said_as_people_say_them() -> None:
    assert cells.capabilities_text(["tool_calling", "json_schema"]) == "tool calling, JSON schema"
    assert cells.capabilities_text([]) == "–"
    labels = dict(CAPABILITY_CHOICES)
    assert set(labels) == {capability.value for capability in Capability}
    assert labels["json_schema"] == "JSON schema"
    assert all(label[0].isupper() for label in labels.values())
