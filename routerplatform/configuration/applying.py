"""Files into the database: all of it in one transaction, or nothing. A plan is the same, taken back at its end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Model, ProtectedError, QuerySet, RestrictedError

from analytics.models import AlertChannel
from providers.models import CatalogueModel, Deployment, ModelStatus, Price, PriceSource, Provider, ProviderKey
from providers.services import active_set
from routerplatform.configuration import secret_values
from routerplatform.configuration.documents import PolicyEntry, split_inner
from routerplatform.configuration.exporting import Stored, budgets_by_name, stored
from routerplatform.configuration.planning import Change, Plan, made_plan, reference_problems, settled, title
from routerplatform.configuration.policies import write_policy
from routerplatform.configuration.reading import Problem, Unreadable
from routerplatform.configuration.shapes import Parsed
from routerplatform.configuration.task import Task, entered_by
from routerplatform.configuration.writing import WRITERS
from routing.domain.compile import ConfigError, compile_snapshot
from routing.models import Membership, ModelAlias, Persona, PromptTemplate, RoutingPolicy, RoutingRule, Team
from routing.selectors import config_revision, config_rows
from routing.services.lifecycle import review_required

IMPORT_LOCK: Final = 0x43_4F_4E_46  # on PostgreSQL one import works at a time
STAYS: Final = {
    "keys": "keys are revoked, never deleted: revoke it in the admin",
    "alert_rules": "there is one of each kind: switch it off instead",
    "model_prices": "it has begun, and requests may have been billed at it",
    "deployment_prices": "it has begun, and requests may have been billed at it",
}


@dataclass(slots=True)
class Outcome:
    """What an import did, or would do. `notes` are for people: what was proposed, left out, or stays."""

    plan: Plan
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    is_applied: bool = False
    revision: int = 0
    left_out: int = 0  # entries of the files that could not be made; notes say why


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to import. `environment` is where references to variables are looked up."""

    by: User | None
    now: datetime
    environment: Mapping[str, str]
    apply: bool = False
    prune: bool = False
    without_secrets: bool = False


@transaction.atomic
def configuration_import(*, read: Callable[[Stored], Parsed], options: Options) -> Outcome:
    """Bring what `read` finds in files into the database, or only tell what that would change.

    :raises Unreadable: with every problem of the files; then nothing is changed.
    """
    _wait_for_other_imports()
    current = stored()
    wanted = read(current)
    for section, entries in wanted.entries.items():
        wanted.entries[section] = {name: settled(entry) for name, entry in entries.items()}
    looked = secret_values.looked_up(wanted, options.environment)
    without = secret_values.without(wanted, looked, current.documents) if options.without_secrets else []
    problems = [
        *wanted.problems,
        *reference_problems(current.documents, wanted),
        *(() if options.without_secrets else secret_values.missing_problems(looked, wanted, current.documents)),
    ]
    if problems:
        raise Unreadable(sorted(problems))
    replaced = secret_values.replaced(looked, current.documents)
    plan = made_plan(_manageable(current, wanted), wanted, prune=options.prune, replaced=replaced)
    task = Task(wanted, current.documents, looked.values, replaced, options.by, options.now, notes=list(without))
    with entered_by(options.by):
        _carry_out(task, plan)
    if task.problems:
        raise Unreadable(sorted(set(task.problems)))
    _check_that_it_compiles(wanted, options.now)
    ends = secret_values.other_end_warnings(looked, wanted, current.documents)
    warnings = [*wanted.warnings, *_retired(plan), *ends]
    left_out = len(task.left_out) + len(without)
    outcome = Outcome(plan, task.notes, warnings, options.apply, config_revision(), left_out)
    transaction.set_rollback(not options.apply)
    return outcome


def _check_that_it_compiles(wanted: Parsed, now: datetime) -> None:
    """:raises Unreadable: gateways could make nothing of it, and would go on with what they have."""
    try:
        compile_snapshot(config_rows(now=now, with_callers=False), now=now)
    except ConfigError as error:
        file = next((place.file for place in wanted.places.values()), "")
        text = f"with this the configuration would not compile, and no gateway would follow: {error}"
        raise Unreadable([Problem(file, 0, "", text)]) from None


