"""Gemini and Cohere providers that were entered with their OpenAI-compatible addresses move on with the version."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

BEFORE, AFTER = "0004_breakers_and_key_choice", "0005_native_gemini_and_cohere"
OLD_GEMINI = "https://generativelanguage.googleapis.com/v1beta/openai"
OLD_COHERE = "https://api.cohere.ai/compatibility/v1"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def migrated() -> Iterator[Callable[[str], Any]]:
    """Migrates providers to a name and returns its models; afterwards everything is as it was."""

    def go(name: str) -> Any:
        executor = MigrationExecutor(connection)
        executor.migrate([("providers", name)])
        return executor.loader.project_state([("providers", name)]).apps

    yield go
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


def test_only_the_vendors_own_former_addresses_give_way_and_the_step_can_be_taken_back(
    migrated: Callable[[str], Any],
) -> None:
    make = migrated(BEFORE).get_model("providers", "Provider").objects.create
    rows = {
        "g1": ("gemini", OLD_GEMINI, ""),
        "g2": ("gemini", f"{OLD_GEMINI}/", ""),
        "g3": ("gemini", "https://proxy.example/v1beta/openai", "https://proxy.example/v1beta/openai"),
        "c1": ("cohere", OLD_COHERE, ""),
        "c2": ("cohere", "https://api.cohere.com/compatibility/v1", ""),
        "o1": ("openai-compatible", OLD_COHERE, OLD_COHERE),
        "o2": ("openai", "", ""),
    }
    for name, (kind, before, _) in rows.items():
        make(name=name, label=name, kind=kind, base_url=before)

    providers = migrated(AFTER).get_model("providers", "Provider").objects

    found = dict(providers.values_list("name", "base_url"))
    assert {name: found[name] for name in rows} == {name: after for name, (_, _, after) in rows.items()}
    migrated(BEFORE)
    assert migrated(AFTER).get_model("providers", "Provider").objects.filter(name__in=rows).count() == len(rows)
