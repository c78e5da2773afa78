"""Fill a database with usage and time its readers: `python -m benchmarks.dashboard_pages ROWS RUNS [JSON FILE]`."""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "routerplatform.settings")
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.test import Client  # noqa: E402
from django.utils import timezone  # noqa: E402

from analytics import selectors  # noqa: E402
from analytics.domain.rollup import hour_of  # noqa: E402
from analytics.models import Budget, HourlyRollup, UsageRecord, UsageRollup  # noqa: E402
from analytics.selectors.hours import spend_by_team_hour  # noqa: E402
from analytics.services.budgets import budget_window_open  # noqa: E402
from analytics.services.partitions import partitions_prepare  # noqa: E402
from analytics.services.rollups import hours_mark, rollups_refresh  # noqa: E402
from analytics.services.verification import ledger_check  # noqa: E402
from providers.models import Provider  # noqa: E402
from routing.models import Team, VirtualKey  # noqa: E402

TEAMS, KEYS, MODELS, PROVIDERS, DAYS = 20, 100, 12, 6, 60
# What a column holds in row `n` of `total`; the others hold their default, or nothing.
COLUMNS = {
    "request_id": "gen_random_uuid()",
    "started_at": f"now() - n::float / total * interval '{DAYS} days'",
    "finished_at": f"now() - n::float / total * interval '{DAYS} days' + interval '1 second'",
    "state": "CASE WHEN n % 50 = 7 THEN 'released' ELSE 'settled' END",
    "error_code": "CASE WHEN n % 50 = 7 THEN 'upstream_failed' ELSE '' END",
    "http_status": "CASE WHEN n % 50 = 7 THEN 502 ELSE 200 END",
    "door": "'openai'",
    "team_id": f"teams[n % {KEYS} % {TEAMS} + 1]",
    "team_name": f"'Team ' || n % {KEYS} % {TEAMS}",
    "key_id": f"keys[n % {KEYS} + 1]",
    "persona": "'persona-' || n % 4",
    "policy": "'default'",
    "provider": f"'vendor-' || (n % {KEYS} + n / {KEYS} % 3) % {MODELS} % {PROVIDERS}",
    "model": f"'model-' || (n % {KEYS} + n / {KEYS} % 3) % {MODELS}",
    "input_tokens": "100 + n % 4000",
    "output_tokens": "10 + n % 900",
    "usage_source": "'provider'",
    "cost_nano": "CASE WHEN n % 5000 = 9 THEN NULL WHEN n % 50 = 7 THEN 0 ELSE 100000 + n % 9000000 END",
    "attempts": """'[{"deployment": "vendor/model", "provider": "vendor", "latency_ms": 800}]'""",
    "decision": """'{"policy": "default", "how": "the cheapest that is good enough"}'""",
    "latency_ms": "200 + n % 3000",
}


def fill(rows: int) -> None:
    """Indexes are made afterwards, which is several times faster."""
    teams = [Team.objects.create(name=f"Team {n}", slug=f"team-{n}") for n in range(TEAMS)]
    keys = [
        VirtualKey.objects.create(team=teams[n % TEAMS], name=f"app {n}", prefix=f"bench{n}", digest=f"{n:064x}")
        for n in range(KEYS)
    ]
    for n in range(PROVIDERS):
        Provider.objects.create(name=f"vendor-{n}", label=f"Vendor {n}", kind="openai-compatible")
    for team in teams[:10]:
        budget = Budget.objects.create(team=team, max_budget=Decimal(1_000_000), budget_duration="1mo")
        budget_window_open(budget=budget, now=timezone.now())
    for later in range(-DAYS // 28, 1):
        partitions_prepare(now=timezone.now() + timedelta(days=31 * later))
    fields = UsageRecord._meta.concrete_fields
    columns = ", ".join(f'"{field.column}"' for field in fields)
    values = ", ".join(COLUMNS.get(field.column or "") or unused(field) for field in fields)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index "
            "WHERE indrelid = 'analytics_usagerecord'::regclass AND NOT indisprimary"
        )
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
        cursor.execute(
            f"INSERT INTO analytics_usagerecord ({columns}) SELECT {values.replace('%', '%%')} "  # noqa: S608 - names of ours
            "FROM generate_series(1, %s) AS n, (SELECT %s AS total, %s AS teams, %s AS keys) AS known",
            [rows, rows, [team.pk for team in teams], [key.pk for key in keys]],
        )
        for _, definition in indexes:
            cursor.execute(definition.replace(" ON ONLY ", " ON "))
        cursor.execute("ANALYZE")


