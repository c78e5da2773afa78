"""What usage records and their corrections charged each budget window, added up by the database."""

from collections import Counter
from datetime import datetime
from typing import Any

from django.db import connection, models

from analytics.models import UsageAdjustment, UsageRecord

# `charges` is an object of nano-USD by window id. A statement may not name its table by a parameter.
STATEMENTS = {
    "postgresql": (
        "SELECT one.key::bigint, sum(one.value::bigint) FROM {table}, jsonb_each_text({table}.charges) AS one "
        "WHERE jsonb_typeof({table}.charges) = 'object' AND {table}.started_at >= %s AND {table}.started_at < %s "
        "GROUP BY 1"
    ),
    "sqlite": (
        "SELECT CAST(one.key AS integer), sum(one.value) FROM {table}, json_each({table}.charges) AS one "
        "WHERE json_type({table}.charges) = 'object' AND {table}.started_at >= %s AND {table}.started_at < %s "
        "GROUP BY 1"
    ),
}


def charges_by_window(*, begins_at: datetime, ends_before: datetime) -> Counter[int]:
    """Nano-USD by window id, of the requests that came in within a stretch of time. Two queries."""
    found: Counter[int] = Counter()
    for source in (UsageRecord, UsageAdjustment):
        found.update(_charges_in(source, begins_at, ends_before))
    return found


def _charges_in(source: type[models.Model], begins_at: datetime, ends_before: datetime) -> dict[int, Any]:
    statement = STATEMENTS[connection.vendor].format(table=connection.ops.quote_name(source._meta.db_table))
    stretch = [connection.ops.adapt_datetimefield_value(moment) for moment in (begins_at, ends_before)]
    with connection.cursor() as cursor:
        cursor.execute(statement, stretch)
        return {int(window_id): int(nano) for window_id, nano in cursor.fetchall()}
