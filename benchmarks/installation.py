"""Make an installation to measure: `python -m benchmarks.installation VENDOR_PORT` prints two virtual keys."""

import os
import sys
from decimal import Decimal

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "routerplatform.settings")
django.setup()

from django.core.management import call_command  # noqa: E402

from analytics.models import Budget  # noqa: E402
from benchmarks.stage import CAPABILITIES  # noqa: E402
from providers.models import CatalogueModel, Deployment, Price, PriceSource, Provider  # noqa: E402
from providers.services import provider_key_add  # noqa: E402
from routing.domain.config import Scope  # noqa: E402
from routing.models import AliasTarget, ModelAlias, Team  # noqa: E402
from routing.services import config_revision_bump, key_issue  # noqa: E402


def install(vendor_port: int) -> tuple[str, str]:
    """Two models on the bench vendor, one per wire, and two keys; the second is under two strict budgets."""
    call_command("migrate", verbosity=0)
    for alias, kind in (("same", "openai-compatible"), ("other", "anthropic-compatible")):
        url = f"http://127.0.0.1:{vendor_port}/v1"
        provider = Provider.objects.create(
            name=f"bench-{alias}", label=alias, kind=kind, base_url=url, allowed_networks="127.0.0.1/32"
        )
        provider_key_add(provider=provider, label="bench", secret="sk-bench-0000")  # noqa: S106
        model = CatalogueModel.objects.create(
            name=f"bench-{alias}", label=alias, vendor="bench", capabilities=CAPABILITIES, context_window=200_000
        )
        Price.objects.create(model=model, source=PriceSource.OVERRIDE, input_usd=Decimal(1), output_usd=Decimal(2))
        deployment = Deployment.objects.create(provider=provider, model=model, upstream_model="bench")
        AliasTarget.objects.create(alias=ModelAlias.objects.create(name=alias), deployment=deployment)
    _outage()
    free, limited = (
        key_issue(team=Team.objects.create(name=name, slug=name), name=name, by=None, scopes=[Scope.CHAT, Scope.MODELS])
        for name in ("bench", "limited")
    )
    for subject in ({"scope": "key", "key": limited.key}, {"scope": "team", "team": limited.key.team}):
        Budget.objects.create(max_budget=Decimal(1_000_000), **subject)
    config_revision_bump()
    return free.secret, limited.secret


def _outage() -> None:
    """A third model: first at a provider where nobody listens, then where `same` is."""
    alive = Deployment.objects.select_related("model").get(provider__name="bench-same")
    gone = Provider.objects.create(
        name="bench-gone", label="gone", kind="openai-compatible", base_url="http://127.0.0.1:9/v1",
        allowed_networks="127.0.0.1/32",
    )  # fmt: skip
    provider_key_add(provider=gone, label="bench", secret="sk-bench-0000")  # noqa: S106
    dead = Deployment.objects.create(provider=gone, model=alive.model, upstream_model="bench")
    alias = ModelAlias.objects.create(name="past-the-dead")
    for position, deployment in enumerate((dead, alive)):
        AliasTarget.objects.create(alias=alias, deployment=deployment, position=position)


if __name__ == "__main__":
    sys.stdout.write("\n".join(install(int(sys.argv[1]))) + "\n")
