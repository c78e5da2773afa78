"""Entries as rows: what a provider, an alias, a team becomes in the database. Policies have a module of their own."""

import re
from decimal import Decimal
from shlex import quote
from typing import Any, Final, cast

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import DecimalField

from analytics.domain.alerts import PARAMETERS
from analytics.models import AlertChannel, AlertKind, AlertRule, Budget, ChannelKind, Severity
from analytics.services.alert_channels import alert_channel_save
from analytics.services.budget_raises import raise_open, raise_propose
from providers.domain.pricing import TIER_RATES
from providers.models import CatalogueModel, Deployment, Price, PriceSource, Provider, ProviderKey
from providers.services import provider_key_add, provider_key_replace
from routerplatform.configuration.documents import (
    AlertChannelEntry,
    AlertRuleEntry,
    AliasEntry,
    BudgetEntry,
    DeploymentEntry,
    Entry,
    KeyEntry,
    MemberEntry,
    ModelEntry,
    PersonaEntry,
    PriceEntry,
    ProviderEntry,
    ProviderKeyEntry,
    RuleEntry,
    TeamEntry,
    TemplateEntry,
    split_inner,
)
from routerplatform.configuration.exporting import budgets_by_name, keys_by_name
from routerplatform.configuration.planning import budget_parts, decimal_text
from routerplatform.configuration.shapes import near
from routerplatform.configuration.task import Task, checked, found, put
from routing.models import (
    AliasTarget,
    Membership,
    ModelAlias,
    Persona,
    PromptTemplate,
    RoutingPolicy,
    RoutingRule,
    Team,
)
from routing.services.lifecycle import review_required
from routing.services.templates import template_version_create

NOTE: Final = "Configuration file"
NO_ADDRESS: Final = "What it refers to is no address of this kind."
RATE: Final = cast("DecimalField[Any, Any]", Price._meta.get_field("input_usd"))


