"""What one import works with, and how it saves a row: by the table's own rules, with complaints at their lines."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.contrib.auth.models import User
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models, transaction
from django.http import HttpRequest
from simple_history.models import HistoricalRecords

from providers.history import REASON_ATTRIBUTE
from routerplatform.configuration.documents import BY_NAME, Documents, shown
from routerplatform.configuration.planning import in_words
from routerplatform.configuration.reading import Problem
from routerplatform.configuration.secret_values import Secrets
from routerplatform.configuration.shapes import Parsed, near

REASON: Final = "config_import"
SAID_AS: Final[Mapping[str, tuple[str, ...]]] = {
    "secret": ("signing_secret",),
    "sealed": ("api_key",),
    "candidates": ("models",),
    "required": ("required_capabilities",),
    "ladder_cap_percent": ("ladder", "cap_at"),
    "ladder_cap_tokens": ("ladder", "cap_tokens"),
    "ladder_cheaper_percent": ("ladder", "cheaper_at"),
    "ladder_cache_percent": ("ladder", "cache_only_at"),
    "ladder_refuse_percent": ("ladder", "refuse_at"),
}
"""Columns that files have under other keys."""


@dataclass(slots=True)
class Task:
    """One import. `replaced` are secrets that are not what is stored, as (section, entry): fields. `left_out` are
    entries that were not written for a reason that a note tells. `later` is what can only be done when everything
    else is written, with the entry it is about."""

    wanted: Parsed
    current: Documents
    secrets: Secrets
    replaced: Mapping[tuple[str, str], set[str]]
    by: User | None
    now: datetime
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: set[tuple[str, str]] = field(default_factory=set)
    later: list[tuple[str, str, Callable[[], None]]] = field(default_factory=list)

    def secret(self, section: str, name: str, column: str) -> str:
        """Empty where it is not there: then what is stored stays."""
        return self.secrets.get((section, name, column), "")

    def is_replaced(self, section: str, name: str, column: str) -> bool:
        return column in self.replaced.get((section, name), set())

    def leave_out(self, section: str, name: str, note: str) -> None:
        self.left_out.add((section, name))
        self.notes.append(note)

    def complain(self, section: str, name: str, text: str, *keys: str | int) -> None:
        place = self.wanted.place(section, name, *keys)
        here = ".".join(str(key) for key in keys)
        is_there = not here or place.path.endswith(f".{here}") or place != self.wanted.place(section, name)
        path = place.path if is_there else f"{place.path}.{here}"
        self.problems.append(Problem(place.file, place.line, path, text))

    def attempt(self, section: str, name: str, do: Callable[[], None]) -> None:
        """Do it, or note what is wrong with it and go on: all problems are told at once."""
        try:
            with transaction.atomic():
                do()
        except ValidationError as error:
            for column, texts in _by_column(error).items():
                for text in texts:
                    self.complain(section, name, text, *keys_of(section, column))
        except Missing:  # what it refers to could not be written, and that has been told
            return


def keys_of(section: str, column: str) -> tuple[str, ...]:
    """Where an entry of a file has a column; nowhere, what its own name says."""
    keys = SAID_AS.get(column, (column,))
    return tuple(map(shown, keys)) if keys[0] in BY_NAME[section].shape.__struct_fields__ else ()


class Missing(Exception):
    """A row that the files have is not there, because it was refused."""


def _by_column(error: ValidationError) -> dict[str, list[str]]:
    return error.message_dict if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.messages}


def found(model: type[models.Model], **named: Any) -> Any:
    """The row of that name.

    :raises Missing: see there.
    """
    row = model._default_manager.filter(**named).first()
    if row is None:
        raise Missing
    return row


def put(row: models.Model, columns: dict[str, Any]) -> None:
    """Save `row` with `columns`; of a row that is there, only what differs.

    :raises ValidationError: the table's rules, or a value that they would turn into another one.
    """
    is_new = row._state.adding
    changed = [name for name, value in columns.items() if is_new or getattr(row, name) != value]
    for name in changed:
        setattr(row, name, columns[name])
    checked(row)
    refuse_other_values(row, columns)
    setattr(row, REASON_ATTRIBUTE, REASON)
    if is_new:
        row.save()
    elif changed:
        row.save(update_fields=changed)


def checked(row: models.Model, **options: Any) -> None:
    """`full_clean`, which does not tell what the choices are.

    :raises ValidationError: see there.
    """
    try:
        row.full_clean(**options)
    except ValidationError as error:
        raise ValidationError(
            {column: [_told(row, column, one) for one in errors] for column, errors in error.error_dict.items()}
        ) from None


def _told(row: models.Model, column: str, error: ValidationError) -> str | ValidationError:
    if error.code != "invalid_choice":
        return error
    known = [str(value) for value, _ in getattr(row._meta.get_field(column), "flatchoices", ())]
    return f"“{getattr(row, column)}” is none of its choices.{near(str(getattr(row, column)), known)}"


def refuse_other_values(row: models.Model, columns: dict[str, Any]) -> None:
    """A file that says one thing and means another would differ from the database for ever."""
    other = {name: getattr(row, name) for name, value in columns.items() if getattr(row, name) != value}
    if other:
        raise ValidationError(
            {
                name: f"would be kept as “{in_words(value)}”. Write that, or leave it out."
                for name, value in other.items()
            }
        )


@contextmanager
def entered_by(by: User | None) -> Iterator[None]:
    """The history of everything that is saved within names `by`."""
    request, context = HttpRequest(), HistoricalRecords.context
    if by is not None:
        request.user = by
    before = getattr(context, "request", None)
    context.request = request
    try:
        yield
    finally:
        if before is None:
            del context.request
        else:
            context.request = before
