from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from providers.admin.pages import change_url, list_url
from routing.admin.words import policy_in_words
from routing.models import AliasTarget, ModelAlias, PolicyCandidate, RoutingPolicy
from routing.services import default_policy_set
from tests.admin_pages import errors_of, page_of, submit
from tests.factories import DeploymentFactory, ModelAliasFactory, PersonaFactory, RoutingPolicyFactory

pytestmark = pytest.mark.django_db
ADD = "/admin/routing/routingpolicy/add/"
NAME = "policy"


def candidate_rows(*aliases: ModelAlias, group: str = "preferred") -> dict[str, Any]:
    """What the form sends for a new policy's models, each row without a position of its own."""
    data: dict[str, Any] = {"candidates__TOTAL_FORMS": str(len(aliases)), "candidates__INITIAL_FORMS": "0"}
    for number, alias in enumerate(aliases):
        data |= {f"candidates__{number}__alias": alias.pk, f"candidates__{number}__group": group}
        data[f"candidates__{number}__position"] = "0"
    return data


def tried(policy: RoutingPolicy) -> list[str]:
    return [row.alias.name for row in policy.candidates.select_related("alias")]


def test_a_policy_is_added_with_its_models_in_the_order_of_the_page(admin_client: Client) -> None:
    first, second, third = (ModelAliasFactory(name=name) for name in ("zulu", "alpha", "mike"))
    answer = submit(admin_client, ADD, name="everyday", is_active="on", **candidate_rows(first, second, third))
    assert answer.status_code == 302, errors_of(answer)
    assert tried(RoutingPolicy.objects.get()) == ["zulu", "alpha", "mike"]


def test_rows_are_dragged_and_a_new_one_goes_to_the_end(admin_client: Client) -> None:
    a, b, c = (ModelAliasFactory(name=name) for name in "abc")
    policy = RoutingPolicyFactory(preferred=[a, b])
    swapped = {"candidates__0__position": "1", "candidates__1__position": "0"}
    new = {"candidates__2__alias": c.pk, "candidates__2__group": "preferred", "candidates__2__position": "0"}
    answer = submit(admin_client, change_url(policy), **swapped, **new, candidates__TOTAL_FORMS="3")
    assert answer.status_code == 302, errors_of(answer)
    assert tried(policy) == ["b", "a", "c"]
    assert [row.position for row in policy.candidates.all()] == [0, 1, 2]


def test_preferred_models_come_before_fallbacks_each_counted_on_its_own(admin_client: Client) -> None:
    a, b = ModelAliasFactory(name="a"), ModelAliasFactory(name="b")
    policy = RoutingPolicyFactory(preferred=[a, b])
    submit(admin_client, change_url(policy), candidates__0__group="fallback")
    assert tried(policy) == ["b", "a"]
    assert [(row.group, row.position) for row in policy.candidates.all()] == [("preferred", 0), ("fallback", 0)]


def test_a_model_stands_in_a_policy_once(admin_client: Client) -> None:
    alias = ModelAliasFactory()
    answer = submit(admin_client, ADD, name=NAME, is_active="on", **candidate_rows(alias, alias))
    assert "A model stands here twice" in errors_of(answer)
    assert not PolicyCandidate.objects.exists()


def test_a_policy_without_models_does_not_become_the_default(admin_client: Client) -> None:
    answer = submit(admin_client, ADD, name=NAME, is_active="on", is_default="on", **candidate_rows())
    assert "needs at least one model" in errors_of(answer)
    with pytest.raises(ValidationError, match="without models"):
        default_policy_set(policy=RoutingPolicyFactory())
    assert not RoutingPolicy.objects.filter(is_default=True).exists()


def test_a_new_default_whose_models_nobody_serves_is_refused(admin_client: Client) -> None:
    rows = candidate_rows(ModelAliasFactory(name="idle"))
    answer = submit(admin_client, ADD, name="fresh", is_active="on", is_default="on", **rows)
    assert "None of its models has an active deployment (idle)" in errors_of(answer)


def test_making_one_policy_the_default_unmakes_the_other(admin_client: Client) -> None:
    old = RoutingPolicyFactory(preferred=[ModelAliasFactory()], is_default=True)
    new = RoutingPolicyFactory(preferred=[ModelAliasFactory()])
    answer = submit(admin_client, change_url(new), is_default="on")
    assert answer.status_code == 302, errors_of(answer)
    assert RoutingPolicy.objects.get(is_default=True) == new
    old.refresh_from_db()
    assert not old.is_default


