"""Read what stands around a policy: who depends on it, what speaks against a change of it, what its versions said."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from routing.domain.compile import ConfigError, compile_snapshot
from routing.domain.documents import PolicyDocument, document_from_json
from routing.domain.policy_checks import Complaint, Place, complaints
from routing.domain.policy_diff import Change, policy_changes
from routing.models import PolicyVersion, RoutingPolicy
from routing.selectors import artefact_data, config_rows
from routing.trained import TrainedArtefacts

ARTEFACTS: Final = TrainedArtefacts()  # of this process; loaded when a check first asks how well models do


def policy_place(policy: RoutingPolicy, *, now: datetime) -> Place:
    """What the checks of a policy's rules look at, as it is in the database now.

    :raises ConfigError: the configuration does not compile, whatever this policy says.
    """
    snapshot = compile_snapshot(config_rows(now=now, with_callers=False), now=now)
    ARTEFACTS.prepare(snapshot.artefact, artefact_data)
    return Place(
        snapshot=snapshot,
        policy_id=policy.pk or 0,
        name=policy.name,
        personas=tuple(one for one in snapshot.personas.values() if one.policy.id == policy.pk),
        is_default=policy.is_default,
        quality=ARTEFACTS.of(snapshot.artefact).quality,
    )


def policy_complaints(policy: RoutingPolicy, document: PolicyDocument, *, now: datetime) -> list[Complaint]:
    """What speaks against putting `document` into force as the rules of `policy`."""
    try:
        place = policy_place(policy, now=now)
    except ConfigError as error:
        return [Complaint("", f"The configuration does not compile as it is: {error}")]
    return complaints(document, place)


@dataclass(frozen=True, slots=True)
class VersionLine:
    """A version with what it changed. `is_first` has nothing before it; `is_current` is in force."""

    version: PolicyVersion
    changes: list[Change]
    is_first: bool
    is_current: bool


def version_lines(policy: RoutingPolicy, *, limit: int = 50) -> list[VersionLine]:
    """The newest first; each compared with the one before it."""
    rows = policy.versions.select_related("author", "approver", "draft").order_by("-number")
    versions = list(rows[: limit + 1])
    documents = [_readable(version) for version in versions]
    lines = []
    for index, version in enumerate(versions[:limit]):
        before = documents[index + 1] if index + 1 < len(versions) else None
        document = documents[index]
        changes = policy_changes(before, document) if before is not None and document is not None else []
        is_first = index + 1 == len(versions)
        lines.append(VersionLine(version, changes, is_first, is_current=version.number == policy.version))
    return lines


def _readable(version: PolicyVersion) -> PolicyDocument | None:
    try:
        return document_from_json(version.document)
    except ConfigError:
        return None
