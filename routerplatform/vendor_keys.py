"""Providers whose keys are in the environment: `OPENAI_API_KEY` alone is enough to be served by OpenAI.

A vendor is set up once, when its key is first seen: provider, and the models to begin with if the catalogue names any,
an alias for each, and a place before the demo's models. From then on the rows belong to the operator and only the key
is kept in step with the environment; a variable that is gone changes nothing.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from ipaddress import ip_network
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.db import transaction

from providers.catalogue import Catalogue, read_catalogue
from providers.domain.egress import address_allowed
from providers.fields import unseal
from providers.models import CatalogueModel, Deployment, Provider, ProviderKey
from providers.registry import PROVIDER_KINDS
from providers.services import clean_secret, provider_key_add, provider_key_replace
from routerplatform.demo_content import DEMO_PROVIDERS
from routerplatform.starter import STARTER_POLICIES, starter_ensure
from routing.models import AliasTarget, CandidateGroup, ModelAlias, PolicyCandidate, RoutingPolicy
from routing.services.rollouts import policy_edited

logger = logging.getLogger(__name__)

LABEL = "from environment"
LOOPBACK = "127.0.0.0/8\n::1/128"
NO_URLS: Mapping[str, str] = MappingProxyType({})
QUICK, HARD = "fast", "smart"  # the demo's aliases that real models join

Placed = TypeVar("Placed", AliasTarget, PolicyCandidate)


@transaction.atomic
def vendor_providers_ensure(
    *,
    vendor_keys: Mapping[str, str],
    now: datetime,
    catalogue: Catalogue | None = None,
    base_urls: Mapping[str, str] = NO_URLS,
) -> list[str]:
    """Make the vendors of `vendor_keys` (provider kind -> secret, empty for none) callable; the names that are new.

    Needs the catalogue's rows (`catalogue_load`). Safe to run at every start. A key that cannot be used is logged, not
    raised, and not shown. `base_urls` (provider kind -> URL) names vendors that are called at another address than
    their own; a private one is opened for that vendor alone.
    """
    starter_ensure()
    catalogue = catalogue or read_catalogue()
    new: dict[str, list[ModelAlias]] = {}
    for kind, secret in _usable(vendor_keys):
        provider, created = Provider.objects.get_or_create(
            name=kind, defaults={"kind": kind, "label": PROVIDER_KINDS[kind].label}
        )
        if url := base_urls.get(kind, ""):
            _move(provider, url)
        elif not _is_the_vendor(provider):
            logger.warning("provider %s has another address than the vendor: its key is not taken over", kind)
            continue
        _ensure_key(provider, secret)
        if created:
            new[kind] = _set_up(provider, catalogue, now)
    _put_before_the_demo(new)
    return list(new)


def _usable(vendor_keys: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for kind, secret in vendor_keys.items():
        if secret.strip():
            try:
                yield kind, clean_secret(secret)
            except ValidationError as error:
                logger.warning("the key of %s in the environment is not usable: %s", kind, " ".join(error.messages))


def _is_the_vendor(provider: Provider) -> bool:
    """A vendor's key must not be sent to whatever else somebody has called by its name."""
    own = PROVIDER_KINDS[provider.name].base_url
    return provider.kind == provider.name and provider.base_url.rstrip("/") in {"", own}


def _move(provider: Provider, base_url: str) -> None:
    """Whoever chooses the environment has the key anyway, so he may choose where it is sent."""
    wanted = {"base_url": base_url, "allowed_networks": own_network(base_url)}
    changed = [name for name, value in wanted.items() if getattr(provider, name) != value]
    for name in changed:
        setattr(provider, name, wanted[name])
    if changed:
        provider.save(update_fields=changed)


def own_network(base_url: str) -> str:
    """What has to be opened so that this address can be called: nothing for a public one, or for a name."""
    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return LOOPBACK
    try:
        return "" if address_allowed(host, ()) else str(ip_network(host))
    except ValueError:  # a name
        return ""


