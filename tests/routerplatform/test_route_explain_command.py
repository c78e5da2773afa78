"""`manage.py route_explain`: where a request would go, told in a terminal."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from analytics.models import UsageRecord
from routing.models import ModelAlias
from tests import gateway as configure
from tests.factories import PersonaFactory, VirtualKeyFactory, key_text_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def installation() -> None:
    [swift] = configure.vendor("alpha", "http://127.0.0.1:9/v1", "swift-1")
    [sage] = configure.vendor("beta", "http://127.0.0.1:9/v1", "sage-1", kind="anthropic-compatible", priced=False)
    swift_alias, sage_alias = configure.alias("swift", swift), configure.alias("sage", sage)
    configure.policy("default", preferred=[swift_alias], fallbacks=[sage_alias], is_default=True)
    careful = configure.policy("careful", preferred=[sage_alias])
    PersonaFactory(slug="sceptic", policy=careful)


def told(*arguments: Any, **options: Any) -> str:
    out = StringIO()
    call_command("route_explain", *arguments, stdout=out, **options)
    return out.getvalue()


def test_the_candidates_are_a_table_in_the_order_of_asking() -> None:
    text = told("What does it cost?")
    assert text.startswith("alpha/swift-1: “auto” follows the default policy “default”")
    heading, first, second = text.splitlines()[-3:]
    assert "Est. cost" in heading
    assert (first.split()[:2], second.split()[:2]) == (["1", "alpha/swift-1"], ["2", "beta/sage-1"])
    assert "unpriced" in second
    assert heading.index("Est. cost") + len("Est. cost") == first.index("$") + len(first.split()[-1])


def test_a_persona_a_policy_and_a_model_lead_where_they_lead() -> None:
    assert told("x", persona="sceptic").startswith("beta/sage-1")
    assert told("x", policy="careful").startswith("beta/sage-1: the test follows policy “careful”")
    assert told("x", model="swift").startswith("alpha/swift-1: model alias “swift”")


def test_json_is_what_the_api_answers() -> None:
    found = json.loads(told("x", "--json", "--max-tokens", "9", "--request-id", "r"))
    assert (found["object"], found["chosen"], found["request_id"]) == ("route.explanation", "alpha/swift-1", "r")
    assert found["candidates"][0]["estimated_cost_nano"] > 0


def test_a_key_sees_only_its_own_models() -> None:
    key = VirtualKeyFactory(text=key_text_of(3))
    key.allowed_models.set([ModelAlias.objects.get(name="sage")])
    assert told("x", key=key.prefix).startswith("beta/sage-1")


def test_what_nothing_can_serve_is_told_with_the_reason() -> None:
    assert told("x", model="nothing").startswith("Nothing would serve it. The model “nothing” does not exist.")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"policy": "none such"}, "No active policy “none such”. Policies: careful, default."),
        ({"key": "zzz"}, "No key begins with “zzz”."),
        ({"max_tokens": 0}, "“max_tokens” must be at least 1"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_in_words(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint.replace(".", r"\.")):
        told("x", **options)


def test_nothing_is_on_record() -> None:
    told("x")
    assert not UsageRecord.objects.exists()
