"""The table in which ops enter what long prompts cost: a line per threshold, a column per rate."""

from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextInputWidget

from providers.admin.cells import usd_text
from providers.domain.pricing import TIER_FIELDS, TIER_RATES, complaint_about_tiers
from providers.models import Price

LINES = 3  # no vendor has more thresholds than that
COLUMNS = ("Above (input tokens)", "Input", "Output", "Cache read", "Cache write", "Cache write, 1 hour")
_GROUPING = str.maketrans("", "", " ,_\u00a0\u202f")


class PlainDecimalField(forms.DecimalField):
    """Shows a rate as people write it: 4, not 4.000000, and 0, not 0E-9."""

    def prepare_value(self, value: Any) -> Any:
        return f"{value.normalize():f}" if isinstance(value, Decimal) and value.is_finite() else value


class PriceTiersWidget(forms.MultiWidget):
    def __init__(self) -> None:
        super().__init__(
            [
                UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "aria-label": f"{column}, line {line}"})
                for line in range(1, LINES + 1)
                for column in COLUMNS
            ]
        )

    def decompress(self, value: Any) -> list[Any]:
        """The cells, line by line, of a price's tiers; cells stay what they are."""
        if isinstance(value, list) and not any(isinstance(item, dict) for item in value):
            return value
        return [tier.get(name) for tier in value or () for name in TIER_FIELDS]

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        cells = self.get_context(name, value, attrs)["widget"]["subwidgets"]
        inputs = [self._render(cell["template_name"], {"widget": cell}, renderer) for cell in cells]  # type: ignore[attr-defined]  # Django's own
        width = len(COLUMNS)
        head = format_html_join("", '<th scope="col">{}</th>', ((column,) for column in COLUMNS))
        body = format_html_join(
            "", "<tr>{}</tr>", ((_cells(inputs[at : at + width]),) for at in range(0, LINES * width, width))
        )
        return format_html(
            '<div class="tiers"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>', head, body
        )


class PriceTiersField(forms.Field):
    """Cells in, a price's `tiers` out. A line that is empty altogether is no tier."""

    widget = PriceTiersWidget

    def prepare_value(self, value: Any) -> Any:
        return PriceTiersWidget().decompress(value)

    def clean(self, value: Any) -> list[dict[str, Any]]:
        cells = [(cell or "").strip() for cell in value or ()]
        width = len(TIER_FIELDS)
        lines = [cells[at : at + width] for at in range(0, len(cells), width)]
        tiers = [_tier(line) for line in lines if any(line)]
        if complaint := complaint_about_tiers(tiers):
            raise ValidationError(complaint)
        return tiers

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return (initial or []) != self.clean(data)
        except ValidationError:
            return True


def tiers_text(price: Price) -> str:
    """“above 200k in: $2.50 / $15.00”; empty for a price without tiers."""
    return "; ".join(f"above {count_text(tier['above'])} in: {_in_and_out(tier)}" for tier in price.tiers)


def price_text(price: Price) -> str:
    """A price in words: “$1.25 in / $10.00 out per 1M; above 200k in: $2.50 / $15.00”."""
    flat = f" + {usd_text(price.per_request_usd)} per request" if price.per_request_usd else ""
    base = f"{usd_text(price.input_usd)} in / {usd_text(price.output_usd)} out per 1M{flat}"
    return f"{base}; {tiers_text(price)}" if price.tiers else base


def count_text(tokens: int) -> str:
    return f"{tokens // 1000:,}k" if tokens % 1000 == 0 else f"{tokens:,}"


def _in_and_out(tier: dict[str, Any]) -> str:
    known = (None if tier.get(name) is None else Decimal(tier[name]) for name in TIER_RATES[:2])
    return " / ".join(map(usd_text, known))


def _cells(inputs: Iterable[str]) -> SafeString:
    return format_html_join("", "<td>{}</td>", ((field,) for field in inputs))


def _tier(line: Sequence[str]) -> dict[str, Any]:
    """What cannot be read stays as it was written: the complaint quotes it."""
    above = line[0].translate(_GROUPING)
    tier: dict[str, Any] = {"above": int(above) if above.isascii() and above.isdecimal() else line[0]}
    return tier | {name: _rate(text) for name, text in zip(TIER_RATES, line[1:], strict=True)}


def _rate(text: str) -> str | None:
    try:
        return f"{Decimal(text.removeprefix('$').translate(_GROUPING)):f}" if text else None
    except InvalidOperation:
        return text
