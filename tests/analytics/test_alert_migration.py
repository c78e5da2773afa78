"""Alerts of budgets from before there were others: taken over with their state, and given back."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from tests.factories import NOON

BEFORE, AFTER = "0003_hourly_rollups", "0004_alerts"
OTHERS = [("auth", "0012_alter_user_first_name_max_length"), ("contenttypes", "0002_remove_content_type_name")]
MARCH, FEBRUARY = NOON.replace(day=1, hour=0), NOON.replace(month=2, day=1, hour=0)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def migrated() -> Iterator[Callable[[str], Any]]:
    """Migrates analytics to a name and returns its models; afterwards everything is as it was."""

    def go(name: str) -> Any:
        executor = MigrationExecutor(connection)
        executor.migrate([("analytics", name)])
        return executor.loader.project_state([("analytics", name), *OTHERS]).apps

    yield go
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


def test_alerts_keep_what_they_said_and_only_the_latest_of_a_threshold_is_open(migrated: Callable[[str], Any]) -> None:
    apps = migrated(BEFORE)
    team = apps.get_model("routing", "Team").objects.create(name="Search", slug="search")
    budget = apps.get_model("analytics", "Budget").objects.create(team=team, max_budget="100.00")
    make = apps.get_model("analytics", "BudgetAlert").objects.create
    seen = NOON + timedelta(hours=1)
    for start, threshold, acknowledged_at in ((FEBRUARY, 80, None), (MARCH, 50, seen), (MARCH, 80, None)):
        make(
            budget=budget,
            window_start=start,
            threshold=threshold,
            spent_nano=threshold * 10**9,
            opened_at=start + timedelta(days=9),
            acknowledged_at=acknowledged_at,
        )
    before = rows(apps)

    apps = migrated(AFTER)
    alerts = apps.get_model("analytics", "Alert").objects.order_by("window_starts_at", "threshold")
    assert [(alert.window_starts_at, alert.threshold, alert.state) for alert in alerts] == [
        (FEBRUARY, "80", "resolved"),
        (MARCH, "50", "acknowledged"),
        (MARCH, "80", "open"),
    ]
    last = alerts[2]
    assert (last.team_id, last.budget_id, last.value, last.limit) == (team.pk, budget.pk, 80 * 10**9, 100 * 10**9)
    assert (last.title, last.severity, last.rule.kind) == (
        "Search has spent 80 % of its budget",
        20,
        "budget_threshold",
    )
    assert [event.kind for event in alerts[1].events.order_by("pk")] == ["opened", "acknowledged"]

    apps = migrated(BEFORE)
    assert [row[:4] for row in rows(apps)] == [row[:4] for row in before]
    assert rows(apps)[1] == before[1]


def test_who_might_acknowledge_may_do_so_still(migrated: Callable[[str], Any]) -> None:
    apps = migrated(BEFORE)
    permission = apps.get_model("auth", "Permission").objects.get(codename="change_budgetalert")
    role = apps.get_model("auth", "Group").objects.create(name="Ops")
    role.permissions.add(permission)

    role = migrated(AFTER).get_model("auth", "Group").objects.get(name="Ops")
    assert [(one.codename, one.content_type.model) for one in role.permissions.all()] == [("change_alert", "alert")]
    role = migrated(BEFORE).get_model("auth", "Group").objects.get(name="Ops")
    assert [one.codename for one in role.permissions.all()] == ["change_budgetalert"]


def rows(apps: Any) -> list[Any]:
    columns = ("window_start", "threshold", "spent_nano", "opened_at", "acknowledged_at")
    found = apps.get_model("analytics", "BudgetAlert").objects.order_by("window_start", "threshold")
    return list(found.values_list(*columns))
