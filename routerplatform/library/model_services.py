"""Models that a program adds, or names for the first time: rows of providers, deployments, prices and aliases."""

import re
from collections.abc import Iterable, Iterator, Sequence, Set
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from providers.addresses import address_complaints
from providers.catalogue import read_catalogue
from providers.models import CatalogueModel, CostTier, Deployment, Price, PriceSource, Provider
from providers.registry import PROVIDER_KINDS
from routerplatform.library.embedding import is_embedded
from routerplatform.library.errors import BadRequestError, is_number, near
from routerplatform.library.installation import policies_join
from routerplatform.library.model_config import ModelConfig
from routerplatform.library.python_providers import ADDRESS
from routerplatform.vendor_keys import own_network
from routing.domain.config import TaskType
from routing.models import AliasTarget, ModelAlias
from routing.models.names import callable_name

COMPATIBLE: Final = "openai-compatible"
TIERS: Final = ((0.0, CostTier.FREE), (0.0005, CostTier.ECONOMY), (0.005, CostTier.STANDARD))  # USD per 1K tokens
THOUSAND: Final = 1000
SMALLEST_USD: Final = Decimal("0.000001")  # decimal places of the columns
MOST_USD: Final = 100_000  # per 1K tokens: what the columns hold
MOST_TOKENS: Final = 2_147_483_647
NAME_LENGTH: Final = 120
NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._:/-]{{0,{NAME_LENGTH - 1}}}")  # as `callable_name`, and its column
PROVIDER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}")
STRENGTHS_LENGTH: Final = 200


@transaction.atomic
def model_register(*, name: str, config: ModelConfig) -> None:
    """Make `name` callable as `config` says: provider, deployment, price, alias; again, what has changed.

    :raises BadRequestError: a value that cannot be, a provider that nobody knows, a name that is taken.
    """
    _checked(name, config)
    provider = _provider_of(config)
    model = _catalogue_row(config, provider)
    deployment, _ = Deployment.objects.get_or_create(
        provider=provider, upstream_model=config.name, defaults={"model": model}
    )
    _update(deployment, model=model, is_active=True, **_said_of(config))
    _price_ensure(deployment, config)
    _alias_ensure(name, deployment, config)
    if is_embedded():  # elsewhere the rules are the operators'
        policies_join(aliases=[name], tasks=_tasks_of(config))


@transaction.atomic
def model_withdraw(*, name: str) -> None:
    """Switch a model off that requests can name; records keep its name.

    :raises KeyError: there is none.
    """
    alias = ModelAlias.objects.filter(name=name, is_active=True).first()
    if alias is None:
        raise KeyError(f"No request can name “{name}” as it is.")
    _update(alias, is_active=False)


@transaction.atomic
def model_deploy(*, name: str) -> str:
    """The alias for a model that a program names: one that is there, or one made from the catalogue.

    :raises BadRequestError: nobody knows it, its vendor has retired it, or no key for its vendor is there.
    """
    if not NAME.fullmatch(name):
        text = f"{name[:NAME_LENGTH]!r} can be no model’s name. {callable_name.message}"
        raise BadRequestError("model_not_found", text, param="model")
    if ModelAlias.objects.filter(name=name, is_active=True).exists():
        return name
    deployment = _deployment_named(name) or _from_catalogue(name)
    alias, _ = ModelAlias.objects.get_or_create(name=name, defaults={"description": deployment.model.strengths})
    _update(alias, is_active=True)
    AliasTarget.objects.get_or_create(alias=alias, deployment=deployment)
    return name


def _deployment_named(name: str) -> Deployment | None:
    """“provider/model”; of a Python class any model is made as it is asked for."""
    provider_name, _, upstream = name.partition("/")
    provider = Provider.objects.filter(name=provider_name, is_active=True).first() if upstream else None
    if provider is None:
        return None
    found = Deployment.objects.filter(provider=provider, upstream_model=upstream, is_active=True).first()
    if found is None and provider.base_url.startswith(ADDRESS):
        model = _catalogue_row(ModelConfig(name=upstream, provider=provider_name), provider)
        found = Deployment.objects.create(provider=provider, model=model, upstream_model=upstream)
    return found


def _from_catalogue(name: str) -> Deployment:
    entry = read_catalogue().entries.get(name)
    if entry is None:
        known = set(ModelAlias.objects.filter(is_active=True).values_list("name", flat=True))
        known |= {one.name for one in read_catalogue().entries.values()}
        raise BadRequestError("model_not_found", f"There is no model “{name}”.{near(name, known)}", param="model")
    if entry.is_retired(timezone.now().date()):
        instead = f" Use “{entry.replaced_by}”." if entry.replaced_by else ""
        text = f"“{name}” was retired by {entry.maker} on {entry.retires_on}.{instead}"
        raise BadRequestError("model_retired", text, param="model")
    provider = Provider.objects.filter(name=entry.kind, is_active=True).first()
    if provider is None:
        kind = PROVIDER_KINDS[entry.kind]
        text = f"“{name}” is served by {kind.label}, which has no key here. Set {entry.kind.upper()}_API_KEY."
        raise BadRequestError("no_vendor_key", text, param="model")
    row = CatalogueModel.objects.get(name=name)
    return Deployment.objects.get_or_create(provider=provider, upstream_model=name, defaults={"model": row})[0]


