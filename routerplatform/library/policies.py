"""Who serves a kind of work: a program's `RoutingPolicy` becomes the platform's own, with versions and history."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
from django.core.exceptions import ValidationError
from django.db import transaction

from routerplatform.library.embedding import is_embedded
from routerplatform.library.errors import BadRequestError, is_number, near
from routerplatform.library.model_services import model_deploy
from routing.domain.config import Strategy, TaskType
from routing.domain.documents import CandidateDocument
from routing.models import ModelAlias
from routing.models import RoutingPolicy as PolicyRow
from routing.services.lifecycle import review_required, rules_checked
from routing.services.policy_rules import document_of, rules_write
from routing.services.rollouts import policy_edited

NOTE: Final = "add_policy of a program"
NANO: Final = 1_000_000_000
MOST_USD: Final = 9_999  # what the column holds


@dataclass(frozen=True, slots=True)
class RoutingPolicy:
    """The models for a kind of work, in the order of asking. `max_cost_per_request` is USD, `max_latency` seconds: what
    is expected to be dearer or slower is left out."""

    task_type: TaskType | str
    preferred_models: Sequence[str] = ()
    max_cost_per_request: float | None = None
    max_latency: float | None = None
    fallback_models: Sequence[str] = field(default=())


@transaction.atomic
def policy_put(*, task_type: TaskType | str, policy: RoutingPolicy, now: datetime) -> str:
    """Have `policy` serve this kind of work from now on; the name of the row that says so.

    It is the policy that serves it today, as a new version, or one of its own where there is none.

    :raises BadRequestError: a model that nobody knows, values that cannot be, rules that could serve nothing; or rules
        only change by reviewed drafts here.
    """
    task = _task(task_type)
    if not isinstance(policy, RoutingPolicy):
        raise BadRequestError("invalid_policy", f"A policy is a RoutingPolicy, not a {type(policy).__name__}.")
    if task is not _task(policy.task_type):
        raise BadRequestError("invalid_policy", f"The policy is made for {policy.task_type}, and added for {task}.")
    if review_required():
        text = "Rules change through reviewed drafts only here (POLICY_REVIEW). Propose a draft in the admin."
        raise BadRequestError("policy_review", text)
    preferred, fallbacks = _names(policy)
    names = list(dict.fromkeys([*preferred, *fallbacks]))
    for name in names:
        _known(name)
    row = _row_for(task)
    document = msgspec.structs.replace(
        document_of(row),
        candidates=tuple(CandidateDocument(alias=name, is_fallback=name not in preferred) for name in names),
        task_type=task.value,
        strategy=Strategy.PRIORITY.value,
        quality_floor=None,
        within_of_best=None,
        max_cost_nano=_scaled(policy.max_cost_per_request, NANO, "max_cost_per_request", MOST_USD),
        max_latency_ms=_scaled(policy.max_latency, 1000, "max_latency", 86_400),
    )
    try:
        rules_checked(policy=row, document=document, now=now)
    except ValidationError as error:
        raise BadRequestError("invalid_policy", " ".join(error.messages)) from None
    rules_write(owner=row, document=document)
    policy_edited(policy=row, by=None, note=NOTE)
    return row.name


def _task(said: TaskType | str) -> TaskType:
    names = [task.value for task in TaskType if task is not TaskType.ANY]
    name = str(said).strip().upper()
    if name not in names:
        raise BadRequestError("invalid_policy", f"“{said}” is no kind of work. There are: {', '.join(names)}.")
    return TaskType(name)


def _names(policy: RoutingPolicy) -> list[list[str]]:
    """The preferred models, and the fallbacks; None is a list of none."""
    lists: list[Any] = [policy.preferred_models, policy.fallback_models]
    found = [_listed(said) for said in lists]
    if not found[0]:
        raise BadRequestError("invalid_policy", "A policy needs at least one of preferred_models.")
    return found


def _listed(said: Any) -> list[str]:
    is_list = isinstance(said, Iterable) and not isinstance(said, str | Mapping)
    names: list[Any] = list(said) if is_list else []
    if not (is_list or said is None) or not all(isinstance(name, str) for name in names):
        raise BadRequestError("invalid_policy", "preferred_models and fallback_models are lists of names.")
    return names


def _known(name: str) -> None:
    if is_embedded():
        model_deploy(name=name)
        return
    known = list(ModelAlias.objects.filter(is_active=True).values_list("name", flat=True))
    if name not in known:
        text = f"There is no model alias “{name}”.{near(name, known)} Add it in the admin, or with router.registry."
        raise BadRequestError("model_not_found", text, param="model")


def _row_for(task: TaskType) -> PolicyRow:
    """The row that serves a kind of work: of several the first by name with models, as `policies_by_task` has it."""
    rows = list(PolicyRow.objects.filter(task_type=task.value, is_active=True).order_by("name"))
    serving = next((row for row in rows if row.candidates.exists()), None)
    if serving is not None or rows:
        return serving or rows[0]
    name = f"library-{task.value.lower().replace('_', '-')}"
    row, _ = PolicyRow.objects.get_or_create(name=name, defaults={"task_type": task.value})
    if not row.is_active or row.task_type != task.value:
        row.is_active, row.task_type = True, task.value
        row.save(update_fields=["is_active", "task_type"])
    return row


def _scaled(value: float | None, factor: int, name: str, most: float) -> int | None:
    if value is None:
        return None
    if not is_number(value) or not 0 <= value <= most:
        raise BadRequestError("invalid_policy", f"{name} is a number from 0 to {most:,}, or None.")
    return round(value * factor)
