"""What the database has, as documents; and documents as files, in a stable order, defaults left out."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
import yaml
from django.db import models
from django.db.models import F

from analytics.models import AlertChannel, AlertRule, Budget, Severity
from providers.catalogue_services import REASON as SHIPPED
from providers.models import CatalogueModel, Deployment, Price, PriceSource, Provider, ProviderKey
from routerplatform.configuration.documents import (
    FORMAT,
    SECTIONS,
    AlertChannelEntry,
    AlertRuleEntry,
    AliasEntry,
    BudgetEntry,
    DeploymentEntry,
    Documents,
    Entry,
    KeyEntry,
    MemberEntry,
    ModelEntry,
    PersonaEntry,
    PolicyEntry,
    PriceEntry,
    ProviderEntry,
    ProviderKeyEntry,
    RuleEntry,
    TeamEntry,
    TemplateEntry,
    TierEntry,
    inner_name,
    said,
    split_inner,
)
from routerplatform.configuration.planning import decimal_text, settled
from routerplatform.configuration.reading import EXPONENT
from routerplatform.configuration.shapes import moment_name
from routing.domain.templates import TemplateDocument
from routing.domain.templates import document_of as template_document
from routing.models import (
    Membership,
    ModelAlias,
    Persona,
    PromptTemplate,
    PromptTemplateVersion,
    RoutingPolicy,
    RoutingRule,
    Team,
    VirtualKey,
)
from routing.selectors import policy_document

HEADER: Final = """\
# Configuration of Router Platform. What a line leaves out has its default; secrets are never part of it.
# `manage.py config_import FILE --plan` shows what it would change, `--apply` does it. See docs/configuration-files.md.
"""
WIDE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database has. `shipped` are the models that the catalogue loader looks after: no part of files."""

    documents: Documents
    shipped: frozenset[str]


def stored() -> Stored:
    """Some twenty queries, however much there is."""
    found: dict[str, dict[str, Entry]] = {
        "models": {row.name: _model(row) for row in CatalogueModel.objects.select_related("replaced_by")},
        "providers": {row.name: _provider(row) for row in Provider.objects.all()},
        "provider_keys": {
            inner_name(row.provider.name, row.label): _provider_key(row)
            for row in ProviderKey.objects.select_related("provider")
        },
        "deployments": {
            str(row): _entry(DeploymentEntry, row, model=row.model.name)
            for row in Deployment.objects.select_related("provider", "model")
        },
        **_prices(),
        "aliases": {
            row.name: _alias(row) for row in ModelAlias.objects.prefetch_related("targets__deployment__provider")
        },
        "templates": _templates(),
        "policies": {row.name: _policy(row) for row in RoutingPolicy.objects.prefetch_related("candidates__alias")},
        "personas": {row.slug: _persona(row) for row in Persona.objects.select_related("policy", "template")},
        "rules": {
            row.name: _entry(RuleEntry, row, alias=row.alias.name if row.alias else "")
            for row in RoutingRule.objects.select_related("alias")
        },
        "teams": {row.slug: _entry(TeamEntry, row) for row in Team.objects.all()},
        "members": {
            inner_name(row.team.slug, row.user.get_username()): _entry(MemberEntry, row)
            for row in Membership.objects.select_related("team", "user")
        },
        "keys": {
            name: _entry(KeyEntry, row, allowed_models=tuple(alias.name for alias in row.allowed_models.all()))
            for name, row in keys_by_name().items()
        },
        "budgets": {name: _entry(BudgetEntry, row) for name, row in budgets_by_name().items()},
        "alert_rules": {row.kind: _alert_rule(row) for row in AlertRule.objects.all()},
        "alert_channels": {row.name: _channel(row) for row in AlertChannel.objects.select_related("team")},
    }
    documents = {
        section.name: {name: settled(entry) for name, entry in found[section.name].items()} for section in SECTIONS
    }
    return Stored(documents, _shipped())


