"""What every installation begins with, whether or not it has the demo."""

import pytest

from routerplatform.starter import STARTER_PERSONAS, STARTER_POLICIES, starter_ensure
from routing.models import Persona, RoutingPolicy
from tests.factories import PersonaFactory, RoutingPolicyFactory

pytestmark = pytest.mark.django_db


def test_a_new_installation_gets_the_four_personas_and_their_policies() -> None:
    assert starter_ensure()
    assert set(Persona.objects.values_list("slug", flat=True)) == {
        "code_assistant",
        "chatbot",
        "analyst",
        "creative_writer",
    }
    assert RoutingPolicy.objects.get(is_default=True).name == "default"
    for persona in Persona.objects.select_related("policy"):
        assert persona.system_prompt
        assert (persona.temperature, persona.max_tokens) == (0.7, 4096)
        assert persona.policy.is_active


def test_a_second_start_changes_nothing_and_brings_nothing_back() -> None:
    starter_ensure()
    Persona.objects.get(slug="analyst").delete()
    RoutingPolicy.objects.filter(name="creative").update(description="ours now")
    assert not starter_ensure()
    assert Persona.objects.count() == len(STARTER_PERSONAS) - 1
    assert RoutingPolicy.objects.get(name="creative").description == "ours now"


def test_what_an_operator_made_before_keeps_its_name_and_its_place() -> None:
    default = RoutingPolicyFactory(name="house", is_default=True)
    PersonaFactory(slug="analyst", name="Our analyst", policy=default)
    starter_ensure()
    assert RoutingPolicy.objects.get(is_default=True) == default
    assert Persona.objects.get(slug="analyst").name == "Our analyst"


def test_every_persona_follows_a_policy_that_exists() -> None:
    assert {persona.policy for persona in STARTER_PERSONAS} <= {policy.name for policy in STARTER_POLICIES}
