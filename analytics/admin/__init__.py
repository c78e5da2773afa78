"""Pages of what was used and what it cost: usage records, their corrections, budgets to set, alerts to acknowledge,
and the programs that are told of events."""

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
    webhooks,
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
    "webhooks",
]