def _shipped() -> frozenset[str]:
    """Models whose last change the catalogue loader made."""
    last = dict(CatalogueModel.history.order_by("history_id").values_list("name", "history_change_reason"))
    return frozenset(name for name, reason in last.items() if reason == SHIPPED)


# --- names ------------------------------------------------------------------------------------------------------------


def keys_by_name() -> dict[str, VirtualKey]:
    """Keys that can be used or have expired, as files name them. Revoked ones are gone for good, and those of
    playgrounds are made by the platform."""
    rows = list(
        VirtualKey.objects.filter(revoked_at=None, is_playground=False)
        .select_related("team")
        .prefetch_related("allowed_models")
        .order_by("pk")
    )
    often = Counter((row.team_id, row.name) for row in rows)
    return {
        f"{row.team.slug}/{row.name}" + (f"#{row.prefix}" if often[row.team_id, row.name] > 1 else ""): row
        for row in rows
    }


def budgets_by_name() -> dict[str, Budget]:
    """The budget in force for each subject and period; where none is, the one that was made last."""
    names = {row.pk: name for name, row in keys_by_name().items()}
    found: dict[str, Budget] = {}
    for row in Budget.objects.select_related("team", "key__team", "persona", "alias").order_by("is_active", "pk"):
        subject = _subject(row, names)
        if subject:
            found[f"{row.scope}/{subject}/{row.budget_duration}"] = row
    return found


def _subject(budget: Budget, keys: dict[int, str]) -> str:
    """Empty for a key that is revoked."""
    match budget.subject:
        case Team(slug=slug) | Persona(slug=slug):
            return str(slug)
        case ModelAlias(name=name):
            return str(name)
        case VirtualKey(pk=pk):
            return keys.get(pk, "")
        case _:
            return ""


# --- entries ----------------------------------------------------------------------------------------------------------


def _entry(shape: type[Entry], row: models.Model, **others: Any) -> Any:
    """The columns of `row` that `shape` names, lists as tuples; `others` are given."""
    names = (name for name in shape.__struct_fields__ if name not in others)
    columns = {name: getattr(row, name) for name in names}
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in columns.items()}
    return shape(**plain, **others)


def _provider(row: Provider) -> Entry:
    return _entry(ProviderEntry, row, allowed_networks=tuple(row.allowed_networks.split()))  # type: ignore[no-any-return]


def _provider_key(row: ProviderKey) -> Entry:
    reference = reference_for(row.provider.name, row.label, "API_KEY")
    return ProviderKeyEntry(api_key=reference, is_active=row.is_active, ends_with=row.last4)


def reference_for(*parts: str) -> str:
    """Where an export says that a secret is: an environment variable named after what it belongs to."""
    words = "_".join(parts).upper()
    name = "".join(one if one.isascii() and one.isalnum() else "_" for one in words)
    return f"${{{name if not name[:1].isdigit() else '_' + name}}}"


def _model(row: CatalogueModel) -> Entry:
    return _entry(ModelEntry, row, replaced_by=row.replaced_by.name if row.replaced_by else "")  # type: ignore[no-any-return]


def _prices() -> dict[str, dict[str, Entry]]:
    """Own prices; those of the list and of the demo come from elsewhere."""
    found: dict[str, dict[str, Entry]] = {"model_prices": {}, "deployment_prices": {}}
    rows = Price.objects.filter(source=PriceSource.OVERRIDE).select_related("model", "deployment__provider")
    for row in rows:
        section, of = ("model_prices", str(row.model)) if row.model else ("deployment_prices", str(row.deployment))
        tiers = tuple(msgspec.convert(tier, TierEntry) for tier in row.tiers)
        found[section][inner_name(of, moment_name(row.effective_from))] = _entry(PriceEntry, row, tiers=tiers)
    return found