def unused(field: "models.Field[Any, Any]") -> str:
    match field:
        case _ if field.null:
            return "NULL"
        case models.JSONField():
            return "'{}'"
        case models.CharField():
            return "''"
        case models.BooleanField():
            return "false"
        case _:
            return "0"


def roll_up() -> None:
    now = hour_of(timezone.now())
    hours_mark(hours=(now - timedelta(hours=n) for n in range(24 * DAYS + 2)))
    rollups_refresh()
    hours_mark(hours=[now])
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def readings() -> dict[str, Callable[[], object]]:
    """By name: what a page of all teams reads of 30 days, then whole pages."""
    now = timezone.now()
    span: dict[str, Any] = {"team_ids": None, "start": now.date() - timedelta(days=29), "end": now.date()}
    ops = Client()
    ops.force_login(get_user_model().objects.create_superuser("ops", password=None))
    return {
        "spend_totals (with the 30 days before)": lambda: selectors.spend_totals(**span),
        "spend_by_team_day": lambda: selectors.spend_by_team_day(**span),
        "spend_by team": lambda: selectors.spend_by("team", **span),
        "spend_by key": lambda: selectors.spend_by("key", **span),
        "spend_by model": lambda: selectors.spend_by("model", **span),
        "spend_by_team_hour (today)": lambda: spend_by_team_hour(team_ids=None, day=now.date()),
        "budgets_with_spend": lambda: selectors.budgets_with_spend(team_ids=None, now=now),
        "provider_states": lambda: selectors.provider_states(now=now),
        "requests_page": lambda: selectors.requests_page(team_ids=None, filters=selectors.RequestFilters()),
        "page: spend, 30 days": lambda: page(ops, "/dashboards/?range=30d"),
        "page: spend, 30 days by key": lambda: page(ops, "/dashboards/?range=30d&by=key"),
        "page: spend, today": lambda: page(ops, "/dashboards/?range=today"),
        "page: requests": lambda: page(ops, "/dashboards/requests/"),
        "page: admin overview": lambda: page(ops, "/admin/"),
    }


def page(client: Client, address: str) -> None:
    response = client.get(address, secure=True)
    if response.status_code != 200:
        raise SystemExit(f"{address} answered {response.status_code}")


def timed(read: Callable[[], object], *, runs: int) -> dict[str, float]:
    """`cpu_ms` is what this process and its database session used for one reading: on a machine of one's own, what it
    takes."""
    read()
    times, before = [], cpu_s()
    for _ in range(runs):
        began = time.perf_counter()
        read()
        times.append((time.perf_counter() - began) * 1000)
    return {
        "cpu_ms": round((cpu_s() - before) / runs * 1000, 1),
        "p50_ms": round(statistics.median(times), 1),
        "p95_ms": round(sorted(times)[int(0.95 * runs)], 1),
    }


def cpu_s() -> float:
    """User and system time of this process and of its PostgreSQL session."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [(session,)] = cursor.fetchall()
    ticks = Path(f"/proc/{session}/stat").read_text().rpartition(")")[2].split()[11:13]
    return time.process_time() + sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def main(rows: int, runs: int, file: str) -> None:
    call_command("migrate", verbosity=0)
    steps: dict[str, float] = {}
    todo: dict[str, Callable[[], None]] = {"fill": lambda: fill(rows), "roll up": roll_up, "verify": check}
    for name, step in todo.items():
        began = time.monotonic()
        step()
        steps[name] = round(time.monotonic() - began, 1)
        print(f"{name}: {steps[name]} s", flush=True)
    print(f"{UsageRecord.objects.count():,} records, {HourlyRollup.objects.count():,} rows of hours, "
          f"{UsageRollup.objects.count():,} of days")  # fmt: skip
    figures = {}
    for name, read in readings().items():
        figures[name] = timed(read, runs=runs)
        print(f"{name:<42}", *(f"{what} {value:8.1f}" for what, value in figures[name].items()), sep="   ", flush=True)
    if file:
        Path(file).write_text(json.dumps({"rows": rows, "steps_s": steps, "figures": figures}, indent=1))


def check() -> None:
    report = ledger_check(now=timezone.now())
    if report.differences:
        raise SystemExit(f"the sums are wrong: {report.differences[0]}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