def _ensure_key(provider: Provider, secret: str) -> None:
    key = ProviderKey.objects.filter(provider=provider, label=LABEL).first()
    if key is None:
        provider_key_add(provider=provider, label=LABEL, secret=secret)
    elif unseal(key.sealed) != secret:
        provider_key_replace(key=key, secret=secret)


def _set_up(provider: Provider, catalogue: Catalogue, now: datetime) -> list[ModelAlias]:
    """Deploy the models to begin with, each with an alias of its name: hard work first, quick work second."""
    names = catalogue.start_with.get(provider.kind, ())
    rows = CatalogueModel.objects.in_bulk(list(names), field_name="name")
    aliases = []
    for name in names:
        if name in rows and not catalogue.entries[name].is_retired(now.date()):
            deployment, _ = Deployment.objects.get_or_create(
                provider=provider, upstream_model=name, defaults={"model": rows[name]}
            )
            alias, created = ModelAlias.objects.get_or_create(name=name, defaults={"description": rows[name].strengths})
            if created:
                AliasTarget.objects.create(alias=alias, deployment=deployment)
            aliases.append(alias)
    return aliases


# --- before the demo's models -----------------------------------------------------------------------------------


def _put_before_the_demo(new: Mapping[str, list[ModelAlias]]) -> None:
    """Real models go before the demo's in its policies and in `fast` and `smart`, and after what else stands there."""
    hard = [aliases[0] for aliases in new.values() if aliases]
    quick = [aliases[1] if len(aliases) > 1 else aliases[0] for aliases in new.values() if aliases]
    for name, aliases in ((HARD, hard), (QUICK, quick)):
        alias = ModelAlias.objects.filter(name=name).first()
        if alias:
            _extend_alias(alias, aliases)
    wants_hard = {policy.name: policy.wants_smart for policy in STARTER_POLICIES}
    for policy in RoutingPolicy.objects.filter(name__in=wants_hard):
        _extend_policy(policy, hard if wants_hard[policy.name] else quick)


def _extend_alias(alias: ModelAlias, models: Iterable[ModelAlias]) -> None:
    targets = list(alias.targets.select_related("deployment__provider"))
    taken = {target.deployment_id for target in targets}
    deployments = [target.deployment for model in models for target in model.targets.select_related("deployment")]
    fresh = [AliasTarget(alias=alias, deployment=row) for row in deployments if row.pk not in taken]
    demo = [target for target in targets if target.deployment.provider.name in DEMO_PROVIDERS]
    _insert(targets, fresh, before=demo)


def _extend_policy(policy: RoutingPolicy, models: Iterable[ModelAlias]) -> None:
    candidates = list(policy.candidates.all())
    taken = {candidate.alias_id for candidate in candidates}
    fresh = [
        PolicyCandidate(policy=policy, alias=model, group=CandidateGroup.PREFERRED)
        for model in models
        if model.pk not in taken
    ]
    demo_aliases = set(
        AliasTarget.objects.filter(deployment__provider__name__in=DEMO_PROVIDERS).values_list("alias_id", flat=True)
    )
    preferred = [candidate for candidate in candidates if candidate.group == CandidateGroup.PREFERRED]
    _insert(preferred, fresh, before=[candidate for candidate in preferred if candidate.alias_id in demo_aliases])
    if fresh:
        policy_edited(policy=policy, by=None, note="Models of the vendors whose keys are in the environment")


def _insert(rows: list[Placed], fresh: list[Placed], *, before: list[Placed]) -> None:
    """Put the unsaved `fresh` rows before the first of `before` (at the end if there is none), and number them all."""
    place: int = rows.index(before[0]) if before else len(rows)
    for position, row in enumerate([*rows[:place], *fresh, *rows[place:]]):
        if row._state.adding or row.position != position:
            row.position = position
            row.save()
