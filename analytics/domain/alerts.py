"""When people should be told: the rules, each a decision over figures, and how long to wait before trying again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Final

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)
NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that ops may change, within bounds; with `is_list` several whole numbers in rising order."""

    label: str
    default: Any
    minimum: float
    maximum: float
    help_text: str = ""
    is_list: bool = False


# By kind of rule, see analytics.models.AlertKind.
PARAMETERS: Final[Mapping[str, Mapping[str, Parameter]]] = {
    "budget_threshold": {
        "percents": Parameter("Thresholds (% of the budget)", [50, 80, 100], 1, 1000, "Separated by commas.", True),
    },
    "budget_forecast": {
        "after_hours": Parameter("Hours of data at least", 6, 1, 720, "In the budget's period."),
        "from_percent": Parameter("Spent at least (%)", 20, 0, 99, "Below it no forecast is made."),
    },
    "spend_anomaly": {
        "deviations": Parameter("Deviations above the usual", 5, 2, 50, "1 is the usual spread of that hour."),
        "minimum_usd": Parameter("More than usual by (USD)", 5, 0.01, 1_000_000, "Smaller surprises are not told."),
        "weeks": Parameter("Weeks of history at least", 4, 2, 8, "A team with fewer is not looked at."),
    },
    "unpriced_usage": {"requests": Parameter("Requests in an hour", 1, 1, 1_000_000, "Per model.")},
    "zero_cost": {"requests": Parameter("Requests in an hour", 1, 1, 1_000_000, "Per model.")},
    "provider_down": {},
    "error_rate": {
        "percent": Parameter("Failed attempts above (%)", 25, 1, 99),
        "attempts": Parameter("Attempts at least", 20, 1, 2000, "In the last 5 minutes."),
    },
    "ledger": {},
}


def parameter_problem(kind: str, name: str, value: object) -> str:
    """What is wrong with a parameter, in words; empty when nothing is."""
    parameter = PARAMETERS.get(kind, {}).get(name)
    if parameter is None:
        return f"This rule has no parameter “{name}”."
    numbers = value if parameter.is_list else [value]
    if not isinstance(numbers, list) or not numbers:
        return f"{parameter.label}: at least one number."
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        return f"{parameter.label}: numbers only."
    if not all(parameter.minimum <= number <= parameter.maximum for number in numbers):  # NaN is not either
        return f"{parameter.label}: from {parameter.minimum:,g} to {parameter.maximum:,g}."
    if parameter.is_list and (sorted(set(numbers)) != numbers or any(int(n) != n for n in numbers)):
        return f"{parameter.label}: whole numbers, each once, the smallest first."
    return ""


# --- budgets --------------------------------------------------------------------------------------------------------


def thresholds_passed(*, spent_nano: int, limit_nano: int, percents: Sequence[int]) -> tuple[int, ...]:
    """Those that the spend has reached, in whole numbers: no rounding can open an alert early.

    A budget of nothing is spent from the start: nobody needs to be told.
    """
    if limit_nano <= 0:
        return ()
    return tuple(percent for percent in percents if spent_nano * 100 >= limit_nano * percent)


def forecast_counts(
    *, spent_nano: int, limit_nano: int, begins_at: datetime, now: datetime, parameters: Mapping[str, float]
) -> bool:
    """Whether there is enough data to make a forecast of."""
    is_long = now - begins_at >= parameters["after_hours"] * HOUR
    return is_long and spent_nano * 100 >= limit_nano * parameters["from_percent"]


# --- spend ----------------------------------------------------------------------------------------------------------

WEEKS_LOOKED_AT = 8
SPREAD_OF_NORMAL = 1.4826  # makes the median absolute deviation of a normal distribution its standard deviation
LEAST_SPREAD = 0.1  # of the median: weeks that were all alike do not make a tenth more an anomaly


@dataclass(frozen=True, slots=True)
class Anomaly:
    usual_nano: int
    limit_nano: int


def hours_before(hour: datetime) -> list[datetime]:
    """The same hour of the week in the weeks before, the latest first. Weeks of UTC."""
    return [hour - week * WEEK for week in range(1, WEEKS_LOOKED_AT + 1)]


def spend_anomaly(spent_nano: int, history_nano: Sequence[int], parameters: Mapping[str, float]) -> Anomaly | None:
    """What is usual, if `spent_nano` is far above it. `history_nano`: the same hour of weeks before, zeros included.

    Median and median absolute deviation: one strange week in the history does not hide the next.
    """
    if len(history_nano) < parameters["weeks"]:
        return None
    usual = median(history_nano)
    spread = max(SPREAD_OF_NORMAL * median(abs(nano - usual) for nano in history_nano), LEAST_SPREAD * usual)
    limit = usual + max(parameters["deviations"] * spread, parameters["minimum_usd"] * NANO)
    return Anomaly(round(usual), round(limit)) if spent_nano > limit else None


# --- providers ------------------------------------------------------------------------------------------------------

STAYS_ABOVE = 0.8  # of the threshold: an error rate around it does not open and resolve every minute


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """`opens` False: not bad enough to tell, but not good enough to call it over."""

    percent: float
    opens: bool


def error_rate(*, attempts: int, failed: int, parameters: Mapping[str, float]) -> ErrorRate | None:
    """How many of a hundred attempts failed, if that is worth an alert."""
    if attempts < parameters["attempts"] or not failed:
        return None
    percent, threshold = 100 * failed / attempts, parameters["percent"]
    if percent <= threshold * STAYS_ABOVE:
        return None
    return ErrorRate(percent, opens=percent > threshold)


# --- sending --------------------------------------------------------------------------------------------------------

FIRST_RETRY_S = 15.0
LONGEST_RETRY_S = 2 * 60 * 60.0
GIVEN_UP_AFTER = timedelta(hours=24)


def retry_after_s(attempts: int, jitter: float) -> float:
    """Seconds until the next try after so many: 15, 30, 60 .. 7200, each up to a quarter more or less.

    `jitter` is 0 to 1, so that what failed together does not come back together.
    """
    pause = FIRST_RETRY_S * float(2 ** min(attempts - 1, 20))
    return min(pause, LONGEST_RETRY_S) * (0.75 + 0.5 * jitter)
