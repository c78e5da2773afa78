"""What templates write figures, times and icons with. The rules are in `analytics.presentation`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django import template
from django.http import QueryDict
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from analytics import presentation
from analytics.models import BudgetWindow, UsageRecord, UsageState
from analytics.selectors import BudgetState, CheckMark, ProviderState
from analytics.selectors.providers import CHECKS_SHOWN
from providers.models import Health

register = template.Library()

TIME_STYLES = {
    "row": "%-d %b %H:%M:%S",
    "second": "%-d %b %Y, %H:%M:%S",
    "minute": "%-d %b %Y, %H:%M",
    "clock": "%H:%M:%S",
    "day": "%-d %b %Y",
}

register.filter("money", presentation.money)
register.filter("exact_money", presentation.exact_money)
register.filter("count", presentation.count)
register.filter("tokens", presentation.tokens)
register.filter("duration", presentation.duration)
register.filter("percent", presentation.percent)

HEALTH_TONES = {"healthy": "ok", "degraded": "warn", "down": "bad"}
WARN_SHARE = 0.8
STATE_TONES = {"settled": "ok", "cancelled": "idle", "released": "bad", "expired": "warn"}
STATE_WORDS = {"settled": "Answered", "cancelled": "Cancelled", "released": "Failed", "expired": "Gateway stopped"}
CHECK_HEIGHT = 28
CHECK_HEIGHTS = {"ok": 28, "warn": 20, "bad": 12}


@register.filter
def health_tone(health: str) -> str:
    """The colour and icon of a provider's health."""
    return HEALTH_TONES.get(health, "idle")


@register.filter
def health_label(health: str) -> str:
    return str(Health(health).label) if health in Health.values else health


@register.filter
def budget_tone(share: float) -> str:
    """The colour of a budget's bar, at the thresholds where alerts open."""
    return "bad" if share >= 1 else "warn" if share >= WARN_SHARE else ""


@register.filter
def held_share(state: BudgetState) -> float:
    """The part of a budget that gateways hold, as far as it fits beside what is spent."""
    return min(max(0.0, 1 - state.share), state.leased_nano / state.limit_nano) if state.limit_nano else 0.0


@register.filter
def window_spent(window: BudgetWindow) -> int:
    return window.opening_nano + window.spent_nano


@register.filter
def hundred(share: float) -> float:
    """A share of one as percent for the width of a bar, never above the whole."""
    return min(100.0, max(0.0, share * 100))


@register.simple_tag
def icon(name: str) -> SafeString:
    """One picture of static/icons.svg, in the colour of the text around it; hidden from screen readers."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>', static("icons.svg"), name)


@register.simple_tag
def utc(moment: datetime | None, style: str = "second") -> SafeString | str:
    """A moment in UTC, in one short line; page.js puts the reader's local time into its tooltip."""
    if moment is None:
        return presentation.UNKNOWN
    moment = moment.astimezone(UTC)
    form = TIME_STYLES[style]
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        moment.isoformat(timespec="seconds"),
        f"{moment:%Y-%m-%d %H:%M:%S} UTC",
        f"{moment:{form}}{' UTC' if style in {'second', 'clock'} else ''}",
    )


@register.simple_tag
def ago(moment: datetime | None, now: datetime) -> SafeString | str:
    """“2 min ago”, with the moment itself in the tooltip."""
    text = presentation.elapsed(moment, now)
    if moment is None:
        return text
    moment = moment.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        moment.isoformat(timespec="seconds"),
        f"{moment:%Y-%m-%d %H:%M:%S} UTC",
        text,
    )


@register.simple_tag(takes_context=True)
def query(context: template.Context, **changes: Any) -> str:
    """This page's own address with some of its parameters changed; an empty value takes one out."""
    parameters: QueryDict = context["request"].GET.copy()
    for name, value in changes.items():
        if value in {None, ""}:
            parameters.pop(name, None)
        else:
            parameters[name] = str(value)
    encoded = parameters.urlencode()
    return f"?{encoded}" if encoded else "?"


