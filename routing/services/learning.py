"""Which trained artefact estimates, and which classifier goes before the built-in one: one of each at most.

artefact: stored -> in force -> stored
"""

from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction

from routing.domain.classification.artefact import ArtefactError, version_of
from routing.models import ClassifierPlugIn, RouterArtefact
from routing.trained import trained_from

IN_FORCE = "put in force"
TAKEN_BACK = "taken out of force"


def artefact_store(
    *, data: bytes, card: dict[str, Any], note: str = "", by: User | None = None
) -> tuple[RouterArtefact, bool]:
    """Keep a trained artefact, not in force; whether it is new. The same bytes are one artefact.

    :raises ValidationError: the bytes are none that this version can use, or the card is another one's.
    """
    version = version_of(data)
    try:
        trained_from(data)
    except ArtefactError as error:
        raise ValidationError(str(error)) from error
    if card and card.get("version") != version:
        raise ValidationError(
            "The card belongs to another artefact: their versions differ. Give the two of one training."
        )
    values = {"data": data, "card": card, "note": note[:200], "created_by": by}
    return RouterArtefact.objects.get_or_create(version=version, defaults=values)


@transaction.atomic
def artefact_activate(*, version: str | None, by: User | None) -> bool:
    """Have this artefact estimate from now on; None: the one that the platform ships. False if it did already.
    Gateways follow within two seconds.

    :raises ValidationError: there is none of this version, or it cannot be used.
    """
    rows = {row.version: row for row in RouterArtefact.objects.select_for_update().defer("data")}
    if version is not None and version not in rows:
        raise ValidationError(f"There is no trained artefact {version} any more.")
    current = next((row for row in rows.values() if row.is_active), None)
    if (current.version if current else None) == version:
        return False
    if version is not None:
        try:
            trained_from(bytes(rows[version].data))
        except ArtefactError as error:
            raise ValidationError(f"It is not put in force: {error}") from error
    if current is not None:
        _switch(current, False, by, TAKEN_BACK)
    if version is not None:
        _switch(rows[version], True, by, IN_FORCE)
    return True


def _switch(row: RouterArtefact, is_active: bool, by: User | None, why: str) -> None:
    """With a row of history that names who and why."""
    row.is_active = is_active
    row._history_user = by  # type: ignore[attr-defined]  # of simple_history
    row._change_reason = why  # type: ignore[attr-defined]
    row.save(update_fields=["is_active"])


@transaction.atomic
def classifier_yield(*, to: ClassifierPlugIn) -> list[ClassifierPlugIn]:
    """Switch off whatever classifies besides `to`, which is about to: these are given back."""
    others = list(ClassifierPlugIn.objects.select_for_update().filter(is_active=True).exclude(pk=to.pk))
    for other in others:
        other.is_active = False
        other.save(update_fields=["is_active"])
    return others