def test_a_new_policy_may_be_the_default_at_once(admin_client: Client) -> None:
    RoutingPolicyFactory(preferred=[ModelAliasFactory()], is_default=True)
    rows = candidate_rows(ModelAliasFactory(deployments=[DeploymentFactory()]))
    answer = submit(admin_client, ADD, name="fresh", is_active="on", is_default="on", **rows)
    assert answer.status_code == 302, errors_of(answer)
    assert RoutingPolicy.objects.get(is_default=True).name == "fresh"


def test_the_default_is_neither_switched_off_nor_emptied_nor_deleted(admin_client: Client) -> None:
    policy = RoutingPolicyFactory(preferred=[ModelAliasFactory()], is_default=True)
    data = {"candidates__0__DELETE": "on"}
    assert "needs at least one model" in errors_of(submit(admin_client, change_url(policy), **data))
    assert "stays on" in errors_of(submit(admin_client, change_url(policy), is_active=""))
    chosen = {"action": "switch_off", "_selected_action": [policy.pk]}
    assert "stays on" in admin_client.post(list_url(RoutingPolicy), chosen, follow=True).content.decode()
    deleted = admin_client.post(page_of(policy, "delete"), {"post": "yes"}, follow=True).content.decode()
    assert "requests for “auto” depend on it" in deleted
    policy.refresh_from_db()
    assert (policy.is_default, policy.is_active, policy.candidates.count()) == (True, True, 1)


def test_the_default_stops_being_it_only_through_another(admin_client: Client) -> None:
    policy = RoutingPolicyFactory(preferred=[ModelAliasFactory()], is_default=True)
    submit(admin_client, change_url(policy), description="still the default", is_default="")
    policy.refresh_from_db()
    assert (policy.is_default, policy.description) == (True, "still the default")


def test_a_switched_off_policy_does_not_become_the_default() -> None:
    policy = RoutingPolicyFactory(preferred=[ModelAliasFactory()], is_active=False)
    with pytest.raises(ValidationError, match="switched off"):
        default_policy_set(policy=policy)


def test_a_policy_says_its_rule_in_words(admin_client: Client) -> None:
    cheap, dear = ModelAliasFactory(name="cheap"), ModelAliasFactory(name="dear")
    policy = RoutingPolicyFactory(
        preferred=[cheap],
        fallbacks=[dear],
        is_default=True,
        task_type="CODING",
        max_cost_per_request=Decimal("0.002000"),
        max_latency_ms=4000,
        required_capabilities=["tool_calling", "json_schema"],
    )
    PersonaFactory(slug="chatbot", policy=policy)
    said = policy_in_words(policy, list(policy.candidates.all()), list(policy.personas.all()))
    assert said == [
        "Serves every request for “auto” that names no persona and the persona chatbot. It is made for coding.",
        "Tries cheap. When these fail: dear.",
        "Skips a model that would cost more than $0.002 or has no known price, or is expected to take longer than "
        "4,000 ms, or lacks tool calling, JSON schema.",
    ]
    assert said[1] in admin_client.get(change_url(policy)).content.decode()


@pytest.mark.parametrize(("is_active", "said"), [(True, "Nothing uses it yet"), (False, "Switched off")])
def test_a_policy_that_serves_nothing_says_so(is_active: bool, said: str) -> None:
    policy = RoutingPolicyFactory(is_active=is_active)
    words = policy_in_words(policy, [], [])
    assert words[0].startswith(said)
    assert words[1] == "It has no models, so it can serve nothing: add one below."


def test_an_unknown_capability_is_refused(admin_client: Client) -> None:
    answer = submit(admin_client, change_url(RoutingPolicyFactory()), required_capabilities=["telepathy"])
    assert "telepathy" in errors_of(answer)


def test_a_personas_page_shows_the_models_of_its_policy(admin_client: Client) -> None:
    policy = RoutingPolicyFactory(
        preferred=[ModelAliasFactory(name="first")], fallbacks=[ModelAliasFactory(name="second")]
    )
    page = admin_client.get(change_url(PersonaFactory(policy=policy))).content.decode()
    assert page.index(">first</a>") < page.index(">second</a> (fallback)")


def test_an_alias_keeps_the_order_of_its_deployments(admin_client: Client) -> None:
    a, b = DeploymentFactory(), DeploymentFactory()
    alias = ModelAliasFactory(deployments=[a])
    new = {"targets__TOTAL_FORMS": "2", "targets__1__deployment": b.pk, "targets__1__position": "0"}
    answer = submit(admin_client, change_url(alias), **new)
    assert answer.status_code == 302, errors_of(answer)
    assert list(AliasTarget.objects.values_list("deployment", "position")) == [(a.pk, 0), (b.pk, 1)]


def test_auto_is_no_alias(admin_client: Client) -> None:
    answer = submit(admin_client, change_url(ModelAliasFactory()), name="auto")
    assert "let the policy decide" in errors_of(answer)
