"""What the models refuse of the rules that decide, field by field and in the words that people read."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Model, ProtectedError
from django.utils import timezone

from routing.domain.config import Escalation, Strategy, TaskType
from routing.models import (
    ConfigRevision,
    DraftState,
    Experiment,
    ExperimentState,
    ModelAlias,
    PolicyVersion,
    RouterArtefact,
    RoutingPolicy,
    RoutingRule,
    VirtualKey,
    canary_stages,
    everybody_at_once,
)
from routing.services.policy_rules import columns_of, document_of
from tests.factories import (
    AliasTargetFactory,
    ClassifierPlugInFactory,
    DraftCandidateFactory,
    ExperimentFactory,
    MembershipFactory,
    ModelAliasFactory,
    PersonaFactory,
    PolicyCandidateFactory,
    PolicyDraftFactory,
    RouterArtefactFactory,
    RoutingPolicyFactory,
    RoutingRuleFactory,
    UserFactory,
    VirtualKeyFactory,
)

pytestmark = pytest.mark.django_db


def complaints(row: Model, **changes: Any) -> dict[str, str]:
    """What is wrong with it, by field; nothing of a row that is fine."""
    for name, value in changes.items():
        setattr(row, name, value)
    try:
        row.full_clean()
    except ValidationError as error:
        return {field: " ".join(texts) for field, texts in error.message_dict.items()}
    return {}


def refused(save: Callable[[], object]) -> bool:
    """Whether the database itself does not take it, whoever writes."""
    try:
        with transaction.atomic():
            save()
    except IntegrityError:
        return True
    return False


# --- the rules of a policy and of a draft -------------------------------------------------------------------------


@pytest.mark.parametrize("make", [RoutingPolicyFactory, PolicyDraftFactory])
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("task_type", "GARDENING", "is not a valid choice"),
        ("strategy", "astrology", "is not a valid choice"),
        ("quality_floor", -0.01, "greater than or equal to 0"),
        ("quality_floor", -math.inf, "greater than or equal to 0"),
        ("quality_floor", math.inf, "less than or equal to 1"),
        ("quality_floor", 1.01, "less than or equal to 1"),
        ("within_of_best", -0.5, "greater than or equal to 0"),
        ("within_of_best", 2, "less than or equal to 1"),
        ("cost_weight", -0.1, "greater than or equal to 0"),
        ("cost_weight", None, "cannot be null"),
        ("latency_weight", -1, "greater than or equal to 0"),
        ("regions", ["EU"], "lower case, for example eu or us-east"),
        ("regions", ["-eu"], "lower case, for example eu or us-east"),
        ("regions", ["e" * 21], "lower case, for example eu or us-east"),
        ("regions", [7], "lower case, for example eu or us-east"),
        ("regions", "eu", "lower case, for example eu or us-east"),
        ("regions", {"eu": 1}, "lower case, for example eu or us-east"),
        ("max_cost_per_request", Decimal(-1), "greater than or equal to 0"),
        ("max_cost_per_request", Decimal("0.0000001"), "no more than 6 decimal places"),
        ("max_cost_per_request", Decimal(99_999), "no more than"),
        ("max_latency_ms", -1, "greater than or equal to 0"),
        ("required_capabilities", ["telepathy"], "telepathy"),
        ("required_capabilities", "vision", "a list of names"),
        ("cache_mode", "sometimes", "is not a valid choice"),
        ("cache_ttl_s", 0, "greater than or equal to 1"),
        ("ladder_cap_percent", 0, "greater than or equal to 1"),
        ("ladder_cap_percent", 101, "less than or equal to 100"),
        ("ladder_cap_tokens", 0, "greater than or equal to 1"),
        ("ladder_refuse_percent", 101, "less than or equal to 100"),
        ("escalate_on", ["boredom"], "Choose some of: empty, invalid_json, low_logprob, refusal."),
        ("escalate_on", "empty", "Choose some of"),
        ("escalate_on", [["empty"]], "Choose some of"),
        ("sample_percent", -1, "greater than or equal to 0"),
        ("sample_percent", 101, "less than or equal to 100"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_at_its_field(make: Any, field: str, value: object, said: str) -> None:
    found = complaints(make(), **{field: value})
    assert found.keys() == {field}
    assert said in found[field]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("strategy", one.value) for one in Strategy),
        *(("task_type", one.value) for one in TaskType),
        ("quality_floor", 0),
        ("quality_floor", 1),
        ("quality_floor", None),
        ("cost_weight", 0),
        ("regions", []),
        ("regions", ["eu", "us-east-1", "1"]),
        ("max_cost_per_request", Decimal(0)),
        ("max_cost_per_request", Decimal("9999.999999")),
        ("max_latency_ms", 0),
        ("escalate_on", [one.value for one in Escalation]),
        ("sample_percent", 0),
        ("sample_percent", 100),
        ("cache_ttl_s", 1),
        ("ladder_cap_percent", 100),
    ],
)
def test_the_edges_of_what_makes_sense_are_taken(field: str, value: object) -> None:
    assert complaints(RoutingPolicyFactory(), **{field: value}) == {}


@pytest.mark.parametrize(
    "steps",
    [
        {"ladder_cap_percent": 80, "ladder_cheaper_percent": 70},
        {"ladder_cap_percent": 80, "ladder_refuse_percent": 80},
        {"ladder_cheaper_percent": 90, "ladder_cache_percent": 85, "ladder_refuse_percent": 95},
        {"ladder_cache_percent": 99, "ladder_refuse_percent": 98},
    ],
)
def test_the_steps_of_a_ladder_come_one_after_the_other(steps: dict[str, int]) -> None:
    assert complaints(RoutingPolicyFactory(), **steps) == {
        "ladder_cap_percent": "Each step has to come at a higher percentage than the one before."
    }


@pytest.mark.parametrize(
    "steps",
    [
        {},
        {"ladder_refuse_percent": 1},
        {"ladder_cap_percent": 50, "ladder_refuse_percent": 51},
        {"ladder_cap_percent": 1, "ladder_cheaper_percent": 2, "ladder_cache_percent": 3, "ladder_refuse_percent": 4},
    ],
)
def test_a_ladder_may_have_any_of_its_steps(steps: dict[str, int]) -> None:
    policy = RoutingPolicyFactory(**steps)
    assert complaints(policy) == {}
    assert [name for name, percent in policy.ladder_steps() if percent is not None] == [
        name.removeprefix("ladder_").removesuffix("_percent") for name in steps
    ]


def test_every_rule_of_a_policy_goes_into_its_document_and_back() -> None:
    """A column that the document forgets would be lost with the first draft."""
    policy = RoutingPolicyFactory(
        preferred=[ModelAliasFactory()],
        task_type="CODING", strategy="balanced", quality_floor=0.5, within_of_best=0.25, cost_weight=0.75,
        latency_weight=0.125, is_sticky=True, regions=["eu"], max_cost_per_request=Decimal("0.125"),
        max_latency_ms=900, required_capabilities=["vision"], cache_mode="always", cache_ttl_s=60,
        ladder_cap_percent=50, ladder_cap_tokens=300, ladder_cheaper_percent=60, ladder_cache_percent=70,
        ladder_refuse_percent=90, escalate_on=["empty"], sample_percent=20, keeps_prompts=True,
    )  # fmt: skip
    policy.refresh_from_db()
    usual, columns = columns_of(document_of(RoutingPolicyFactory())), columns_of(document_of(policy))
    assert {name: getattr(policy, name) for name in columns} == columns
    assert all(columns[name] != usual[name] for name in columns), "a column that this test leaves as it is"
    own = {field.name for field in RoutingPolicy._meta.concrete_fields} - columns.keys()
    assert own == {"id", "name", "description", "is_default", "is_active", "version"}


# --- policies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Every Day", "", "-day", "über", "a b", "d" * 81, "a/b"])
def test_a_policys_name_is_one_that_can_be_typed(name: str) -> None:
    assert "name" in complaints(RoutingPolicyFactory(), name=name)


def test_a_policy_that_personas_need_is_not_switched_off_without_naming_them() -> None:
    policy = RoutingPolicyFactory()
    PersonaFactory(slug="poet", policy=policy), PersonaFactory(slug="critic", policy=policy)
    PersonaFactory(slug="asleep", policy=policy, is_active=False)
    found = complaints(policy, is_active=False)
    assert set(policy.personas_served()) == {"poet", "critic"}
    assert found["is_active"].startswith("Give these personas another policy first, or switch them off: ")
    assert all(slug in found["is_active"] for slug in ("poet", "critic"))
    assert "asleep" not in found["is_active"]


def test_a_policy_that_is_not_saved_yet_serves_nobody() -> None:
    assert RoutingPolicy(name="new").personas_served() == []


def test_there_is_one_default_and_it_is_active_whoever_writes() -> None:
    RoutingPolicyFactory(is_default=True)
    assert refused(lambda: RoutingPolicyFactory(is_default=True))
    other = RoutingPolicyFactory()
    assert refused(lambda: RoutingPolicy.objects.filter(is_default=True).update(is_active=False))
    assert refused(lambda: RoutingPolicy.objects.filter(pk=other.pk).update(is_default=True))


def test_a_model_stands_in_a_policy_and_in_a_draft_once() -> None:
    row, draft_row = PolicyCandidateFactory(), DraftCandidateFactory()
    assert refused(lambda: PolicyCandidateFactory(policy=row.policy, alias=row.alias))
    assert refused(lambda: DraftCandidateFactory(draft=draft_row.draft, alias=draft_row.alias))
    assert "already exists" in complaints(PolicyCandidateFactory.build(policy=row.policy, alias=row.alias))["__all__"]


def test_preferred_models_come_before_fallbacks_and_each_group_by_its_position() -> None:
    policy = RoutingPolicyFactory()
    for name, group, position in (
        ("c", "fallback", 0),
        ("b", "preferred", 5),
        ("d", "fallback", 1),
        ("a", "preferred", 0),
    ):
        PolicyCandidateFactory(policy=policy, alias=ModelAliasFactory(name=name), group=group, position=position)
    assert [row.alias.name for row in policy.candidates.select_related("alias")] == ["a", "b", "c", "d"]
    assert [str(row) for row in policy.candidates.all()[:1]] == ["Preferred 0: a"]


@pytest.mark.parametrize(
    ("field", "value"), [("group", "favourite"), ("task_type", "COOKING"), ("weight", -1), ("position", -1)]
)
def test_a_candidate_that_makes_no_sense_is_refused(field: str, value: object) -> None:
    assert complaints(PolicyCandidateFactory(), **{field: value}).keys() == {field}


@pytest.mark.parametrize(
    "hanging",
    [
        lambda alias: PolicyCandidateFactory(alias=alias),
        lambda alias: DraftCandidateFactory(alias=alias),
        lambda alias: RoutingRuleFactory(alias=alias, outcome="alias", task_type=""),
        lambda alias: ClassifierPlugInFactory(alias=alias, kind="llm"),
        lambda alias: VirtualKeyFactory().allowed_models.set([alias]),
    ],
    ids=["policy", "draft", "rule", "classifier", "key"],
)
def test_an_alias_that_something_names_is_not_deleted(hanging: Callable[[ModelAlias], object]) -> None:
    alias = ModelAliasFactory()
    hanging(alias)
    with pytest.raises(ProtectedError), transaction.atomic():
        alias.delete()
    assert ModelAlias.objects.filter(pk=alias.pk).exists()


def test_an_alias_without_anything_that_names_it_goes_with_its_targets() -> None:
    target = AliasTargetFactory()
    target.alias.delete()
    assert not ModelAlias.objects.exists()


def test_a_policy_that_a_persona_follows_is_not_deleted() -> None:
    persona = PersonaFactory()
    with pytest.raises(ProtectedError):
        persona.policy.delete()


# --- drafts and versions ------------------------------------------------------------------------------------------

STAGES = "Name rising percentages that end with 100, for example 5, 25, 100."


@pytest.mark.parametrize(
    "stages",
    [
        [],
        [5],
        [100, 5],
        [5, 5, 100],
        [0, 100],
        [5, 101],
        ["5", 100],
        [5.5, 100],
        None,
        "100",
        {"a": 1},
        [[100]],
        [True, 100],
    ],
    ids=repr,
)
def test_stages_rise_to_everybody(stages: object) -> None:
    found = complaints(PolicyDraftFactory(), stages=stages)
    assert found.keys() == {"stages"}
    assert found["stages"] in {STAGES, "This field cannot be blank.", "This field cannot be null."}


@pytest.mark.parametrize("stages", [[100], [1, 100], [5, 25, 50, 100], list(range(1, 101))])
def test_stages_that_rise_to_everybody_are_taken(stages: list[int]) -> None:
    assert complaints(PolicyDraftFactory(), stages=stages) == {}


def test_stages_that_nobody_names_are_fresh_each_time() -> None:
    assert (everybody_at_once(), canary_stages()) == ([100], [5, 25, 50, 100])
    everybody_at_once().append(7)
    assert everybody_at_once() == [100]


@pytest.mark.parametrize(("field", "value"), [("title", ""), ("title", "t" * 121), ("stage_minutes", 0)])
def test_a_draft_that_makes_no_sense_is_refused(field: str, value: object) -> None:
    assert complaints(PolicyDraftFactory(), **{field: value}).keys() == {field}


def test_one_draft_of_a_policy_is_rolled_out_at_a_time() -> None:
    policy = RoutingPolicyFactory()
    PolicyDraftFactory(policy=policy, state=DraftState.ROLLING_OUT)
    assert refused(lambda: PolicyDraftFactory(policy=policy, state=DraftState.ROLLING_OUT))
    PolicyDraftFactory(policy=policy, state=DraftState.APPROVED)
    PolicyDraftFactory(state=DraftState.ROLLING_OUT)


def test_a_versions_number_is_given_once() -> None:
    policy = RoutingPolicyFactory()
    version = PolicyVersion.objects.create(policy=policy, number=1, document={})
    assert refused(lambda: PolicyVersion.objects.create(policy=policy, number=1, document={}))
    assert str(version) == f"{policy.name} v1"


def test_a_version_outlives_its_people_and_its_draft() -> None:
    draft, author = PolicyDraftFactory(), UserFactory()
    PolicyVersion.objects.create(
        policy=draft.policy, number=1, document={}, draft=draft, author=author, approver=author
    )
    draft.delete(), author.delete()
    version = PolicyVersion.objects.get()
    assert (version.draft, version.author, version.approver) == (None, None, None)


# --- experiments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "A trial"), ("name", ""), ("name", "t" * 61), ("kind", "duel"), ("unit", "team"), ("percent", 0),
        ("percent", 101), ("stage_minutes", 0), ("max_cost", Decimal(-1)), ("guard_error_points", -1),
        ("min_samples", 0),
    ],
)  # fmt: skip
def test_an_experiment_that_makes_no_sense_is_refused(field: str, value: object) -> None:
    assert complaints(ExperimentFactory(), **{field: value}).keys() == {field}


def test_one_experiment_of_a_policy_runs_at_a_time() -> None:
    one = ExperimentFactory(state=ExperimentState.RUNNING)
    other = ExperimentFactory(challenger=PolicyDraftFactory(policy=one.policy))
    assert refused(lambda: Experiment.objects.filter(pk=other.pk).update(state=ExperimentState.RUNNING))
    ExperimentFactory(state=ExperimentState.RUNNING)


@pytest.mark.parametrize("of", ["challenger", "payer"])
def test_what_an_experiment_rests_on_is_not_deleted(of: str) -> None:
    experiment = ExperimentFactory(payer=VirtualKeyFactory())
    with pytest.raises(ProtectedError):
        getattr(experiment, of).delete()


# --- operators' rules ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"name": "My Rule"}, "name", "Lower-case letters"),
        ({"subject": "moon"}, "subject", "is not a valid choice"),
        ({"match": "resembles"}, "match", "is not a valid choice"),
        ({"outcome": "nothing"}, "outcome", "is not a valid choice"),
        ({"pattern": ""}, "pattern", "cannot be blank"),
        ({"pattern": "p" * 501}, "pattern", "at most 500 characters"),
        ({"match": "regex", "pattern": "a(b"}, "pattern", "RE2 does not take this, at character 2"),
        ({"match": "regex", "pattern": "[z-a]"}, "pattern", "RE2 does not take this"),
        ({"match": "regex", "pattern": "*"}, "pattern", "RE2 does not take this, at character 1"),
        ({"match": "regex", "pattern": "(" * 500}, "pattern", "RE2 does not take this"),
        ({"match": "regex", "pattern": "((a{100}){100}){100}"}, "pattern", "RE2 does not take this"),
        ({"subject": "header", "header": ""}, "header", "begins with x-, for example x-app"),
        ({"subject": "header", "header": "authorization"}, "header", "begins with x-"),
        ({"subject": "header", "header": "x-"}, "header", "begins with x-"),
        ({"subject": "header", "header": "x-a b"}, "header", "begins with x-"),
        ({"subject": "header", "header": "x-a\r\ny: z"}, "header", "begins with x-"),
        ({"task_type": ""}, "task_type", "Say which kind of work it is."),
        ({"task_type": "ANY"}, "task_type", "Say which kind of work it is."),
        ({"outcome": "tier", "tier": ""}, "tier", "Choose one of: free, economy, standard, premium."),
        ({"outcome": "tier", "tier": "platinum"}, "tier", "Choose one of"),
        ({"outcome": "alias"}, "alias", "Choose the model that goes first."),
    ],
)
def test_an_operators_rule_that_cannot_work_is_refused_in_words(changes: dict[str, Any], field: str, said: str) -> None:
    found = complaints(RoutingRuleFactory(), **changes)
    assert found.keys() == {field}
    assert said in found[field]


def test_several_things_that_are_wrong_are_said_at_once() -> None:
    found = complaints(RoutingRuleFactory(), subject="header", header="host", match="regex", pattern="(", task_type="")
    assert found.keys() == {"header", "pattern", "task_type"}


@pytest.mark.parametrize("header", ["X-App", "  x-app  ", "x-APP"])
def test_a_headers_name_is_kept_as_headers_are_compared(header: str) -> None:
    rule = RoutingRuleFactory(subject="header", header="x-old")
    assert complaints(rule, header=header) == {}
    assert rule.header == "x-app"


@pytest.mark.parametrize(
    ("outcome", "kept"), [("task", {"task_type": "CODING"}), ("tier", {"tier": "economy"}), ("alias", {"alias": True})]
)
def test_of_three_outcomes_the_chosen_one_is_kept(outcome: str, kept: dict[str, object]) -> None:
    rule = RoutingRuleFactory.build(outcome=outcome, task_type="CODING", tier="economy", alias=ModelAliasFactory())
    assert complaints(rule) == {}
    left = {"task_type": rule.task_type, "tier": rule.tier, "alias": rule.alias is not None}
    assert {name: value for name, value in left.items() if value} == kept


def test_a_model_that_is_switched_off_cannot_go_first() -> None:
    found = complaints(RoutingRuleFactory(), outcome="alias", alias=ModelAliasFactory(is_active=False))
    assert found == {"alias": "This model alias is switched off. Choose another, or switch it on first."}


def test_rules_stand_in_their_order_and_by_name_where_two_share_a_place() -> None:
    for name, position in (("b", 1), ("c", 0), ("a", 1)):
        RoutingRuleFactory(name=name, position=position)
    assert [rule.name for rule in RoutingRule.objects.all()] == ["c", "a", "b"]


# --- what learns --------------------------------------------------------------------------------------------------


def test_one_artefact_and_one_classifier_are_in_force_whoever_writes() -> None:
    RouterArtefactFactory(is_active=True), ClassifierPlugInFactory(is_active=True)
    assert refused(lambda: RouterArtefactFactory(is_active=True))
    assert refused(lambda: ClassifierPlugInFactory(is_active=True))
    RouterArtefactFactory(), ClassifierPlugInFactory()


def test_an_artefact_is_kept_once_and_its_bytes_are_in_no_history() -> None:
    kept = RouterArtefactFactory(version="v1", data=b"bytes")
    assert refused(lambda: RouterArtefactFactory(version="v1"))
    assert bytes(RouterArtefact.objects.get(pk=kept.pk).data) == b"bytes"
    assert not hasattr(kept.history.first(), "data")


@pytest.mark.parametrize("timeout_ms", [0, 10_001, None])
def test_a_classifier_is_given_some_time_and_not_too_much(timeout_ms: int | None) -> None:
    assert complaints(ClassifierPlugInFactory(), timeout_ms=timeout_ms).keys() == {"timeout_ms"}


@pytest.mark.parametrize("url", ["not an address", "javascript:alert(1)", "//example.com"])
def test_a_classifiers_address_is_one_of_the_web(url: str) -> None:
    assert complaints(ClassifierPlugInFactory(), kind="webhook", url=url).keys() == {"url"}


# --- people, keys, personas ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scopes", [[], None, "chat", ["root"], ["chat", "root"], {"chat": 1}, [[]], [7]], ids=repr)
def test_a_key_may_do_something_that_there_is(scopes: object) -> None:
    found = complaints(VirtualKeyFactory(), scopes=scopes)
    assert found.keys() == {"scopes"}


@pytest.mark.parametrize("name", ["auto", "", "two words", "/x", "é", "a" * 121])
def test_an_alias_is_called_something_that_callers_can_send(name: str) -> None:
    assert complaints(ModelAliasFactory(), name=name).keys() == {"name"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slug", "auto"), ("slug", "Poet"), ("slug", ""), ("temperature", -0.1), ("temperature", 2.1),
        ("max_tokens", 0), ("max_tokens", None), ("required_capabilities", ["telepathy"]),
    ],
)  # fmt: skip
def test_a_persona_that_makes_no_sense_is_refused(field: str, value: object) -> None:
    assert complaints(PersonaFactory(), **{field: value}).keys() == {field}


def test_a_person_is_in_a_team_once() -> None:
    one = MembershipFactory()
    assert refused(lambda: MembershipFactory(team=one.team, user=one.user))


def test_a_team_has_one_playground_key_and_another_once_that_is_revoked() -> None:
    key = VirtualKeyFactory(is_playground=True)
    assert refused(lambda: VirtualKeyFactory(team=key.team, is_playground=True))
    VirtualKey.objects.filter(pk=key.pk).update(revoked_at=datetime(2026, 1, 1, tzinfo=UTC))
    VirtualKeyFactory(team=key.team, is_playground=True)


def test_of_several_reasons_against_a_key_the_one_that_lasts_longest_is_told() -> None:
    now = timezone.now()
    key = VirtualKeyFactory()
    assert key.state_at(now) == "active"
    key.team.is_active = False
    assert key.state_at(now) == "team_off"
    key.expires_at = now
    assert key.state_at(now) == "expired"
    key.revoked_at = now
    assert key.state_at(now) == "revoked"


def test_there_is_one_revision() -> None:
    ConfigRevision.objects.get_or_create(pk=1)
    assert refused(lambda: ConfigRevision.objects.create(pk=2))
    assert str(ConfigRevision.objects.get()) == f"revision {ConfigRevision.objects.get().revision}"
