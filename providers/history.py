"""The audit trail (simple-history): how a program says why it changed a row."""

REASON_ATTRIBUTE = "_change_reason"  # set on a row before it is saved or deleted
