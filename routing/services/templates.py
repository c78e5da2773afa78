"""Writes of prompt templates: versions are added, and one of them is in force."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max

from routing.domain.templates import (
    MessageDocument,
    TemplateDocument,
    TemplateError,
    VariableDocument,
    compile_version,
    document_of,
)
from routing.models import PromptTemplate, PromptTemplateVersion
from routing.services.revision import config_revision_bump

LONGEST_NOTE: Final = 300
SAVED_MEANWHILE: Final = "saved_meanwhile"


@transaction.atomic
def template_version_create(
    *,
    template: PromptTemplate,
    document: TemplateDocument,
    note: str = "",
    by: User | None,
    is_in_force: bool = True,
    seen: int | None = None,
) -> PromptTemplateVersion:
    """Add a version; unless `is_in_force` is False, it is the one that callers get from now on. Lines end with a line
    feed, whatever they came with. The same text as in the newest version makes no new one.

    :param seen: the number of the newest version that the writer knew of, 0 for none.
    :raises ValidationError: with everything that is wrong with it, or the personas that cannot use it; with the code
        `SAVED_MEANWHILE` when there is a newer version than the one `seen`.
    """
    document = tidied(document)
    locked = PromptTemplate.objects.select_for_update().get(pk=template.pk)
    newest = locked.versions.aggregate(newest=Max("number"))["newest"] or 0
    _check(locked.name, newest + 1, document)
    version = _same_again(locked, newest, document)
    if version is None:
        if seen is not None and newest > seen:
            raise _saved_meanwhile(locked, newest)
        version = PromptTemplateVersion(
            template=locked,
            number=newest + 1,
            system=document.system,
            messages=_stored(document.messages),
            variables=_stored(document.variables),
            note=note[:LONGEST_NOTE],
            author=by,
        )
        version.save()
        config_revision_bump()  # it can be asked for by its number
    if is_in_force:
        template_version_set(template=locked, number=version.number, by=by)
    template.version = locked.version
    return version


@transaction.atomic
def template_version_set(*, template: PromptTemplate, number: int, by: User | None) -> bool:
    """Put version `number` into force; False if it is already. Gateways follow within 2 s.

    :raises ValidationError: there is none, or a persona that follows the template cannot use it.
    """
    locked = PromptTemplate.objects.select_for_update().get(pk=template.pk)
    version = locked.versions.filter(number=number).first()
    if version is None:
        raise ValidationError(f"“{locked}” has no version {number}.")
    if locked.version == number:
        template.version = number
        return False
    followers = locked.personas.filter(template_version=None).values_list("slug", flat=True)
    if version.messages and followers:
        raise ValidationError(
            f"These personas follow “{locked}”, and take a system text without messages: {', '.join(followers)}. Pin "
            "them to a version, or give them another template."
        )
    locked.version = template.version = number
    locked._history_user = by  # type: ignore[attr-defined]  # of simple_history
    locked._change_reason = f"Version {number} put into force"  # type: ignore[attr-defined]
    locked.save(update_fields=["version"])
    return True


def tidied(document: TemplateDocument) -> TemplateDocument:
    """Browsers send line ends of two characters; counted and sent are lines of one. A system text of blanks is none."""
    return TemplateDocument(
        _plain(document.system) if document.system.strip() else "",
        tuple(msgspec.structs.replace(one, content=_plain(one.content)) for one in document.messages),
        document.variables,
    )


def _stored(rows: Sequence[MessageDocument] | Sequence[VariableDocument]) -> list[Any]:
    return [msgspec.to_builtins(one) for one in rows]


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _check(name: str, number: int, document: TemplateDocument) -> None:
    try:
        compile_version(name, number, document)
    except TemplateError as error:
        raise ValidationError([one.in_words for one in error.complaints]) from error


def _saved_meanwhile(template: PromptTemplate, newest: int) -> ValidationError:
    version = template.versions.select_related("author").get(number=newest)
    note = f" (“{version.note}”)" if version.note else ""
    return ValidationError(
        f"While this was written, {version.author or 'somebody'} saved version {newest}{note}. Look at what it "
        "changes; saved once more, your text becomes the version after it.",
        code=SAVED_MEANWHILE,
    )


def _same_again(template: PromptTemplate, newest: int, document: TemplateDocument) -> PromptTemplateVersion | None:
    """The newest version, if it says just this: a form that is sent twice makes one version."""
    version = template.versions.filter(number=newest).first()
    if version is None:
        return None
    try:
        said = document_of(version.system, version.messages, version.variables)
    except TemplateError:
        return None
    return version if said == document else None
