"""The snapshot as it comes out of real rows: what each table adds to it, in which order, and with how many queries."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from providers.domain.types import RateLimit
from routing.domain.compile import ConfigError, compile_snapshot
from routing.domain.config import Candidate, ClassifierSpec, ConfigSnapshot, Ladder, TaskType
from routing.models import (
    DraftState,
    ExperimentKind,
    ExperimentState,
    ExperimentUnit,
    PolicyDraft,
    RoutingPolicy,
    RoutingRule,
)
from routing.selectors import artefact_data, config_revision, config_rows, policy_document
from routing.services import config_revision_bump
from tests.factories import (
    ClassifierPlugInFactory,
    DeploymentFactory,
    DraftCandidateFactory,
    ExperimentFactory,
    ModelAliasFactory,
    PersonaFactory,
    PolicyCandidateFactory,
    PolicyDraftFactory,
    ProviderFactory,
    ProviderKeyFactory,
    RouterArtefactFactory,
    RoutingPolicyFactory,
    RoutingRuleFactory,
    TeamFactory,
    VirtualKeyFactory,
)

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def compiled() -> ConfigSnapshot:
    return compile_snapshot(config_rows(now=NOW), now=NOW)


def served(name: str, **provider: Any) -> Any:
    """An alias with a deployment behind it."""
    vendor = ProviderKeyFactory(provider=ProviderFactory(**provider)).provider
    return ModelAliasFactory(name=name, deployments=[DeploymentFactory(provider=vendor)])


def drafted(policy: RoutingPolicy, *aliases: Any, **fields: Any) -> PolicyDraft:
    draft: PolicyDraft = PolicyDraftFactory(policy=policy, **fields)
    for position, alias in enumerate(aliases):
        DraftCandidateFactory(draft=draft, alias=alias, position=position)
    return draft


def names(candidates: tuple[Candidate, ...]) -> list[str]:
    return [one.alias.name for one in candidates]


# --- policies -----------------------------------------------------------------------------------------------------


def test_a_policys_columns_are_what_decisions_read() -> None:
    RoutingPolicyFactory(
        name="house", task_type="ANALYSIS", strategy="balanced", quality_floor=0.5, within_of_best=0.25,
        cost_weight=0.75, latency_weight=0.125, is_sticky=True, regions=["eu", "us"],
        max_cost_per_request=Decimal("0.000001"), max_latency_ms=900, required_capabilities=["vision"],
        cache_mode="never", cache_ttl_s=9, ladder_cap_percent=50, ladder_cap_tokens=300, ladder_cheaper_percent=60,
        ladder_cache_percent=70, ladder_refuse_percent=90, escalate_on=["empty"], sample_percent=20, keeps_prompts=True,
        version=4,
    )  # fmt: skip
    policy = compiled().policies["house"]
    assert (policy.version, policy.task_type.value, policy.strategy.value) == (4, "ANALYSIS", "balanced")
    assert (policy.quality_floor, policy.within_of_best) == (0.5, 0.25)
    assert (policy.cost_weight, policy.latency_weight) == (0.75, 0.125)
    assert (policy.is_sticky, policy.regions) == (True, frozenset({"eu", "us"}))
    assert (policy.max_cost_nano, policy.max_latency_ms) == (1_000, 900)
    assert {need.value for need in policy.required} == {"vision"}
    assert (policy.cache.mode, policy.cache.ttl_s) == ("never", 9)
    assert policy.ladder == Ladder(50, 300, 60, 70, 90)
    assert {one.value for one in policy.escalate_on} == {"empty"}
    assert (policy.sample_percent, policy.keeps_prompts, policy.variants) == (20, True, ())


@pytest.mark.parametrize("usd", ["0.000001", "0.1", "0.3", "1234.567891", "9999.999999"])
def test_a_ceiling_in_dollars_is_exact_in_nano_dollars(usd: str) -> None:
    RoutingPolicyFactory(name="house", max_cost_per_request=Decimal(usd))
    assert compiled().policies["house"].max_cost_nano == int(Decimal(usd) * 10**9)


def test_models_keep_their_order_their_weight_and_their_kind_of_work() -> None:
    policy = RoutingPolicyFactory(name="house")
    rows = [("d", "fallback", 0, 1, "ANY"), ("b", "preferred", 1, 7, "ANY"), ("a", "preferred", 0, 3, "CODING")]
    for name, group, position, weight, task in rows:
        PolicyCandidateFactory(
            policy=policy, alias=served(name), group=group, position=position, weight=weight, task_type=task
        )
    found = compiled().policies["house"].candidates
    assert [(one.alias.name, one.is_fallback, one.weight, one.task_type) for one in found] == [
        ("a", False, 3, TaskType.CODING),
        ("b", False, 7, TaskType.ANY),
        ("d", True, 1, TaskType.ANY),
    ]


def test_what_is_switched_off_is_in_no_list() -> None:
    on, off = served("on"), served("off")
    RoutingPolicyFactory(name="house", preferred=[off, on])
    RoutingPolicyFactory(name="asleep", preferred=[on], is_active=False)
    type(off).objects.filter(pk=off.pk).update(is_active=False)
    snapshot = compiled()
    assert set(snapshot.aliases) == {"on"}
    assert set(snapshot.policies) == {"house"}
    assert names(snapshot.policies["house"].candidates) == ["on"]


def test_the_policy_for_a_kind_of_work_is_the_first_by_name_that_has_a_model() -> None:
    alias = served("swift")
    RoutingPolicyFactory(name="a-empty", task_type="CODING")
    RoutingPolicyFactory(name="c-coding", task_type="CODING", preferred=[alias])
    RoutingPolicyFactory(name="b-coding", task_type="CODING", preferred=[alias])
    RoutingPolicyFactory(name="any", preferred=[alias])
    RoutingPolicyFactory(name="asleep", task_type="CREATIVE", preferred=[alias], is_active=False)
    assert {task: policy.name for task, policy in compiled().task_policies.items()} == {TaskType.CODING: "b-coding"}


def test_an_unknown_word_in_a_row_names_the_policy() -> None:
    policy = RoutingPolicyFactory(name="house")
    RoutingPolicy.objects.filter(pk=policy.pk).update(strategy="astrology")
    with pytest.raises(ConfigError, match="Policy “house” has the unknown strategy “astrology”"):
        compiled()


def test_an_unknown_word_in_a_draft_that_nobody_follows_stops_nothing() -> None:
    policy = RoutingPolicyFactory(name="house")
    for state in DraftState:
        if state != DraftState.ROLLING_OUT:
            drafted(policy, state=state, strategy="astrology")
    assert compiled().policies["house"].variants == ()


# --- variants -----------------------------------------------------------------------------------------------------


def test_a_rollout_is_a_variant_with_the_drafts_rules_and_number() -> None:
    swift, sage = served("swift"), served("sage")
    policy = RoutingPolicyFactory(name="house", preferred=[swift], version=3)
    drafted(
        policy, sage, swift, state=DraftState.ROLLING_OUT, version=4, percent=25, seed="abc", max_latency_ms=700
    )  # fmt: skip
    snapshot = compiled()
    [variant] = snapshot.policies["house"].variants
    assert (variant.kind, variant.arm, variant.control) == ("rollout", "v4", "")
    assert (variant.percent, variant.seed, variant.unit) == (25, "abc", "conversation")
    assert (variant.policy.id, variant.policy.name, variant.policy.version) == (policy.pk, "house", 4)
    assert names(variant.policy.candidates) == ["sage", "swift"]
    assert variant.policy.max_latency_ms == 700
    assert snapshot.policies["house"].max_latency_ms is None
    assert variant.policy.variants == ()


@pytest.mark.parametrize("kind", ExperimentKind)
@pytest.mark.parametrize("unit", ExperimentUnit)
def test_an_experiment_that_runs_is_a_variant(kind: ExperimentKind, unit: ExperimentUnit) -> None:
    sage = served("sage")
    policy = RoutingPolicyFactory(name="house", preferred=[served("swift")], version=3)
    payer = VirtualKeyFactory()
    ExperimentFactory(
        name="trial", challenger=drafted(policy, sage, base_version=3), kind=kind, unit=unit, percent=40, seed="s",
        state=ExperimentState.RUNNING, payer=payer if kind == ExperimentKind.SHADOW else None,
    )  # fmt: skip
    [variant] = compiled().policies["house"].variants
    assert (variant.kind, variant.arm, variant.control) == (kind.value, "trial:challenger", "trial:control")
    assert (variant.percent, variant.seed, variant.unit) == (40, "s", unit.value)
    assert (variant.policy.version, names(variant.policy.candidates)) == (3, ["sage"])
    assert variant.payer_key_id == (payer.pk if kind == ExperimentKind.SHADOW else 0)


@pytest.mark.parametrize("state", [one for one in ExperimentState if one != ExperimentState.RUNNING])
def test_an_experiment_that_does_not_run_is_none(state: ExperimentState) -> None:
    policy = RoutingPolicyFactory(name="house", preferred=[served("swift")])
    ExperimentFactory(challenger=drafted(policy, served("sage")), state=state)
    assert compiled().policies["house"].variants == ()


def test_variants_stay_with_their_own_policy() -> None:
    sage = served("sage")
    one, other = RoutingPolicyFactory(name="one"), RoutingPolicyFactory(name="other")
    drafted(one, sage, state=DraftState.ROLLING_OUT, version=1, percent=5)
    ExperimentFactory(challenger=drafted(other, sage), name="trial", state=ExperimentState.RUNNING)
    asleep = RoutingPolicyFactory(name="asleep", is_active=False)
    drafted(asleep, sage, state=DraftState.ROLLING_OUT, version=1, percent=5)
    snapshot = compiled()
    assert {name: [one.arm for one in policy.variants] for name, policy in snapshot.policies.items()} == {
        "one": ["v1"],
        "other": ["trial:challenger"],
    }


# --- rules, artefact, classifier ----------------------------------------------------------------------------------


def test_rules_come_in_their_order_with_the_outcome_that_was_chosen() -> None:
    deep = served("deep")
    RoutingRuleFactory(name="z", position=0, outcome="tier", task_type="CODING", tier="economy", alias=deep)
    RoutingRuleFactory(name="a", position=1, subject="header", header="x-app", match="equals", pattern="Bot")
    RoutingRuleFactory(name="b", position=1, outcome="alias", task_type="", alias=deep)
    RoutingRuleFactory(name="off", is_active=False)
    rules = compiled().rules
    assert [(one.name, one.task_type, one.tier, one.alias) for one in rules] == [
        ("z", None, "economy", ""),
        ("a", TaskType.CODING, "", ""),
        ("b", None, "", "deep"),
    ]
    assert (rules[1].subject, rules[1].header, rules[1].fits("bot")) == ("header", "x-app", True)


def test_a_rule_that_no_longer_compiles_is_left_out_and_named_and_the_others_hold() -> None:
    RoutingRuleFactory(name="good", position=0)
    broken = RoutingRuleFactory(name="broken", position=1)
    RoutingRule.objects.filter(pk=broken.pk).update(match="regex", pattern="a(b")
    snapshot = compiled()
    assert [one.name for one in snapshot.rules] == ["good"]
    [problem] = snapshot.problems
    assert problem.startswith("Rule “broken”: ")
    assert problem.endswith("It is left out.")


def test_a_rule_whose_model_was_switched_off_is_kept_and_prefers_nobody() -> None:
    deep = served("deep")
    RoutingRuleFactory(name="first", outcome="alias", task_type="", alias=deep)
    type(deep).objects.filter(pk=deep.pk).update(is_active=False)
    snapshot = compiled()
    assert [one.alias for one in snapshot.rules] == ["deep"]
    assert "deep" not in snapshot.aliases


def test_the_artefact_in_force_is_named_and_its_bytes_are_read_apart() -> None:
    assert compiled().artefact == ""
    RouterArtefactFactory(version="kept", data=b"1")
    RouterArtefactFactory(version="used", data=b"22", is_active=True)
    assert compiled().artefact == "used"
    assert artefact_data("used") == b"22"
    assert artefact_data("kept") == b"1"
    assert artefact_data("gone") is None


def test_no_artefacts_bytes_are_read_for_a_snapshot() -> None:
    RouterArtefactFactory(version="used", is_active=True)
    with CaptureQueriesContext(connection) as captured:
        config_rows(now=NOW)
    assert not [query["sql"] for query in captured if '"routing_routerartefact"."data"' in query["sql"]]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"kind": "dotted", "dotted_path": "own.Class"}, {"kind": "dotted", "dotted_path": "own.Class"}),
        ({"kind": "webhook", "url": "https://x.example.com", "dotted_path": ""},
         {"kind": "webhook", "url": "https://x.example.com"}),
        ({"kind": "llm", "alias": "swift", "dotted_path": "", "timeout_ms": 900},
         {"kind": "llm", "alias": "swift", "timeout_ms": 900}),
    ],
)  # fmt: skip
def test_the_classifier_in_force_is_told(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    if "alias" in fields:
        fields = fields | {"alias": served("swift")}
    ClassifierPlugInFactory(name="off")
    assert compiled().classifier is None
    ClassifierPlugInFactory(name="own", is_active=True, **fields)
    assert compiled().classifier == ClassifierSpec(**{"name": "own", **expected})


# --- everything else ----------------------------------------------------------------------------------------------


def test_a_providers_region_reaches_the_decision() -> None:
    served("here", region="eu"), served("anywhere")
    regions = {name: alias.deployments[0].endpoint.region for name, alias in compiled().aliases.items()}
    assert regions == {"here": "eu", "anywhere": ""}


def test_limits_are_told_where_there_are_any() -> None:
    team = TeamFactory(rpm_limit=5)
    key = VirtualKeyFactory(team=team, tpm_limit=7)
    free = VirtualKeyFactory()
    alias = ModelAliasFactory(name="swift", max_parallel_requests=2)
    snapshot = compiled()
    assert snapshot.callers_by_key_id[key.pk].team_limit == RateLimit(5, None, None)
    assert snapshot.callers_by_key_id[key.pk].key_limit == RateLimit(None, 7, None)
    caller = snapshot.callers_by_key_id[free.pk]
    assert (caller.key_limit, caller.team_limit) == (None, None)
    assert snapshot.aliases[alias.name].rate_limit == RateLimit(None, None, 2)


def test_what_a_key_may_use_is_told_by_name_also_of_what_is_switched_off() -> None:
    """Else a key that is limited to one model could ask all of them once that is switched off."""
    key, alias = VirtualKeyFactory(), ModelAliasFactory(name="swift", is_active=False)
    key.allowed_models.add(alias)
    assert compiled().callers_by_key_id[key.pk].allowed_aliases == frozenset({"swift"})


def test_keys_of_every_state_are_known_so_that_they_can_be_told_why_not() -> None:
    keys = [VirtualKeyFactory(expires_at=NOW), VirtualKeyFactory(revoked_at=NOW), VirtualKeyFactory()]
    off = VirtualKeyFactory(team=TeamFactory(is_active=False))
    callers = compiled().callers_by_key_id
    assert set(callers) == {key.pk for key in [*keys, off]}
    assert not callers[off.pk].team_active


def test_callers_are_left_out_where_nobody_calls() -> None:
    VirtualKeyFactory()
    rows = config_rows(now=NOW, with_callers=False)
    assert rows.callers == []
    assert compile_snapshot(rows, now=NOW).callers_by_digest == {}


def test_the_moment_from_which_kept_answers_count_is_told() -> None:
    team = TeamFactory(cache_purged_at=NOW)
    key, other = VirtualKeyFactory(team=team), VirtualKeyFactory()
    callers = compiled().callers_by_key_id
    assert callers[key.pk].cache_purged_at == NOW.timestamp()
    assert callers[other.pk].cache_purged_at == 0.0


def test_a_revision_is_that_of_the_last_edit() -> None:
    config_revision_bump()
    before = config_revision()
    config_revision_bump()
    assert config_revision() == before + 1 == compiled().revision


def test_an_empty_database_is_an_empty_configuration() -> None:
    snapshot = compiled()
    assert (snapshot.aliases, snapshot.policies, snapshot.personas, snapshot.rules) == ({}, {}, {}, ())
    assert (snapshot.default_policy, snapshot.classifier, snapshot.problems) == (None, None, ())


def _much(count: int) -> None:
    for _ in range(count):
        alias = served(f"swift-{ModelAliasFactory._meta.model.objects.count()}")
        policy = RoutingPolicyFactory(preferred=[alias])
        drafted(policy, alias, state=DraftState.ROLLING_OUT, version=1)
        ExperimentFactory(
            challenger=drafted(RoutingPolicyFactory(preferred=[alias]), alias), state=ExperimentState.RUNNING
        )
        PersonaFactory(policy=policy)
        RoutingRuleFactory(outcome="alias", task_type="", alias=alias)
        RouterArtefactFactory()
        ClassifierPlugInFactory(alias=alias)
        VirtualKeyFactory().allowed_models.add(alias)


def test_many_rows_of_every_table_take_as_many_queries_as_one() -> None:
    RouterArtefactFactory(is_active=True), ClassifierPlugInFactory(is_active=True)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            config_rows(now=NOW)
        return len(captured)

    _much(1)
    few = queries()
    _much(4)
    assert queries() == few


def test_a_document_of_rows_says_what_the_rows_say_without_a_query_of_its_own(django_assert_num_queries: Any) -> None:
    RoutingPolicyFactory(name="house", preferred=[ModelAliasFactory(name="a")], fallbacks=[ModelAliasFactory(name="b")])
    [policy] = RoutingPolicy.objects.prefetch_related("candidates__alias")
    with django_assert_num_queries(0):
        document = policy_document(policy, policy.candidates.all())
    assert [(one.alias, one.is_fallback) for one in document.candidates] == [("a", False), ("b", True)]
