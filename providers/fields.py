"""A text field encrypted at rest with the installation's field keys (Fernet: AES-CBC with HMAC, authenticated).

The column holds `<key id>:<token>`, where the key id is the first 8 hex digits of the SHA-256 of the field key; the
model attribute holds the sealed text too. Clear text exists only where `unseal` is called, never on a model, so it
cannot slip into a form, a history row, an export or a log line.
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models


class SealedTextField(models.TextField[str, str]):
    """Stores what `seal` returned; refuses anything else, so that clear text cannot be saved by mistake."""

    def get_prep_value(self, value: Any) -> Any:
        if value and key_id_of(value) is None:
            raise ValueError(f"{self.name} takes sealed text only: call providers.fields.seal first")
        return super().get_prep_value(value)


def seal(clear: str) -> str:
    """Encrypt with the first field key."""
    return seal_bytes(clear.encode())


def seal_bytes(clear: bytes) -> str:
    """As `seal`, for what is no text."""
    key = settings.FIELD_KEYS[0]
    return f"{_id(key)}:{Fernet(key).encrypt(clear).decode()}"


def unseal(sealed: str) -> str:
    """Decrypt.

    :raises ImproperlyConfigured: when no field key of this installation fits (the text names the way out).
    """
    return unseal_bytes(sealed).decode()


def unseal_bytes(sealed: str) -> bytes:
    """As `unseal`, for what is no text."""
    wanted = key_id_of(sealed)
    key = _keys_by_id(tuple(settings.FIELD_KEYS)).get(wanted or "")
    if key is None:
        raise _missing_key(wanted)
    try:
        return Fernet(key).decrypt(sealed.partition(":")[2].encode())
    except InvalidToken:
        raise ImproperlyConfigured(
            "A provider key's sealed text is damaged. Enter the key again on its page in the admin."
        ) from None


def check_readable(sealed: Iterable[str]) -> None:
    """Look whether every one of these texts could be opened, without opening any.

    :raises ImproperlyConfigured: as `unseal` would.
    """
    known = _keys_by_id(tuple(settings.FIELD_KEYS))
    for text in sealed:
        if key_id_of(text) not in known:
            raise _missing_key(key_id_of(text))


def key_id_of(sealed: str) -> str | None:
    """The id of the field key that sealed this text; None when it is not sealed text."""
    head, colon, token = sealed.partition(":")
    is_id = len(head) == 8 and all(c in "0123456789abcdef" for c in head)
    return head if is_id and colon and token.startswith("gAAAA") else None


def is_sealed_with_first_key(sealed: str) -> bool:
    """Whether `seal` would use the same field key today."""
    return key_id_of(sealed) == _id(settings.FIELD_KEYS[0])


def _missing_key(key_id: str | None) -> ImproperlyConfigured:
    return ImproperlyConfigured(
        f"A provider key was sealed with field key {key_id}, which is not in FIELD_KEYS. "
        "Put the old key back at the end of FIELD_KEYS, then run `manage.py rotate_field_keys`."
    )


@lru_cache(maxsize=4)
def _keys_by_id(keys: tuple[str, ...]) -> dict[str, str]:
    return {_id(key): key for key in keys}


def _id(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:8]
