"""Provider keys: sealed on the way in, replaced, and sealed again with a newer field key."""

import json
from io import StringIO

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from pytest_django import Settings

from providers.fields import is_sealed_with_first_key, seal, unseal
from providers.models import ProviderKey
from providers.services import active_set, provider_key_add, provider_key_replace, secrets_reseal
from tests.factories import ProviderFactory, ProviderKeyFactory

pytestmark = pytest.mark.django_db
SECRET = "sk-live-0123456789abcdef"


def test_a_key_is_stored_sealed_with_only_its_end_to_be_seen() -> None:
    key = provider_key_add(provider=ProviderFactory(), label="production", secret=f" {SECRET} \n")
    stored = ProviderKey.objects.get(pk=key.pk)
    assert SECRET not in stored.sealed
    assert unseal(stored.sealed) == SECRET
    assert str(stored) == "production (…cdef)"


def test_a_short_key_shows_nothing_of_itself() -> None:
    key = provider_key_add(provider=ProviderFactory(), label="lab", secret="changeme")
    assert key.last4 == ""


@pytest.mark.parametrize("secret", ["", "   ", "two words", "sk-\r\nHost: evil", "schlüssel-0123456789", "sk\x00"])
def test_a_secret_that_cannot_be_sent_is_refused(secret: str) -> None:
    with pytest.raises(ValidationError):
        provider_key_add(provider=ProviderFactory(), label="production", secret=secret)
    assert not ProviderKey.objects.exists()


def test_a_label_is_used_once_at_a_provider() -> None:
    key = ProviderKeyFactory(label="production")
    with pytest.raises(ValidationError):
        provider_key_add(provider=key.provider, label="production", secret=SECRET)


def test_the_history_of_a_key_holds_no_secret() -> None:
    key = ProviderKeyFactory(secret=SECRET)
    provider_key_replace(key=key, secret="sk-live-another-one-1111")
    assert key.history.count() == 2
    for row in key.history.values():
        assert "sealed" not in row
        assert SECRET not in str(row)


def test_switching_twice_is_switching_once() -> None:
    key = ProviderKeyFactory()
    assert active_set(row=key, is_active=False)
    assert not active_set(row=key, is_active=False)
    assert active_set(row=key, is_active=True)


def test_keys_are_sealed_again_with_the_first_field_key_and_only_once(
    settings: Settings,
) -> None:
    ProviderKeyFactory.create_batch(2, secret=SECRET)
    settings.FIELD_KEYS = [Fernet.generate_key().decode(), *settings.FIELD_KEYS]
    fresh = ProviderKeyFactory(sealed=seal("sk-fresh-0123456789"))
    before = ProviderKey.history.count()

    assert secrets_reseal(dry_run=True).resealed == 2
    report = secrets_reseal()
    assert (report.resealed, report.already, report.failed) == (2, 1, ())
    assert secrets_reseal().resealed == 0

    settings.FIELD_KEYS = settings.FIELD_KEYS[:1]
    assert [unseal(key.sealed) for key in ProviderKey.objects.order_by("pk")] == [SECRET, SECRET, "sk-fresh-0123456789"]
    assert ProviderKey.history.count() == before
    fresh.refresh_from_db()
    assert is_sealed_with_first_key(fresh.sealed)


def test_the_command_goes_on_past_a_key_that_nothing_opens_and_fails_in_the_end(settings: Settings) -> None:
    good, lost = ProviderKeyFactory(secret=SECRET), ProviderKeyFactory(label="lost")
    stranger = Fernet.generate_key().decode()
    old = settings.FIELD_KEYS
    settings.FIELD_KEYS = [stranger]
    ProviderKey.objects.filter(pk=lost.pk).update(sealed=seal("sk-sealed-elsewhere"))
    settings.FIELD_KEYS = [Fernet.generate_key().decode(), *old]
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError, match="1 secrets could not be opened"):
        call_command("rotate_field_keys", stdout=out, stderr=err)
    assert "1 sealed anew" in out.getvalue()
    assert "lost" in err.getvalue()
    assert SECRET not in out.getvalue() + err.getvalue()
    good.refresh_from_db()
    assert is_sealed_with_first_key(good.sealed)


def test_the_command_speaks_json_and_changes_nothing_on_a_dry_run(settings: Settings) -> None:
    key = ProviderKeyFactory(secret=SECRET)
    settings.FIELD_KEYS = [Fernet.generate_key().decode(), *settings.FIELD_KEYS]
    out = StringIO()
    call_command("rotate_field_keys", "--dry-run", "--json", stdout=out)
    assert json.loads(out.getvalue()) == {"resealed": 1, "already": 0, "failed": [], "dry_run": True}
    key.refresh_from_db()
    assert not is_sealed_with_first_key(key.sealed)