def _checked(name: object, config: Any) -> None:
    """:raises BadRequestError: a value that cannot be, whatever the program has annotated."""
    if not isinstance(config, ModelConfig):
        raise BadRequestError("invalid_model", f"A model is a ModelConfig, not a {type(config).__name__}.")
    if complaint := next(_complaints(name, config), ""):
        raise BadRequestError("invalid_model", f"Model “{name}”: {complaint.rstrip('.')}.")


def _complaints(name: object, config: Any) -> Iterator[str]:
    for one in (name, config.name):
        if not isinstance(one, str) or not NAME.fullmatch(one):
            yield f"the name “{one}” cannot be. {NAME_LENGTH} characters at most. {callable_name.message}"
    if name == "auto":
        yield "“auto” always means: let the policy decide"
    if not isinstance(config.provider, str) or not isinstance(config.base_url, str):
        yield "provider and base_url are texts"
    for field in ("cost_per_1k_tokens", "input_cost_per_1k", "output_cost_per_1k", "avg_latency"):
        value = getattr(config, field)
        if value is not None and not (is_number(value) and 0 <= value < MOST_USD):
            yield f"{field} is a number from 0 on, below {MOST_USD:,}"
    for field in ("max_tokens", "context_window"):
        count = getattr(config, field)
        if count is not None and not (type(count) is int and 1 <= count <= MOST_TOKENS):
            yield f"{field} is a whole number from 1 to {MOST_TOKENS:,}"
    for field in ("strengths", "capabilities", "allowed_networks"):
        if not isinstance(getattr(config, field), str | Sequence | Set):
            yield f"{field} is a list of texts"


def _said_of(config: ModelConfig) -> dict[str, int]:
    """What the program says of a deployment; of the rest, what is known already stays."""
    said = {} if config.max_tokens is None else {"max_output_tokens": config.max_tokens}
    if config.avg_latency is not None:
        said["expected_latency_ms"] = round(config.avg_latency * THOUSAND)
    return said


def _provider_of(config: ModelConfig) -> Provider:
    """The provider's row; made for kinds that need no key, and for a base URL.

    :raises BadRequestError: it needs a key first, or is neither a kind nor has an address.
    """
    provider = Provider.objects.filter(name=config.provider).first()
    base_url = _whole_address(config)
    if provider is not None:
        is_moved = config.base_url or is_embedded()  # where an operator has set it up, only the program itself says so
        if is_moved and base_url and provider.base_url != base_url:
            if provider.base_url.startswith(ADDRESS) or not is_embedded():
                text = f"“{provider.name}” is another provider already, at {provider.base_url or 'its own address'}."
                raise BadRequestError("name_taken", f"{text} Choose another name.")
            _update(provider, base_url=base_url, allowed_networks=_networks(provider.kind, base_url, config))
        return provider
    kind = PROVIDER_KINDS.get(config.provider)
    if kind is None and not base_url:
        names = [*PROVIDER_KINDS, *Provider.objects.values_list("name", flat=True)]
        raise BadRequestError(
            "unknown_provider",
            f"There is no provider “{config.provider}”.{near(config.provider, names)} Register a class of your own "
            f"with router.providers[“{config.provider}”] = …, or give base_url for a server that speaks OpenAI’s API.",
        )
    provider_name_checked(config.provider)
    if kind is not None and kind.needs_key:
        text = f"{kind.label} has no key here. Set {config.provider.upper().replace('-', '_')}_API_KEY."
        raise BadRequestError("no_vendor_key", text)
    kind_name = config.provider if kind is not None else COMPATIBLE
    return Provider.objects.create(
        name=config.provider,
        label=kind.label if kind is not None else config.provider,
        kind=kind_name,
        base_url=base_url,
        allowed_networks=_networks(kind_name, base_url, config),
    )


def provider_name_checked(name: object) -> None:
    """:raises BadRequestError: it cannot be a provider's name."""
    if not isinstance(name, str) or not PROVIDER_NAME.fullmatch(name):
        rule = "lower-case letters, digits, dot, dash and underscore, 60 at most"
        raise BadRequestError("invalid_provider", f"“{name}” cannot be a provider’s name: {rule}.")


