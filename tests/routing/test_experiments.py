"""How experiments begin, grow, end and become a draft: one at a time, nothing unsaid, all of it in the history."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from pytest_django import Settings

from routing.models import (
    ConfigRevision,
    Experiment,
    ModelAlias,
    PolicyDraft,
    RoutingPolicy,
    VirtualKey,
)
from routing.selectors import config_rows, policy_document
from routing.services.experiments import (
    experiment_advance,
    experiment_overtaken,
    experiment_promote,
    experiment_start,
    experiment_stop,
    rules_have_changed,
)
from tests.factories import RoutingPolicyFactory, UserFactory, VirtualKeyFactory, served_alias
from tests.routing.trials import draft_of, experiment_of, started

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def swift() -> ModelAlias:
    return served_alias(name="swift")


@pytest.fixture
def sage() -> ModelAlias:
    return served_alias(name="sage")


@pytest.fixture
def policy(swift: ModelAlias) -> RoutingPolicy:
    made: RoutingPolicy = RoutingPolicyFactory.create(name="house", preferred=[swift])
    return made


@pytest.fixture
def person() -> User:
    made: User = UserFactory.create(username="ada")
    return made


def start(experiment: Experiment, by: User | None = None) -> Experiment:
    experiment_start(experiment=experiment, by=by, now=NOW)
    return Experiment.objects.get(pk=experiment.pk)


def refusal(experiment: Experiment) -> list[str]:
    with pytest.raises(ValidationError) as refused:
        experiment_start(experiment=experiment, by=None, now=NOW)
    assert Experiment.objects.get(pk=experiment.pk).state == "draft"
    return refused.value.messages


def shadow_of(policy: RoutingPolicy, alias: ModelAlias, **options: Any) -> Experiment:
    options = {"payer": VirtualKeyFactory.create(scopes=["chat"]), "max_cost": Decimal(5)} | options
    return experiment_of(policy, alias, kind="shadow", **options)


# --- starting -----------------------------------------------------------------------------------------------------


def test_a_started_experiment_is_a_variant_of_its_policy(policy: RoutingPolicy, sage: ModelAlias, person: User) -> None:
    before = ConfigRevision.objects.get(pk=1).revision

    experiment = start(experiment_of(policy, sage, percent=30, unit="key"), by=person)

    assert (experiment.state, experiment.started_at) == ("running", NOW)
    assert ConfigRevision.objects.get(pk=1).revision > before
    [row] = [row for row in config_rows(now=NOW).policies if row.id == policy.pk]
    [variant] = row.variants
    assert (variant.kind, variant.percent, variant.unit) == ("ab", 30, "key")
    assert (variant.arm, variant.control) == ("trial:challenger", "trial:control")
    assert [one.alias for one in variant.document.candidates] == ["sage"]


def test_a_canary_begins_with_its_first_stage(policy: RoutingPolicy, sage: ModelAlias) -> None:
    experiment = start(experiment_of(policy, sage, kind="canary", percent=80, stages=[5, 100]))
    assert experiment.percent == 5


def test_two_experiments_draw_independently(policy: RoutingPolicy, sage: ModelAlias) -> None:
    one = start(experiment_of(policy, sage))
    experiment_stop(experiment=one, reason="", by=None, now=NOW)
    other = start(experiment_of(policy, challenger=one.challenger, name="again"))
    assert one.seed != other.seed
    assert len(one.seed) == 32


def test_one_experiment_of_a_policy_runs_at_a_time(policy: RoutingPolicy, sage: ModelAlias) -> None:
    start(experiment_of(policy, sage))
    assert refusal(experiment_of(policy, sage, name="second")) == [
        "The experiment “trial” runs on this policy. Stop it first: one at a time."
    ]


def test_none_begins_while_a_change_is_rolled_out(policy: RoutingPolicy, sage: ModelAlias) -> None:
    draft_of(policy, sage, state="rolling_out")
    [problem] = refusal(experiment_of(policy, sage))
    assert problem == "A change of this policy is being rolled out. Wait for its end, or abort it."


def test_none_begins_twice(policy: RoutingPolicy, sage: ModelAlias) -> None:
    experiment = start(experiment_of(policy, sage))
    experiment_stop(experiment=experiment, reason="", by=None, now=NOW)
    with pytest.raises(ValidationError, match="has been started before"):
        experiment_start(experiment=experiment, by=None, now=NOW)


def test_a_stale_draft_is_refused(policy: RoutingPolicy, sage: ModelAlias) -> None:
    experiment = experiment_of(policy, sage)
    policy.version = 3
    policy.save()
    assert refusal(experiment) == ["The draft was made from version 0, in force is 3. Rebase it first."]


def test_a_draft_of_another_policy_is_refused(policy: RoutingPolicy, sage: ModelAlias) -> None:
    other = draft_of(RoutingPolicyFactory.create(name="other"), sage)
    assert refusal(experiment_of(policy, challenger=other)) == ["The draft “try another” is one of another policy."]


@pytest.mark.parametrize("state", ["published", "rejected", "withdrawn"])
def test_a_closed_draft_is_refused(policy: RoutingPolicy, sage: ModelAlias, state: str) -> None:
    closed = draft_of(policy, sage, state=state)
    assert refusal(experiment_of(policy, challenger=closed)) == [
        f"The draft “try another” is {state}: choose an open one."
    ]


def test_a_draft_that_says_the_same_is_refused(policy: RoutingPolicy, swift: ModelAlias) -> None:
    assert refusal(experiment_of(policy, swift)) == [
        "The draft says the same as the policy in force: there is nothing to compare."
    ]


@pytest.mark.parametrize("is_off", ["alias", "deployment"])
def test_a_draft_without_an_active_model_is_refused(policy: RoutingPolicy, sage: ModelAlias, is_off: str) -> None:
    row = sage if is_off == "alias" else sage.targets.get().deployment
    row.is_active = False
    row.save()
    assert refusal(experiment_of(policy, sage)) == [
        "The draft “try another”: None of its models has an active deployment (sage). Add another model, or switch a "
        "deployment on."
    ]


def test_a_draft_that_does_not_compile_is_refused(policy: RoutingPolicy, sage: ModelAlias) -> None:
    odd = draft_of(policy, sage, required_capabilities=["telepathy"])
    [problem] = refusal(experiment_of(policy, challenger=odd))
    assert "unknown capability" in problem


def test_a_policy_that_is_switched_off_has_no_traffic_to_try_on(policy: RoutingPolicy, sage: ModelAlias) -> None:
    policy.is_active = False
    policy.save()
    assert refusal(experiment_of(policy, sage)) == ["The policy “house” is switched off: it has no traffic."]


@pytest.mark.parametrize("stages", [[], [50], [100, 5], [5, 5, 100], "all", [0, 100]])
def test_a_canarys_stages_rise_to_everybody(policy: RoutingPolicy, sage: ModelAlias, stages: object) -> None:
    [problem] = refusal(experiment_of(policy, sage, kind="canary", stages=stages))
    assert problem == "Name rising percentages that end with 100, for example 5, 25, 100."


def test_a_shadow_takes_a_payer_and_a_budget(policy: RoutingPolicy, sage: ModelAlias) -> None:
    assert refusal(shadow_of(policy, sage, payer=None, max_cost=None)) == [
        "A shadow needs a budget of its own, above zero.",
        "A shadow needs a key that pays for the second answers.",
    ]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"revoked_at": NOW}, "is not in force: choose another that pays."),
        ({"expires_at": NOW}, "is not in force: choose another that pays."),
        ({"scopes": ["models"]}, "may not ask models: it lacks the scope “chat”."),
    ],
)
def test_a_shadows_payer_can_pay(
    policy: RoutingPolicy, sage: ModelAlias, columns: dict[str, Any], problem: str
) -> None:
    payer: VirtualKey = VirtualKeyFactory.create(**columns)
    [said] = refusal(shadow_of(policy, sage, payer=payer))
    assert said.endswith(problem)


def test_with_reviews_on_only_an_approved_draft_serves_callers(
    policy: RoutingPolicy, sage: ModelAlias, settings: Settings
) -> None:
    settings.POLICY_REVIEW = True
    experiment = experiment_of(policy, sage)
    [problem] = refusal(experiment)
    assert problem.startswith("Its rules would serve callers: somebody else has to approve the draft first.")

    PolicyDraft.objects.update(state="approved")
    experiment.refresh_from_db()
    assert start(experiment).state == "running"


def test_with_reviews_on_a_shadow_of_any_open_draft_may_run(
    policy: RoutingPolicy, sage: ModelAlias, settings: Settings
) -> None:
    settings.POLICY_REVIEW = True
    assert start(shadow_of(policy, sage)).state == "running"


# --- running ------------------------------------------------------------------------------------------------------


def test_stopping_sends_all_traffic_back_and_says_why(policy: RoutingPolicy, sage: ModelAlias, person: User) -> None:
    experiment = start(experiment_of(policy, sage))
    later = NOW + timedelta(hours=1)

    assert experiment_stop(experiment=experiment, reason="enough seen", by=person, now=later)

    experiment.refresh_from_db()
    assert (experiment.state, experiment.stopped_at, experiment.stop_reason) == ("stopped", later, "enough seen")
    assert all(not row.variants for row in config_rows(now=NOW).policies)
    assert not experiment_stop(experiment=experiment, reason="again", by=person, now=later)
    assert Experiment.objects.get().stop_reason == "enough seen"


def test_a_canary_grows_once_per_stage_however_many_workers_there_are(policy: RoutingPolicy, sage: ModelAlias) -> None:
    experiment = start(experiment_of(policy, sage, kind="canary", stages=[5, 25, 100]))
    also = Experiment.objects.get()

    assert experiment_advance(experiment=experiment, percent=25, now=NOW)
    assert not experiment_advance(experiment=also, percent=25, now=NOW)

    assert Experiment.objects.get().percent == 25
    assert Experiment.objects.get().seed == experiment.seed


def test_a_draft_that_is_edited_meanwhile_is_noticed(policy: RoutingPolicy, sage: ModelAlias) -> None:
    experiment = start(experiment_of(policy, sage))
    assert not rules_have_changed(experiment)

    experiment.challenger.max_latency_ms = 900
    experiment.challenger.save()

    assert rules_have_changed(Experiment.objects.get())


def test_every_move_is_in_the_history_with_who_and_why(policy: RoutingPolicy, sage: ModelAlias, person: User) -> None:
    experiment = start(experiment_of(policy, sage, kind="canary", stages=[5, 100]), by=person)
    experiment_advance(experiment=experiment, percent=100, now=NOW)
    experiment_stop(experiment=experiment, reason="enough", by=person, now=NOW)

    rows = experiment.history.order_by("history_date", "history_id")
    assert [(row.history_change_reason, row.history_user, row.percent) for row in rows] == [
        (None, None, 10),
        ("started", person, 5),
        ("grown to 100 %", None, 100),
        ("stopped", person, 100),
    ]


def test_an_experiment_ends_when_its_policy_becomes_another(policy: RoutingPolicy, sage: ModelAlias) -> None:
    experiment = start(experiment_of(policy, sage))
    policy.version = 4
    policy.save()

    assert experiment_overtaken(experiment=experiment, now=NOW)

    experiment.refresh_from_db()
    assert experiment.state == "stopped"
    assert experiment.stop_reason == "The policy has become version 4: its figures would mix two sets of rules."


# --- promoting ----------------------------------------------------------------------------------------------------


def test_promoting_makes_a_draft_with_the_rules_that_were_tried(
    policy: RoutingPolicy, sage: ModelAlias, swift: ModelAlias, person: User
) -> None:
    challenger = draft_of(policy, sage, swift, strategy="lowest_cost", max_latency_ms=900, quality_floor=0.6)
    experiment = start(experiment_of(policy, challenger=challenger))

    draft = experiment_promote(experiment=experiment, by=person, now=NOW)

    assert (draft.title, draft.state, draft.author) == ("From experiment trial", "draft", person)
    assert draft.base_version == policy.version
    assert policy_document(draft, draft.candidates.all()) == policy_document(challenger, challenger.candidates.all())
    experiment.refresh_from_db()
    assert (experiment.state, experiment.stopped_at) == ("promoted", NOW)


def test_a_canary_goes_on_until_its_draft_is_published(policy: RoutingPolicy, sage: ModelAlias, person: User) -> None:
    experiment = start(experiment_of(policy, sage, kind="canary"))

    draft = experiment_promote(experiment=experiment, by=person, now=NOW)

    assert Experiment.objects.get().state == "running"
    draft.state = "published"
    draft.save()
    policy.version = 1
    policy.save()
    assert experiment_overtaken(experiment=experiment, now=NOW)
    ended = Experiment.objects.get()
    assert (ended.state, ended.stop_reason) == ("promoted", "Published as version 1.")


def test_promoting_again_opens_the_draft_that_is_there(policy: RoutingPolicy, sage: ModelAlias, person: User) -> None:
    experiment = start(experiment_of(policy, sage))
    first = experiment_promote(experiment=experiment, by=person, now=NOW)

    assert experiment_promote(experiment=experiment, by=person, now=NOW) == first
    assert PolicyDraft.objects.filter(title="From experiment trial").count() == 1


def test_a_stopped_experiment_can_be_promoted(policy: RoutingPolicy, sage: ModelAlias, person: User) -> None:
    experiment = start(experiment_of(policy, sage))
    experiment_stop(experiment=experiment, reason="enough", by=person, now=NOW)

    experiment_promote(experiment=experiment, by=person, now=NOW)

    ended = Experiment.objects.get()
    assert (ended.state, ended.stop_reason) == ("promoted", "enough")


def test_one_that_never_ran_is_not_promoted(policy: RoutingPolicy, sage: ModelAlias) -> None:
    with pytest.raises(ValidationError, match="nothing to promote yet"):
        experiment_promote(experiment=experiment_of(policy, sage), by=None, now=NOW)


def test_rules_that_nobody_tried_are_not_promoted(policy: RoutingPolicy, sage: ModelAlias, swift: ModelAlias) -> None:
    experiment = started(policy, sage)
    experiment.challenger.candidates.update(alias=swift)
    with pytest.raises(ValidationError, match="others were tried"):
        experiment_promote(experiment=experiment, by=None, now=NOW)
