"""Read what settings alone cannot check: the secrets, and choices; or stop with the one thing that mends it."""

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

FIX = "Run `script/setup`: it writes fresh ones into .env (existing lines are kept)."


def read_secrets(env: environ.Env) -> tuple[str, str, list[str]]:
    """Return (SECRET_KEY, KEY_PEPPER, FIELD_KEYS); the first field key encrypts, all of them decrypt."""
    secret_key = env.str("SECRET_KEY", default="")
    pepper = env.str("KEY_PEPPER", default="")
    field_keys = [key for key in env.list("FIELD_KEYS", default=[]) if key]
    for name, value in (("SECRET_KEY", secret_key), ("KEY_PEPPER", pepper)):
        if len(value) < 32:
            raise ImproperlyConfigured(f"{name} is unset or shorter than 32 characters. {FIX}")
    if not field_keys:
        raise ImproperlyConfigured(f"FIELD_KEYS is unset: provider keys could not be encrypted. {FIX}")
    for position, key in enumerate(field_keys, start=1):
        try:
            Fernet(key)
        except ValueError:
            raise ImproperlyConfigured(
                f"FIELD_KEYS: key {position} of {len(field_keys)} is not a Fernet key. Put the right one back; "
                "if no provider key was ever stored, delete the line from .env and run `script/setup`."
            ) from None
    return secret_key, pepper, field_keys


def read_choice(env: environ.Env, name: str, choices: tuple[str, ...]) -> str:
    """One of `choices`; the first is the default."""
    value = env.str(name, default=choices[0])
    if value not in choices:
        raise ImproperlyConfigured(f"{name} is “{value}”, but must be one of: {', '.join(choices)}.")
    return str(value)
