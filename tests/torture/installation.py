"""What is tortured: `python -m tests.torture.installation PORT ROUNDS LIMIT` sets up an empty database for a vendor.

It prints the virtual keys by the names of their teams, as JSON. A team `tight-<n>` has three budgets that all apply to
its calls of the alias of the same name, and one of them, in turn, is the tight one: LIMIT USD.
"""

import json
import os
import sys
from decimal import Decimal

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "routerplatform.settings")
django.setup()

from django.core.management import call_command  # noqa: E402

from providers.models import Deployment  # noqa: E402
from routing.models import ModelAlias, Team, VirtualKey  # noqa: E402
from routing.services import config_revision_bump  # noqa: E402
from tests.factories import BudgetFactory, TeamFactory  # noqa: E402
from tests.gateway import alias, key, vendor  # noqa: E402

DOORS = ("http", "rest", "socket")
PLENTY = {"rpm_limit": 100_000_000, "tpm_limit": 2_000_000_000, "max_parallel_requests": 100_000}


def install(port: int, rounds: int, limit: Decimal) -> dict[str, str]:
    call_command("migrate", verbosity=0, interactive=False)
    rounds_of = [f"tight-{number}" for number in range(rounds)]
    names = ["mixed-a", "mixed-b", "fixed", "slow", *(f"fixed-{name}" for name in rounds_of)]
    made = {one.upstream_model: one for one in vendor("torture", f"http://127.0.0.1:{port}/v1", *names)}
    alias("mixed", made["mixed-a"], made["mixed-b"])
    alias("fixed", made["fixed"])
    alias("slow", made["slow"])
    keys = {"free": _key("free"), "leased": _leased(), "leaver": _leased("leaver")}
    for number, name in enumerate(rounds_of):
        keys[name] = _tight(name, made[f"fixed-{name}"], limit, turn=number % 3)
    for usd in ("1.00", "0.00"):
        for door in DOORS:
            name = f"{door}-{usd}"
            keys[name] = _key(name)
            BudgetFactory(team=Team.objects.get(name=name), max_budget=Decimal(usd), budget_duration="total")
    config_revision_bump()
    return keys


def _key(name: str) -> str:
    """Of a new team that is counted against rate limits, and never at one."""
    number = Team.objects.count() + 1
    return key(number, TeamFactory(name=name, slug=name.replace(".", "-"), **PLENTY), name=name)


def _leased(name: str = "leased") -> str:
    """With strict budgets for more than anybody here spends."""
    text = _key(name)
    team, of_key = Team.objects.get(name=name), VirtualKey.objects.get(name=name)
    BudgetFactory(team=team, max_budget=Decimal(100_000), budget_duration="1mo")
    BudgetFactory(team=None, scope="key", key=of_key, max_budget=Decimal(100_000), budget_duration="1d")
    return text


def _tight(name: str, deployment: Deployment, limit: Decimal, *, turn: int) -> str:
    text = _key(name)
    made: ModelAlias = alias(name, deployment)
    usd = [limit if number == turn else limit * 2 for number in range(3)]
    of_key = VirtualKey.objects.get(name=name)
    BudgetFactory(team=Team.objects.get(name=name), max_budget=usd[0], budget_duration="total")
    BudgetFactory(team=None, scope="key", key=of_key, max_budget=usd[1], budget_duration="1d")
    BudgetFactory(team=None, scope="alias", alias=made, max_budget=usd[2], budget_duration="total")
    return text


if __name__ == "__main__":
    sys.stdout.write(json.dumps(install(int(sys.argv[1]), int(sys.argv[2]), Decimal(sys.argv[3]))) + "\n")
