"""Rotating the field keys: interrupted in the middle, repeated, and with keys that nothing opens any more."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from providers.fields import check_readable, is_sealed_with_first_key, key_id_of, seal, unseal
from providers.models import ProviderKey
from providers.services import provider_key_add, provider_key_replace, secrets_reseal
from tests.factories import ProviderFactory, ProviderKeyFactory

pytestmark = pytest.mark.django_db
Execute = Callable[[str, Any, bool, dict[str, Any]], Any]


def fresh() -> str:
    return Fernet.generate_key().decode()


@contextmanager
def stopped_at_update(number: int) -> Iterator[None]:
    """The process is told to stop (Ctrl-C) when it writes for the `number`th time."""
    writes = 0

    def watch(execute: Execute, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        nonlocal writes
        writes += sql.startswith("UPDATE")
        if sql.startswith("UPDATE") and writes == number:
            raise KeyboardInterrupt
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        yield


@pytest.fixture
def keys(db: None) -> list[ProviderKey]:
    provider = ProviderFactory()
    return [ProviderKeyFactory(provider=provider, secret=f"sk-number-{n:04d}") for n in range(5)]


def done(keys: list[ProviderKey]) -> list[bool]:
    for key in keys:
        key.refresh_from_db()
    return [is_sealed_with_first_key(key.sealed) for key in keys]


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_rotation_that_was_stopped_leaves_every_key_readable_and_goes_on_where_it_was(
    settings: Settings, keys: list[ProviderKey], number: int
) -> None:
    settings.FIELD_KEYS = [fresh(), *settings.FIELD_KEYS]
    with pytest.raises(KeyboardInterrupt), stopped_at_update(2 * number - 1):  # a seal, then the revision of it
        call_command("rotate_field_keys", stdout=StringIO())
    assert done(keys) == [True] * (number - 1) + [False] * (6 - number)
    assert [unseal(key.sealed) for key in keys] == [f"sk-number-{n:04d}" for n in range(5)]

    out = StringIO()
    call_command("rotate_field_keys", stdout=out)
    assert f"{6 - number} sealed anew, {number - 1} already" in out.getvalue()
    assert done(keys) == [True] * 5
    settings.FIELD_KEYS = settings.FIELD_KEYS[:1]
    assert [unseal(key.sealed) for key in keys] == [f"sk-number-{n:04d}" for n in range(5)]


def test_a_second_rotation_writes_nothing(settings: Settings, keys: list[ProviderKey]) -> None:
    settings.FIELD_KEYS = [fresh(), *settings.FIELD_KEYS]
    secrets_reseal()
    before = list(ProviderKey.objects.values_list("pk", "sealed"))
    report = secrets_reseal()
    assert (report.resealed, report.already) == (0, 5)
    assert list(ProviderKey.objects.values_list("pk", "sealed")) == before


def test_taking_the_old_key_away_too_early_is_told_and_mended(settings: Settings, keys: list[ProviderKey]) -> None:
    old, new = settings.FIELD_KEYS, fresh()
    settings.FIELD_KEYS = [new]
    with pytest.raises(ImproperlyConfigured, match="Put the old key back at the end of FIELD_KEYS"):
        check_readable(key.sealed for key in keys)
    err = StringIO()
    with pytest.raises(CommandError, match="5 secrets could not be opened"):
        call_command("rotate_field_keys", stdout=StringIO(), stderr=err)
    assert err.getvalue().count("Put the old key back") == 5
    settings.FIELD_KEYS = [new, *old]
    assert secrets_reseal().resealed == 5
    check_readable(key.sealed for key in ProviderKey.objects.all())


def test_a_damaged_text_stops_no_other_key(settings: Settings, keys: list[ProviderKey]) -> None:
    broken = f"{keys[2].sealed[:-6]}AAAAAA"
    ProviderKey.objects.filter(pk=keys[2].pk).update(sealed=broken)
    settings.FIELD_KEYS = [fresh(), *settings.FIELD_KEYS]
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError, match="1 secrets"):
        call_command("rotate_field_keys", "--json", stdout=out, stderr=err)
    report = json.loads(out.getvalue())
    assert (report["resealed"], report["already"], len(report["failed"])) == (4, 0, 1)
    assert "Enter the key again" in report["failed"][0]
    assert broken not in out.getvalue()
    assert "sk-number" not in out.getvalue() + err.getvalue()


def test_a_dry_run_finds_what_could_not_be_opened_and_writes_nothing(
    settings: Settings, keys: list[ProviderKey]
) -> None:
    before = list(ProviderKey.objects.values_list("sealed", flat=True))
    settings.FIELD_KEYS = [fresh(), *settings.FIELD_KEYS]
    out = StringIO()
    call_command("rotate_field_keys", "--dry-run", stdout=out)
    assert "5 would be sealed anew" in out.getvalue()
    settings.FIELD_KEYS = [fresh()]
    with pytest.raises(CommandError):
        call_command("rotate_field_keys", "--dry-run", stdout=StringIO(), stderr=StringIO())
    assert list(ProviderKey.objects.values_list("sealed", flat=True)) == before


def test_an_installation_without_keys_rotates_in_peace(db: None) -> None:
    out = StringIO()
    call_command("rotate_field_keys", stdout=out)
    assert "0 sealed anew, 0 already" in out.getvalue()


# --- the field ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clear", ["sk-clear-text", "abcdefgh:not-a-token", "0a1b2c3d", "0A1B2C3D:gAAAAx", " "])
def test_clear_text_cannot_be_saved_by_mistake(keys: list[ProviderKey], clear: str) -> None:
    keys[0].sealed = clear
    with pytest.raises(ValueError, match="takes sealed text only") as caught:
        keys[0].save()
    assert clear.strip() == "" or clear not in str(caught.value)
    with pytest.raises(ValueError, match="takes sealed text only"):
        ProviderKey.objects.filter(pk=keys[0].pk).update(sealed=clear)


@pytest.mark.parametrize("text", ["", "x", ":", "0a1b2c3d:", "0a1b2c3d:token", "0a1b2c3:gAAAAx", "0a1b2c3g:gAAAAx"])
def test_what_is_not_sealed_has_no_key_id(text: str) -> None:
    assert key_id_of(text) is None


@pytest.mark.parametrize("clear", ["sk-1", "", "ünïcode ✓", "x" * 10_000])
def test_sealing_is_different_each_time_and_opens_to_the_same(clear: str) -> None:
    first, second = seal(clear), seal(clear)
    assert first != second
    assert unseal(first) == unseal(second) == clear


# --- services -----------------------------------------------------------------------------------------------------


def test_a_replaced_key_opens_to_the_new_secret_with_its_end_and_time() -> None:
    key = provider_key_add(provider=ProviderFactory(), label="first", secret="  sk-former-secret-0001\n")
    assert (unseal(key.sealed), key.last4, key.rotated_at) == ("sk-former-secret-0001", "0001", None)
    provider_key_replace(key=key, secret="short")
    key.refresh_from_db()
    assert (unseal(key.sealed), key.last4) == ("short", "")
    assert key.rotated_at is not None
