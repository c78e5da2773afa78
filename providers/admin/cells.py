"""How values look in the admin: state labels, money, moments, numbers. Every cell stays on one line."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

NOTHING = mark_safe('<span class="cell-nothing">–</span>')


class Tone(StrEnum):
    """The colour of a label; the text says the same, so that nobody needs the colour."""

    GOOD = "success"
    WARN = "warning"
    BAD = "danger"
    INFO = "info"
    QUIET = "default"


def label(text: str, tone: Tone, *, icon: str = "", title: str = "") -> SafeString:
    """A coloured label with text. `icon` is a Material symbol; `title` is shown on hover."""
    context = {"text": text, "type": tone.value, "icon": icon, "label_title": title}
    return mark_safe(render_to_string("unfold/helpers/label.html", context).strip())  # noqa: S308  # the template escapes


def active_label(is_active: bool) -> SafeString:
    return label("Active", Tone.GOOD) if is_active else label("Off", Tone.QUIET)


def moment(at: datetime | None, *, empty: str = "") -> SafeString:
    """A moment (aware), short: “10 Mar 12:05”, with the year when it is not this one; all of it on hover."""
    if at is None:
        return format_html('<span class="cell-nothing">{}</span>', empty) if empty else NOTHING
    local = timezone.localtime(at)
    short = f"{local.day} {local:%b %H:%M}" if local.year == timezone.localtime().year else f"{local.day} {local:%b %Y}"
    title = f"{local:%A}, {local.day} {local:%B %Y, %H:%M:%S %Z}"
    return format_html('<time class="cell-moment" datetime="{}" title="{}">{}</time>', at.isoformat(), title, short)


def usd_text(usd: Decimal | None) -> str:
    """Exact dollars, at least 2 decimals: rates and ceilings are not rounded. None is unknown, which is not free."""
    if usd is None:
        return "unknown"
    whole, _, fraction = f"{usd:,f}".partition(".")
    return f"${whole}.{fraction.rstrip('0').ljust(2, '0')}"


def usd(amount: Decimal | None) -> SafeString:
    """Dollars as a right-aligned cell; None is a dash."""
    return aligned(usd_text(amount)) if amount is not None else aligned("–")


def aligned(text: str, *, title: str = "") -> SafeString:
    """Text of figures, right-aligned."""
    return format_html('<span class="cell-number" title="{}">{}</span>', title, text)


def marked(text: str, marks: Iterable[SafeString], *, title: str = "") -> SafeString:
    """Text of figures, right-aligned, with labels before it."""
    figures = format_html('<span title="{}">{}</span>', title, text)
    labels = format_html_join("", "{}", ((mark,) for mark in marks))
    return format_html('<span class="cell-number cell-pair">{}{}</span>', labels, figures)


def number(value: float | None, unit: str = "") -> SafeString:
    """A right-aligned whole number with its unit; None is a dash."""
    if value is None:
        return aligned("–")
    return aligned(f"{value:,.0f}" + (f"\N{NO-BREAK SPACE}{unit}" if unit else ""))


def code(text: str) -> SafeString:
    """A name as it is written in calls."""
    return format_html('<code class="cell-code">{}</code>', text) if text else NOTHING


def clipped(text: str, *, title: str = "") -> SafeString:
    """Text that ends in an ellipsis when the column is narrow; all of it on hover."""
    return format_html('<span class="cell-clip" title="{}">{}</span>', title or text, text)


def steps(texts: list[str], *, shown: int = 3) -> SafeString:
    """Names in the order of trying, with an arrow between; the rest is counted and named on hover."""
    if not texts:
        return NOTHING
    text = " → ".join(texts[:shown]) + (f" +{len(texts) - shown}" if len(texts) > shown else "")
    return format_html('<span class="cell-steps" title="{}">{}</span>', " → ".join(texts), text)


def capabilities_text(names: list[str]) -> str:
    """“tool_calling” as people say it."""
    return ", ".join(name.replace("_", " ").replace("json", "JSON") for name in names) or "–"
