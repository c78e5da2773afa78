"""The ledger's own check, again and again: `python -m tests.torture.auditor EVERY_S`; a line on stdin ends it.

What it prints at the end is JSON: how often it looked, and every difference that it saw. While the database is away it
cannot look, and tries again. A line `TEAM USD` on stdin changes the limit of the team's budgets instead.
"""

import json
import os
import select
import sys
from dataclasses import asdict
from decimal import Decimal
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "routerplatform.settings")
django.setup()

from django.db import Error, connection  # noqa: E402
from django.utils import timezone  # noqa: E402

from analytics.models import Budget  # noqa: E402
from analytics.services.verification import ledger_check  # noqa: E402


def audit(every_s: float) -> dict[str, Any]:
    looked, differences = 0, []
    is_over = False
    while not is_over:
        is_over = obey() if select.select([sys.stdin], [], [], every_s)[0] else False
        try:
            report = ledger_check(now=timezone.now())
        except Error:
            connection.close()
            continue
        looked += 1
        differences += [asdict(difference) for difference in report.differences]
    return {"looked": looked, "differences": differences}


def obey() -> bool:
    """Whether that was the end."""
    words = sys.stdin.readline().split()
    if len(words) == 2:
        for budget in Budget.objects.filter(team__name=words[0]):
            budget.max_budget = Decimal(words[1])
            budget.save()
    return len(words) != 2


if __name__ == "__main__":
    sys.stdout.write(json.dumps(audit(float(sys.argv[1]))) + "\n")
