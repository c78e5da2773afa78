"""A provider's name as the model: whose models it stands for, and in which order."""

from dataclasses import replace

import pytest

from routing.domain.decision import UnknownModel, decide
from routing.domain.provider_models import models_of_provider, provider_names
from tests.routing.domain.build import alias, caller, deployment, endpoint, policy, request, snapshot

ALPHA, BETA = endpoint("alpha", id=1, kind="openai"), endpoint("beta", id=2, kind="openai")
CHEAP = replace(deployment(1, "cheap"), endpoint=ALPHA, cost_tier="economy")
DEAR = replace(deployment(2, "dear"), endpoint=ALPHA, cost_tier="premium")
OTHER = replace(deployment(3, "other"), endpoint=BETA, name="beta/other", cost_tier="premium")
ALIASES = (alias("cheap", CHEAP), alias("dear", OTHER, DEAR), alias("mixed", CHEAP, OTHER))


def test_a_name_stands_for_all_models_of_the_provider_the_dearest_first() -> None:
    plan = decide(snapshot(*ALIASES), caller(), request("alpha"))
    assert plan.targets == (DEAR, CHEAP)
    assert plan.how == "the best model of provider “alpha”"


def test_what_the_default_policy_names_comes_first_in_its_order() -> None:
    rules = policy("default", alias("mixed", CHEAP, OTHER))
    assert decide(snapshot(*ALIASES, default=rules), caller(), request("alpha")).targets == (CHEAP, DEAR)


def test_a_kind_stands_for_all_its_providers_unless_one_is_called_so() -> None:
    assert decide(snapshot(*ALIASES), caller(), request("openai")).targets == (DEAR, OTHER, CHEAP)
    named = endpoint("openai", id=3, kind="openai")
    own = replace(deployment(4, "own"), endpoint=named, name="openai/own")
    assert decide(snapshot(*ALIASES, alias("own", own)), caller(), request("openai")).targets == (own,)


def test_an_alias_of_that_name_wins() -> None:
    assert decide(snapshot(*ALIASES, alias("alpha", OTHER)), caller(), request("alpha")).targets == (OTHER,)


def test_a_key_reaches_what_its_aliases_lead_to() -> None:
    narrow = caller(allowed_aliases=frozenset({"cheap"}))
    assert decide(snapshot(*ALIASES), narrow, request("alpha")).targets == (CHEAP,)
    with pytest.raises(UnknownModel, match="may not use"):
        decide(snapshot(*ALIASES), narrow, request("beta"))


def test_providers_are_named_in_order_and_nobody_is_no_provider() -> None:
    config = snapshot(*ALIASES)
    assert provider_names(config) == ["alpha", "beta"]
    assert models_of_provider(config, "nobody") == ()