def _alias(row: ModelAlias) -> Entry:
    return _entry(AliasEntry, row, targets=tuple(str(one.deployment) for one in row.targets.all()))  # type: ignore[no-any-return]


def _templates() -> dict[str, Entry]:
    """With what the version in force says; nothing, before the first."""
    rows = {row.pk: row for row in PromptTemplate.objects.all()}
    in_force = PromptTemplateVersion.objects.filter(template__in=rows, number=F("template__version"))
    texts = {one.template_id: template_document(one.system, one.messages, one.variables) for one in in_force}
    return {
        row.name: TemplateEntry.of(
            texts.get(pk, TemplateDocument()), description=row.description, is_active=row.is_active
        )
        for pk, row in rows.items()
    }


def _persona(row: Persona) -> Entry:
    template = row.template.name if row.template else ""
    return _entry(PersonaEntry, row, policy=row.policy.name, template=template)  # type: ignore[no-any-return]


def _policy(row: RoutingPolicy) -> Entry:
    return PolicyEntry.of(
        policy_document(row, row.candidates.all()),
        description=row.description,
        is_active=row.is_active,
        is_default=row.is_default,
    )


def _alert_rule(row: AlertRule) -> Entry:
    parameters = {name: tuple(value) if isinstance(value, list) else value for name, value in row.parameters.items()}
    return AlertRuleEntry(is_active=row.is_active, parameters=parameters)


def _channel(row: AlertChannel) -> Entry:
    return _entry(  # type: ignore[no-any-return]
        AlertChannelEntry,
        row,
        address=reference_for("ALERTS", row.name, "ADDRESS"),
        signing_secret=reference_for("ALERTS", row.name, "SIGNING_SECRET") if row.signing_secret else "",
        goes_to=row.hint,
        minimum_severity=Severity(row.minimum_severity).name.lower(),
        team=row.team.slug if row.team else "",
        allowed_networks=tuple(row.allowed_networks.split()),
    )


# --- files ------------------------------------------------------------------------------------------------------------


def exported(found: Stored, *, only: Iterable[str] = (), members: bool = False) -> dict[str, Any]:
    """A file as plain values: sections in their order, entries by name. `only` are sections at the top of a file;
    `members` are names of people."""
    wanted = set(only)
    file: dict[str, Any] = {"format": FORMAT}
    for section in SECTIONS:
        if (wanted and section.top not in wanted) or (section.is_optional and not members):
            continue
        for name, entry in sorted(found.documents[section.name].items()):
            if section.name == "models" and name in found.shipped:
                continue
            outer, own = split_inner(name)
            into = file.setdefault(section.top, {})
            values = _plain(entry)
            if not section.inside:
                into[name] = values
                continue
            place = into.setdefault(outer, {})
            if section.inside[1]:
                place = place.setdefault(section.inside[1], {})
            place[own] = values[section.short] if section.short and values else getattr(entry, section.short, values)
    return file


def to_yaml(file: dict[str, Any], header: str = HEADER) -> str:
    text: str = yaml.dump(
        file, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDE, default_flow_style=False
    )
    return header + text


def _plain(value: Any) -> Any:
    """As it is dumped: an entry without its defaults."""
    if isinstance(value, Entry):
        return {name: _plain(one) for name, one in said(value).items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in sorted(value.items())}
    return value


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, decimals and moments as they are written by hand."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)  # lists are indented


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value and not value[:1].isspace() else None
    if EXPONENT.fullmatch(value):  # JSON, and our reader, take it for a figure
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _decimal(dumper: yaml.SafeDumper, value: Decimal) -> yaml.ScalarNode:
    text = decimal_text(value)
    return dumper.represent_scalar(f"tag:yaml.org,2002:{'float' if '.' in text else 'int'}", text)


def _moment(dumper: yaml.SafeDumper, value: datetime) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:timestamp", moment_name(value))


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Decimal, _decimal)
_Dumper.add_representer(datetime, _moment)
