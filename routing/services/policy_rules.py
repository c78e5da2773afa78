"""The rules of a policy as rows: written from a document, and recorded as versions. Nothing else numbers versions."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from routing.announcements import policy_published
from routing.domain.documents import (
    ConfigError,
    PolicyDocument,
    document_from_json,
    document_to_json,
    same_rules,
)
from routing.models import (
    CandidateGroup,
    DraftCandidate,
    ModelAlias,
    PolicyCandidate,
    PolicyDraft,
    PolicyVersion,
    RoutingPolicy,
)
from routing.selectors import policy_document
from routing.services.revision import config_revision_bump

NOTE_LENGTH: Final = 300
FIRST_NOTE: Final = "As it was found"
OUTSIDE_NOTE: Final = "Changed outside of drafts"


def document_of(owner: RoutingPolicy | PolicyDraft) -> PolicyDocument:
    """The rules as the database has them now, whatever `owner` has prefetched."""
    rows = owner.candidates.select_related("alias").order_by("-group", "position", "pk")
    return policy_document(owner, rows)


def columns_of(document: PolicyDocument) -> dict[str, Any]:
    """The columns of `PolicyRules`; the inverse of `selectors.policy_document`, models apart."""
    cost, ladder = document.max_cost_nano, document.ladder
    return {
        "task_type": document.task_type,
        "strategy": document.strategy,
        "quality_floor": document.quality_floor,
        "within_of_best": document.within_of_best,
        "cost_weight": document.cost_weight,
        "latency_weight": document.latency_weight,
        "is_sticky": document.is_sticky,
        "regions": list(document.regions),
        "max_cost_per_request": None if cost is None else (Decimal(cost) / 10**9).quantize(Decimal("0.000001")),
        "max_latency_ms": document.max_latency_ms,
        "required_capabilities": list(document.required),
        "cache_mode": document.cache_mode,
        "cache_ttl_s": document.cache_ttl_s,
        "ladder_cap_percent": ladder.cap_at,
        "ladder_cap_tokens": ladder.cap_tokens,
        "ladder_cheaper_percent": ladder.cheaper_at,
        "ladder_cache_percent": ladder.cache_only_at,
        "ladder_refuse_percent": ladder.refuse_at,
        "escalate_on": list(document.escalate_on),
        "sample_percent": document.sample_percent,
        "keeps_prompts": document.keeps_prompts,
    }


RULE_COLUMNS: Final = tuple(columns_of(PolicyDocument()))


def aliases_named(document: PolicyDocument) -> Mapping[str, ModelAlias]:
    """The aliases of its models, by name.

    :raises ValidationError: one of them does not exist any more.
    """
    names = [one.alias for one in document.candidates]
    found = {alias.name: alias for alias in ModelAlias.objects.filter(name__in=names)}
    if missing := [name for name in names if name not in found]:
        raise ValidationError(f"There is no model alias {', '.join(missing)} any more. Make a draft without it.")
    return found


def rules_write(*, owner: RoutingPolicy | PolicyDraft, document: PolicyDocument) -> None:
    """Make the columns and models of `owner` say what `document` says. Only what differs is written, so that the
    history shows what changed.

    :raises ValidationError: a model of it does not exist any more.
    """
    aliases = aliases_named(document)
    wanted = columns_of(document)
    changed = [name for name, value in wanted.items() if getattr(owner, name) != value]
    for name in changed:
        setattr(owner, name, wanted[name])
    if changed:
        owner.save(update_fields=changed)
    present: dict[str, Any] = {row.alias.name: row for row in owner.candidates.select_related("alias")}
    for name, row in present.items():
        if name not in aliases:
            row.delete()
    positions = {True: 0, False: 0}
    for one in document.candidates:
        row = present.get(one.alias) or _new_row(owner, aliases[one.alias])
        values = {
            "group": CandidateGroup.FALLBACK if one.is_fallback else CandidateGroup.PREFERRED,
            "position": positions[one.is_fallback],
            "weight": one.weight,
            "task_type": one.task_type,
        }
        positions[one.is_fallback] += 1
        if row.pk is None or any(getattr(row, name) != value for name, value in values.items()):
            for name, value in values.items():
                setattr(row, name, value)
            row.save()


def _new_row(owner: RoutingPolicy | PolicyDraft, alias: ModelAlias) -> PolicyCandidate | DraftCandidate:
    if isinstance(owner, RoutingPolicy):
        return PolicyCandidate(policy=owner, alias=alias)
    return DraftCandidate(draft=owner, alias=alias)


# --- versions -------------------------------------------------------------------------------------------------------


def policy_locked(policy: RoutingPolicy) -> RoutingPolicy:
    """The row, locked until the transaction ends: whoever changes rules or moves drafts of the policy holds it."""
    return RoutingPolicy.objects.select_for_update().get(pk=policy.pk)


def number_next(policy: RoutingPolicy) -> int:
    """Numbers are never given twice: requests of a rollout that was stopped carry its number too."""
    drafts = policy.drafts.aggregate(top=Max("version"))["top"] or 0
    versions = policy.versions.aggregate(top=Max("number"))["top"] or 0
    return max(policy.version, drafts, versions) + 1


def version_current(policy: RoutingPolicy) -> PolicyVersion | None:
    return policy.versions.filter(number=policy.version).first()


@transaction.atomic
def version_ensure(*, policy: RoutingPolicy, note: str = "", by: User | None = None) -> PolicyVersion:
    """The version that says what is in force: made when there is none yet, or when the rules were changed by something
    that records no versions. `policy` gets its number."""
    locked = policy_locked(policy)
    document = document_of(locked)
    current = version_current(locked)
    if current is None or not same_rules(_document(current), document):
        said = note or (OUTSIDE_NOTE if current else FIRST_NOTE)
        current = version_record(policy=locked, document=document, note=said, author=by, approver=by)
    policy.version = current.number
    return current


def version_record(
    *,
    policy: RoutingPolicy,
    document: PolicyDocument,
    note: str,
    author: User | None,
    approver: User | None,
    draft: PolicyDraft | None = None,
    at: datetime | None = None,
) -> PolicyVersion:
    """Number the rules that are in force now. The caller holds the policy's row and has written the rules."""
    number = draft.version if draft is not None and draft.version else number_next(policy)
    version = PolicyVersion.objects.create(
        policy=policy,
        number=number,
        document=document_to_json(document),
        note=note[:NOTE_LENGTH],
        draft=draft,
        author=author,
        approver=approver,
        published_at=at or timezone.now(),
    )
    policy.version = number
    RoutingPolicy.objects.filter(pk=policy.pk).update(version=number)
    config_revision_bump()
    policy_published.send(PolicyVersion, version=version)
    return version


def document_at(policy: RoutingPolicy, number: int) -> PolicyDocument:
    """What version `number` said.

    :raises ValidationError: there is no such version, or it cannot be read.
    """
    version = policy.versions.filter(number=number).first()
    if version is None:
        raise ValidationError(f"{policy} has no version {number}.")
    return _document(version)


def _document(version: PolicyVersion) -> PolicyDocument:
    try:
        return document_from_json(version.document)
    except ConfigError as error:
        raise ValidationError(f"{version} cannot be read: {error}") from error