@register.simple_tag
def axis_money(nano: float, step: float) -> str:
    """A label of an axis: cents only where the axis has them."""
    whole_dollars = step % 1_000_000_000 == 0
    return f"${round(nano / 1_000_000_000):,}" if whole_dollars else presentation.money(round(nano))


@register.simple_tag(takes_context=True)
def sort_link(context: template.Context, name: str, label: str, *, text: bool = False) -> SafeString:
    """A column's heading that sorts by it; a second use turns the order round. Text begins at A, numbers at the top."""
    current = context["sort"]
    first, second = (name, f"-{name}") if text else (f"-{name}", name)
    following = second if current == first else first
    order = {name: "ascending", f"-{name}": "descending"}.get(current, "")
    return format_html(
        '<th scope="col" class="{}"{}><a href="{}#table">{}{}</a></th>',
        "" if text else "num",
        format_html(' aria-sort="{}"', order) if order else "",
        query(context, sort=following),
        label,
        icon("up" if order == "ascending" else "down") if order else "",
    )


@register.filter
def cost_now(record: Any) -> int | None:
    """A listed record's cost with its corrections."""
    correction: int | None = record.correction_nano
    return record.cost_nano if correction is None else (record.cost_nano or 0) + correction


@register.filter
def signed_money(nano: int) -> str:
    return f"{'+' if nano >= 0 else ''}{presentation.exact_money(nano)}"


@register.filter
def input_total(record: Any) -> int:
    """Input tokens of all buckets: the buckets are disjoint."""
    total: int = record.input_tokens + record.cache_read_input_tokens + record.cache_creation_input_tokens
    return total


@register.filter
def error_share(state: ProviderState) -> float | None:
    return presentation.ratio(state.errors_24h, state.requests_24h)


@register.filter
def rate(usd: Decimal) -> str:
    """USD per million tokens, without the zeros at the end but with at least two decimals."""
    whole, _, fraction = f"{usd:,f}".partition(".")
    return f"${whole}.{fraction.rstrip('0').ljust(2, '0')}"


@register.filter
def record_tone(record: UsageRecord) -> str:
    """Colour of a request's state: one that broke after its first bytes is no success, though it was billed."""
    tone = STATE_TONES.get(record.state, "idle")
    return "warn" if tone == "ok" and record.error_code else tone


@register.filter
def record_picture(record: UsageRecord) -> str:
    return "stopped" if record.state == UsageState.CANCELLED else ""


@register.filter
def record_word(record: UsageRecord) -> str:
    if record.state == UsageState.SETTLED and record.error_code:
        return "Broke off"
    return STATE_WORDS.get(record.state, record.state)


@register.filter
def record_notice(record: UsageRecord) -> str:
    return {"ok": "ok", "idle": "", "warn": "warn"}.get(record_tone(record), "bad")


@dataclass(frozen=True, slots=True)
class CheckSlot:
    """One bar of the strip of checks; `x` in percent. Its height says the same as its colour."""

    tone: str
    title: str
    x: float
    y: int
    height: int


@register.filter
def check_slots(checks: Sequence[CheckMark]) -> list[CheckSlot]:
    """The last checks, the latest at the right end."""
    first = CHECKS_SHOWN - len(checks)
    return [_check_slot(mark, first + index) for index, mark in enumerate(checks)]


def _check_slot(mark: CheckMark, index: int) -> CheckSlot:
    tone = HEALTH_TONES.get(mark.health, "idle")
    height = CHECK_HEIGHTS.get(tone, 8)
    how = "from traffic" if mark.is_passive else presentation.duration(mark.latency_ms)
    title = f"{mark.checked_at.astimezone(UTC):%H:%M:%S} UTC: {health_label(mark.health)}, {how}. {mark.note}"
    return CheckSlot(tone, title.rstrip(". "), round(100 * index / CHECKS_SHOWN, 3), CHECK_HEIGHT - height, height)


@register.filter
def check_summary(checks: Sequence[CheckMark]) -> str:
    """The strip in words, for those who cannot see it."""
    if not checks:
        return "No checks in the last 24 hours"
    counts = Counter(health_label(mark.health).lower() for mark in checks)
    return f"Last {len(checks)} checks: " + ", ".join(f"{number} {word}" for word, number in counts.most_common())
