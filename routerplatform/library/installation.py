"""What an installation needs before the library can be used: tables, models, vendors' keys, and who pays.

In a folder of its own all of that is made; in the platform's installation only the team and the key are.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
from django.conf import settings
from django.core.management import call_command
from django.db import transaction
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

import providers.catalogue
from providers.catalogue import read_catalogue
from providers.catalogue_services import catalogue_load
from routerplatform.library.embedding import exclusively, is_embedded
from routerplatform.library.errors import SetupError
from routerplatform.starter import DEFAULT, STARTER_POLICIES
from routerplatform.vendor_keys import vendor_providers_ensure
from routing.domain.config import Scope, Strategy, TaskType
from routing.domain.documents import CandidateDocument, PolicyDocument
from routing.models import ModelAlias, RoutingPolicy, Team, VirtualKey
from routing.services import key_issue
from routing.services.policy_rules import document_of, rules_write
from routing.services.rollouts import policy_edited

TEAM, KEY = "library", "library"
REASONING: Final = "complex-reasoning"
OWN_POLICIES: Final = (*(policy.name for policy in STARTER_POLICIES), REASONING)
GOOD_ENOUGH: Final = {DEFAULT: 0.6, "chat": 0.6, REASONING: 0.75}
"""The share of good answers that is asked for, by policy: the cheapest model serves that is expected to reach it."""

GOOD_ENOUGH_ELSEWHERE: Final = 0.7
NOTE: Final = "Set up by the library: the cheapest model that is good enough"
BY_COST: Final = (Strategy.LOWEST_COST, Strategy.TASK_BASED)
STAMP: Final = "setup.json"


def installation_open(*, pays: bool) -> int:
    """Make what is not there yet; the id of the library's key, 0 unless it `pays`. Blocks; safe to call from several
    processes at once.

    :raises SetupError: the library's key is not in force any more.
    """
    now = timezone.now()
    if is_embedded():
        with exclusively(settings.DATA_DIR):
            _folder_ensure(settings.DATA_DIR, now)
    return _payer_ensure(now) if pays else 0


@transaction.atomic
def _payer_ensure(now: datetime) -> int:
    """The library's team and key. Nobody knows the key's text, and nobody needs it: `PageTokens` stand for it."""
    team, _ = Team.objects.get_or_create(slug=TEAM, defaults={"name": "Library"})
    Team.objects.select_for_update().get(pk=team.pk)  # of two that start at once, the second finds the first one's key
    key = VirtualKey.objects.filter(team=team, name=KEY).order_by("-created_at").first()
    if key is None:
        scopes = [Scope.CHAT, Scope.MODELS, Scope.USAGE]
        key = key_issue(team=team, name=KEY, by=None, scopes=scopes).key
    elif key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
        raise SetupError(
            f"The key “{KEY}” of the team “{team}” is not in force any more. Issue another one of this name in the "
            "admin, or pass a key of yours: AIModelRouter(api_key=…)."
        )
    return key.pk


# --- a folder of its own --------------------------------------------------------------------------------------------


def _folder_ensure(home: Path, now: datetime) -> None:
    """Tables, catalogue, vendors and policies; nothing while the folder's stamp says that all is as it should be."""
    path = home / STAMP
    stamp = _stamp(now)
    if path.exists() and path.read_text() == stamp:
        return
    is_new = not path.exists()
    os.close(os.open(settings.DATABASES["default"]["NAME"], os.O_CREAT | os.O_RDWR, 0o600))  # and so its -wal and -shm
    call_command("migrate", interactive=False, verbosity=0)
    with transaction.atomic():
        catalogue_load(now=now)
        chosen = {} if is_new else _chosen_by_programs()
        new = vendor_providers_ensure(vendor_keys=settings.VENDOR_KEYS, base_urls=settings.VENDOR_BASE_URLS, now=now)
        if is_new:
            _policies_begin()
        for policy, document in chosen.items():
            rules_write(owner=policy, document=document)
            policy_edited(policy=policy, by=None, note=NOTE)
        aliases = [name for kind in new for name in read_catalogue().start_with.get(kind, ())]
        policies_join(aliases=aliases)
    path.write_text(stamp)


def _chosen_by_programs() -> dict[RoutingPolicy, PolicyDocument]:
    """What `add_policy` has said: a vendor that joins is not put among these models."""
    by_cost = [strategy.value for strategy in BY_COST]
    rows = RoutingPolicy.objects.filter(name__in=OWN_POLICIES).exclude(strategy__in=by_cost)
    return {row: document_of(row) for row in rows}


def _stamp(now: datetime) -> str:
    """What the set-up depends on, without a secret in it: once a day prices and retirements are looked at again."""
    told = json.dumps([settings.VENDOR_KEYS, settings.VENDOR_BASE_URLS], sort_keys=True)
    return json.dumps(
        {
            "migrations": hashlib.sha256(_migrations().encode()).hexdigest(),
            "catalogue": hashlib.sha256(
                Path(providers.catalogue.__file__).with_suffix(".toml").read_bytes()
            ).hexdigest(),
            "prices": version("genai-prices"),
            "keys": hmac.new(settings.SECRET_KEY.encode(), told.encode(), "sha256").hexdigest(),
            "day": now.date().isoformat(),
        }
    )


def _migrations() -> str:
    return " ".join(sorted(f"{app}.{name}" for app, name in MigrationLoader(None).disk_migrations))


def _policies_begin() -> None:
    """“auto” finds out what kind of work it is; then the cheapest model serves that is good enough for it."""
    RoutingPolicy.objects.get_or_create(
        name=REASONING,
        defaults={
            "description": "Proofs, plans, problems of many steps.",
            "task_type": TaskType.COMPLEX_REASONING.value,
        },
    )
    for policy in RoutingPolicy.objects.filter(name__in=OWN_POLICIES):
        strategy = Strategy.TASK_BASED if policy.name == DEFAULT else Strategy.LOWEST_COST
        floor = GOOD_ENOUGH.get(policy.name, GOOD_ENOUGH_ELSEWHERE)
        document = msgspec.structs.replace(document_of(policy), strategy=strategy.value, quality_floor=floor)
        rules_write(owner=policy, document=document)
        policy_edited(policy=policy, by=None, note=NOTE)


@transaction.atomic
def policies_join(*, aliases: Iterable[str], tasks: Iterable[TaskType] = ()) -> None:
    """Have the library's own policies choose among these models too: all of them, or “auto” and those for `tasks`.

    Policies whose models a program has put in order itself stay as they are.
    """
    known = set(ModelAlias.objects.filter(name__in=list(aliases)).values_list("name", flat=True))
    wanted = set(tasks)
    for policy in RoutingPolicy.objects.filter(name__in=OWN_POLICIES, strategy__in=[one.value for one in BY_COST]):
        document = document_of(policy)
        present = {one.alias for one in document.candidates}
        new = [CandidateDocument(alias=name) for name in aliases if name in known - present]
        is_meant = not wanted or policy.name == DEFAULT or TaskType(policy.task_type) in wanted
        if new and is_meant:
            rules_write(
                owner=policy, document=msgspec.structs.replace(document, candidates=(*document.candidates, *new))
            )
            policy_edited(policy=policy, by=None, note=NOTE)
