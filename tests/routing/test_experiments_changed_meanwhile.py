"""Experiments while something else happens: rows that were read long ago, people at the same moment, things that go."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Barrier

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import ProtectedError

from providers.models import Deployment
from routing.models import (
    DraftCandidate,
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
    promoted_draft,
    rules_digest,
    rules_have_changed,
    start_problems,
)
from routing.services.lifecycle import draft_rebase, is_stale
from routing.services.policy_rules import document_of, version_ensure
from routing.services.rollouts import policy_edited
from tests.factories import RoutingPolicyFactory, UserFactory, VirtualKeyFactory, served_alias
from tests.routing.trials import draft_of, experiment_of, started

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
real_rows = pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time anyway")


@pytest.fixture
def sage() -> ModelAlias:
    return served_alias(name="sage")


@pytest.fixture
def policy() -> RoutingPolicy:
    made: RoutingPolicy = RoutingPolicyFactory.create(name="house", preferred=[served_alias(name="swift")])
    return made


def stored() -> Experiment:
    return Experiment.objects.get(name="trial")


def start(experiment: Experiment, by: User | None = None) -> Experiment:
    experiment_start(experiment=experiment, by=by, now=NOW)
    return stored()


def problems_of(experiment: Experiment) -> list[str]:
    return start_problems(Experiment.objects.get(pk=experiment.pk), policy=experiment.policy, now=NOW)


# --- rows that were read long ago -----------------------------------------------------------------------------------


def test_one_that_became_a_canary_meanwhile_starts_with_its_first_stage(
    policy: RoutingPolicy, sage: ModelAlias
) -> None:
    read_before = experiment_of(policy, sage, kind="ab", percent=80)
    Experiment.objects.update(kind="canary", stages=[5, 100])
    assert start(read_before).percent == 5


def test_one_whose_stages_were_edited_meanwhile_starts_with_the_new_ones(
    policy: RoutingPolicy, sage: ModelAlias
) -> None:
    read_before = experiment_of(policy, sage, kind="canary", stages=[50, 100])
    Experiment.objects.update(stages=[1, 100])
    assert start(read_before).percent == 1


def test_one_whose_challenger_was_changed_meanwhile_remembers_the_rules_that_run(
    policy: RoutingPolicy, sage: ModelAlias
) -> None:
    read_before = experiment_of(policy, sage)
    read_before.challenger.max_latency_ms  # noqa: B018 - read, and with it kept
    PolicyDraft.objects.update(max_latency_ms=700)
    started_now = start(read_before)
    assert not rules_have_changed(started_now)


def test_history_tells_the_share_that_it_had_and_not_the_one_that_was_read(
    policy: RoutingPolicy, sage: ModelAlias
) -> None:
    experiment = start(experiment_of(policy, sage, kind="canary", stages=[5, 50, 100]))
    on_somebodys_page = stored()
    experiment_advance(experiment=experiment, percent=50, now=NOW + timedelta(hours=1))

    experiment_stop(experiment=on_somebodys_page, reason="enough", by=None, now=NOW + timedelta(hours=2))

    last = Experiment.history.order_by("-history_date", "-history_id").first()
    assert (last.state, last.percent, last.stage_since) == ("stopped", 50, NOW + timedelta(hours=1))
    assert (stored().percent, on_somebodys_page.percent) == (50, 50)


def test_what_was_stopped_does_not_grow_however_it_was_read(policy: RoutingPolicy, sage: ModelAlias) -> None:
    experiment = start(experiment_of(policy, sage, kind="canary", stages=[5, 100]))
    read_before = stored()
    experiment_stop(experiment=experiment, reason="enough", by=None, now=NOW)
    assert not experiment_advance(experiment=read_before, percent=100, now=NOW)
    assert not experiment_overtaken(experiment=read_before, now=NOW)
    assert (stored().percent, stored().state, stored().stop_reason) == (5, "stopped", "enough")


def test_one_that_was_deleted_meanwhile_is_told_as_gone(policy: RoutingPolicy, sage: ModelAlias) -> None:
    experiment = experiment_of(policy, sage)
    Experiment.objects.all().delete()
    with pytest.raises(ValidationError, match="It has been deleted meanwhile"):
        experiment_start(experiment=experiment, by=None, now=NOW)


# --- at the same moment -------------------------------------------------------------------------------------------


def at_once(moves: Iterable[Callable[[], object]]) -> list[object]:
    """What each came to; a refusal is its words."""
    jobs = list(moves)
    barrier = Barrier(len(jobs))

    def run(move: Callable[[], object]) -> object:
        barrier.wait(timeout=30)
        try:
            return move()
        except ValidationError as error:
            return error.messages[0]
        finally:
            connection.close()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def starting(experiment: Experiment) -> Callable[[], object]:
    mine = Experiment.objects.get(pk=experiment.pk)
    return lambda: experiment_start(experiment=mine, by=None, now=NOW)


def stopping(experiment: Experiment, reason: str) -> Callable[[], object]:
    mine = Experiment.objects.get(pk=experiment.pk)
    return lambda: experiment_stop(experiment=mine, reason=reason, by=None, now=NOW)


@pytest.mark.django_db(transaction=True)
@real_rows
def test_of_people_who_start_it_at_the_same_moment_one_does(policy: RoutingPolicy, sage: ModelAlias) -> None:
    experiment = experiment_of(policy, sage)
    said = at_once([starting(experiment) for _ in range(3)])
    assert sorted(map(str, said)) == ["It has been started before. Make a new experiment to try again."] * 2 + ["None"]
    assert Experiment.history.filter(state="running").count() == 1


@pytest.mark.django_db(transaction=True)
@real_rows
def test_of_two_experiments_that_are_started_at_the_same_moment_one_runs(
    policy: RoutingPolicy, sage: ModelAlias
) -> None:
    first = experiment_of(policy, sage)
    others = [experiment_of(policy, challenger=first.challenger, name=f"other-{number}") for number in range(2)]
    said = at_once([starting(one) for one in [first, *others]])
    assert said.count(None) == 1
    assert all("runs on this policy. Stop it first" in str(one) for one in said if one)
    assert Experiment.objects.filter(state="running").count() == 1


@pytest.mark.django_db(transaction=True)
@real_rows
def test_of_people_who_stop_it_at_the_same_moment_the_first_ones_reason_stays(
    policy: RoutingPolicy, sage: ModelAlias
) -> None:
    experiment = started(policy, sage)
    said = at_once([stopping(experiment, reason) for reason in ("one", "two", "three")])
    assert sorted(map(bool, said)) == [False, False, True]
    assert stored().stop_reason == ("one", "two", "three")[said.index(True)]
    assert Experiment.history.filter(state="stopped").count() == 1


@pytest.mark.django_db(transaction=True)
@real_rows
def test_one_that_is_stopped_as_it_grows_ends_stopped(policy: RoutingPolicy, sage: ModelAlias) -> None:
    experiment = started(policy, sage, kind="canary", stages=[5, 100])
    mine = stored()
    grow = lambda: experiment_advance(experiment=mine, percent=100, now=NOW)  # noqa: E731
    at_once([grow, stopping(experiment, "enough")])
    assert (stored().state, stored().stop_reason) == ("stopped", "enough")
    last = Experiment.history.order_by("-history_date", "-history_id").first()
    assert (last.state, last.percent) == ("stopped", stored().percent)


# --- what goes, and what is switched off ----------------------------------------------------------------------------


def test_what_an_experiment_rests_on_is_not_deleted(policy: RoutingPolicy, sage: ModelAlias) -> None:
    payer = VirtualKeyFactory.create(scopes=["chat"])
    experiment = experiment_of(policy, sage, kind="shadow", payer=payer, max_cost=Decimal(1))
    for row in (experiment.challenger, experiment.policy, payer):
        with pytest.raises(ProtectedError):
            row.delete()


def test_the_person_who_set_it_up_may_go(policy: RoutingPolicy, sage: ModelAlias) -> None:
    person = UserFactory.create()
    experiment_of(policy, sage, created_by=person)
    person.delete()
    assert stored().created_by is None


def test_a_draft_whose_models_are_all_taken_out_cannot_start(policy: RoutingPolicy, sage: ModelAlias) -> None:
    experiment = experiment_of(policy, sage)
    DraftCandidate.objects.all().delete()
    assert problems_of(experiment) == ["The draft “try another”: It has no models, so it can serve nothing. Add one."]


def test_a_model_that_is_switched_off_while_it_runs_changes_no_rules(policy: RoutingPolicy, sage: ModelAlias) -> None:
    experiment = start(experiment_of(policy, sage, served_alias(name="spare")))
    sage.is_active = False
    sage.save()
    assert not rules_have_changed(stored())
    [row] = [row for row in config_rows(now=NOW).policies if row.id == policy.pk]
    assert [variant.arm for variant in row.variants] == ["trial:challenger"]
    assert experiment.state == "running"


@pytest.mark.parametrize("kind", ["ab", "canary"])
def test_one_that_could_not_begin_any_more_is_still_stopped_and_promoted(
    policy: RoutingPolicy, sage: ModelAlias, kind: str
) -> None:
    experiment = start(experiment_of(policy, sage, kind=kind))
    Deployment.objects.update(is_active=False)
    RoutingPolicyFactory.create(name="odd", required_capabilities=["telepathy"])
    [problem] = problems_of(experiment_of(policy, challenger=experiment.challenger, name="again"))[1:]
    assert "The configuration does not compile as it is" in problem

    first = experiment_promote(experiment=experiment, by=None, now=NOW)
    assert stored().state == ("running" if kind == "canary" else "promoted")
    assert document_of(first) == document_of(experiment.challenger)

    assert experiment_stop(experiment=experiment, reason="enough", by=None, now=NOW) is (kind == "canary")
    assert not any(row.variants for row in config_rows(now=NOW).policies)


def test_a_policy_that_is_switched_off_has_no_variants(policy: RoutingPolicy, sage: ModelAlias) -> None:
    start(experiment_of(policy, sage))
    policy.is_active = False
    policy.save()
    assert all(not row.variants for row in config_rows(now=NOW).policies if row.id == policy.pk)


def test_a_team_that_is_switched_off_cannot_pay(policy: RoutingPolicy, sage: ModelAlias) -> None:
    payer: VirtualKey = VirtualKeyFactory.create(name="payer", scopes=["chat"], team__is_active=False)
    experiment = experiment_of(policy, sage, kind="shadow", payer=payer, max_cost=Decimal(1))
    [problem] = problems_of(experiment)
    assert problem.endswith("is not in force: choose another that pays.")


@pytest.mark.parametrize("kind", ["ab", "canary"])
def test_other_kinds_need_no_payer_but_no_budget_of_nothing_either(
    policy: RoutingPolicy, sage: ModelAlias, kind: str
) -> None:
    """It would end at the first look."""
    experiment = experiment_of(policy, sage, kind=kind, max_cost=Decimal(0))
    assert problems_of(experiment) == ["Its own budget is zero: it would end at once. Leave it empty for none."]
    Experiment.objects.update(max_cost=None)
    assert problems_of(experiment) == []


def test_everything_that_stands_in_the_way_is_said_at_once(policy: RoutingPolicy, sage: ModelAlias) -> None:
    policy.is_active = False
    policy.save()
    draft_of(policy, sage, state="rolling_out", title="growing")
    experiment = experiment_of(policy, sage, kind="canary", stages=[])
    assert problems_of(experiment) == [
        "The policy “house” is switched off: it has no traffic.",
        "A change of this policy is being rolled out. Wait for its end, or abort it.",
        "Name rising percentages that end with 100, for example 5, 25, 100.",
    ]


def test_what_is_wrong_with_its_rules_and_with_its_stages_is_said_once_each(
    policy: RoutingPolicy, sage: ModelAlias
) -> None:
    challenger = draft_of(policy, sage, strategy="weighted", regions=["mars"])
    DraftCandidate.objects.update(weight=0)
    experiment = experiment_of(policy, challenger=challenger, kind="canary", stages=[50], max_cost=Decimal(0))
    assert problems_of(experiment) == [
        "The draft “try another”: Every preferred model has the weight 0, so none gets requests. Weight one of them.",
        "The draft “try another”: No active provider is in the region “mars”. No provider has a region: set it there.",
        "Its own budget is zero: it would end at once. Leave it empty for none.",
        "Name rising percentages that end with 100, for example 5, 25, 100.",
    ]


@pytest.mark.parametrize("stages", [[5.5, 100], ["5", 100], {"5": 100}, None])
def test_stages_of_another_shape_are_refused_in_words(policy: RoutingPolicy, sage: ModelAlias, stages: object) -> None:
    experiment = experiment_of(policy, sage, kind="canary")
    experiment.stages = stages
    assert start_problems(experiment, policy=policy, now=NOW) == [
        "Name rising percentages that end with 100, for example 5, 25, 100."
    ]


# --- overtaken, promoted --------------------------------------------------------------------------------------------


def test_somebody_elses_publication_ends_it_though_its_own_draft_waits(policy: RoutingPolicy, sage: ModelAlias) -> None:
    experiment = start(experiment_of(policy, sage, kind="canary"))
    experiment_promote(experiment=experiment, by=None, now=NOW)
    RoutingPolicy.objects.update(version=1)
    assert experiment_overtaken(experiment=experiment, now=NOW)
    assert (stored().state, stored().stop_reason) == (
        "stopped", "The policy has become version 1: its figures would mix two sets of rules.",
    )  # fmt: skip


def test_a_rejected_draft_can_be_followed_by_another(policy: RoutingPolicy, sage: ModelAlias) -> None:
    experiment = start(experiment_of(policy, sage))
    first = experiment_promote(experiment=experiment, by=None, now=NOW)
    PolicyDraft.objects.filter(pk=first.pk).update(state="rejected")
    second = experiment_promote(experiment=experiment, by=None, now=NOW)
    assert second != first
    assert promoted_draft(stored()) == second
    assert stored().state == "promoted"


def test_a_promoted_draft_keeps_groups_weights_and_kinds_of_work(policy: RoutingPolicy, sage: ModelAlias) -> None:
    challenger = draft_of(policy, sage)
    spare = served_alias(name="spare")
    DraftCandidate.objects.create(
        draft=challenger, alias=spare, position=4, group="fallback", weight=7, task_type="CODING"
    )
    draft = experiment_promote(experiment=start(experiment_of(policy, challenger=challenger)), by=None, now=NOW)
    rows = draft.candidates.values_list("alias__name", "group", "position", "weight", "task_type")
    assert list(rows) == [("sage", "preferred", 0, 1, "ANY"), ("spare", "fallback", 0, 7, "CODING")]
    assert document_of(draft) == document_of(challenger)
    assert PolicyDraft.objects.get(pk=challenger.pk).state == "draft"


def test_promoting_does_not_undo_what_was_published_since(policy: RoutingPolicy, sage: ModelAlias) -> None:
    person = UserFactory.create()
    version_ensure(policy=policy)
    experiment = start(experiment_of(policy, sage))
    experiment_stop(experiment=experiment, reason="enough", by=None, now=NOW)
    policy.max_latency_ms = 900
    policy.save()
    policy_edited(policy=policy, by=person)

    draft = experiment_promote(experiment=stored(), by=person, now=NOW)

    assert (draft.base_version, policy.version, is_stale(draft)) == (1, 2, True)
    merged = document_of(draft_rebase(draft=draft, by=person))
    assert ([one.alias for one in merged.candidates], merged.max_latency_ms) == (["sage"], 900)


def test_a_name_of_the_greatest_length_still_makes_a_draft(policy: RoutingPolicy, sage: ModelAlias) -> None:
    experiment = experiment_of(policy, sage, name="n" * 60)
    experiment_start(experiment=experiment, by=None, now=NOW)
    draft = experiment_promote(experiment=experiment, by=None, now=NOW)
    draft.full_clean(exclude=["seed"])
    assert draft.title == f"From experiment {'n' * 60}"


def test_the_same_rules_have_the_same_digest_and_others_another(policy: RoutingPolicy, sage: ModelAlias) -> None:
    one, same = draft_of(policy, sage, title="one"), draft_of(policy, sage, title="two")
    other = draft_of(policy, sage, title="three", max_latency_ms=1)
    digests = [rules_digest(policy_document(draft, draft.candidates.all())) for draft in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]
    assert all(len(digest) == 16 for digest in digests)
