"""Rollups of hours, hours instead of days that are marked dirty, and on PostgreSQL a partition for each month of usage.

On PostgreSQL the records are copied into the new table, with writers waiting: about a minute for ten million.
"""

from datetime import UTC, datetime, timedelta

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models
from django.db.models import F
from django.db.models.functions import TruncHour

TABLE = "analytics_usagerecord"


def mark_hours(apps, schema_editor):
    """No hour has a rollup yet. Until the worker has made them, dashboards read the records."""
    records = apps.get_model("analytics", "UsageRecord").objects.order_by()
    hours = records.annotate(hour=TruncHour("started_at", tzinfo=UTC)).values_list("hour", flat=True).distinct()
    DirtyHour = apps.get_model("analytics", "DirtyHour")
    DirtyHour.objects.bulk_create([DirtyHour(hour=hour) for hour in hours], batch_size=500)


def mark_days(apps, schema_editor):
    hours = apps.get_model("analytics", "DirtyHour").objects.filter(marks__gt=F("rolled_up"))
    DirtyDay = apps.get_model("analytics", "DirtyDay")
    days = {hour.astimezone(UTC).date() for hour in hours.values_list("hour", flat=True)}
    DirtyDay.objects.bulk_create([DirtyDay(day=day) for day in days], batch_size=500)


def partition(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        rebuild(schema_editor, partitioning="PARTITION BY RANGE (started_at)", key="request_id, started_at")


def unpartition(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        rebuild(schema_editor, partitioning="", key="request_id")


def rebuild(schema_editor, *, partitioning, key):
    """Make the table again with all its rows, checks and indexes."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s::regclass AND NOT indisprimary",
            [TABLE],
        )
        indexes = [definition.replace(" ON ONLY ", " ON ") for (definition,) in cursor.fetchall()]
        months = months_wanted(cursor) if partitioning else []
        cursor.execute(f"ALTER TABLE {TABLE} RENAME TO {TABLE}_before")
        cursor.execute(
            f"CREATE TABLE {TABLE} (LIKE {TABLE}_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS) {partitioning}"
        )
        if partitioning:
            cursor.execute(f"CREATE TABLE {TABLE}_default PARTITION OF {TABLE} DEFAULT")
        for begins, ends in months:
            cursor.execute(
                f"CREATE TABLE {TABLE}_{begins:%Y_%m} PARTITION OF {TABLE} "
                f"FOR VALUES FROM ('{begins:%Y-%m-%d} 00:00+00') TO ('{ends:%Y-%m-%d} 00:00+00')"
            )
        cursor.execute(f"INSERT INTO {TABLE} SELECT * FROM {TABLE}_before")  # noqa: S608 - names of ours
        cursor.execute(f"DROP TABLE {TABLE}_before")
        cursor.execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT {TABLE}_pkey PRIMARY KEY ({key})")
        for definition in indexes:
            cursor.execute(definition)


def months_wanted(cursor):
    """(begin, end) of each month that has records, and of this one and the next two."""
    cursor.execute(f"SELECT DISTINCT date_trunc('month', started_at AT TIME ZONE 'UTC') FROM {TABLE}")  # noqa: S608
    begins = {moment.date() for (moment,) in cursor.fetchall()}
    month = datetime.now(UTC).date().replace(day=1)
    for _ in range(3):
        begins.add(month)
        month = next_month(month)
    return [(begin, next_month(begin)) for begin in sorted(begins)]


def next_month(day):
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1)


class Migration(migrations.Migration):
    dependencies = [("analytics", "0002_hard_budgets"), ("routing", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="DirtyHour",
            fields=[
                ("hour", models.DateTimeField(primary_key=True, serialize=False)),
                ("marks", models.PositiveBigIntegerField(default=1)),
                ("rolled_up", models.PositiveBigIntegerField(db_default=0, default=0)),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("marks__gt", models.F("rolled_up"))),
                        fields=["hour"],
                        name="hours_to_roll_up",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="HourlyRollup",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("team_name", models.CharField(max_length=80)),
                ("persona", models.CharField(blank=True, max_length=60)),
                ("policy", models.CharField(blank=True, max_length=80)),
                ("provider", models.CharField(blank=True, max_length=60)),
                ("model", models.CharField(blank=True, max_length=120)),
                ("requests", models.PositiveBigIntegerField(default=0)),
                ("errors", models.PositiveBigIntegerField(default=0)),
                ("unpriced", models.PositiveBigIntegerField(default=0)),
                ("input_tokens", models.PositiveBigIntegerField(default=0)),
                ("cache_read_input_tokens", models.PositiveBigIntegerField(default=0)),
                ("cache_creation_input_tokens", models.PositiveBigIntegerField(default=0)),
                ("output_tokens", models.PositiveBigIntegerField(default=0)),
                ("cost_nano", models.BigIntegerField(default=0)),
                ("latency_ms_sum", models.FloatField(default=0)),
                ("hour", models.DateTimeField()),
                (
                    "key",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="routing.virtualkey",
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="routing.team",
                    ),
                ),
            ],
            options={
                "ordering": ["-hour", "team_name"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("hour", "team", "key", "persona", "policy", "provider", "model"),
                        name="hourly_rollup_unique",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="UsageRetention",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("before", models.DateTimeField(unique=True)),
                ("records", models.PositiveBigIntegerField(default=0)),
                ("dropped_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={"ordering": ["-before"]},
        ),
        migrations.CreateModel(
            name="LedgerCheck",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                ("first", models.DateField(blank=True, null=True, verbose_name="from")),
                ("last", models.DateField(blank=True, null=True, verbose_name="to")),
                ("duration_ms", models.PositiveIntegerField(verbose_name="took (ms)")),
                ("records", models.PositiveBigIntegerField(verbose_name="records looked at")),
                ("windows", models.PositiveIntegerField(default=0, verbose_name="budget windows looked at")),
                (
                    "dirty_hours",
                    models.PositiveIntegerField(default=0, verbose_name="hours waiting for their rollup"),
                ),
                ("difference_count", models.PositiveIntegerField(default=0, verbose_name="differences")),
                ("differences", models.JSONField(default=list)),
                ("warnings", models.JSONField(default=list)),
            ],
            options={
                "ordering": ["-at"],
                "indexes": [models.Index(fields=["-at"], name="ledger_check_latest")],
            },
        ),
        migrations.RunPython(mark_hours, mark_days),
        migrations.DeleteModel(name="DirtyDay"),
        migrations.AddIndex(
            model_name="usagerecord",
            index=models.Index(
                condition=models.Q(("cost_nano", None)), fields=["-started_at"], name="usage_unpriced_latest"
            ),
        ),
        migrations.RunPython(partition, unpartition),
    ]
