"""What it cost: usage records and their corrections, sums of them, budgets, and alerts."""

from analytics.models.adjustments import UsageAdjustment
from analytics.models.alerts import (
    Alert,
    AlertChannel,
    AlertDelivery,
    AlertEvent,
    AlertEventKind,
    AlertKind,
    AlertRule,
    AlertState,
    AlertUnit,
    ChannelKind,
    Severity,
)
from analytics.models.budgets import (
    Budget,
    BudgetDuration,
    BudgetLease,
    BudgetMode,
    BudgetRaise,
    BudgetScope,
    BudgetWindow,
    RaiseState,
)
from analytics.models.decisions import DecisionRecord, Feedback, FeedbackSource, Replay, ReplayState, Thumb
from analytics.models.idempotency import IdempotentAnswer
from analytics.models.outbox import DeliveryState, OutboxRow
from analytics.models.responses import StoredResponse
from analytics.models.rollups import DirtyHour, HourlyRollup, LedgerCheck, UsageRetention, UsageRollup
from analytics.models.usage import CacheUse, UsageRecord, UsageSource, UsageState
from analytics.models.webhooks import BreakerTold, FailedRequest, WebhookDelivery, WebhookEndpoint, WebhookEvent

__all__ = [
    "Alert",
    "AlertChannel",
    "AlertDelivery",
    "AlertEvent",
    "AlertEventKind",
    "AlertKind",
    "AlertRule",
    "AlertState",
    "AlertUnit",
    "BreakerTold",
    "Budget",
    "BudgetDuration",
    "BudgetLease",
    "BudgetMode",
    "BudgetRaise",
    "BudgetScope",
    "BudgetWindow",
    "CacheUse",
    "ChannelKind",
    "DecisionRecord",
    "DeliveryState",
    "DirtyHour",
    "FailedRequest",
    "Feedback",
    "FeedbackSource",
    "HourlyRollup",
    "IdempotentAnswer",
    "LedgerCheck",
    "OutboxRow",
    "RaiseState",
    "Replay",
    "ReplayState",
    "Severity",
    "StoredResponse",
    "Thumb",
    "UsageAdjustment",
    "UsageRecord",
    "UsageRetention",
    "UsageRollup",
    "UsageSource",
    "UsageState",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
]
