"""Secrets that files refer to: where they are, and whether they are another one than what is stored."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from django.core.exceptions import ImproperlyConfigured

from analytics.models import AlertChannel
from providers.fields import unseal
from providers.models import ProviderKey
from routerplatform.configuration.documents import Documents, inner_name
from routerplatform.configuration.reading import Problem
from routerplatform.configuration.shapes import REFERENCE, SECRETS, Parsed

MAX_SECRET_BYTES: Final = 64 * 1024
Secrets = dict[tuple[str, str, str], str]
"""By (section, entry, field)."""


class NotThere(Exception):
    """The reference leads to nothing on this machine; says why, without a word of any secret."""


@dataclass(frozen=True, slots=True)
class Looked:
    """`values` are the secrets that are there, `missing` says why others are not."""

    values: Secrets
    missing: dict[tuple[str, str, str], str]


def looked_up(wanted: Parsed, environment: Mapping[str, str]) -> Looked:
    looked = Looked({}, {})
    for section, entries in wanted.entries.items():
        for name, entry in entries.items():
            for field in SECRETS & set(entry.__struct_fields__):
                reference = getattr(entry, field)
                if reference:
                    try:
                        looked.values[section, name, field] = resolved(reference, environment)
                    except NotThere as error:
                        looked.missing[section, name, field] = str(error)
    return looked


def resolved(reference: str, environment: Mapping[str, str]) -> str:
    """The secret that `reference` leads to.

    :raises NotThere: the variable is not set, the file cannot be read, or there is nothing in it.
    """
    found = REFERENCE.fullmatch(reference)
    if found is None:
        raise NotThere("it is no reference")
    variable, path = found[1] or found[2], found[3]
    if variable:
        value = environment.get(variable, "").strip()
        if not value:
            raise NotThere(f"the environment variable {variable} is not set here")
        return value
    return _from_file(Path(path))


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            value = file.read(MAX_SECRET_BYTES + 1)
        text = value.decode().strip()
    except OSError as error:
        raise NotThere(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise NotThere(f"{path} is no text") from None
    if not text or len(value) > MAX_SECRET_BYTES:
        raise NotThere(f"{path} is empty" if not text else f"{path} is too large for a secret")
    return text


def replaced(looked: Looked, current: Documents) -> dict[tuple[str, str], set[str]]:
    """The fields of stored entries whose secret is another one by now. Compared in memory only."""
    kept = {
        **{
            ("provider_keys", inner_name(row.provider.name, row.label), "api_key"): row.sealed
            for row in ProviderKey.objects.select_related("provider")
        },
        **{("alert_channels", row.name, "address"): row.target for row in AlertChannel.objects.all()},
        **{("alert_channels", row.name, "signing_secret"): row.signing_secret for row in AlertChannel.objects.all()},
    }
    found: dict[tuple[str, str], set[str]] = {}
    for (section, name, field), value in looked.values.items():
        sealed = kept.get((section, name, field), "")
        if name in current[section] and _opened(sealed) != value:
            found.setdefault((section, name), set()).add(field)
    return found


def _opened(sealed: str) -> str:
    """Empty where nothing is stored, or nothing that this installation's field keys open: then a new one helps."""
    try:
        return unseal(sealed) if sealed else ""
    except ImproperlyConfigured:
        return ""


def missing_problems(looked: Looked, wanted: Parsed, current: Documents) -> Iterator[Problem]:
    """Secrets of new entries that are not there. What is stored already stays as it is without them."""
    for (section, name, field), why in sorted(looked.missing.items()):
        if name not in current[section]:
            text = f"{why}. Set it, or take this entry out; --without-secrets leaves it out for now."
            yield wanted.place(section, name, field).problem(text)


def without(wanted: Parsed, looked: Looked, current: Documents) -> list[str]:
    """Take new entries whose secrets are missing out of `wanted`; says which."""
    notes = []
    for (section, name, _), why in sorted(looked.missing.items()):
        if name not in current[section] and wanted.entries[section].pop(name, None) is not None:
            notes.append(f"{wanted.places[section, name].path} was left out: {why}.")
    return notes


def other_end_warnings(looked: Looked, wanted: Parsed, current: Documents) -> Iterator[str]:
    """The file remembers another secret than the stored one, and which it is cannot be looked up here."""
    for section, name, _ in sorted(looked.missing):
        before, after = current[section].get(name), wanted.entries[section].get(name)
        field = "ends_with" if section == "provider_keys" else "goes_to"
        if before is None or after is None or not getattr(after, field):
            continue
        if getattr(before, field) != getattr(after, field):
            place = wanted.place(section, name, field)
            stored = getattr(before, field) or "nothing"
            yield str(place.problem(f"another one is stored ({stored}), and it stays: its reference is not set here."))
