"""Read what settings alone cannot check: the secrets, and choices; or stop with the one thing that mends it."""

from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

PORTS = range(65536)  # 0: any that is free
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


def open_environment() -> environ.Env:
    """The environment; what should be a figure and is none is refused by its name, and not repeated: it may be a secret
    that went astray."""

    class Named(environ.Env):  # type: ignore[misc]  # the library ships no types
        def get_value(self, var: str, *arguments: Any, **options: Any) -> Any:
            try:
                return super().get_value(var, *arguments, **options)
            except ValueError:
                said = "is no number" if self.ENVIRON.get(var, "").strip() else "is empty"
                raise ImproperlyConfigured(
                    f"{var} {said}. Give it a number, or take its line out to have its default (docs/settings.md)."
                ) from None

    return Named()


def read_port(env: environ.Env, name: str, default: int) -> int:
    value: int = env.int(name, default=default)
    if value not in PORTS:
        raise ImproperlyConfigured(f"{name} is {value}, but a port is a number from 0 to 65535.")
    return value


def read_addresses(env: environ.Env, name: str, kinds: Collection[str]) -> dict[str, str]:
    """Base URLs by kind of provider, from a list of `kind=URL`."""
    found = {}
    for item in env.list(name, default=[]):
        kind, _, url = (part.strip() for part in str(item).partition("="))
        parts = urlsplit(url)
        if kind not in kinds:
            raise ImproperlyConfigured(f"{name} names “{kind}”, which is none of: {', '.join(kinds)}.")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
            raise ImproperlyConfigured(f"{name}: for {kind}, write an address such as https://proxy.example.com/v1.")
        found[kind] = url.rstrip("/")
    return found


def read_choice(env: environ.Env, name: str, choices: tuple[str, ...]) -> str:
    """One of `choices`; the first is the default."""
    value = env.str(name, default=choices[0])
    if value not in choices:
        raise ImproperlyConfigured(f"{name} is “{value}”, but must be one of: {', '.join(choices)}.")
    return str(value)
