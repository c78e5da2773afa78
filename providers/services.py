"""Writes of the provider floor: provider keys (sealed on the way in), switching on and off, re-sealing."""

from dataclasses import dataclass

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import transaction
from django.db.models import Model
from django.utils import timezone

from providers.fields import SealedTextField, is_sealed_with_first_key, seal, seal_bytes, unseal_bytes
from providers.models import Provider, ProviderKey

SHORTEST_SECRET_WITH_LAST4 = 12


@transaction.atomic
def provider_key_add(*, provider: Provider, label: str, secret: str, is_active: bool = True) -> ProviderKey:
    """Store a credential of `provider`.

    :raises ValidationError: the secret cannot be sent in a header, or the label is taken at this provider.
    """
    secret = clean_secret(secret)
    key = ProviderKey(provider=provider, label=label, is_active=is_active, sealed=seal(secret), last4=last4_of(secret))
    key.full_clean()
    key.save()
    return key


@transaction.atomic
def provider_key_replace(*, key: ProviderKey, secret: str) -> None:
    """Put another secret into `key`; requests that have begun keep the old one.

    :raises ValidationError: the secret cannot be sent in a header.
    """
    secret = clean_secret(secret)
    key.sealed, key.last4, key.rotated_at = seal(secret), last4_of(secret), timezone.now()
    key.save(update_fields=["sealed", "last4", "rotated_at"])


@transaction.atomic
def active_set(*, row: Model, is_active: bool) -> bool:
    """Switch a row with `is_active` on or off, with a line in its history; False when it already was so."""
    changed = type(row)._base_manager.select_for_update(of=("self",)).filter(pk=row.pk, is_active=not is_active).first()
    if changed is None:
        return False
    changed.is_active = is_active  # type: ignore[attr-defined]  # found by it
    changed.save(update_fields=["is_active"])
    return True


def clean_secret(secret: str) -> str:
    """The secret without the white space that copying brings along.

    :raises ValidationError: it is empty, or has characters that no HTTP header may carry.
    """
    stripped = secret.strip()
    if not stripped:
        raise ValidationError("The key is empty.")
    if not (stripped.isascii() and stripped.isprintable() and " " not in stripped):
        raise ValidationError("A key has letters, digits and signs only: no spaces, line breaks or accents.")
    return stripped


def last4_of(secret: str) -> str:
    """What people may see of a secret: its end, unless the secret is so short that this would give it away."""
    return secret[-4:] if len(secret) >= SHORTEST_SECRET_WITH_LAST4 else ""


@dataclass(frozen=True, slots=True)
class ResealReport:
    """What `secrets_reseal` did. `failed` has one sentence per secret that no field key opens."""

    resealed: int
    already: int
    failed: tuple[str, ...]


def secrets_reseal(*, dry_run: bool = False) -> ResealReport:
    """Seal anew, with the first field key, what any table holds sealed. May be stopped: a transaction each."""
    resealed, already, failed = 0, 0, list[str]()
    for model, column in sealed_columns():
        for pk in model._base_manager.exclude(**{column: ""}).order_by("pk").values_list("pk", flat=True):
            try:
                changed = _reseal(model, pk, column, dry_run=dry_run)
            except ImproperlyConfigured as error:
                failed.append(f"{model._meta.verbose_name} {model._base_manager.get(pk=pk)}: {error}")
                continue
            resealed += changed
            already += not changed
    return ResealReport(resealed=resealed, already=already, failed=tuple(failed))


def sealed_columns() -> list[tuple[type[Model], str]]:
    """Every column of every app that holds sealed text."""
    fields = (field for model in apps.get_models() for field in model._meta.concrete_fields)
    return [(field.model, field.name) for field in fields if isinstance(field, SealedTextField)]


@transaction.atomic
def _reseal(model: type[Model], pk: object, column: str, *, dry_run: bool) -> bool:
    row = model._base_manager.select_for_update().filter(pk=pk).first()
    sealed = getattr(row, column, "")
    if row is None or not sealed or is_sealed_with_first_key(sealed):
        return False
    clear = unseal_bytes(sealed)
    if not dry_run:
        setattr(row, column, seal_bytes(clear))
        row.skip_history_when_saving = True  # type: ignore[attr-defined]  # simple_history reads it
        row.save(update_fields=[column])
    return True
