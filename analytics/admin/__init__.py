"""Pages of what was used and what it cost: usage records, their corrections, budgets to set, alerts to acknowledge."""

from analytics.admin import (
    adjustments,
    alert_settings,
    alerts,
    budgets,
    labels,
    ledger,
    raises,
    replays,
    routing_rules,
    usage,
)

__all__ = [
    "adjustments",
    "alert_settings",
    "alerts",
    "budgets",
    "labels",
    "ledger",
    "raises",
    "replays",
    "routing_rules",
    "usage",
]