def _wait_for_other_imports() -> None:
    """Until the end of this transaction: what is compared is what is written. SQLite has one writer anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [IMPORT_LOCK])


def _manageable(current: Stored, wanted: Parsed) -> Mapping[str, Mapping[str, Any]]:
    """What is compared: models that the catalogue loader looks after count only where a file names them."""
    asked = wanted.entries["models"]
    models = {
        name: entry
        for name, entry in current.documents["models"].items()
        if name in asked or name not in current.shipped
    }
    return {**current.documents, "models": models}


def _carry_out(task: Task, plan: Plan) -> None:
    """Write, then remove, then what had to wait; what cannot be removed stays, and leaves the plan with a note."""
    stays = []
    for change in plan.changes:
        if change.action != "remove":
            task.attempt(change.section, change.name, _writer(task, change))
    stays += [change for change in plan.changes if (change.section, change.name) in task.left_out]
    for section, name, do in task.later:
        task.attempt(section, name, do)
    for change in plan.changes:
        if change.action == "remove" and (why := _removed(change, task.now)):
            if why != SWITCHED_OFF:
                task.notes.append(f"{title(change.section, change.name)} stays: {why}.")
            stays.append(change)
    plan.changes = [change for change in plan.changes if change not in stays]


def _writer(task: Task, change: Change) -> Callable[[], None]:
    if change.section == "policies":
        return lambda: write_policy(task, change.name, cast(PolicyEntry, change.after))
    write = cast(Callable[[Task, str, Any], None], WRITERS[change.section])
    return lambda: write(task, change.name, change.after)


def _retired(plan: Plan) -> list[str]:
    """Deployments of models that their vendor no longer serves."""
    wanted = {change.name: change.after for change in plan.changes if change.section == "deployments" and change.after}
    names = {getattr(entry, "model") for entry in wanted.values()}  # noqa: B009
    rows = CatalogueModel.objects.filter(name__in=names, status=ModelStatus.RETIRED).select_related("replaced_by")
    retired = {row.name: row.replaced_by.name if row.replaced_by else "" for row in rows}
    return [
        f"deployment {name}: its vendor has retired {model}."
        + (f" Use {retired[model]} instead." if retired[model] else "")
        for name, entry in wanted.items()
        if (model := getattr(entry, "model")) in retired  # noqa: B009
    ]


# --- what only the database has ---------------------------------------------------------------------------------------

SWITCHED_OFF: Final = "it is switched off already"


def _removed(change: Change, now: datetime) -> str:
    """Remove it; why it stays, else empty."""
    section, name = change.section, change.name
    if section in {"keys", "alert_rules"}:
        return STAYS[section]
    row = _row(section, name)
    if row is None:  # went with what it belonged to
        return ""
    if isinstance(row, Price) and row.effective_from <= now:
        return STAYS[section]
    if section in {"provider_keys", "budgets"}:  # what was billed or spent hangs on them
        return "" if active_set(row=row, is_active=False) else SWITCHED_OFF
    if isinstance(row, RoutingPolicy) and (row.is_default or review_required()):
        return "it is the default policy" if row.is_default else "POLICY_REVIEW is on: delete it in the admin"
    return _deleted(row)


def _deleted(row: Model) -> str:
    try:
        with transaction.atomic():
            if isinstance(row, Provider):
                row.keys.all().delete()
            row.delete()
    except (ProtectedError, RestrictedError) as error:
        rows = error.protected_objects if isinstance(error, ProtectedError) else error.restricted_objects
        kinds = sorted({str(one._meta.verbose_name) for one in rows})
        return f"it is needed by {len(rows)} other{'s' if len(rows) > 1 else ''} ({', '.join(kinds)})"
    return ""


def _row(section: str, name: str) -> Model | None:
    """The row of an entry that files may remove."""
    outer, own = split_inner(name)
    provider, _, upstream = outer.partition("/")
    match section:
        case "provider_keys":
            return ProviderKey.objects.filter(provider__name=outer, label=own).first()
        case "deployments":
            return Deployment.objects.filter(provider__name=provider, upstream_model=upstream).first()
        case "model_prices":
            return _own_prices(own).filter(model__name=outer).first()
        case "deployment_prices":
            of = {"deployment__provider__name": provider, "deployment__upstream_model": upstream}
            return _own_prices(own).filter(**of).first()
        case "members":
            return Membership.objects.filter(team__slug=outer, user__username=own).first()
        case "budgets":
            return budgets_by_name().get(name)
        case _:
            model, column = ROWS[section]
            return model._default_manager.filter(**{column: name}).first()


def _own_prices(moment: str) -> QuerySet[Price]:
    return Price.objects.filter(source=PriceSource.OVERRIDE, effective_from=moment)


ROWS: Final[Mapping[str, tuple[type[Model], str]]] = {
    "models": (CatalogueModel, "name"),
    "providers": (Provider, "name"),
    "aliases": (ModelAlias, "name"),
    "templates": (PromptTemplate, "name"),
    "policies": (RoutingPolicy, "name"),
    "personas": (Persona, "slug"),
    "rules": (RoutingRule, "name"),
    "teams": (Team, "slug"),
    "alert_channels": (AlertChannel, "name"),
}
