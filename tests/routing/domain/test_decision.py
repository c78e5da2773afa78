"""Which deployments serve a request, in which order, and what is said about the others."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.types import NO_DEFAULTS, Capability, Price
from routing.domain.decision import NoRoute, UnknownModel, chats, decide, visible_models
from routing.domain.explanation import explanation
from tests.routing.domain.build import EVERYTHING, alias, caller, deployment, persona, policy, request, snapshot

SWIFT, DEEP, SAGE = deployment(1, "swift"), deployment(2, "deep"), deployment(3, "sage")


def test_auto_follows_the_default_policy_in_its_order() -> None:
    rules = policy("default", alias("swift", SWIFT), fallbacks=(alias("sage", SAGE), alias("deep", DEEP)))
    plan = decide(snapshot(default=rules), caller(), request("auto"))
    assert plan.targets == (SWIFT, SAGE, DEEP)
    assert [c.verdict for c in plan.considered] == ["chosen", "fallback", "fallback"]
    assert (plan.policy, plan.persona, plan.defaults) == ("default", "", NO_DEFAULTS)
    assert "default policy" in plan.how


def test_no_model_at_all_means_auto() -> None:
    rules = policy("default", alias("swift", SWIFT))
    assert decide(snapshot(default=rules), caller(), request("")).targets == (SWIFT,)


def test_auto_without_a_default_policy_says_what_to_do() -> None:
    with pytest.raises(NoRoute, match="Mark a routing policy as default"):
        decide(snapshot(), caller(), request("auto"))


def test_an_alias_tries_its_deployments_in_order() -> None:
    plan = decide(snapshot(alias("smart", DEEP, SAGE)), caller(), request("smart"))
    assert plan.targets == (DEEP, SAGE)
    assert "alias" in plan.how


def test_provider_and_model_pin_one_deployment() -> None:
    plan = decide(snapshot(alias("smart", DEEP, SAGE)), caller(), request("alpha/sage"))
    assert plan.targets == (SAGE,)
    assert "pinned" in plan.how


@pytest.mark.parametrize(
    ("model", "named"), [("auto", "analyst"), ("analyst", ""), ("analyst", "analyst"), ("", "analyst")]
)
def test_a_persona_can_be_named_beside_the_model_or_as_the_model(model: str, named: str) -> None:
    rules = policy("analysis", alias("deep", DEEP))
    config = snapshot(personas=(persona("analyst", rules),))
    plan = decide(config, caller(), request(model, persona=named))
    assert (plan.targets, plan.persona, plan.policy) == ((DEEP,), "analyst", "analysis")
    assert plan.defaults.system_prompt == "Be kind."


def test_a_model_beside_a_persona_picks_the_model_and_keeps_the_prompt() -> None:
    rules = policy("analysis", alias("deep", DEEP))
    config = snapshot(alias("swift", SWIFT), personas=(persona("analyst", rules),))
    plan = decide(config, caller(), request("swift", persona="analyst"))
    assert plan.targets == (SWIFT,)
    assert (plan.persona, plan.policy) == ("analyst", "")
    assert plan.defaults.system_prompt == "Be kind."


@pytest.mark.parametrize(("model", "named"), [("gpt-99", ""), ("auto", "nobody"), ("alpha/none", "")])
def test_a_name_that_means_nothing_is_unknown(model: str, named: str) -> None:
    rules = policy("default", alias("swift", SWIFT))
    with pytest.raises(UnknownModel, match="does not exist"):
        decide(snapshot(default=rules), caller(), request(model, persona=named))


# --- what a key may use -------------------------------------------------------------------------------------------


def test_a_key_with_a_list_gets_only_the_aliases_on_it() -> None:
    rules = policy("default", alias("swift", SWIFT), alias("deep", DEEP))
    plan = decide(snapshot(default=rules), caller(allowed_aliases=frozenset({"deep"})), request("auto"))
    assert plan.targets == (DEEP,)


@pytest.mark.parametrize("model", ["swift", "alpha/swift", "auto"])
def test_a_key_cannot_reach_around_its_list(model: str) -> None:
    swift = alias("swift", SWIFT)
    config = snapshot(swift, default=policy("default", swift))
    with pytest.raises(UnknownModel, match="may not use"):
        decide(config, caller(allowed_aliases=frozenset({"deep"})), request(model))


def test_the_list_of_models_leaves_out_what_a_key_may_not_use_and_what_has_no_deployment() -> None:
    config = snapshot(alias("swift", SWIFT), alias("deep", DEEP), alias("empty"))
    assert [a.name for a in visible_models(config, caller())] == ["deep", "swift"]
    only_deep = caller(allowed_aliases=frozenset({"deep"}))
    assert [a.name for a in visible_models(config, only_deep)] == ["deep"]


def test_a_model_for_embeddings_is_not_one_to_chat_with() -> None:
    embedder = deployment(3, "embed", capabilities=frozenset({Capability.EMBEDDINGS}))
    assert not chats(alias("vectors", embedder))
    assert chats(alias("both", embedder, SAGE))


# --- what a deployment must have ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "asked", "reason"),
    [
        (
            {"capabilities": EVERYTHING - {Capability.VISION}},
            {"needs": frozenset({Capability.VISION})},
            "cannot do vision",
        ),
        ({"context_window": 99}, {}, "over its context of 99"),
        ({"capabilities": EVERYTHING | {Capability.EMBEDDINGS}}, {}, "it makes embeddings and does not chat"),
        ({}, {"only_at": "alpha/sage"}, "is kept at alpha/sage"),
    ],
)
def test_a_deployment_that_cannot_serve_is_skipped_with_a_reason(
    options: dict[str, Any], asked: dict[str, Any], reason: str
) -> None:
    weak = deployment(1, "weak", **options)
    plan = decide(snapshot(alias("two", weak, SAGE)), caller(), request("two", **asked))
    assert plan.targets == (SAGE,)
    assert plan.considered[0].verdict == "chosen"
    assert plan.considered[1].verdict == "skipped"
    assert reason in plan.considered[1].reason


def test_a_context_that_is_not_known_excludes_nothing() -> None:
    assert decide(snapshot(alias("x", deployment(1, context_window=None))), caller(), request("x")).targets


def test_a_cost_ceiling_skips_what_is_dearer_and_what_has_no_price() -> None:
    dear = deployment(1, "dear", price=Price(id=2, input=10**12, output=10**12))
    unpriced = deployment(2, "unpriced", price=None)
    rules = policy("default", alias("a", dear), alias("b", unpriced), alias("c", SAGE), max_cost_nano=5_000_000)
    plan = decide(snapshot(default=rules), caller(), request("auto"))
    assert plan.targets == (SAGE,)
    assert [c.reason.split(" ")[0] for c in plan.considered] == ["", "estimated", "its"]
    assert plan.considered[0].estimated_cost_nano == 100 * 1_000 + 1_000 * 2_000  # 100 in, its longest answer out


def test_a_latency_ceiling_skips_what_is_slower_and_keeps_what_is_not_known() -> None:
    slow = deployment(1, "slow", expected_latency_ms=9_000)
    rules = policy("default", alias("a", slow), alias("b", SAGE), max_latency_ms=8_000)
    plan = decide(snapshot(default=rules), caller(), request("auto"))
    assert plan.targets == (SAGE,)
    assert "over the policy's ceiling of 8000 ms" in plan.considered[1].reason


@pytest.mark.parametrize("where", ["policy", "persona"])
def test_what_a_policy_or_persona_requires_is_asked_of_every_model(where: str) -> None:
    plain = deployment(1, "plain", capabilities=frozenset())
    required = frozenset({Capability.JSON_MODE})
    rules = policy("p", alias("a", plain), alias("b", SAGE), required=required if where == "policy" else frozenset())
    who = persona("analyst", rules, required=required if where == "persona" else frozenset())
    plan = decide(snapshot(personas=(who,)), caller(), request("analyst"))
    assert plan.targets == (SAGE,)


def test_when_nothing_fits_every_reason_is_told() -> None:
    plain = deployment(1, "plain", capabilities=frozenset())
    small = deployment(2, "small", context_window=10)
    needs = frozenset({Capability.VISION})
    with pytest.raises(NoRoute) as caught:
        decide(snapshot(alias("x", plain, small)), caller(), request("x", needs=needs))
    assert "alpha/plain: cannot do vision" in str(caught.value)
    assert "alpha/small" in str(caught.value)
    assert len(caught.value.considered) == 2


def test_a_policy_without_any_model_says_so() -> None:
    with pytest.raises(NoRoute, match="no active model behind it"):
        decide(snapshot(default=policy("default")), caller(), request("auto"))


def test_a_deployment_behind_two_aliases_is_tried_once_at_its_first_place() -> None:
    rules = policy("default", alias("a", SWIFT, SAGE), alias("b", SAGE, DEEP))
    assert decide(snapshot(default=rules), caller(), request("auto")).targets == (SWIFT, SAGE, DEEP)


def test_the_callers_limit_decides_the_estimate_up_to_what_the_model_can_write() -> None:
    config = snapshot(alias("x", SAGE))
    costs = [
        decide(config, caller(), request("x", max_tokens=limit)).considered[0].estimated_cost_nano
        for limit in (10, 1_000, 50_000)
    ]
    assert costs == [100 * 1_000 + 10 * 2_000, 2_100_000, 2_100_000]


def test_many_choices_in_one_request_do_not_get_under_a_policys_ceiling() -> None:
    rules = policy("default", alias("x", SAGE), max_cost_nano=2_100_000)
    assert decide(snapshot(default=rules), caller(), request("auto")).targets == (SAGE,)
    with pytest.raises(NoRoute, match=r"estimated \$0\.004100 is over the policy's ceiling"):
        decide(snapshot(default=rules), caller(), request("auto", choices=2))


def test_of_two_ceilings_the_lower_one_holds_and_is_named() -> None:
    rules = policy("default", alias("x", SAGE), max_cost_nano=2_100_000)
    for own, whose in ((2_099_999, "request"), (2_100_000, ""), (9_000_000_000, ""), (0, "request")):
        asked = replace(request("auto"), max_cost_nano=own)
        if whose:
            with pytest.raises(NoRoute, match=rf"is over the {whose}'s ceiling of"):
                decide(snapshot(default=rules), caller(), asked)
        else:
            assert decide(snapshot(default=rules), caller(), asked).targets == (SAGE,)
    by_name = replace(request("x"), max_cost_nano=1)
    with pytest.raises(NoRoute, match="over the request's ceiling"):
        decide(snapshot(alias("x", SAGE)), caller(), by_name)
    unpriced = replace(SAGE, price=None)
    with pytest.raises(NoRoute, match="its price is unknown and the request sets a cost ceiling"):
        decide(snapshot(alias("x", unpriced)), caller(), by_name)


def test_an_explanation_is_plain_json_with_every_candidate() -> None:
    rules = policy("default", alias("swift", SWIFT), fallbacks=(alias("sage", SAGE),))
    plan = decide(snapshot(default=rules), caller(), request("auto"))
    told = explanation(plan)
    assert [c["deployment"] for c in told["candidates"]] == ["alpha/swift", "alpha/sage"]
    assert (told["requested"], told["policy"], told["strategy"]) == ("auto", "default", "priority")


# --- properties ---------------------------------------------------------------------------------------------------


@given(
    abilities=st.lists(st.frozensets(st.sampled_from(sorted(EVERYTHING))), min_size=1, max_size=6),
    windows=st.lists(st.one_of(st.none(), st.integers(1, 300)), min_size=6, max_size=6),
    needs=st.frozensets(st.sampled_from(sorted(Capability)), max_size=3),
    ceiling=st.one_of(st.none(), st.integers(0, 3_000_000)),
)
def test_a_target_always_fits_and_the_order_is_always_the_policys(
    abilities: list[frozenset[Capability]], windows: list[int | None], needs: frozenset[Capability], ceiling: int | None
) -> None:
    deployments = [deployment(i, capabilities=has, context_window=windows[i]) for i, has in enumerate(abilities)]
    rules = policy("default", *(alias(f"a{d.id}", d) for d in deployments), max_cost_nano=ceiling)
    config = snapshot(default=rules)
    fits = [
        d
        for d in deployments
        if needs <= d.capabilities
        and (d.context_window is None or d.context_window >= 100)
        and (ceiling is None or 2_100_000 <= ceiling)
    ]
    if not fits:
        with pytest.raises(NoRoute) as refused:
            decide(config, caller(), request("auto", needs=needs))
        assert [bool(c.reason) for c in refused.value.considered] == [True] * len(deployments)
        return
    plan = decide(config, caller(), request("auto", needs=needs))
    assert plan.targets == tuple(fits)
    assert len(plan.considered) == len(deployments)
    assert decide(config, caller(), request("auto", needs=needs)) == plan