def _whole_address(config: ModelConfig) -> str:
    """Of a server alone (`http://localhost:11434`), with the path that its kind has; empty for the kind's own."""
    base_url = config.base_url or settings.VENDOR_BASE_URLS.get(config.provider, "")
    kind = PROVIDER_KINDS.get(config.provider)
    has_path = bool(urlsplit(base_url).path.strip("/"))
    if not base_url or has_path or kind is None:
        return base_url
    return base_url.rstrip("/") + urlsplit(kind.base_url).path


def _networks(kind: str, base_url: str, config: ModelConfig) -> str:
    """The private networks that are opened for a provider: what the program names, else the very address.

    :raises BadRequestError: one of them is none, or the address cannot be called.
    """
    networks = "\n".join(_listed(config.allowed_networks)) or own_network(base_url or PROVIDER_KINDS[kind].base_url)
    found = address_complaints(kind=kind, base_url=base_url, networks=networks)
    if found:
        raise BadRequestError("invalid_model", f"Provider “{config.provider}”: {' '.join(found.values())}")
    return networks


def _catalogue_row(config: ModelConfig, provider: Provider) -> CatalogueModel:
    """What is known of a model; a row that the catalogue itself has made stays as it is."""
    row = CatalogueModel.objects.filter(name=config.name).first()
    if row is None:
        row = CatalogueModel(name=config.name, label=config.name, vendor=provider.label)
    elif row.name in read_catalogue().entries:
        return row
    row.strengths = _strengths(config)
    row.capabilities = list(_listed(config.capabilities))
    row.context_window = config.context_window
    row.max_output_tokens = config.max_tokens
    row.cost_tier = _tier(config.cost_per_1k_tokens)
    row.list_price_per_1k = _usd(config.cost_per_1k_tokens)
    try:
        row.full_clean()
    except ValidationError as error:
        raise BadRequestError("invalid_model", f"Model “{config.name}”: {' '.join(error.messages)}") from None
    row.save()
    return row


def _price_ensure(deployment: Deployment, config: ModelConfig) -> None:
    """A dated price of its own, where what the program says differs from what is in force."""
    single = config.cost_per_1k_tokens
    into = single if config.input_cost_per_1k is None else config.input_cost_per_1k
    out = single if config.output_cost_per_1k is None else config.output_cost_per_1k
    if into is None and out is None:
        return
    wanted = tuple(_usd(None if usd is None else usd * THOUSAND) for usd in (into, out))
    own = Price.objects.filter(deployment=deployment, source=PriceSource.OVERRIDE)
    current = own.filter(effective_from__lte=timezone.now()).first()
    if current is None or (current.input_usd, current.output_usd) != wanted:
        Price.objects.create(deployment=deployment, input_usd=wanted[0], output_usd=wanted[1])


def _alias_ensure(name: str, deployment: Deployment, config: ModelConfig) -> None:
    """The name that requests use.

    :raises BadRequestError: it stands for other deployments already.
    """
    alias, created = ModelAlias.objects.get_or_create(name=name, defaults={"description": _strengths(config)[:200]})
    others = alias.targets.exclude(deployment=deployment)
    if not created and others.exists():
        served = ", ".join(str(target.deployment) for target in others.select_related("deployment__provider"))
        raise BadRequestError("name_taken", f"“{name}” stands for {served} already. Choose another name.")
    _update(alias, is_active=True)
    AliasTarget.objects.get_or_create(alias=alias, deployment=deployment)


def _update(row: Any, **values: Any) -> None:
    """Only what differs, so that history and revision tell of changes."""
    changed = [name for name, value in values.items() if getattr(row, name) != value]
    for name in changed:
        setattr(row, name, values[name])
    if changed:
        row.save(update_fields=changed)


def _tier(cost_per_1k: float | None) -> str:
    if cost_per_1k is None:
        return str(CostTier.STANDARD)
    return str(next((tier for most, tier in TIERS if cost_per_1k <= most), CostTier.PREMIUM))


def _usd(amount: float | None) -> Decimal | None:
    """As exact as the columns are, so that what a program has computed can be kept, and is the same the next time."""
    return None if amount is None else Decimal(str(amount)).quantize(SMALLEST_USD)


def _listed(said: Iterable[Any]) -> list[str]:
    """A single text is a list with commas."""
    parts = said.split(",") if isinstance(said, str) else [str(one) for one in said]
    return [part.strip() for part in parts if part.strip()]


def _strengths(config: ModelConfig) -> str:
    return ", ".join(_listed(config.strengths))[:STRENGTHS_LENGTH]


def _tasks_of(config: ModelConfig) -> list[TaskType]:
    names = {task.value for task in TaskType} - {TaskType.ANY.value}
    return [TaskType(one.upper()) for one in _listed(config.strengths) if one.upper() in names]