def columns_of(entry: Entry, *left_out: str) -> dict[str, Any]:
    """The fields of an entry as columns: lists where it has tuples."""
    names = (name for name in entry.__struct_fields__ if name not in left_out)
    values = {name: getattr(entry, name) for name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


# --- whom the platform can call ---------------------------------------------------------------------------------------


def write_model(_: Task, name: str, entry: ModelEntry) -> None:
    row = CatalogueModel.objects.filter(name=name).first() or CatalogueModel(name=name)
    replacement = found(CatalogueModel, name=entry.replaced_by) if entry.replaced_by else None
    put(row, columns_of(entry, "replaced_by") | {"replaced_by": replacement})


def write_provider(_: Task, name: str, entry: ProviderEntry) -> None:
    row = Provider.objects.filter(name=name).first() or Provider(name=name)
    put(row, columns_of(entry) | {"allowed_networks": "\n".join(entry.allowed_networks)})


def write_provider_key(task: Task, name: str, entry: ProviderKeyEntry) -> None:
    provider_name, label = split_inner(name)
    provider = found(Provider, name=provider_name)
    secret = task.secret("provider_keys", name, "api_key")
    row = ProviderKey.objects.filter(provider=provider, label=label).first()
    if row is None:
        provider_key_add(provider=provider, label=label, secret=secret, is_active=entry.is_active)
        return
    put(row, {"is_active": entry.is_active})
    if secret and task.is_replaced("provider_keys", name, "api_key"):
        provider_key_replace(key=row, secret=secret)


def write_deployment(_: Task, name: str, entry: DeploymentEntry) -> None:
    provider_name, _slash, upstream = name.partition("/")
    provider = found(Provider, name=provider_name)
    row = Deployment.objects.filter(provider=provider, upstream_model=upstream).first()
    row = row or Deployment(provider=provider, upstream_model=upstream)
    put(row, columns_of(entry, "model") | {"model": found(CatalogueModel, name=entry.model)})


def write_model_price(task: Task, name: str, entry: PriceEntry) -> None:
    of, moment = split_inner(name)
    _write_price(task, entry, moment, model=found(CatalogueModel, name=of))


def write_deployment_price(task: Task, name: str, entry: PriceEntry) -> None:
    of, moment = split_inner(name)
    provider, _, upstream = of.partition("/")
    deployment = found(Deployment, provider__name=provider, upstream_model=upstream)
    _write_price(task, entry, moment, deployment=deployment)


def _write_price(task: Task, entry: PriceEntry, moment: str, **of: Any) -> None:
    """A row that has begun is not edited: the table's own `clean` says so."""
    key = {"source": PriceSource.OVERRIDE, "effective_from": moment, **of}
    row = Price.objects.filter(**key).first() or Price(**key)
    if row._state.adding:
        row.effective_from = Price._meta.get_field("effective_from").to_python(moment)
    tiers = [
        {"above": tier.above, **{rate: _rate_text(getattr(tier, rate)) for rate in TIER_RATES}} for tier in entry.tiers
    ]
    put(row, columns_of(entry, "tiers") | {"tiers": tiers})


def _rate_text(rate: Decimal | None) -> str | None:
    """:raises ValidationError: more digits than the price's own columns take."""
    if rate is None:
        return None
    try:
        RATE.run_validators(rate)
    except ValidationError as error:
        raise ValidationError({"tiers": error.messages}) from None
    return decimal_text(rate)


# --- which model serves -----------------------------------------------------------------------------------------------


def write_alias(_: Task, name: str, entry: AliasEntry) -> None:
    """Targets are written only where they differ, so that the history shows what changed."""
    row = ModelAlias.objects.filter(name=name).first() or ModelAlias(name=name)
    if len(set(entry.targets)) != len(entry.targets):
        raise ValidationError({"targets": "A deployment stands here twice. Keep it once."})
    put(row, columns_of(entry, "targets"))
    there = {str(one.deployment): one for one in row.targets.select_related("deployment__provider")}
    for target, link in there.items():
        if target not in entry.targets:
            link.delete()
    for position, target in enumerate(entry.targets):
        provider, _slash, upstream = target.partition("/")
        deployment = found(Deployment, provider__name=provider, upstream_model=upstream)
        put(there.get(target) or AliasTarget(alias=row, deployment=deployment), {"position": position})


def write_template(task: Task, name: str, entry: TemplateEntry) -> None:
    """Another text is another version, put into force."""
    row = PromptTemplate.objects.filter(name=name).first() or PromptTemplate(name=name)
    put(row, {"description": entry.description, "is_active": entry.is_active})
    before = task.current["templates"].get(name, TemplateEntry())
    document = entry.document()
    if isinstance(before, TemplateEntry) and before.document() != document:
        template_version_create(template=row, document=document, note=NOTE, by=task.by)


def write_persona(_: Task, name: str, entry: PersonaEntry) -> None:
    row = Persona.objects.filter(slug=name).first() or Persona(slug=name)
    policy = found(RoutingPolicy, name=entry.policy)
    template = found(PromptTemplate, name=entry.template) if entry.template else None
    put(row, columns_of(entry, "policy", "template") | {"policy": policy, "template": template})


def write_rule(_: Task, name: str, entry: RuleEntry) -> None:
    row = RoutingRule.objects.filter(name=name).first() or RoutingRule(name=name)
    alias = found(ModelAlias, name=entry.alias) if entry.alias else None
    put(row, columns_of(entry, "alias") | {"alias": alias})


# --- who may call, and for how much -----------------------------------------------------------------------------------


def write_team(_: Task, name: str, entry: TeamEntry) -> None:
    put(Team.objects.filter(slug=name).first() or Team(slug=name), columns_of(entry))


def write_member(_: Task, name: str, entry: MemberEntry) -> None:
    slug, username = split_inner(name)
    team, user = found(Team, slug=slug), User.objects.filter(username=username).first()
    if user is None:
        raise ValidationError(f"There is no account “{username}” here. Make it first, or take this line out.")
    put(Membership.objects.filter(team=team, user=user).first() or Membership(team=team, user=user), columns_of(entry))


def write_key(task: Task, name: str, entry: KeyEntry) -> None:
    """A key that there is. None is made by a file: its secret would be known to nobody."""
    row = keys_by_name().get(name)
    if row is None:
        slug, _, rest = name.partition("/")
        known = near(name, keys_by_name()) if "#" in name else ""
        task.leave_out(
            "keys",
            name,
            f"virtual key {name} is not there, and a file cannot make one: who issues a key sees it once.{known} "
            f"Run manage.py create_key --team {slug} --name {quote(rest)}, then import again for what it may do.",
        )
        return
    if entry.expires_at and entry.expires_at <= task.now and entry.expires_at != row.expires_at:
        raise ValidationError({"expires_at": "This moment has passed. To stop a key at once, revoke it."})
    put(row, columns_of(entry, "allowed_models"))
    allowed = [found(ModelAlias, name=alias) for alias in entry.allowed_models]
    if set(row.allowed_models.all()) != set(allowed):
        row.allowed_models.set(allowed)


def write_budget(task: Task, name: str, entry: BudgetEntry) -> None:
    """A higher amount is a raise, with all that belongs to one."""
    scope, subject, duration = budget_parts(name) or ("", "", "")
    row = budgets_by_name().get(name)
    if row is None:
        of = _budget_subject(scope, subject)
        if of is None:
            task.leave_out("budgets", name, f"budget {name} was left out: virtual key {subject} is not there yet.")
            return
        put(Budget(scope=scope, budget_duration=duration, **{scope: of}), columns_of(entry))
        return
    if entry.time_zone != row.time_zone:
        said = f"stays {row.time_zone}: another one would change what past periods mean. Make another budget."
        raise ValidationError({"time_zone": said})
    rises = entry.max_budget > row.max_budget
    if rises and review_required():
        put(row, columns_of(entry, "max_budget"))
        _propose_raise(task, name, row, entry.max_budget)
        return
    if rises:
        raise_propose(budget=row, amount_to=entry.max_budget, by=task.by, reason=NOTE)
        row.refresh_from_db()
    put(row, columns_of(entry))


def _propose_raise(task: Task, name: str, row: Budget, amount: Decimal) -> None:
    if (waiting := raise_open(row)) and waiting.amount_to == amount:
        task.notes.append(f"budget {name}: a raise to ${amount} waits for approval.")
        return
    raise_propose(budget=row, amount_to=amount, by=author_of(task), reason=NOTE)
    task.notes.append(f"budget {name}: the raise to ${amount} was proposed; somebody else has to approve it.")


def author_of(task: Task) -> User:
    """:raises ValidationError: what needs a second pair of eyes needs a first one."""
    if task.by is None:
        raise ValidationError(
            "POLICY_REVIEW is on: say who proposes it, with --by USERNAME. Somebody else approves it."
        )
    return task.by


def _budget_subject(scope: str, subject: str) -> Any:
    """None for a virtual key that has not been issued yet."""
    match scope:
        case "team":
            return found(Team, slug=subject)
        case "persona":
            return found(Persona, slug=subject)
        case "alias":
            return found(ModelAlias, name=subject)
        case _:
            return keys_by_name().get(subject)


def write_alert_rule(_: Task, name: str, entry: AlertRuleEntry) -> None:
    if name not in AlertKind.values:
        raise ValidationError(f"There is no such kind of alert.{near(name, PARAMETERS)}")
    parameters = {key: list(one) if isinstance(one, tuple) else one for key, one in entry.parameters.items()}
    row = AlertRule.objects.filter(kind=name).first() or AlertRule(kind=name)
    put(row, {"is_active": entry.is_active, "parameters": parameters})


def write_alert_channel(task: Task, name: str, entry: AlertChannelEntry) -> None:
    row = AlertChannel.objects.filter(name=name).first() or AlertChannel(name=name)
    is_new, was, kind = row._state.adding, row.kind, ChannelKind(entry.kind)
    address, secret = (
        task.secret("alert_channels", name, column)
        if is_new or task.is_replaced("alert_channels", name, column)
        else ""
        for column in ("address", "signing_secret")
    )
    row.kind, row.is_active, row.kinds = kind, entry.is_active, list(entry.kinds)
    if kind == ChannelKind.WEBHOOK and not (secret or row.signing_secret):
        raise ValidationError({"signing_secret": "A webhook needs one: say where it is."})
    if not is_new and was != kind and not address:
        raise ValidationError({"address": "Another kind needs another address: set what it refers to."})
    row.minimum_severity = Severity[entry.minimum_severity.upper()]
    row.team = found(Team, slug=entry.team) if entry.team else None
    row.allowed_networks = "\n".join(entry.allowed_networks)
    checked(row, exclude=["target", "signing_secret", "hint"])
    try:
        alert_channel_save(channel=row, address=address, secret=secret)
    except ValidationError as error:
        raise ValidationError(_unquoted(error, address)) from None


def _unquoted(error: ValidationError, address: str) -> dict[str, list[str]]:
    """What is wrong with an address, without the address: an address of a service holds its token."""
    parts = [part for part in re.split(r"[,;\s]+", address) if part]
    return {
        column: [NO_ADDRESS if any(part in text for part in parts) else text for text in texts]
        for column, texts in error.message_dict.items()
    }


WRITERS: Final = {
    "models": write_model,
    "providers": write_provider,
    "provider_keys": write_provider_key,
    "deployments": write_deployment,
    "model_prices": write_model_price,
    "deployment_prices": write_deployment_price,
    "aliases": write_alias,
    "templates": write_template,
    "personas": write_persona,
    "rules": write_rule,
    "teams": write_team,
    "members": write_member,
    "keys": write_key,
    "budgets": write_budget,
    "alert_rules": write_alert_rule,
    "alert_channels": write_alert_channel,
}
