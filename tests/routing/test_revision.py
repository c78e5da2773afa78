"""An edit of what the gateway compiles counts the revision up, in the edit's own transaction; nothing else does."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Model
from django.utils import timezone

from providers.models import Provider
from routing.models import ConfigRevision
from routing.services import config_revision_bump, default_policy_set
from routing.signals import COMPILED
from tests import factories as make


def revision() -> int:
    row = ConfigRevision.objects.first()
    return row.revision if row else 0


ROWS: dict[str, Callable[[], Any]] = {model.__name__: getattr(make, f"{model.__name__}Factory") for model in COMPILED}


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(ROWS))
def test_saving_and_deleting_count_up(name: str) -> None:
    row: Model = ROWS[name]()
    after_adding = revision()
    row.save()
    assert revision() == after_adding + 1
    row.delete()
    assert revision() > after_adding + 1


@pytest.mark.django_db
def test_the_models_that_a_key_may_use_count_too() -> None:
    key, alias = make.VirtualKeyFactory(), make.ModelAliasFactory()
    for change in (key.allowed_models.add, key.allowed_models.remove):
        before = revision()
        change(alias)
        assert revision() == before + 1


@pytest.mark.django_db
def test_a_health_check_does_not_count() -> None:
    provider = make.ProviderFactory()
    before = revision()
    provider.health, provider.checked_at = "down", timezone.now()
    provider.save(update_fields=["health", "health_note", "checked_at"])
    assert revision() == before
    provider.save(update_fields=["health", "is_active"])
    assert revision() == before + 1


@pytest.mark.django_db
@pytest.mark.parametrize("rows", [make.UsageRecordFactory, make.ProviderCheckFactory])
def test_what_the_gateway_does_not_compile_does_not_count(rows: Any) -> None:
    row = rows()
    before = revision()
    row.save()
    row.delete()
    assert revision() == before


@pytest.mark.django_db
def test_an_edit_that_is_undone_does_not_count() -> None:
    provider = make.ProviderFactory()
    before = revision()

    def fail() -> None:
        with transaction.atomic():
            provider.save()
            assert revision() == before + 1
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert revision() == before


@pytest.mark.django_db(transaction=True)
def test_no_count_is_lost_when_the_row_is_missing_and_many_begin_at_once() -> None:
    ConfigRevision.objects.all().delete()

    def bump() -> None:
        try:
            config_revision_bump()
        finally:
            connection.close()

    threads = [threading.Thread(target=bump) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert revision() == 6


@pytest.mark.django_db
def test_checks_are_deleted_without_being_read_one_by_one(django_assert_max_num_queries: Any) -> None:
    provider: Provider = make.ProviderFactory()
    make.ProviderCheckFactory.create_batch(5, provider=provider)
    with django_assert_max_num_queries(1):
        provider.checks.all().delete()


@pytest.mark.django_db
def test_there_is_one_default_policy_and_it_can_serve() -> None:
    alias = make.ModelAliasFactory()
    old = make.RoutingPolicyFactory(preferred=[alias], is_default=True)
    new = make.RoutingPolicyFactory(preferred=[alias])
    default_policy_set(policy=new)
    old.refresh_from_db()
    assert (old.is_default, new.is_default) == (False, True)
    assert old.history.count() == 2
